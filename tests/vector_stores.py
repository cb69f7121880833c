"""Every vector store, opened empty: the embedded one, Qdrant in this process, and a real server when QDRANT_URL names
one."""

import os
import uuid
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

from llm_engineering.domain.ports import VectorStore
from llm_engineering.infrastructure.vectors.edge import EdgeVectorStore
from llm_engineering.infrastructure.vectors.qdrant import QdrantVectorStore, connect

QDRANT = ["qdrant-memory"] + (["qdrant-server"] if os.getenv("QDRANT_URL") else [])
STORES = ["edge", *QDRANT]


@contextmanager
def opened_store(kind: str, folder: Path) -> Generator[VectorStore]:
    """`kind` is one of STORES. What it leaves on a server is removed."""
    match kind:
        case "edge":
            yield EdgeVectorStore(folder / "vectors")
        case "qdrant-memory":
            from qdrant_client import QdrantClient

            yield QdrantVectorStore(QdrantClient(":memory:"))
        case "qdrant-server":
            client = connect(os.environ["QDRANT_URL"], os.getenv("QDRANT_API_KEY"))
            prefix = f"law-{uuid.uuid4().hex[:8]}--"
            yield QdrantVectorStore(client, prefix=prefix)
            for collection in client.get_collections().collections:
                if collection.name.startswith(prefix):
                    client.delete_collection(collection.name)
            client.close()
        case _:
            raise ValueError(kind)
