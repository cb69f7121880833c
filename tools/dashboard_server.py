"""The dashboard's own process: ZenML's server, which takes anybody for the user `default`, behind a check of who asks.

Started by `poe dashboard` in the place of ZenML's own entry point, whose arguments it takes.
"""

import re
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Receive, Scope, Send

_PORT = re.compile(r":\d{1,5}\Z")
NAMES = frozenset({"localhost", "127.0.0.1", "[::1]"})


class OwnMachineOnly:
    """An ASGI application that answers to this machine's names only, and to no other page: else any web page could
    read and change everything here, with its own name for this address (DNS rebinding) or through CORS."""

    def __init__(self, app: "ASGIApp") -> None:
        self._app = app

    async def __call__(self, scope: "Scope", receive: "Receive", send: "Send") -> None:
        if scope["type"] == "lifespan" or (scope["type"] == "http" and is_own(scope["headers"])):
            await self._app(scope, receive, send)
            return
        if scope["type"] == "websocket":
            await receive()
            await send({"type": "websocket.close", "code": 1008})
            return
        body = b"This dashboard answers to http://localhost and http://127.0.0.1 only, and to no other page.\n"
        headers = [(b"content-type", b"text/plain; charset=utf-8"), (b"content-length", str(len(body)).encode())]
        await send({"type": "http.response.start", "status": 403, "headers": headers})
        await send({"type": "http.response.body", "body": body})


def is_own(headers: list[tuple[bytes, bytes]]) -> bool:
    """One Host, of this machine; and where a browser says whose page asks, it is the dashboard's own."""
    hosts = [value.decode("latin-1").lower() for name, value in headers if name == b"host"]
    origins = [value.decode("latin-1").lower() for name, value in headers if name == b"origin"]
    if len(hosts) != 1 or _PORT.sub("", hosts[0]) not in NAMES:
        return False
    return all(origin == f"http://{hosts[0]}" for origin in origins)


async def app(scope: "Scope", receive: "Receive", send: "Send") -> None:
    from zenml.zen_server.zen_server_api import app as zenml_server

    await OwnMachineOnly(zenml_server)(scope, receive, send)


if __name__ == "__main__":
    from zenml.services.local import local_daemon_entrypoint
    from zenml.zen_server.deploy.daemon import daemon_zen_server

    setattr(daemon_zen_server, "ZEN_SERVER_ENTRYPOINT", "tools.dashboard_server:app")  # noqa: B010
    sys.argv.remove(local_daemon_entrypoint.__name__)  # by which ZenML knows its daemons
    local_daemon_entrypoint.run()
