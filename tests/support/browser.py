"""A headless Chromium, Debian's or another that is installed, driven by Playwright: pages of a server, and files."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

_NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
CHROMIUM = next(filter(None, map(shutil.which, _NAMES)), None)
WHY_NOT = f"no browser: none of {', '.join(_NAMES)} is installed (apt-get install chromium)"

_ARGUMENTS = ["--no-sandbox", "--autoplay-policy=no-user-gesture-required"]  # no sandbox: tests may run as root


@contextlib.contextmanager
def browser(microphone: Path | None = None) -> Iterator[Any]:
    """A Playwright browser. `microphone`: a WAV file that its microphone plays again and again."""
    from playwright.sync_api import sync_playwright

    arguments = list(_ARGUMENTS)
    if microphone is not None:
        arguments += ["--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream"]
        arguments += [f"--use-file-for-fake-audio-capture={microphone}"]
    with sync_playwright() as playwright:
        one = playwright.chromium.launch(executable_path=CHROMIUM, args=arguments)
        try:
            yield one
        finally:
            one.close()


@contextlib.contextmanager
def page_of(one: Any, url: str, state: str = "", **options: Any) -> Iterator[Any]:
    """A page in a context of its own, in English; what its scripts throw, and what it asks of other hosts, fails the test.

    `state`: the part of the address after #.
    """
    context = one.new_context(**{"locale": "en-GB", "viewport": {"width": 1100, "height": 800}} | options)
    page = context.new_page()
    page.set_default_timeout(30_000)
    errors: list[str] = []
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.on("request", lambda request: request.url.startswith((url, "blob:", "data:")) or errors.append(request.url))
    try:
        page.goto(f"{url}#{state}" if state else url)
        yield page
    finally:
        context.close()
    assert not errors, errors


def document(file: Path, state: str = "") -> str:
    """The HTML of a file's document after its scripts have run."""
    with browser() as one, page_of(one, file.absolute().as_uri(), state) as page:
        return str(page.content())


def picture(file: Path, to: Path, state: str = "", **options: Any) -> None:
    """Write a PNG of the whole page of a file; `options` as color_scheme="dark"."""
    with browser() as one, page_of(one, file.absolute().as_uri(), state, **options) as page:
        page.screenshot(path=to, full_page=True)
