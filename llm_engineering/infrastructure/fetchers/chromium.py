"""Finds a Chromium with its driver on this machine, starts it, and leaves nothing of it behind."""

import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from selenium.webdriver import Chrome

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
    "--force-webrtc-ip-handling-policy=disable_non_proxied_udp",
)


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
    """A started browser. `driver` is selenium's; `stop` leaves no process and no profile, in whatever state it is."""

    def __init__(self, found: BrowserPaths, *, proxy: str, page_seconds: float) -> None:
        from selenium import webdriver
        from selenium.webdriver.chrome.options import Options
        from selenium.webdriver.chrome.service import Service

        self._profile = tempfile.mkdtemp(prefix="llm-twin-browser-")
        options = Options()
        options.binary_location = str(found.binary)
        options.page_load_strategy = "eager"  # the document, not its last tracker
        options.unhandled_prompt_behavior = "dismiss"
        options.add_experimental_option("prefs", {"download_restrictions": 3})
        for flag in (*FLAGS, f"--proxy-server=http://{proxy}", f"--user-data-dir={self._profile}"):
            options.add_argument(flag)
        without_proxies = {name: value for name, value in os.environ.items() if not name.lower().endswith("_proxy")}
        # Its own session, so that the driver and all that it starts can be ended as one.
        self._service = Service(
            str(found.driver), log_output=subprocess.DEVNULL, env=without_proxies, popen_kw={"start_new_session": True}
        )
        try:
            self.driver = webdriver.Chrome(options=options, service=self._service)
            self.driver.set_page_load_timeout(page_seconds)
            self.driver.set_script_timeout(page_seconds)
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        process = getattr(self._service, "process", None)
        driver = getattr(self, "driver", None)
        if driver is not None and process is not None and process.poll() is None:
            _quit(driver)
        if process is not None:
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        shutil.rmtree(self._profile, ignore_errors=True)


def _quit(driver: "Chrome") -> None:
    """A browser that has crashed cannot be asked to quit; it is killed next."""
    from selenium.common.exceptions import WebDriverException
    from urllib3.exceptions import HTTPError

    with suppress(WebDriverException, HTTPError, OSError):
        driver.quit()


def _first_installed(candidates: Iterable[str]) -> Path | None:
    return next((Path(path) for one in candidates if (path := shutil.which(one))), None)


def _version(program: Path) -> str:
    try:
        done = subprocess.run([program, "--version"], capture_output=True, text=True, timeout=30, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        print(f"{program} does not start: {error}", file=sys.stderr)
        return ""
    return done.stdout.strip().partition(" (")[0]
