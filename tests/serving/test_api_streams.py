"""What a stream promises while nothing comes, and when it ends early."""

import asyncio
from contextlib import aclosing

import httpx
import pytest
from api_service import WAIT, ScriptedService, serving
from waiting import until

from llm_engineering.serving.api import sse
from llm_engineering.serving.api.app import create_app
from llm_engineering.serving.api.limits import Limits
from llm_engineering.serving.api.service import Readiness


class Pieces:
    """An async generator's life, as it is told from outside."""

    def __init__(self) -> None:
        self.go, self.closed = asyncio.Event(), False

    async def come(self):
        try:
            yield b"first"
            await self.go.wait()
            yield b"second"
        finally:
            self.closed = True


def test_while_nothing_comes_a_sign_of_life_does():
    async def tried() -> list[bytes]:
        pieces, got = Pieces(), []
        async for piece in sse.with_heartbeat(pieces.come(), every=0.01):
            got.append(piece)
            if got.count(None) == 2:
                pieces.go.set()
        assert pieces.closed
        return [piece for piece in got if piece is not None]

    assert asyncio.run(tried()) == [b"first", b"second"]


def test_leaving_a_stream_closes_what_it_was_made_from():
    async def tried() -> bool:
        pieces = Pieces()
        async with aclosing(sse.with_heartbeat(pieces.come(), every=0.01)) as alive:
            async for piece in alive:
                if piece is None:
                    break
        return pieces.closed

    assert asyncio.run(tried())


def test_work_goes_on_until_the_client_has_left():
    async def tried() -> str:
        said = asyncio.Queue()
        said.put_nowait({"type": "http.request"})
        assert await sse.until_disconnect(asyncio.sleep(0, "done"), said.get) == "done"
        said.put_nowait({"type": "http.disconnect"})
        with pytest.raises(sse.ClientDisconnected):
            await sse.until_disconnect(asyncio.Event().wait(), said.get)
        return "left"

    assert asyncio.run(tried()) == "left"


def test_a_store_that_hangs_makes_the_server_not_ready_and_only_one_look_is_under_way():
    class Hanging(ScriptedService):
        looks = 0

        def ready(self) -> Readiness:
            type(self).looks += 1
            self.closed.wait(WAIT)
            return super().ready()

    service = Hanging()
    with serving(create_app(service, limits=Limits(ready_seconds=0.05))) as address:
        for _ in range(3):
            response = httpx.get(f"{address}/ready")
            assert response.status_code == 503
            assert "a store may hang" in response.json()["pieces"][0]["reason"]
        assert httpx.post(f"{address}/rag", json={"question": "What makes bread?"}).status_code == 200
        assert service.looks == 1
        service.closed.set()
        until(lambda: httpx.get(f"{address}/ready").status_code == 200)


def test_a_service_that_gives_no_answer_is_a_bug_that_is_told():
    class Mute(ScriptedService):
        def answer(self, question, **options):
            return (one for one in super().answer(question, **options) if False)

    with serving(create_app(Mute())) as address:
        response = httpx.post(f"{address}/rag", json={"question": "What makes bread?"})
    assert response.status_code == 500
