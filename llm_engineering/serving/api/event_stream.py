"""An answer sent piece by piece, which ends when the client leaves."""

from collections.abc import AsyncGenerator
from contextlib import aclosing

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from llm_engineering.serving.api import sse

SIGN_OF_LIFE = 10.0  # seconds without a piece


class EventStream(Response):
    """`pieces` is closed however this ends: taken to its end, left by the client, or cut off by the server."""

    media_type = "text/event-stream"

    def __init__(self, pieces: AsyncGenerator[bytes, None], *, sign_of_life: float = SIGN_OF_LIFE) -> None:
        super().__init__(headers=sse.HEADERS)
        del self.headers["Content-Length"]
        self._pieces, self._sign_of_life = pieces, sign_of_life

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await sse.unless_client_leaves(self._send_all(send), receive)

    async def _send_all(self, send: Send) -> None:
        async with aclosing(sse.with_signs_of_life(self._pieces, every=self._sign_of_life)) as pieces:
            await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
            async for piece in pieces:
                await send({"type": "http.response.body", "body": piece, "more_body": True})
        await send({"type": "http.response.body", "body": b""})


async def begun(pieces: AsyncGenerator[bytes, None], receive: Receive) -> AsyncGenerator[bytes, None]:
    """The same pieces, the first of which is there already: what goes wrong before it can still get its own status."""
    try:
        first = await sse.unless_client_leaves(_next(pieces), receive)
    except BaseException:
        await pieces.aclose()
        raise
    return _from(first, pieces)


async def _next(pieces: AsyncGenerator[bytes, None]) -> bytes:
    return await anext(pieces)


async def _from(first: bytes, pieces: AsyncGenerator[bytes, None]) -> AsyncGenerator[bytes, None]:
    async with aclosing(pieces):
        yield first
        async for piece in pieces:
            yield piece
