"""A show of the arcade in a process of its own, and the system's Chromium, driven by the extra `browser`."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from playwright.sync_api import Browser

NAMES = ("chromium", "chromium-browser", "google-chrome")
FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
ENDS_S = 120.0


def executable() -> str | None:
    """Chromium as the system has it, or None."""
    return next((path for name in NAMES if (path := shutil.which(name))), None)


@contextmanager
def chromium() -> Iterator[Browser]:
    """A browser of its own profile; raises RuntimeError where Chromium is missing."""
    from playwright.sync_api import sync_playwright

    path = executable()
    if path is None:
        raise RuntimeError(f"browser: none of {', '.join(NAMES)} is installed; on Debian: apt install chromium")
    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=path, args=list(FLAGS))
        try:
            yield browser
        finally:
            browser.close()


@contextmanager
def shown(root: Path, *changes: str) -> Iterator[str]:
    """The address of a show whose files go to `root`; ended as by Ctrl-C, which must succeed."""
    line = [sys.executable, "-m", "deploy.play", "play.view=web", "play.realtime.seconds=0", f"root={root}", *changes]
    env = {name: value for name, value in os.environ.items() if name not in ("DISPLAY", "WAYLAND_DISPLAY")}
    process = subprocess.Popen(line, stdout=subprocess.PIPE, env=env, text=True)
    assert process.stdout is not None
    try:
        yield next((told.split()[1] for told in process.stdout if told.startswith("page: ")), "")
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=ENDS_S)
        assert process.returncode == 0
    finally:
        process.kill()
        process.wait()
