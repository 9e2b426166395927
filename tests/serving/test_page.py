"""The page in a headless Chromium: upload, correction with the keyboard alone, drafts that survive, downloads, microphone."""

from __future__ import annotations

import json
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

import anadil
from anadil.corpora import elan, textgrid
from anadil.corpora.reader import Options
from anadil.decoding.cues import cues
from anadil.manifest import read_manifest
from tests.support.browser import CHROMIUM, WHY_NOT, browser, page_of
from tests.support.micro import speak
from tests.support.server import Running, running

pytestmark = [pytest.mark.slow, pytest.mark.skipif(CHROMIUM is None, reason=WHY_NOT)]
pytest.importorskip("playwright", reason="the extra dev is not installed")

TEXTS = ("abc cab", "bac", "ca bc")
FIELD, STATUS = "#segments textarea", "#status"


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A WAV file: three utterances with a second and a half of pause between."""
    pause = np.zeros(24_000, np.float32)
    samples = np.concatenate([part for i, text in enumerate(TEXTS) for part in (speak(text, seed=i), pause)])
    path = tmp_path_factory.mktemp("sound") / "ba ca.wav"
    soundfile.write(path, samples, 16000)
    return path


@pytest.fixture(scope="module")
def chromium(sound: Path) -> Iterator[Any]:
    with browser(microphone=sound) as one:
        yield one


@pytest.fixture(scope="module")
def page_server(exported: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with running(exported, "--rate-limit", "0", "--workers", "1", data=tmp_path_factory.mktemp("page") / "data") as one:
        yield one


@pytest.fixture(scope="module")
def heard(exported: Path, sound: Path) -> list[str]:
    """What the model makes of it, a text for each utterance."""
    found = [segment.text for segment in cues(anadil.load(exported).transcribe(sound))]
    assert len(found) == len(TEXTS)
    return found


@pytest.fixture
def page(chromium: Any, page_server: Running) -> Iterator[Any]:
    with page_of(chromium, page_server.url) as one:
        yield one


def open_new(page: Any, sound: Path) -> None:
    """Upload a recording and open it."""
    page.wait_for_selector("body[data-ready]")
    ready = "() => fetch('/v1/recordings').then((r) => r.json()).then((all) => all.filter((one) => one.state === 'done').length)"
    n_before = page.evaluate(ready)
    page.set_input_files("#files", [str(sound)])
    page.wait_for_function(f"() => document.querySelectorAll('#recordings a').length === {n_before + 1}")
    page.locator("#recordings a").first.click()
    page.wait_for_selector(FIELD)


def manifest(server: Running) -> list[Any]:
    server.get("/v1/corrections")  # writes it
    path = server.data / "corrections.jsonl"
    return read_manifest(path) if path.read_text() else []


def test_correcting_with_the_keyboard_alone_makes_training_data(
    page: Any, page_server: Running, sound: Path, heard: list[str]
) -> None:
    page.fill("#who", "Ayşe")
    open_new(page, sound)
    fields = page.locator(FIELD)
    assert [fields.nth(i).input_value() for i in range(fields.count())] == heard
    fields.first.focus()
    page.keyboard.press("Tab")
    page.wait_for_function("() => document.getElementById('play').textContent === 'Pause'")
    page.keyboard.press("Tab")
    page.wait_for_function("() => document.getElementById('play').textContent === 'Play'")
    page.keyboard.press("End")
    page.keyboard.type("a")
    page.keyboard.press("Enter")
    page.wait_for_function("() => document.activeElement === document.querySelectorAll('#segments textarea')[1]")
    assert page.inner_text("#progress") == "1 of 3 confirmed"
    page.keyboard.press("Enter")
    page.wait_for_function("() => document.getElementById('progress').textContent === '2 of 3 confirmed'")
    first, second = (one for one in manifest(page_server) if one.extra["recording"] == sound.name)
    assert (first.text, first.extra["hypothesis"], second.text) == (heard[0] + "a", heard[0], heard[1])
    assert first.extra["confirmed_by"] == "Ayşe" and first.extra["confirmed_at"].startswith("20")
    assert first.offset < 0.2 and Path(first.audio_filepath).read_bytes() == sound.read_bytes()
    page.keyboard.press("Escape")
    assert page.evaluate("document.activeElement.tagName") == "BUTTON"


def test_words_are_played_and_coloured(page: Any, sound: Path, heard: list[str]) -> None:
    open_new(page, sound)
    word = page.locator(".words button").nth(1)
    start = float(word.get_attribute("data-from"))
    assert word.inner_text() == " ".join(heard).split()[1] and word.get_attribute("class") in (
        "sure",
        "unsure",
        "doubtful",
    )
    page.evaluate(
        "() => {window.times = []; const play = Audio.prototype.play; "
        "Audio.prototype.play = function () {window.times.push([this.currentTime, this.playbackRate]); return play.call(this)}}"
    )
    page.select_option("#speed", "0.5")
    word.click()
    ((at, speed),) = page.evaluate("window.times")
    assert at == pytest.approx(start, abs=0.01) and speed == 0.5


def test_what_was_typed_survives_a_killed_server_and_a_reload(
    chromium: Any, exported: Path, sound: Path, heard: list[str], tmp_path: Path
) -> None:
    data = tmp_path / "data"
    arguments = (exported, "--rate-limit", "0", "--workers", "1")
    with running(*arguments, data=data) as one, page_of(chromium, one.url) as page:
        open_new(page, sound)
        page.locator(FIELD).first.fill("abc")
        page.keyboard.press("Enter")
        page.wait_for_function("() => document.getElementById('progress').textContent === '1 of 3 confirmed'")
        port = one.url.rsplit(":", 1)[1]
        one.end(signal.SIGKILL)
        page.locator(FIELD).nth(1).fill("cab cab")
        page.wait_for_function("() => document.getElementById('status').textContent.startsWith('Not saved')")
        with running(*arguments, "--port", port, data=data) as again:
            page.reload()
            page.wait_for_selector(FIELD)
            fields = page.locator(FIELD)
            assert [fields.nth(i).input_value() for i in range(3)] == ["abc", "cab cab", heard[2]]
            page.wait_for_function("() => Object.keys(localStorage).every((key) => !key.startsWith('drafts-'))")
            (recording,) = again.get("/v1/recordings").json()
            segments = again.get(f"/v1/recordings/{recording['id']}").json()["segments"]
            assert [(one["text"], one["state"]) for one in segments[:2]] == [("abc", "confirmed"), ("cab cab", "draft")]


def test_two_people_do_not_overwrite_each_other(chromium: Any, page_server: Running, sound: Path) -> None:
    with page_of(chromium, page_server.url) as ali, page_of(chromium, page_server.url) as oya:
        ali.fill("#who", "Ali")
        oya.fill("#who", "Oya")
        open_new(ali, sound)
        oya.goto(ali.url)
        oya.wait_for_selector(FIELD)
        oya.route("**/v1/recordings/*?after=*", lambda route: route.fulfill(status=204))  # she does not see his change
        ali.locator(FIELD).first.fill("aaa")
        ali.keyboard.press("Enter")
        ali.wait_for_function("() => document.getElementById('progress').textContent === '1 of 3 confirmed'")
        oya.locator(FIELD).first.fill("bbb")
        oya.keyboard.press("Enter")
        oya.wait_for_selector(".conflict")
        assert "Ali changed this meanwhile to: aaa" in oya.inner_text(".conflict")
        assert [one.text for one in manifest(page_server)].count("bbb") == 0
        oya.get_by_role("button", name="Keep mine").click()
        oya.wait_for_function("() => document.getElementById('progress').textContent === '1 of 3 confirmed'")
        assert oya.locator(".conflict").count() == 0
        ali.wait_for_function("() => document.querySelector('#segments textarea').value === 'bbb'")  # he sees hers
        log = next(page_server.data.glob(f"recordings/{ali.url.rsplit('#', 1)[1]}/edits.jsonl")).read_text()
        assert {json.loads(line)["text"] for line in log.splitlines()} >= {"aaa", "bbb"}


def test_downloads(page: Any, sound: Path, heard: list[str], tmp_path: Path) -> None:
    open_new(page, sound)
    (tmp_path / sound.name).write_bytes(sound.read_bytes())
    found = {}
    for form in ("text", "srt", "vtt", "textgrid", "eaf", "json"):
        page.select_option("#format", form)
        with page.expect_download() as download:
            page.click("#download")
        path = tmp_path / download.value.suggested_filename
        download.value.save_as(path)
        found[form] = path
    assert found["text"].read_text() == "".join(f"{text}\n" for text in heard) and found["text"].name == "ba ca.txt"
    for reader, form in ((elan, "eaf"), (textgrid, "textgrid")):
        options = Options(tier=["utterances"])
        texts = [one.text for one in reader.utterances(found[form], options, lambda problem: pytest.fail(str(problem)))]
        assert texts == heard
    assert "file:///ba%20ca.wav" in found["eaf"].read_text() and str(page.url) not in found["eaf"].read_text()
    assert [one["text"] for one in json.loads(found["json"].read_text())["segments"]] == heard
    assert "00:00:0" in found["srt"].read_text() and found["vtt"].read_text().startswith("WEBVTT")


def test_the_microphone_gives_live_text_and_a_recording(page: Any, page_server: Running) -> None:
    page.wait_for_selector("body[data-ready]")
    page.click("#record")
    page.wait_for_function("() => document.getElementById('live-text').textContent.trim().length > 2", timeout=60_000)
    page.click("#stop")
    page.wait_for_function("() => document.querySelector('#recordings a')?.textContent.startsWith('Recording 20')")
    newest = page_server.get("/v1/recordings").json()[0]
    assert newest["duration"] > 1
    assert soundfile.info(page_server.data / "recordings" / newest["id"] / "audio.wav").samplerate >= 16000


def test_a_new_segment_and_a_deleted_one(page: Any, page_server: Running, sound: Path) -> None:
    open_new(page, sound)
    page.locator("#segments li").first.get_by_role("button", name="Delete").click()
    page.wait_for_function("() => document.getElementById('progress').textContent === '0 of 2 confirmed'")
    box = page.locator("#wave").bounding_box()
    page.mouse.move(box["x"] + 5, box["y"] + 40)
    page.mouse.down()
    page.mouse.move(box["x"] + 60, box["y"] + 40, steps=8)
    page.mouse.up()
    page.wait_for_function("() => document.getElementById('progress').textContent === '0 of 3 confirmed'")
    page.keyboard.type("acb")
    page.keyboard.press("Enter")
    page.wait_for_function("() => document.getElementById('progress').textContent === '1 of 3 confirmed'")
    (line,) = (one for one in manifest(page_server) if one.text == "acb")
    assert line.duration is not None and 0.3 < line.duration < 1.5


def test_languages_letters_and_colours(page: Any, sound: Path) -> None:
    open_new(page, sound)
    page.select_option("#language", "tr")
    page.wait_for_function("() => document.querySelector('#segments .main')?.textContent === 'Onayla'")
    assert page.evaluate("document.documentElement.lang") == "tr"
    page.reload()
    page.wait_for_selector(FIELD)
    assert page.inner_text("#play") == "Çal"
    page.locator(FIELD).first.fill("")
    page.click("#letters-button")
    page.get_by_role("button", name="b", exact=True).click()
    page.get_by_role("button", name="c", exact=True).click()
    assert page.locator(FIELD).first.input_value() == "bc"
    colour = "getComputedStyle(document.body).backgroundColor"
    before = page.evaluate(colour)
    page.click("#theme")
    assert page.evaluate(colour) != before
    page.reload()
    assert page.evaluate(colour) != before


@pytest.mark.parametrize(
    ("font", "text", "is_rtl"),
    [
        ("Anadil Arabic", "سلام ڭۇنۇ", True),
        ("Anadil Hebrew", "שלום", True),
        ("Anadil NKo", "ߒߞߏ", True),
        ("Anadil Adlam", "𞤆𞤵𞤤𞤢𞤪", True),
        ("Anadil Ethiopic", "ሰላም", False),
        ("Anadil Tifinagh", "ⵜⵉⴼⵉⵏⴰⵖ", False),
        ("Anadil Andika", "ɓɗŋɔ́ɛ̀ẹ̀", False),
        ("Anadil Andika", "ӈҕԥ", False),
        ("Anadil Greek", "έωώ", False),
    ],
)
def test_scripts(page: Any, font: str, text: str, is_rtl: bool) -> None:
    """Each bundled font loads and has the letters; the direction of a text is that of its script."""
    loaded = page.evaluate(
        "([font, text]) => document.fonts.load(`16px '${font}'`, text).then((found) => found.length)", [font, text]
    )
    assert loaded >= 1
    page.evaluate(
        "(text) => {const field = document.createElement('textarea'); field.id = 'try'; field.dir = 'auto'; field.value = text; "
        "document.body.append(field)}",
        text,
    )
    assert page.evaluate("document.getElementById('try').matches(':dir(rtl)')") == is_rtl


@pytest.mark.parametrize("width", [360, 1100])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_accessible_and_within_the_screen(
    chromium: Any, page_server: Running, sound: Path, width: int, scheme: str
) -> None:
    from axe_playwright_python.sync_playwright import Axe

    size = {"width": width, "height": 800}
    with page_of(chromium, page_server.url, viewport=size, color_scheme=scheme) as page:
        page.wait_for_selector("#recordings")
        found = Axe().run(page).response["violations"]
        open_new(page, sound)
        page.locator(FIELD).first.fill("abc")
        page.keyboard.press("Enter")
        page.wait_for_function("() => document.getElementById('progress').textContent.startsWith('1 of')")
        page.click("#letters-button")
        found += Axe().run(page).response["violations"]
        serious = [
            f"{one['id']}: {one['nodes'][0]['html'][:200]}" for one in found if one["impact"] in ("serious", "critical")
        ]
        assert serious == []
        assert page.evaluate("document.documentElement.scrollWidth") <= width


def test_how_much_was_corrected_and_how_to_train_on_it(page: Any, sound: Path) -> None:
    open_new(page, sound)
    page.locator(FIELD).first.focus()
    page.keyboard.press("Enter")
    page.wait_for_function("() => document.getElementById('progress').textContent.startsWith('1 of')")
    page.click("h1 a")
    page.click("#corrections")
    page.wait_for_selector("#corrections-dialog[open]")
    assert "minutes of confirmed speech" in page.inner_text("#corrections-text")
    assert "anadil train" in page.inner_text("#corrections-commands")


def test_a_server_with_keys_asks_for_one(chromium: Any, exported: Path, sound: Path, tmp_path: Path) -> None:
    keys = tmp_path / "keys"
    keys.write_text("radio 0123456789abcdef0123\n")
    with (
        running(exported, "--api-key-file", keys, "--workers", "1", data=tmp_path / "data") as one,
        page_of(chromium, one.url) as page,
    ):
        page.fill("#key", "wrong")
        page.keyboard.press("Enter")
        page.wait_for_function("() => document.getElementById('key-error').textContent === 'no valid API key'")
        page.fill("#key", "0123456789abcdef0123")
        page.keyboard.press("Enter")
        page.wait_for_function("() => document.getElementById('who').value === 'radio'")
        open_new(page, sound)
        assert page.evaluate("document.cookie") == ""  # scripts cannot read it


def test_files_that_cannot_be_used_are_named(page: Any, tmp_path: Path) -> None:
    (tmp_path / "letter.txt").write_text("no sound")
    page.wait_for_selector("body[data-ready]")
    page.set_input_files("#files", [str(tmp_path / "letter.txt")])
    page.wait_for_selector("#recordings .bad")
    assert "not readable as audio: letter.txt" in page.locator("#recordings .bad").first.inner_text()
    page.get_by_role("button", name="Try again").first.click()
    page.wait_for_selector("#recordings .bad")
