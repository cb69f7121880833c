"""An OpenAI-compatible server on loopback for tests: it says what it is told, in pieces, and what was asked is kept.

endpoint = Endpoint(new_site())
endpoint.says("Bread needs flour [1].")          # each call, until told otherwise; a list: one piece each
endpoint.then(lambda request: Answer(429, headers={"Retry-After": "0"}))   # first, once; in order
endpoint.url                                     # for base_url
endpoint.requests                                   # the JSON of every chat request
"""

import json
from collections.abc import Callable, Iterable, Iterator

from loopback import Answer, Request, Site

STREAM = {"Content-Type": "text/event-stream"}
USAGE = {"prompt_tokens": 11, "completion_tokens": 7, "total_tokens": 18}


class Endpoint:
    def __init__(self, site: Site, *, models: tuple[str, ...] = ("tiny",)) -> None:
        self._site = site
        self._first: list[Callable[[Request], Answer]] = []
        self._always: Callable[[Request], Answer] = lambda request: stream(["Hello."])
        listed = json.dumps({"object": "list", "data": [{"id": name, "object": "model"} for name in models]})
        site.page("/v1/models", listed, media="application/json")
        site.route("/v1/chat/completions", self._answer)

    @property
    def url(self) -> str:
        return self._site.url("/v1")

    @property
    def requests(self) -> list[dict]:
        return [json.loads(one.body) for one in self._site.requests if one.path == "/v1/chat/completions"]

    def says(self, text: str | Iterable[str], **options) -> None:
        pieces = [text] if isinstance(text, str) else list(text)
        self._always = lambda request: stream(pieces, **options)

    def answers(self, answer: Callable[[Request], Answer]) -> None:
        self._always = answer

    def then(self, *answers: Callable[[Request], Answer]) -> None:
        self._first += answers

    def _answer(self, request: Request) -> Answer:
        return (self._first.pop(0) if self._first else self._always)(request)


def stream(pieces: Iterable[str], *, usage: dict | None = USAGE, finish: str | None = "stop") -> Answer:
    return Answer(headers=STREAM, body=events(pieces, usage=usage, finish=finish))


def events(
    pieces: Iterable[str], *, usage: dict | None = USAGE, finish: str | None = "stop", field: str = "content"
) -> Iterator[bytes]:
    """Server-sent events as OpenAI writes them. `finish` None: the stream breaks off after the last piece."""
    for piece in pieces:
        yield event(delta={field: piece})
    if finish is not None:
        yield event(delta={}, finish=finish)
        if usage is not None:
            yield b"data: " + json.dumps(_chunk([], usage=usage)).encode() + b"\n\n"
        yield b"data: [DONE]\n\n"


def event(*, delta: dict, finish: str | None = None) -> bytes:
    choice = {"index": 0, "delta": delta, "finish_reason": finish}
    return b"data: " + json.dumps(_chunk([choice])).encode() + b"\n\n"


def failure(status: int, message: str = "no", **headers: str) -> Callable[[Request], Answer]:
    body = json.dumps({"error": {"message": message, "type": "test", "code": None}})
    headers = {name.replace("_", "-"): value for name, value in headers.items()}
    return lambda request: Answer(status, body, {"Content-Type": "application/json", **headers})


def _chunk(choices: list[dict], **more) -> dict:
    return {"id": "c1", "object": "chat.completion.chunk", "created": 1, "model": "tiny", "choices": choices, **more}
