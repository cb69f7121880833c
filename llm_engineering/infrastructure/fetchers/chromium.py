"""Finds a Chromium with its driver on this machine, starts it, and leaves nothing of it behind."""

import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Generator, Iterable
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from llm_engineering.domain.ledger import Reason
from llm_engineering.infrastructure.child_processes import ChildProcess, run_child
from llm_engineering.infrastructure.fetchers.errors import FetchError
from llm_engineering.infrastructure.temporary_folders import TemporaryFolder

if TYPE_CHECKING:
    from selenium.webdriver import Remote
    from selenium.webdriver.chrome.options import Options
    from selenium.webdriver.chrome.service import Service

BINARIES = (
    "chromium",
    "chromium-browser",
    "google-chrome",
    "google-chrome-stable",
    "/Applications/Google Chrome.app/Contents/MacOS/Google Chrome",
    "/Applications/Chromium.app/Contents/MacOS/Chromium",
)
DRIVERS = (
    "chromedriver",
    "/usr/lib/chromium/chromedriver",
    "/usr/lib/chromium-browser/chromedriver",
    "/snap/bin/chromium.chromedriver",
    "/opt/homebrew/bin/chromedriver",
    "/usr/local/bin/chromedriver",
)
FLAGS = (
    "--headless=new",
    "--no-sandbox",  # containers rarely have user namespaces; the profile is empty and thrown away
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-extensions",
    "--disable-breakpad",
    "--disable-crash-reporter",
    "--disable-features=Translate,OptimizationHints,MediaRouter",
    "--blink-settings=imagesEnabled=false",
    "--mute-audio",
    "--no-first-run",
    "--no-default-browser-check",
    "--no-pings",
    "--window-size=1280,2000",
    # Everything goes through the proxy, loopback too, and WebRTC may not go around it.
    "--proxy-bypass-list=<-loopback>",
    "--webrtc-ip-handling-policy=disable_non_proxied_udp",
    "--disable-quic",
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",  # only the proxy looks names up
)
PREFERENCES = {
    "download_restrictions": 3,
    "plugins.always_open_pdf_externally": True,  # a download, and so refused: its viewer is no page
    "webrtc.ip_handling_policy": "disable_non_proxied_udp",
}
START_SECONDS = 60.0
MAX_MEMORY = 2_500_000_000  # bytes of the browser as a whole; an honest page takes a few hundred million
LOOK_SECONDS = 0.5  # between two looks at its memory
CLIENT_SECONDS = 120  # for one answer of the driver: the last net, behind `ended_after`


class BrowserPaths(NamedTuple):
    binary: Path
    driver: Path

    def versions(self) -> tuple[str, str]:
        """Of the browser and of its driver, as they say it; "" from one that does not start."""
        return _version(self.binary), _version(self.driver)


def find_browser(chromium: Path | None = None) -> BrowserPaths | None:
    """The given binary, or the first that is where Debian, Chrome or macOS put it; None without one or its driver."""
    binary = _first_installed([str(chromium)]) if chromium else _first_installed(BINARIES)
    if binary is None:
        return None
    driver = _first_installed((str(binary.parent / "chromedriver"), *DRIVERS))
    return BrowserPaths(binary, driver) if driver else None


class RunningBrowser:
    """A started browser. `driver` is selenium's; `stop` leaves no process and no profile, in whatever state it is.

    It is never asked to quit: a stuck one would not answer, and all it could save is thrown away.
    """

    def __init__(self, found: BrowserPaths, *, proxy: str) -> None:
        """Raises FetchError(BROWSER), and what selenium raises."""
        self._folder = TemporaryFolder("browser")
        self._service = _service(found, self._folder.path)
        try:
            with self.ended_after(START_SECONDS, FetchError(Reason.BROWSER, "the browser does not start", retry=True)):
                options = _options(found, proxy=proxy, profile=self._folder.path / "profile")
                self._service.start()
                self.driver = _session(self._service.service_url, options)
        except BaseException:
            self.stop()
            raise

    @property
    def runs(self) -> bool:
        process = self._process
        return process is not None and process.poll() is None

    @property
    def _process(self) -> ChildProcess | None:
        return getattr(self._service, "process", None)

    @contextmanager
    def ended_after(self, seconds: float, error: FetchError) -> Generator[None]:
        """What is inside may take so long; then the browser is killed, which frees whoever waits for it, and `error` is
        raised: a page in an endless loop answers no question and heeds no time-out of the driver. A page that takes
        more than `MAX_MEMORY` ends as soon as that is seen, with TOO_LARGE."""
        done, why = threading.Event(), list[FetchError]()

        def watch() -> None:
            end = time.monotonic() + seconds
            while not done.wait(min(LOOK_SECONDS, max(0.0, end - time.monotonic()))):
                if time.monotonic() >= end:
                    why.append(error)
                elif self._memory() > MAX_MEMORY:
                    detail = f"the browser takes more than {MAX_MEMORY:,} bytes of memory for it; it was ended"
                    why.append(FetchError(Reason.TOO_LARGE, detail, retry=False))
                else:
                    continue
                return self.kill()

        threading.Thread(target=watch, name="browser-watch", daemon=True).start()
        try:
            yield
        except Exception as caused:
            if why:
                raise why[0] from caused
            raise
        finally:
            done.set()
        if why:
            raise why[0]

    def _memory(self) -> int:
        """Bytes of all its processes, without what they share."""
        import psutil

        total = 0
        with suppress(psutil.Error):
            processes = psutil.Process(self._process.pid).children(recursive=True) if self._process else []
            for one in processes:
                with suppress(psutil.Error):
                    used = one.memory_info()
                    total += used.rss - getattr(used, "shared", 0)
        return total

    def kill(self) -> None:
        """From any thread."""
        if (process := self._process) is not None:
            process.kill()

    def stop(self) -> None:
        self.kill()
        self._folder.remove()


def _service(found: BrowserPaths, folder: Path) -> "Service":
    from selenium.webdriver.chrome.service import Service

    class DriverService(Service):
        """Starts the driver as our child, with nothing of our environment: its browser inherits both."""

        def _start_process(self, path: str) -> None:
            # Relative, because the browser puts a socket there, whose path may have no more than 107 characters.
            here = {"TMPDIR": "."}
            self.process = ChildProcess([path, *self.command_line_args()], folder=folder, environment=here)

    return DriverService(str(found.driver))


def _session(address: str, options: "Options") -> "Remote":
    """On a driver of this machine: no proxy of the environment is between, and what breaks is not asked again."""
    from selenium.webdriver import Remote
    from selenium.webdriver.chromium.remote_connection import ChromiumRemoteConnection
    from selenium.webdriver.remote.client_config import ClientConfig

    once = {"init_args_for_pool_manager": {"retries": False}}
    config = ClientConfig(address, init_args_for_pool_manager=once, timeout=CLIENT_SECONDS)
    connection = ChromiumRemoteConnection(address, "goog", "chrome", ignore_proxy=True, client_config=config)
    return Remote(command_executor=connection, options=options)


def _options(found: BrowserPaths, *, proxy: str, profile: Path) -> "Options":
    from selenium.webdriver.chrome.options import Options

    options = Options()
    options.binary_location = str(found.binary)
    options.page_load_strategy = "none"  # the driver asks the page nothing; when it is whole is decided here
    options.unhandled_prompt_behavior = "dismiss"
    options.add_experimental_option("prefs", PREFERENCES)
    options.add_experimental_option("excludeSwitches", ["disable-popup-blocking"])
    for flag in (*FLAGS, f"--proxy-server=http://{proxy}", f"--user-data-dir={profile}"):
        options.add_argument(flag)
    return options


def _first_installed(candidates: Iterable[str]) -> Path | None:
    return next((Path(path) for one in candidates if (path := shutil.which(one))), None)


def _version(program: Path) -> str:
    try:
        done = run_child([program, "--version"], timeout=30)
    except (OSError, subprocess.TimeoutExpired) as error:
        print(f"{program} does not start: {error}", file=sys.stderr)
        return ""
    return done.output.strip().partition(" (")[0]
