"""A headless Chromium with a fresh profile, for the tests of our own pages; it may reach loopback only."""

import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Generator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from llm_engineering.infrastructure.fetchers.chromium import find_browser

if TYPE_CHECKING:
    from selenium import webdriver

FLAGS = (
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
    "--force-color-profile=srgb",
)


@contextmanager
def chromium(*, width: int = 1100, height: int = 1000) -> Generator["webdriver.Chrome"]:
    """selenium's driver. Nothing of it is left afterwards."""
    from selenium import webdriver
    from selenium.webdriver.chrome.options import Options
    from selenium.webdriver.chrome.service import Service

    found, profile = find_browser(), tempfile.mkdtemp(prefix="chat-browser-")
    assert found is not None, "whoever asks for it has looked"
    options = Options()
    options.binary_location = str(found.binary)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    for flag in (*FLAGS, f"--window-size={width},{height}", f"--user-data-dir={profile}"):
        options.add_argument(flag)
    quiet = {name: value for name, value in os.environ.items() if not name.lower().endswith("_proxy")}
    service = Service(str(found.driver), log_output=subprocess.DEVNULL, env=quiet, popen_kw={"start_new_session": True})
    driver = None
    try:
        driver = webdriver.Chrome(options=options, service=service)
        yield driver
    finally:
        if driver is not None:
            driver.quit()
        if getattr(service, "process", None) is not None:
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(service.process.pid, signal.SIGKILL)  # the session that was started above
            service.process.wait()
        shutil.rmtree(profile, ignore_errors=True)
