"""`poe serve` in a process of its own."""

import os
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

import httpx
from openai.types.chat import ChatCompletion
from waiting import until

ROOT = Path(__file__).resolve().parents[1]


@contextmanager
def started(*arguments: str):
    """The process, and the address it says it serves."""
    command = [sys.executable, "-m", "tools.serve", "--port", "0", *arguments]
    process = subprocess.Popen(command, cwd=ROOT, env=os.environ, stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    try:
        said = process.stderr.readline()
        assert "serving http://" in said, said + process.communicate()[1]
        yield process, said.split()[1]
    finally:
        process.kill()
        process.communicate()


def extension_of(done: ChatCompletion) -> dict:
    """Sources, citations and the rest: what an answer says beyond OpenAI's protocol."""
    return (done.model_extra or {})["llm_twin"]


def when_ready(address: str) -> httpx.Response:
    with httpx.Client(timeout=60) as client:
        until(lambda: client.get(f"{address}/ready").status_code == 200)
        return client.get(f"{address}/ready")
