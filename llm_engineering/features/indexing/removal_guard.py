"""Refuses a run that would take most of the index away by accident: with the warehouse gone, or with another one."""

from contextlib import closing

from llm_engineering.domain.errors import StoreCorrupt, TokenExpired, WouldEmptyIndex
from llm_engineering.domain.ports import IndexInfo, IndexWriter, VectorStore, Warehouse

MOST = 0.5  # of the indexed documents: a run that removes a larger share is refused ...
HANDFUL = 5  # ... if these are more documents than this

_ALLOW = "run with --allow-empty if that is meant"


class RemovalGuard:
    """Compares the warehouse with what is published before a run begins, and what the run has built before it is
    published. Reads only."""

    def __init__(self, warehouse: Warehouse, vectors: VectorStore, *, rebuild: bool) -> None:
        self._warehouse, self._vectors, self._rebuild = warehouse, vectors, rebuild
        self._published_documents: frozenset[str] | None = None

    def check_warehouse(self) -> None:
        """Raises WouldEmptyIndex for another warehouse than the one the index was filled from, and for one that no
        longer holds most of what is indexed. An index of before warehouses were recorded is taken on trust."""
        published = self._published()
        if published is None:
            return
        here = self._warehouse.ref
        if published.warehouse and published.warehouse.id != here.id:
            lacks = len(self._indexed().difference(self._warehouse.ids()))
            raise WouldEmptyIndex(
                f"the index was filled from the warehouse {published.warehouse}, and this is {here}: it holds "
                f"{self._warehouse.count():,} documents and lacks {lacks:,} of the {len(self._indexed()):,} that are "
                "indexed. Nothing was changed. Correct TWIN_WAREHOUSE, TWIN_VECTORS or TWIN_HOME; or, to let the index "
                f"follow this warehouse, {_ALLOW}"
            )
        gone = self._gone(published)
        if gone and self._are_most(len(gone)):
            raise WouldEmptyIndex(
                f"{len(gone):,} of the {len(self._indexed()):,} indexed documents would be removed: the warehouse "
                f"{here} no longer holds them (it holds {self._warehouse.count():,}). Nothing was changed; {_ALLOW}"
            )

    def check_build(self, writer: IndexWriter) -> None:
        """Before what was built beside the live index replaces it. Raises WouldEmptyIndex."""
        if self._rebuild and self._published():
            lost = self._indexed() - writer.document_ids()
            if len(lost) > HANDFUL and self._are_most(len(lost)):
                raise WouldEmptyIndex(
                    f"{len(lost):,} of the {len(self._indexed()):,} indexed documents could not be indexed again (`poe "
                    f"crawl-status` says why). The live index is as it was; {_ALLOW}"
                )

    def _published(self) -> IndexInfo | None:
        """None where there is nothing to lose, or nothing that can be read."""
        try:
            with closing(self._vectors.reader()) as reader:
                info = reader.info()
        except StoreCorrupt:
            return None
        return info if info and info.chunks else None

    def _gone(self, published: IndexInfo) -> frozenset[str]:
        """The indexed documents that this run would remove."""
        if not self._rebuild and published.token is not None:
            try:
                changes = self._warehouse.changes(published.token)
                removed = {change.document_id for change in changes if change.document is None}
            except TokenExpired:
                pass
            else:
                return self._indexed() & removed if len(removed) > HANDFUL else frozenset()
        return self._indexed().difference(self._warehouse.ids())

    def _are_most(self, gone: int) -> bool:
        indexed = len(self._indexed())
        return gone == indexed or (gone > HANDFUL and gone > MOST * indexed)

    def _indexed(self) -> frozenset[str]:
        if self._published_documents is None:
            self._published_documents = self._read_indexed()
        return self._published_documents

    def _read_indexed(self) -> frozenset[str]:
        try:
            return frozenset(self._vectors.document_ids())
        except StoreCorrupt:
            if self._rebuild:  # which is what mends it
                return frozenset()
            raise
