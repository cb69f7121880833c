"""Where the record of each request goes: a local file, an Opik server, or nowhere."""

from llm_engineering.infrastructure.tracing.jsonl import JsonlTracer
from llm_engineering.infrastructure.tracing.noop import NoopTracer
from llm_engineering.infrastructure.tracing.opik import OpikTracer

__all__ = ["JsonlTracer", "NoopTracer", "OpikTracer"]
