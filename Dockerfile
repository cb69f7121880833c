# One target for each role, so that none carries what it never runs; docs/deploy.md shows them at work.
#   crawl      poe run-etl: Chromium and git, no torch
#   features   poe run-features, poe eval-retrieval: torch for CPUs
#   serve      poe serve, poe ask: torch for CPUs and the chat page
# In each, `poe doctor`. All data lie in /data, ZenML's database too; nothing else is written.
FROM python:3.12-slim-bookworm AS packages
WORKDIR /app
# The packages first: they change less often than the code, for which an empty module stands in.
COPY pyproject.toml constraints.txt README.md ./
RUN mkdir llm_engineering && touch llm_engineering/__init__.py \
    && pip install --no-cache-dir "pip>=25.1" \
    && pip install --no-cache-dir --constraint constraints.txt --editable .
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
# torch for CPUs, a tenth of the size; with NVIDIA cards: --build-arg PIP_EXTRA_INDEX_URL=
ARG PIP_EXTRA_INDEX_URL=https://download.pytorch.org/whl/cpu
RUN pip install --no-cache-dir --constraint constraints.txt --group ml

FROM ml AS features
COPY . .
USER 10001:10001
CMD ["run-features"]

FROM ml AS serve
RUN pip install --no-cache-dir --constraint constraints.txt --group ui
COPY . .
USER 10001:10001
EXPOSE 8000
CMD ["serve"]
