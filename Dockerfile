FROM python:3.12-slim-bookworm
RUN apt-get update \
    && apt-get install -y --no-install-recommends chromium chromium-driver git \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --create-home twin
WORKDIR /app
# the packages first: they change less often than the code
COPY pyproject.toml constraints.txt README.md ./
RUN mkdir llm_engineering steps pipelines tools \
    && pip install --no-cache-dir "pip>=25.1" \
    && pip install --no-cache-dir --constraint constraints.txt --editable . --group ml --group ui
COPY . .
RUN mkdir -p .twin && chown -R twin:twin /app
USER twin
ENV ZENML_ANALYTICS_OPT_IN=false
ENTRYPOINT ["poe", "--executor", "simple"]
CMD ["doctor"]
