"""Files into the page and out of it, in a headless Chromium: folders that are dropped, and the road to a corrected ELAN file."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import anadil
from anadil.corpora import elan
from anadil.corpora.reader import Options
from anadil.decoding.cues import cues
from tests.support.browser import CHROMIUM, WHY_NOT, browser, page_of
from tests.support.micro import speak
from tests.support.server import Running, encoded, running, sound

pytestmark = [pytest.mark.slow, pytest.mark.skipif(CHROMIUM is None, reason=WHY_NOT)]
pytest.importorskip("playwright", reason="the extra dev is not installed")

STATUS, FIELD = "() => document.getElementById('status').textContent", "#segments textarea"


@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    with browser() as one:
        yield one


@pytest.fixture
def page_server(exported: Path, tmp_path: Path) -> Iterator[Running]:
    with running(exported, "--rate-limit", "0", "--workers", "1", data=tmp_path / "data") as one:
        yield one


@pytest.fixture
def page(chromium: Any, page_server: Running) -> Iterator[Any]:
    with page_of(chromium, page_server.url) as one:
        one.wait_for_selector("body[data-ready]")
        yield one


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two recordings, one of them in a folder of its own, with two files that are none."""
    folder = tmp_path / "recordings"
    (folder / "day 2").mkdir(parents=True)
    (folder / "ba.wav").write_bytes(sound("ba"))
    (folder / "day 2/cab.flac").write_bytes(sound("cab", form="FLAC"))
    (folder / "notes.txt").write_text("no sound")
    (folder / "day 2/photo.jpg").write_bytes(b"none either")
    return folder


def drop(page: Any, *paths: Path) -> None:
    """Drop files and folders on the page, as a file manager does."""
    box = page.locator("#drop").bounding_box()
    data = {"items": [], "files": [str(path) for path in paths], "dragOperationsMask": 1}
    devtools = page.context.new_cdp_session(page)
    for kind in ("dragEnter", "dragOver", "drop"):
        where = {"type": kind, "x": box["x"] + 10, "y": box["y"] + 10}
        devtools.send("Input.dispatchDragEvent", where | {"data": data})


def names(server: Running) -> list[str]:
    return sorted(one["name"] for one in server.get("/v1/recordings").json())


def test_a_dropped_folder(page: Any, page_server: Running, folder: Path) -> None:
    drop(page, folder)
    page.wait_for_function(f"{STATUS}.includes('2 recordings sent')")
    assert names(page_server) == ["ba.wav", "cab.flac"]
    status = page.inner_text("#status")
    assert "2 files are no sound files by their names" in status
    assert "recordings/notes.txt" in status and "recordings/day 2/photo.jpg" in status


def test_a_chosen_folder(page: Any, page_server: Running, folder: Path) -> None:
    page.set_input_files("#folder", str(folder))
    page.wait_for_function(f"{STATUS}.includes('2 recordings sent')")
    assert names(page_server) == ["ba.wav", "cab.flac"]
    status = page.inner_text("#status")
    assert "recordings/notes.txt" in status and "recordings/day 2/photo.jpg" in status


def test_several_dropped_files_and_more_while_they_are_sent(page: Any, page_server: Running, folder: Path) -> None:
    """Files that are dropped themselves are all sent: the server says what it makes of them."""
    drop(page, folder / "ba.wav", folder / "notes.txt")
    drop(page, folder / "day 2/cab.flac")
    page.wait_for_function("() => document.querySelectorAll('#recordings li').length === 3")
    assert names(page_server) == ["ba.wav", "cab.flac", "notes.txt"]
    page.wait_for_selector("#recordings .bad")
    assert "not readable as audio: notes.txt" in page.inner_text("#recordings .bad")


def test_an_upload_corrected_with_the_keyboard_becomes_an_elan_file(page: Any, exported: Path, tmp_path: Path) -> None:
    """Three utterances: the first is corrected, the second confirmed as it is. Times are those that were spoken."""
    spoken, pause = ("abc cab", "bac", "ca bc"), np.zeros(24_000, np.float32)
    parts = [speak(text, seed=i) for i, text in enumerate(spoken)]
    (tmp_path / "ba.wav").write_bytes(encoded(np.concatenate([one for part in parts for one in (part, pause)])))
    page.set_input_files("#files", str(tmp_path / "ba.wav"))
    page.locator("#recordings a").first.click(timeout=120_000)
    page.wait_for_selector(FIELD)
    heard = [page.locator(FIELD).nth(i).input_value() for i in range(page.locator(FIELD).count())]
    assert len(heard) == len(spoken)
    page.locator(FIELD).first.focus()
    page.keyboard.press("Control+A")
    page.keyboard.type("cab abc")
    page.keyboard.press("Enter")
    page.wait_for_function("() => document.activeElement === document.querySelectorAll('#segments textarea')[1]")
    page.keyboard.press("Enter")
    page.wait_for_function("() => document.getElementById('progress').textContent === '2 of 3 confirmed'")
    page.select_option("#format", "eaf")
    with page.expect_download() as waiting:
        page.locator("#download").focus()
        page.keyboard.press("Enter")
    path = tmp_path / waiting.value.suggested_filename
    waiting.value.save_as(path)
    assert path.suffix == ".eaf"
    read = list(elan.utterances(path, Options(tier=["utterances"]), lambda problem: pytest.fail(str(problem))))
    assert [one.text for one in read] == ["cab abc", *heard[1:]]
    times = [(one.offset or 0.0, (one.offset or 0.0) + (one.duration or 0.0)) for one in read]
    for (start, end), found in zip(times, cues(anadil.load(exported).transcribe(tmp_path / "ba.wav")), strict=True):
        assert found.start - 0.31 < start <= found.start < found.end <= end < found.end + 0.31  # with a margin
    starts = np.cumsum([0.0, *(len(part) / 16_000 + 1.5 for part in parts)])
    for (start, end), spoken_at, part in zip(times, starts, parts, strict=False):
        assert start == pytest.approx(spoken_at, abs=0.3)
        assert end == pytest.approx(spoken_at + len(part) / 16_000, abs=0.5)
