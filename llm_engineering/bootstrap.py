"""The one place that knows which adapter stands behind which port."""

from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from llm_engineering.domain.errors import ConfigError, SourceError
from llm_engineering.domain.ledger import Reason
from llm_engineering.domain.ports import (
    Browser,
    Embedder,
    FeedbackBook,
    FetchContext,
    Fetcher,
    LanguageModel,
    Ledger,
    PersonalData,
    Registry,
    Repositories,
    Reranker,
    Sandbox,
    TokenEmbedder,
    Tracer,
    VectorStore,
    Warehouse,
)
from llm_engineering.features.config import BudgetConfig, EtlConfig, FetchConfig, GitConfig
from llm_engineering.inference.config import RetrievalConfig
from llm_engineering.settings import Settings, load_settings

if TYPE_CHECKING:
    from llm_engineering.infrastructure.fetchers.politeness import HostRateLimiter


def build_warehouse(url: str) -> tuple[Warehouse, Ledger]:
    """Both live in one database, and are closed together by the warehouse's `close`."""
    match url.partition("://")[0]:
        case "sqlite":
            from llm_engineering.infrastructure.warehouse.sqlite import open_sqlite

            return open_sqlite(local_path("TWIN_WAREHOUSE", url))
        case "mongodb" | "mongodb+srv":
            from llm_engineering.infrastructure.warehouse.mongo import open_mongo

            return open_mongo(url)
    raise _unknown_scheme("TWIN_WAREHOUSE", url, "sqlite:///PATH or mongodb://HOST:PORT/DATABASE")


def build_vector_store(settings: Settings) -> VectorStore:
    url = settings.vectors_url
    match url.partition("://")[0]:
        case "edge":
            from llm_engineering.infrastructure.vectors.edge import EdgeVectorStore

            return EdgeVectorStore(local_path("TWIN_VECTORS", url))
        case "http" | "https":
            from llm_engineering.infrastructure.vectors.qdrant import QdrantVectorStore, connect

            key = settings.qdrant_api_key
            return QdrantVectorStore(connect(url, key.get_secret_value() if key else None))
    raise _unknown_scheme("TWIN_VECTORS", url, "edge:///FOLDER or http://HOST:6333")


def build_embedder(settings: Settings) -> TokenEmbedder:
    from llm_engineering.infrastructure.embedders import HashingEmbedder, SentenceTransformerEmbedder

    name, _, size = settings.embedder.partition(":")
    if name == "hashing":
        if size and not size.isdigit():
            raise ConfigError(f"TWIN_EMBEDDER={settings.embedder}: write hashing or hashing:SIZE, as hashing:256")
        return HashingEmbedder(int(size or 256))
    return SentenceTransformerEmbedder(
        settings.embedder,
        precision=settings.embedder_precision,
        revision_cache=settings.home / "cache" / "model-revisions.json",
    )


def build_language_model(settings: Settings, embedder: Embedder) -> LanguageModel:
    """`embedder` is what the extractive one finds its sentences with."""
    kind, _, name = settings.language_model.partition(":")
    match kind:
        case "extractive":
            from llm_engineering.infrastructure.language_models.extractive import ExtractiveModel

            return ExtractiveModel(embedder)
        case "openai" if name:
            from llm_engineering.infrastructure.language_models.openai import OpenAIModel

            key = settings.openai_api_key
            return OpenAIModel(
                name,
                base_url=settings.openai_base_url,
                api_key=key.get_secret_value() if key else None,
                timeout=settings.openai_timeout,
            )
        case "transformers" if name:
            from llm_engineering.infrastructure.language_models.local import TransformersModel

            return TransformersModel(name)
        case "registry" if name:
            from llm_engineering.infrastructure.language_models.registered import RegistryModel

            return RegistryModel(name, registry=build_registry())
    raise ConfigError(
        f"TWIN_LANGUAGE_MODEL={settings.language_model}: use extractive, openai:MODEL, transformers:FOLDER-OR-ID or "
        "registry:NAME"
    )


def build_registry() -> Registry:
    """Where it is, is ZenML's setting (ZENML_CONFIG_PATH, or the server it is connected to)."""
    from llm_engineering.infrastructure.registry import ZenMLRegistry

    return ZenMLRegistry()


def build_reranker(
    settings: Settings, config: RetrievalConfig, embedder: Embedder, *, remember: int | None = None
) -> Reranker | None:
    """None when the config wants none. `settings` hold the key of one that is asked over the network.

    `remember` is for how many passages late interaction keeps what it read of them; None: as it says itself.
    """
    match config.rerank:
        case "maxsim":
            from llm_engineering.infrastructure.rerankers import REMEMBERED, MaxSimReranker

            return MaxSimReranker(embedder, remember=remember or REMEMBERED)
        case "cross-encoder":
            from llm_engineering.infrastructure.rerankers import CrossEncoderReranker

            return CrossEncoderReranker(config.cross_encoder)
    return None


def build_tracer(settings: Settings) -> Tracer:
    from llm_engineering.infrastructure import tracing

    match settings.tracing:
        case "opik":
            key = settings.opik_api_key
            return tracing.OpikTracer(
                url=settings.opik_url,
                api_key=key.get_secret_value() if key else None,
                workspace=settings.opik_workspace,
                fallback=settings.home / "traces",
            )
        case "jsonl":
            return tracing.JsonlTracer(settings.home / "traces")
    return tracing.NoopTracer(settings.home / "traces")


def build_feedback(settings: Settings) -> FeedbackBook:
    from llm_engineering.infrastructure.feedback import JsonlFeedback

    return JsonlFeedback(settings.home / "feedback.jsonl")


def build_fetcher(config: FetchConfig) -> Fetcher:
    from llm_engineering.infrastructure.fetchers.http import HttpFetcher

    return HttpFetcher(**config.model_dump(exclude={"concurrency"}), rate_limiter=_rate_limiter(config.per_host))


@cache
def _rate_limiter(per_host: int) -> "HostRateLimiter":
    """One for the whole process: the authors' steps run side by side, and may all ask one host."""
    from llm_engineering.infrastructure.fetchers.politeness import HostRateLimiter

    return HostRateLimiter(per_host=per_host)


def build_repositories(config: GitConfig, *, allow_hosts: tuple[str, ...] = ()) -> Repositories:
    from llm_engineering.infrastructure.fetchers.git import GitRepositories

    return GitRepositories(
        timeout=config.timeout,
        max_bytes=config.max_repository_bytes,
        max_files=config.max_files,
        max_memory=config.max_memory,
        allow_hosts=allow_hosts,
    )


def build_sandbox(config: BudgetConfig) -> Sandbox:
    from llm_engineering.infrastructure.sandbox import InProcess, ProcessSandbox

    return ProcessSandbox(**config.model_dump()) if config.processes else InProcess()


@contextmanager
def open_sandbox(config: BudgetConfig) -> Generator[Sandbox]:
    sandbox = build_sandbox(config)
    try:
        yield sandbox
    finally:
        sandbox.close()


def _unknown_scheme(variable: str, url: str, known: str) -> ConfigError:
    scheme = url.partition("://")[0] if "://" in url else "(none)"  # never the rest: it may hold a password
    return ConfigError(f"{variable} has the scheme {scheme}: use {known}")


def local_path(variable: str, url: str) -> Path:
    """`scheme:///relative` and `scheme:////absolute`, as SQLAlchemy writes them."""
    rest = url.partition("://")[2]
    if not rest.startswith("/") or rest == "/":
        raise ConfigError(f"{variable}={url}: three slashes and a path, as in {url.partition('://')[0]}:///data/x")
    return Path(rest[1:]).expanduser()


class PersonalDataStore(NamedTuple):
    """`unit`: what it counts. `open` raises StoreUnavailable when it is down. `is_derived`: a run that is going on
    makes it from the warehouse, so it is erased after that."""

    name: str
    unit: str
    open: Callable[[], PersonalData]
    is_derived: bool = False


@dataclass
class Platform:
    """The opened parts. Each is built when first asked for, and closed by `open_platform`."""

    settings: Settings

    @cached_property
    def _stores(self) -> tuple[Warehouse, Ledger]:
        return build_warehouse(self.settings.warehouse_url)

    @property
    def warehouse(self) -> Warehouse:
        return self._stores[0]

    @property
    def ledger(self) -> Ledger:
        return self._stores[1]

    @cached_property
    def vectors(self) -> VectorStore:
        return build_vector_store(self.settings)

    @cached_property
    def embedder(self) -> TokenEmbedder:
        return build_embedder(self.settings)

    @cached_property
    def language_model(self) -> LanguageModel:
        return build_language_model(self.settings, self.embedder)

    @cached_property
    def registry(self) -> Registry:
        return build_registry()

    @cached_property
    def tracer(self) -> Tracer:
        return build_tracer(self.settings)

    @cached_property
    def feedback(self) -> FeedbackBook:
        return build_feedback(self.settings)

    def personal_data(self, *, archive_models: bool = False) -> tuple[PersonalDataStore, ...]:
        """Everything that keeps something of an author, what was derived from their writing first. Whoever adds a
        store of such a kind adds it here; `archive_models`: models trained on them are taken out of use, too."""
        from llm_engineering.infrastructure.trained_models import TrainedModels
        from llm_engineering.infrastructure.vectors.personal_data import IndexedPassages
        from llm_engineering.infrastructure.zenml.runs import ZenMLRuns

        return (
            PersonalDataStore("feedback", "judged answers", lambda: self.feedback),
            PersonalDataStore("traces", "traces", lambda: self.tracer),
            PersonalDataStore("runs", "runs", ZenMLRuns),
            PersonalDataStore("models", "models", lambda: TrainedModels(self.registry, archive=archive_models)),
            PersonalDataStore("vectors", "passages", lambda: IndexedPassages(self.vectors), is_derived=True),
            PersonalDataStore("ledger", "links", lambda: self.ledger),
            PersonalDataStore("warehouse", "documents", lambda: self.warehouse),
        )

    @contextmanager
    def fetch_context(self, config: EtlConfig) -> Generator[FetchContext]:
        """A fetcher, a browser that starts when first needed, git, and a sandbox; all closed on exit."""
        from llm_engineering.infrastructure.temporary_folders import remove_leftovers

        remove_leftovers()  # of runs that were killed
        fetcher, sandbox = build_fetcher(config.fetch), build_sandbox(config.budget)
        opened: list[Browser] = []

        def browser() -> Browser:
            from llm_engineering.infrastructure.fetchers.browser import SeleniumBrowser

            if not config.browser:
                raise SourceError("browser", Reason.BROWSER, "the config says browser: false", retry=False)
            if not opened:
                opened.append(SeleniumBrowser(self.settings.chromium, allow_hosts=config.fetch.allow_hosts))
            return opened[0]

        try:
            yield FetchContext(
                fetch=fetcher,
                browser=browser,
                repositories=build_repositories(config.git, allow_hosts=config.fetch.allow_hosts),
                sandbox=sandbox,
                credentials=self._credentials,
                max_file_bytes=config.git.max_file_bytes,
            )
        finally:
            sandbox.close()
            fetcher.close()
            for one in opened:
                one.close()

    def _credentials(self, service: str) -> tuple[str, str] | None:
        name, password = self.settings.linkedin_username, self.settings.linkedin_password
        if service == "linkedin" and name and password:
            return name, password.get_secret_value()
        return None

    def close(self) -> None:
        try:
            if "tracer" in self.__dict__:
                self.tracer.close()
        finally:
            if "_stores" in self.__dict__:
                self.warehouse.close()


def _prepare_process(settings: Settings) -> None:
    from llm_engineering.infrastructure.process import prepare_process

    urls = {"TWIN_WAREHOUSE": settings.warehouse_url, "TWIN_VECTORS": settings.vectors_url}
    embedded = {name: url for name, url in urls.items() if url.startswith(("sqlite://", "edge://"))}
    prepare_process(settings.home, [local_path(name, url) for name, url in embedded.items()])


@contextmanager
def open_platform(settings: Settings | None = None) -> Generator[Platform]:
    settings = settings or load_settings()
    _prepare_process(settings)
    platform = Platform(settings)
    try:
        yield platform
    finally:
        platform.close()
