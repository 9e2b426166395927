from __future__ import annotations

import importlib.util
import json
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from anadil import audio
from anadil.errors import AnadilError
from anadil.evaluation.analysis import Analysis
from anadil.evaluation.evaluate import compare, evaluation_of
from anadil.evaluation.report import columns, in_words, is_right_to_left, require_report_libraries, write_report
from anadil.evaluation.several import Part
from anadil.manifest import Utterance
from anadil.text.rules import TextSettings, text_rules
from tests.support.browser import CHROMIUM, WHY_NOT, document

in_a_browser = pytest.mark.skipif(CHROMIUM is None, reason=WHY_NOT)

EVIL = "</script><script>document.title='evil'</script><img src=x onerror=document.title='evil'>"
REFERENCES = ["ana dil", "مرحبا بك يا صديقي", "ọ̀rẹ́ mi dára", "שָׁלוֹם עולם", EVIL.replace(" ", "_"), "a b c"]
HYPOTHESES = ["ana dl", "مرحبا يا صديقتي", "ọ̀rẹ mi dára sí", "שלום עולם", "", "a b c"]


def analyses(
    hypotheses: Sequence[Sequence[str]], references: Sequence[str] = REFERENCES, folder: Path | None = None
) -> list[Analysis]:
    rules = text_rules("und", TextSettings())
    utterances = [
        Utterance(
            str((folder or Path("/none")) / f"{i}.wav"), 1.5 + i, speaker=f"s{i % 6}", extra={"reference_doubt": i / 2}
        )
        for i in range(len(references))
    ]
    return [
        Analysis(f"system {n}", evaluation_of(compare(utterances, references, own)), rules)
        for n, own in enumerate(hypotheses)
    ]


def data_of(page: Path) -> dict[str, Any]:
    text = page.read_text(encoding="utf-8")
    found = re.search(r'<script type="application/json" id="data">(.*?)</script>', text, re.DOTALL)
    assert found is not None
    return json.loads(found[1])  # type: ignore[no-any-return]


def test_columns_hold_both_hypotheses() -> None:
    assert columns("a b c", ["a x c d", "n b c"]) == [
        ["a", "a", "n"],
        ["b", "x", "b"],
        ["c", "c", "c"],
        ["", "d", ""],
    ]
    assert columns("", ["x y", ""]) == [["", "x", ""], ["", "y", ""]]
    assert columns("a", [""]) == [["a", ""]]


@pytest.mark.parametrize(
    ("text", "expected"), [("ana dil", False), ("مرحبا", True), ("123 שלום", True), ("", False), ("12 %", False)]
)
def test_the_direction_is_that_of_the_first_letter(text: str, expected: bool) -> None:
    assert is_right_to_left(text) is expected


def test_the_page_has_every_utterance_and_loads_nothing(tmp_path: Path) -> None:
    page = write_report(tmp_path / "report", "a title", analyses([HYPOTHESES, REFERENCES]), ["a note"])
    assert page == tmp_path / "report/report.html" and [one.name for one in page.parent.iterdir()] == ["report.html"]
    data, text = data_of(page), page.read_text(encoding="utf-8")
    assert data["systems"] == ["system 0", "system 1"]
    assert [row["x"] for row in data["rows"]] == [
        columns(r, [h, r]) for r, h in zip(REFERENCES, HYPOTHESES, strict=True)
    ]
    assert [row.get("r") for row in data["rows"]] == [None, 1, None, 1, None, None]
    assert (
        "a note" in text and "Which is better?" in text and "6 of 6 recordings are not where the manifest says" in text
    )
    assert not re.findall(r"""(?:src|href)=["'](?!data:|#)[^"']*|@import|url\((?!#)""", text.split('id="data"')[0])


def test_texts_of_strangers_stay_text(tmp_path: Path) -> None:
    page = write_report(tmp_path / "report", EVIL, analyses([HYPOTHESES]), [EVIL])
    text = page.read_text(encoding="utf-8")
    assert "<script>document" not in text and "<img src=x" not in text
    assert text.count("</script>") == 2  # data and script


def test_recordings_are_linked_embedded_or_left_out(tmp_path: Path) -> None:
    for i in range(5):
        audio.write(tmp_path / f"{i}.wav", np.zeros(1600, np.float32), 16000)  # the sixth is missing
    for how, expected in (("link", "../"), ("embed", "data:audio/mpeg;base64,"), ("none", None)):
        page = write_report(tmp_path / how, "t", analyses([HYPOTHESES], folder=tmp_path), audio=how)  # type: ignore[arg-type]
        sounds = [row.get("a") for row in data_of(page)["rows"]]
        assert sounds[5] is None
        assert all(one is None if expected is None else one.startswith(expected) for one in sounds[:5])
        assert (" of 6 recordings " in page.read_text(encoding="utf-8")) is (how != "none")


def test_too_much_to_embed_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("anadil.evaluation.report.MAX_EMBEDDED_BYTES", 100)
    audio.write(tmp_path / "0.wav", np.zeros(1600, np.float32), 16000)
    with pytest.raises(AnadilError, match="next: --audio link"):
        write_report(tmp_path / "report", "t", analyses([HYPOTHESES], folder=tmp_path), audio="embed")
    assert not (tmp_path / "report").exists()


def test_curves_of_the_run_are_an_image_that_cannot_run_code(tmp_path: Path) -> None:
    (tmp_path / "metrics.svg").write_text("<svg><script>evil()</script></svg>")
    page = write_report(tmp_path / "report", "t", analyses([HYPOTHESES]), curves=tmp_path / "metrics.svg")
    text = page.read_text(encoding="utf-8")
    assert 'src="data:image/svg+xml;base64,' in text and "evil()" not in text


def test_the_summary_is_in_plain_words() -> None:
    (few,) = analyses([HYPOTHESES])
    assert "about 47 come out wrong" in in_words(few)  # 7 / 15
    assert "a margin cannot be given" in in_words(few) and "1 of 6 sentences are entirely right" in in_words(few)
    (many,) = analyses([["a x"] * 20 + ["a b"] * 40], ["a b"] * 60)
    assert "about 17 come out wrong" in in_words(many) and "other speakers of the same kind" in in_words(many)


def test_a_missing_library_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, *more: None if name == "jinja2" else find(name, *more)
    )
    with pytest.raises(AnadilError, match=r"--report needs jinja2, which is not installed\n.*anadil\[report\]"):
        require_report_libraries()


# --- in a browser


@in_a_browser
def test_the_page_works_in_a_browser(tmp_path: Path) -> None:
    page = write_report(tmp_path / "report", EVIL, analyses([HYPOTHESES]))
    html = document(page)
    assert 'data-ready="' in html  # the script ran to its end
    assert "<title>evil</title>" not in html  # and no text of the data was run
    rows = re.findall(r'<li><div class="meta">.*?</li>', html.split('id="list"')[1])
    assert len(rows) == 6
    assert 'dir="rtl"' in rows[1] and 'dir="rtl"' in rows[3] and 'dir="ltr"' in rows[2]
    assert '<span class="col sub"><span>dil</span><span>dl</span></span>' in rows[0]
    assert '<span class="col del"><span>بك</span><span>∅</span></span>' in rows[1]
    assert "<u>قت</u>" not in rows[1] and re.search(r"صديق<u>ت</u>ي", rows[1])  # the letter that differs, not the word
    assert "<u>rẹ</u>" not in rows[2] and "ọ̀r<u>ẹ</u>" in rows[2]  # ẹ against ẹ́: the letter with its marks is one
    assert '<span class="col ins"><span>∅</span><span>sí</span></span>' in rows[2]


@in_a_browser
def test_sorting_searching_and_links_work(tmp_path: Path) -> None:
    references = [f"word{i} same" for i in range(230)]
    hypotheses = [f"word{i} same" if i % 10 else f"word{i} other" for i in range(230)]
    page = write_report(tmp_path / "report", "t", analyses([hypotheses, references], references))

    def numbers(state: str) -> list[int]:
        html = document(page, state).split('id="list"')[1]
        return [int(one) + 1 for one in re.findall(r'<li><div class="meta"><a href="#u=(\d+)">', html)]

    assert numbers("") == list(range(1, 101))  # a hundred at a time
    assert numbers("sort=x")[:24] == [*range(1, 231, 10), 2]  # where the two systems differ most
    assert numbers("search=word22 other") == [221]
    assert numbers("u=7") == [8]
    assert numbers("sort=d")[0] == 230
    assert numbers("wrong=1") == []  # of the last system


@in_a_browser
def test_one_manifest_alone_can_be_shown(tmp_path: Path) -> None:
    (one,) = analyses([HYPOTHESES])
    scored = [
        replace(each, utterance=replace(each.utterance, source=f"x:{i}"))
        for i, each in enumerate(one.evaluation.scored)
    ]
    parts = [
        Part(Path(name), name, evaluation_of(scored[place])) for name, place in (("a", slice(0, 4)), ("b", slice(3, 6)))
    ]
    whole = replace(one, evaluation=evaluation_of(scored))
    page = write_report(tmp_path / "report", "t", [whole], parts=[(whole.name, [*parts, Part(Path(EVIL), EVIL, None)])])
    assert [row["m"] for row in data_of(page)["rows"]] == [[0], [0], [0], [0, 1], [1], [1]]
    for state, expected in (("m=1", [3, 4, 5]), ("m=0&wrong=1", [0, 1, 2, 3]), ("m=2", []), ("", list(range(6)))):
        html = document(page, state).split('id="list"')[1]
        assert [int(one) for one in re.findall(r'<li><div class="meta"><a href="#u=(\d+)">', html)] == expected
        assert 'data-ready="' in document(page, state)


def test_two_thousand_utterances_are_below_five_megabytes(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    words = ["".join(chr(0x1E00 + int(c)) for c in rng.integers(0, 200, 6)) for _ in range(500)]
    references = [" ".join(words[int(i)] for i in rng.integers(0, 500, 12)) for _ in range(2000)]
    hypotheses = [" ".join(word for word in text.split() if rng.random() > 0.3) for text in references]
    page = write_report(tmp_path / "report", "t", analyses([hypotheses, references], references), audio="none")
    assert page.stat().st_size < 5_000_000
    assert len(data_of(page)["rows"]) == 2000
