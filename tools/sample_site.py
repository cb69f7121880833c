"""The project's own small blog, by an invented author, served on loopback. `python -m tools.sample_site` shows it."""

import hashlib
import time
from collections.abc import Generator
from contextlib import contextmanager, suppress
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

SAMPLE = Path(__file__).with_name("sample")
PORT = 8765  # always the same where it is free, because a link is a document's identity


class _Pages(SimpleHTTPRequestHandler):
    """The files of the site with an ETag; the links in them follow the port they are served on."""

    def do_GET(self) -> None:
        file = Path(self.translate_path(self.path))
        file = file / "index.html" if file.is_dir() else file
        if not file.is_file():
            self.send_error(404)
            return
        body = file.read_bytes().replace(b"127.0.0.1:%d" % PORT, b"127.0.0.1:%d" % self.connection.getsockname()[1])
        etag = f'"{hashlib.sha256(body).hexdigest()[:16]}"'
        same = self.headers.get("If-None-Match") == etag
        self.send_response(304 if same else 200)
        self.send_header("ETag", etag)
        if not same:
            self.send_header("Content-Type", self.guess_type(str(file)))
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if not same:
            self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Nobody wants to read it."""


@contextmanager
def sample_site(port: int = PORT) -> Generator[str]:
    """Its address. Another port is taken when this one is not free."""
    pages = partial(_Pages, directory=str(SAMPLE / "site"))
    try:
        server = ThreadingHTTPServer(("127.0.0.1", port), pages)
    except OSError:
        server = ThreadingHTTPServer(("127.0.0.1", 0), pages)
    thread = Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


if __name__ == "__main__":
    with sample_site() as address, suppress(KeyboardInterrupt):
        print(f"{address}  (Ctrl-C ends it)")
        while True:
            time.sleep(60)
