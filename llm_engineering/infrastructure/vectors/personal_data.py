"""The duty of erasing, for a vector store."""

from llm_engineering.domain.chunks import Where
from llm_engineering.domain.personal_data import DataSubject
from llm_engineering.domain.ports import Erased, VectorStore


class IndexedPassages:
    """See `PersonalData`. `holds` counts what is published; `erase` reaches unpublished builds too."""

    def __init__(self, store: VectorStore) -> None:
        self._store = store

    def holds(self, subject: DataSubject) -> int:
        reader = self._store.reader()
        try:
            return reader.count(Where(author_id=subject.author_id)) if reader.info() else 0
        finally:
            reader.close()

    def erase(self, subject: DataSubject) -> Erased:
        return Erased(self._store.erase(subject.author_id))
