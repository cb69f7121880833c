# One target for each role, so that none carries what it never runs; docs/deploy.md shows them at work.
#   crawl      poe run-etl: Chromium and git, no torch
#   features   poe run-features, poe eval-retrieval: torch for CPUs
#   serve      poe serve, poe ask: torch for CPUs and the chat page
# In each, `poe doctor`. All data lie in /data, ZenML's database too; beside it only temporary files are written.
FROM python:3.12-slim-bookworm@sha256:7753c33391fc9f01d1984375bf375eb6686d52ba10db6043a86634a5ccf90dcf AS packages
WORKDIR /app
# pip takes the wheels whose hashes are listed or none, asks for no others and runs no package's own build
ENV PIP_NO_CACHE_DIR=1 PIP_NO_DEPS=1 PIP_ONLY_BINARY=:all: PIP_DISABLE_PIP_VERSION_CHECK=1
# The packages first: they change less often than the code, for which an empty module stands in.
COPY requirements/main.txt requirements/
RUN pip install --require-hashes --requirement requirements/main.txt
COPY pyproject.toml README.md ./
RUN mkdir llm_engineering && touch llm_engineering/__init__.py \
    && pip install --no-build-isolation --editable .
RUN useradd --uid 10001 --create-home twin && mkdir /data && chown 10001:10001 /data
ENV TWIN_HOME=/data ZENML_CONFIG_PATH=/data/zenml HF_HOME=/data/huggingface \
    ZENML_ANALYTICS_OPT_IN=false PYTHONUNBUFFERED=1
ENTRYPOINT ["poe", "--quiet", "--executor", "simple"]

FROM packages AS crawl
RUN apt-get update \
    && apt-get install -y --no-install-recommends chromium chromium-driver git \
    && rm -rf /var/lib/apt/lists/*
COPY . .
# a number, because Kubernetes' runAsNonRoot believes no name
USER 10001:10001
CMD ["run-etl"]

FROM packages AS ml
# torch for CPUs, a tenth of the size; with NVIDIA cards: --build-arg TORCH=cuda
ARG TORCH=cpu
COPY requirements/ml.txt requirements/torch-cpu.txt requirements/torch-cuda.txt requirements/
RUN pip install --require-hashes --requirement requirements/ml.txt \
    && pip install --require-hashes --requirement "requirements/torch-$TORCH.txt"

FROM ml AS features
COPY . .
USER 10001:10001
CMD ["run-features"]

FROM ml AS serve
COPY requirements/ui.txt requirements/
RUN pip install --require-hashes --requirement requirements/ui.txt
COPY . .
USER 10001:10001
EXPOSE 8000
CMD ["serve"]
