"""Server-sent events, and answering when the client may leave (https://html.spec.whatwg.org/#server-sent-events)."""

import asyncio
import json
from collections.abc import AsyncGenerator, Awaitable
from contextlib import aclosing
from typing import TYPE_CHECKING, NoReturn, TypeVar

from starlette.types import Receive

if TYPE_CHECKING:
    from sse_starlette import EventSourceResponse

T = TypeVar("T")
PING_EVERY = 15.0  # seconds; then no proxy on the way hangs up


class ClientDisconnected(Exception):
    """Nobody waits for the answer any more."""


def json_bytes(value: object) -> bytes:
    """UTF-8; half a character becomes a question mark, because no client could read it."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "replace")


def event_bytes(data: object, name: str | None = None) -> bytes:
    head = f"event: {name}\n".encode() if name else b""
    return head + b"data: " + json_bytes(data) + b"\n\n"


async def event_stream(
    events: AsyncGenerator[bytes], receive: Receive, *, ping: float = PING_EVERY
) -> "EventSourceResponse":
    """The response, once the first event is there: what goes wrong before it can still get its own status. `events`
    are closed however it ends: taken to its end, left by the client (ClientDisconnected), or cut off by the server."""
    from sse_starlette import EventSourceResponse, ServerSentEvent
    from sse_starlette.sse import AppStatus

    AppStatus.disable_automatic_graceful_drain()  # a server that is told to stop finishes what it began
    try:
        first = await until_disconnect(_next(events), receive)
    except BaseException:
        await events.aclose()
        raise
    return EventSourceResponse(
        _prepended(first, events),
        ping=ping,
        ping_message_factory=lambda: ServerSentEvent(comment="ping"),
        client_close_handler_callable=_raise_disconnected,
        sep="\n",
    )


async def with_heartbeat(items: AsyncGenerator[T], *, every: float) -> AsyncGenerator[T | None]:
    """The items, and None whenever none came for `every` seconds, so that whoever takes them can notice that nobody
    waits for them."""
    following: asyncio.Task[T] | None = None
    try:
        while True:
            following = following or asyncio.ensure_future(_next(items))
            done, _ = await asyncio.wait({following}, timeout=every)
            if not done:
                yield None
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
        await items.aclose()


async def until_disconnect(work: Awaitable[T], receive: Receive) -> T:
    """The result of `work`, which is cancelled when the client hangs up. Raises ClientDisconnected."""
    working = asyncio.ensure_future(work)
    listening = asyncio.ensure_future(_disconnected(receive))
    try:
        await asyncio.wait({working, listening}, return_when=asyncio.FIRST_COMPLETED)
        if working.done():
            return working.result()
        raise ClientDisconnected
    finally:
        for task in (working, listening):
            task.cancel()
        await asyncio.wait({working, listening})


async def _disconnected(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


async def _raise_disconnected(_: object) -> NoReturn:
    raise ClientDisconnected


async def _next(items: AsyncGenerator[T]) -> T:
    return await anext(items)


async def _prepended(first: bytes, events: AsyncGenerator[bytes]) -> AsyncGenerator[bytes]:
    async with aclosing(events):
        yield first
        async for event in events:
            yield event
