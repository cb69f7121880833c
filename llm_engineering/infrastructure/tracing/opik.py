"""Traces in Opik (comet.com/opik), self-hosted or in the cloud, over the REST calls its own client makes.

Its client is not used: importing it takes seconds, it starts threads of its own, and with no server it holds the
process at exit for about eleven seconds.
"""

import json
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from itertools import chain, islice
from pathlib import Path
from typing import TYPE_CHECKING

from loguru import logger

from llm_engineering.domain.errors import StoreUnavailable
from llm_engineering.domain.personal_data import DataSubject
from llm_engineering.domain.ports import Erased
from llm_engineering.domain.text import redacted_url
from llm_engineering.infrastructure.tracing.background_writer import BackgroundWriter
from llm_engineering.infrastructure.tracing.jsonl import (
    TraceFiles,
    TraceText,
    ids_about,
    read_traces,
    trace_text,
)
from llm_engineering.infrastructure.tracing.record import Record, TraceRecord, new_id

if TYPE_CHECKING:
    import httpx

CLOUD = "https://www.comet.com/opik/api"
PROJECT = "llm-twin"
SECONDS = 2.0  # to connect, and to the next byte
REST = 60.0  # seconds before a server that failed is asked again
PAGE = 100  # traces or spans of one answer; each may be some 200 kB
DELETED = 500  # traces of one deletion
READING_SECONDS = 60.0  # to the next byte, while a person waits


class OpikTracer:
    """Traces that Opik does not take go into JSON lines in `fallback`, are told once, and it is asked again later."""

    def __init__(
        self,
        *,
        url: str = "",
        api_key: str | None = None,
        workspace: str = "",
        fallback: Path,
        project: str = PROJECT,
        rest: float = REST,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`url` as Opik's own OPIK_URL_OVERRIDE: http://localhost:5173/api; empty: the cloud."""
        self._url = (url or CLOUD).rstrip("/")
        self._headers = {
            **({"Authorization": api_key} if api_key else {}),
            **({"Comet-Workspace": workspace} if workspace else {}),
        }
        self._project, self._rest, self._clock = project, rest, clock
        self._files = TraceFiles(fallback)
        self._writer = BackgroundWriter(self._send, fallback=self._files.append)
        self._client: httpx.Client | None = None
        self._resting_until = 0.0
        self._warned = False

    @property
    def dropped(self) -> int:
        return self._writer.dropped

    def start(self, name: str, **facts: object) -> Record:
        return Record(name, facts, send=self._writer.put)

    def recent(self, limit: int) -> list[TraceRecord]:
        """Only those that Opik did not take; the others are in its own pages."""
        self._writer.flush(1.0)
        return list(islice(read_traces(self._files.folder), limit))

    def ids_about(self, subject: DataSubject) -> frozenset[str]:
        """On the server and in the files. Raises StoreUnavailable when the server cannot be asked."""
        return self._ids_on_server(subject) | self._files.ids_about(subject)

    def holds(self, subject: DataSubject) -> int:
        return len(self.ids_about(subject))

    def erase(self, subject: DataSubject) -> Erased:
        """The files first, and then what the server has: whether that is gone from its disk, its database decides."""
        self._writer.flush(1.0)
        found = self.ids_about(subject)
        self._files.erase(subject)
        ids = sorted(found)
        with self._connected() as client:
            for start in range(0, len(ids), DELETED):
                batch = {"ids": ids[start : start + DELETED]}
                client.post(f"{self._url}/v1/private/traces/delete", json=batch).raise_for_status()
        return Erased(len(ids))

    def _ids_on_server(self, subject: DataSubject) -> frozenset[str]:
        with self._connected() as client:
            return ids_about(subject, lambda: chain(self._spans(client), self._traces(client)))

    def _spans(self, client: "httpx.Client") -> Iterator[TraceText]:
        for span in self._all(client, "spans"):
            yield TraceText(span["trace_id"], json.dumps(span, ensure_ascii=False))

    def _traces(self, client: "httpx.Client") -> Iterator[TraceText]:
        return map(trace_text, self._all(client, "traces"))

    def _all(self, client: "httpx.Client", what: str) -> Iterator[TraceRecord]:
        """Every trace or span of the project."""
        page = 1
        while True:
            chosen = {"project_name": self._project, "page": page, "size": PAGE, "truncate": False}
            response = client.get(f"{self._url}/v1/private/{what}", params=chosen)
            if response.status_code == 404:  # no such project: nothing was ever sent
                return
            content = response.raise_for_status().json()["content"]
            yield from content
            if len(content) < PAGE:
                return
            page += 1

    @contextmanager
    def _connected(self) -> "Generator[httpx.Client]":
        import httpx

        try:
            with httpx.Client(headers=self._headers, timeout=READING_SECONDS) as client:
                yield client
        except (httpx.HTTPError, httpx.InvalidURL, ValueError, LookupError, TypeError) as error:
            raise StoreUnavailable(
                f"Opik at {redacted_url(self._url)} cannot be searched for what it keeps ({_why(error)}): mend "
                f"TWIN_OPIK_URL and its key and run again, or delete the traces of the project {self._project} there"
            ) from error

    def close(self) -> None:
        """At most two seconds; what Opik has not taken by then goes into the files."""
        self._writer.close(2.0)

    def _send(self, traces: list[TraceRecord]) -> None:
        """Raises what goes wrong; the traces go into the files then."""
        if self._clock() < self._resting_until:
            self._files.append(traces)
            return
        try:
            self._post("traces", [opik_trace(trace, self._project) for trace in traces])
            if spans := [span for trace in traces for span in opik_spans(trace, self._project)]:
                self._post("spans", spans)
        except Exception as error:
            self._resting_until = self._clock() + self._rest
            self._warn(error)
            raise

    def _post(self, what: str, items: list[dict]) -> None:
        import httpx

        if self._client is None:
            self._client = httpx.Client(headers=self._headers, timeout=SECONDS)
        url = f"{self._url}/v1/private/{what}/batch"
        with self._client.stream("POST", url, json={what: items}) as response:  # what it says beside the status is left
            response.raise_for_status()

    def _warn(self, error: Exception) -> None:
        if self._warned:
            return
        self._warned = True
        logger.warning(
            "Opik at {} does not take traces ({}): they go to {} while it does not; check TWIN_OPIK_URL, "
            "TWIN_OPIK_API_KEY and TWIN_OPIK_WORKSPACE, or set TWIN_TRACING=jsonl",
            redacted_url(self._url),
            _why(error),
            self._files.folder,
        )


def opik_trace(trace: TraceRecord, project: str) -> dict:
    """A `TraceWrite` of Opik's REST API."""
    failed = next((stage["error"] for stage in trace["stages"] if "error" in stage), None)
    return {
        "id": trace["id"],
        "project_name": project,
        "name": trace["name"],
        **_times(trace["at"], 0.0, trace["ms"]),
        "input": trace["input"],
        "output": trace["output"],
        **_error(failed),
    }


def opik_spans(trace: TraceRecord, project: str) -> list[dict]:
    """One `SpanWrite` per stage; a stage that counts tokens is a model's."""
    spans = []
    for stage in trace["stages"]:
        facts, usage = stage["facts"], stage["facts"].get("usage")
        counts = {name: n for name, n in usage.items() if type(n) is int} if isinstance(usage, dict) else {}
        if counts:
            counts.setdefault("total_tokens", sum(counts.values()))
        model = facts.get("model")
        spans.append(
            {
                "id": new_id(),
                "trace_id": trace["id"],
                "project_name": project,
                "name": stage["name"],
                "type": "llm" if counts else "general",
                **_times(trace["at"], stage["start_ms"], stage["ms"]),
                "output": facts,
                **({"usage": counts} if counts else {}),
                **({"model": model} if isinstance(model, str) else {}),
                **_error(stage.get("error")),
            }
        )
    return spans


def _times(at: str, start_ms: float, ms: float) -> dict:
    start = datetime.fromisoformat(at).astimezone(UTC) + timedelta(milliseconds=start_ms)
    return {"start_time": start.isoformat(), "end_time": (start + timedelta(milliseconds=ms)).isoformat()}


def _error(text: str | None) -> dict:
    if text is None:
        return {}
    kind, _, message = text.partition(": ")
    return {"error_info": {"exception_type": kind, "message": message, "traceback": ""}}


def _why(error: Exception) -> str:
    response = getattr(error, "response", None)
    return f"HTTP {response.status_code}" if response is not None else type(error).__name__
