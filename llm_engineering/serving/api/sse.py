"""Server-sent events, and answering when the client may leave (https://html.spec.whatwg.org/#server-sent-events)."""

import asyncio
import json
from collections.abc import AsyncGenerator, Awaitable, Callable
from typing import Any, TypeVar

S, T = TypeVar("S"), TypeVar("T")
HEADERS = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}  # the second: nginx must not collect the pieces
STILL_THERE = b": still there\n\n"


class ClientLeft(Exception):
    """Nobody waits for the answer any more."""


def as_json(value: Any) -> bytes:
    """UTF-8; half a character becomes a question mark, because no client could read it."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "replace")


def event(data: Any, name: str | None = None) -> bytes:
    head = f"event: {name}\n".encode() if name else b""
    return head + b"data: " + as_json(data) + b"\n\n"


async def with_signs_of_life(
    pieces: AsyncGenerator[T, None], *, every: float, sign: S = STILL_THERE
) -> AsyncGenerator[T | S, None]:
    """`sign` whenever nothing came for `every` seconds: no proxy on the way hangs up, and who has left is noticed."""
    following: asyncio.Task[T] | None = None
    try:
        while True:
            following = following or asyncio.ensure_future(_next(pieces))
            done, _ = await asyncio.wait({following}, timeout=every)
            if not done:
                yield sign
                continue
            task, following = following, None
            try:
                yield task.result()
            except StopAsyncIteration:
                return
    finally:
        if following is not None:
            following.cancel()
            await asyncio.wait({following})
        await pieces.aclose()


async def _next(pieces: AsyncGenerator[T, None]) -> T:
    return await anext(pieces)


async def unless_client_leaves(work: Awaitable[T], receive: Callable[[], Awaitable[Any]]) -> T:
    """The result of `work`, which is cancelled when the client hangs up. Raises ClientLeft."""
    working = asyncio.ensure_future(work)
    listening = asyncio.ensure_future(_disconnected(receive))
    try:
        await asyncio.wait({working, listening}, return_when=asyncio.FIRST_COMPLETED)
        if working.done():
            return working.result()
        raise ClientLeft
    finally:
        for task in (working, listening):
            task.cancel()
        await asyncio.wait({working, listening})


async def _disconnected(receive: Callable[[], Awaitable[Any]]) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
