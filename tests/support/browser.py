"""A page opened in headless Chromium or Chrome: its document after the scripts have run, and a picture of it."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")


def find_browser() -> str:
    """The program; without one the test is skipped, with the reason."""
    for name in NAMES:
        if path := shutil.which(name):
            return path
    pytest.skip(f"no browser: none of {', '.join(NAMES)} is installed (apt-get install chromium)")


def _run(profile: Path, *arguments: str) -> str:
    command = [
        *(find_browser(), "--headless=new", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-extensions"),
        *(
            "--disable-background-networking",
            "--disable-dev-shm-usage",
            "--hide-scrollbars",
            f"--user-data-dir={profile}",
        ),
        *("--virtual-time-budget=5000", "--window-size=1200,1600", *arguments),
    ]
    done = subprocess.run(command, capture_output=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr.decode("utf-8", "replace")[-2000:]
    return done.stdout.decode("utf-8")


def document(page: Path, profile: Path, state: str = "") -> str:
    """The HTML of the document after its scripts have run; `state` is the part of the address after #."""
    return _run(profile, "--dump-dom", f"{page.absolute().as_uri()}#{state}")


def picture(page: Path, profile: Path, to: Path, state: str = "") -> None:
    """Write a PNG of the page."""
    _run(profile, f"--screenshot={to}", f"{page.absolute().as_uri()}#{state}")
