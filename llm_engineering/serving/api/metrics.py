"""What Prometheus may scrape: requests, times, the queue, tokens, answers and the index."""

from llm_engineering.domain.answers import Answer
from llm_engineering.serving.api.service import Readiness
from llm_engineering.serving.api.worker_pool import WorkerPool

SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120)
MEDIA_TYPE = "text/plain; version=0.0.4; charset=utf-8"


class Metrics:
    """One registry per server, so that two in one process do not mix."""

    def __init__(self, workers: WorkerPool) -> None:
        from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

        self._registry = here = CollectorRegistry()
        self._requests = Counter("twin_requests", "Requests answered.", ["route", "method", "status"], registry=here)
        self._seconds = Histogram(
            "twin_request_seconds", "From the first byte in to the last byte out.", ["route"], buckets=SECONDS,
            registry=here,
        )  # fmt: skip
        self._tokens = Counter("twin_tokens", "Tokens as the model counted them.", ["kind"], registry=here)
        self._answers = Counter("twin_answers", "Questions by what became of them.", ["outcome"], registry=here)
        self._ready = Gauge("twin_ready", "1 when questions can be answered.", registry=here)
        self._index = Gauge(
            "twin_index_chunks", "Passages in the index being read.", ["version", "embedder"], registry=here
        )
        working = Gauge("twin_questions_working", "Being worked on.", registry=here)
        working.set_function(lambda: workers.running)
        waiting = Gauge("twin_questions_waiting", "Waiting for a free thread.", registry=here)
        waiting.set_function(lambda: workers.waiting)
        for outcome in ("answered", "unanswered", "failed", "abandoned"):
            self._answers.labels(outcome)
        for kind in ("prompt", "completion"):
            self._tokens.labels(kind)

    def requested(self, route: str, method: str, status: int, seconds: float) -> None:
        self._requests.labels(route, method, str(status)).inc()
        self._seconds.labels(route).observe(seconds)

    def answered(self, answer: Answer) -> None:
        self._answers.labels("answered" if answer.answered else "unanswered").inc()
        self._tokens.labels("prompt").inc(answer.usage.prompt_tokens)
        self._tokens.labels("completion").inc(answer.usage.completion_tokens)

    def failed(self) -> None:
        self._answers.labels("failed").inc()

    def abandoned(self) -> None:
        """The client left before the answer was whole."""
        self._answers.labels("abandoned").inc()

    def text(self, readiness: Readiness) -> bytes:
        from prometheus_client import generate_latest

        self._ready.set(readiness.ready)
        self._index.clear()
        if index := readiness.index:
            self._index.labels(index.version, index.embedder).set(index.chunks)
        return generate_latest(self._registry)
