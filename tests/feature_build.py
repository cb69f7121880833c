"""The feature build over a real warehouse, ledger and index in one folder."""

from collections.abc import Callable, Sequence
from datetime import datetime
from pathlib import Path

from llm_engineering.domain.chunks import IndexSpec, Where
from llm_engineering.domain.documents import Author, Document, Kind
from llm_engineering.domain.ports import Embedder, IndexInfo, Sandbox, VectorStore, Warehouse
from llm_engineering.domain.runs import FeatureReport
from llm_engineering.features.config import FeatureConfig
from llm_engineering.features.indexing.ingest import build_features
from llm_engineering.features.sources import SOURCES, Source
from llm_engineering.infrastructure.embedders import HashingEmbedder
from llm_engineering.infrastructure.sandbox import InProcess
from llm_engineering.infrastructure.vectors.edge import EdgeVectorStore
from llm_engineering.infrastructure.warehouse.sqlite import open_sqlite

DEFAULTS = FeatureConfig()
IN_PROCESS = InProcess()


def document(
    name: str = "one",
    body: str = "",
    *,
    title: str = "",
    published_at: datetime | None = None,
    source: str = "web_article",
    media_type: str = "text/markdown",
    encoding: str = "text",
) -> Document:
    link = f"https://a.example/{name}"
    return Document(
        link=link,
        url=link,
        crawled_from=link,
        source=source,
        kind=Kind.ARTICLE,
        author=Author(name="Ada"),
        title=title,
        published_at=published_at,
        media_type=media_type,
        encoding=encoding,
        body=body,
    )


class FeatureBuild:
    """`close` it in the end."""

    def __init__(self, folder: Path, embedder: Embedder | None = None, sandbox: Sandbox = IN_PROCESS) -> None:
        self.folder, self.sandbox = folder, sandbox
        self.vectors: VectorStore = EdgeVectorStore(folder / "vectors")
        self.embedder: Embedder = HashingEmbedder(32) if embedder is None else embedder
        self.open(folder)

    def open(self, folder: Path) -> None:
        self.warehouse, self.ledger = open_sqlite(folder / "warehouse.db")

    def close(self) -> None:
        self.warehouse.close()

    def put(self, **bodies: str) -> None:
        self.warehouse.put([document(name, body) for name, body in bodies.items()])

    def run(
        self,
        config: FeatureConfig = DEFAULTS,
        *,
        warehouse: Warehouse | None = None,
        rebuild: bool = False,
        allow_empty: bool = False,
        on_progress: Callable[[FeatureReport], None] | None = None,
        stop: Callable[[], bool] | None = None,
        sources: Sequence[Source] = SOURCES,
        code: str | None = None,
    ) -> FeatureReport:
        return build_features(
            warehouse=warehouse or self.warehouse,
            ledger=self.ledger,
            embedder=self.embedder,
            vectors=self.vectors,
            sandbox=self.sandbox,
            config=config,
            rebuild=rebuild,
            allow_empty=allow_empty,
            on_progress=on_progress,
            stop=stop,
            sources=sources,
            code=code,
        )

    def chunks(self, *, document_id: str | None = None, spec: IndexSpec | None = None) -> list[tuple[str, int, str]]:
        """What is searchable: (document id, start, text), sorted."""
        reader = self.vectors.reader(spec)
        try:
            found = reader.sample(Where(document_id=document_id))
            return sorted((chunk.document_id, chunk.start, chunk.text) for chunk in found)
        finally:
            reader.close()

    def texts(self, *, document_id: str | None = None) -> list[str]:
        return [text for _, _, text in self.chunks(document_id=document_id)]

    def info(self) -> IndexInfo | None:
        reader = self.vectors.reader()
        try:
            return reader.info()
        finally:
            reader.close()
