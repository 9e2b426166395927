"""FLEx's interlinear texts: as FLEx writes them by itself, and after ELAN gave them times."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from anadil.corpora import flextext
from anadil.corpora.reader import Options
from anadil.errors import AnadilError, Problem
from anadil.manifest import Utterance

WORDS = """<words>
  <word guid="w1"><item type="txt" lang="mdw">mwána</item>{other}
    <morphemes><morph type="prefix"><item type="txt" lang="mdw">mw-</item><item type="gls" lang="en">CL1</item></morph>
      <morph type="stem"><item type="txt" lang="mdw">ána</item></morph></morphemes>
    <item type="gls" lang="en">child</item></word>
  <word><item type="txt" lang="fr">merci</item></word>
  <word><item type="txt" lang="mdw">
      <run lang="mdw">ab</run>
      <run lang="mdw" style="Emphasis">é</run></item><item type="gls" lang="en">be here</item></word>
  <word><item type="punct" lang="mdw">.</item></word>
</words>"""
GLOSS = '<item type="gls" lang="en">The child, thanks, is here.</item>'


def text(*phrases: str, media: str = '<media guid="m1" location="file:///C:/rec/talk.wav"/>') -> str:
    return (
        '<interlinear-text guid="t"><item type="title" lang="en">Talk</item><paragraphs><paragraph><phrases>'
        + "".join(phrases)
        + f"</phrases></paragraph></paragraphs><media-files>{media}</media-files></interlinear-text>"
    )


def phrase(start: object, end: object, *parts: str, **attributes: str) -> str:
    times = f' begin-time-offset="{start}" end-time-offset="{end}"' if start is not None else ""
    more = "".join(f' {key.replace("_", "-")}="{value}"' for key, value in attributes.items())
    return f"<phrase{times}{more}>{''.join(parts)}</phrase>"


def words(other: str = "") -> str:
    return WORDS.format(other=other)


@pytest.fixture
def file(tmp_path: Path, write_wav: Callable[..., Path]) -> Path:
    write_wav("talk.wav", 0.1)
    return tmp_path / "talk.flextext"


def read(file: Path, *texts: str, **options: object) -> tuple[list[Utterance], list[Problem]]:
    document = f'\ufeff<?xml version="1.0" encoding="utf-8"?>\n<document version="2">{"".join(texts)}</document>'
    file.write_text(document, encoding="utf-8")
    rejected: list[Problem] = []
    return list(flextext.utterances(file, Options(**options), rejected.append)), rejected  # type: ignore[arg-type]


def test_phrases_with_times_become_utterances_with_words_and_glosses_beside(file: Path) -> None:
    plain = '<item type="txt" lang="mdw">It  barked.</item><item type="segnum" lang="en">2</item>'
    found, rejected = read(
        file, text(phrase(500, 1500, words(), GLOSS, speaker="Ana"), phrase(None, None, plain), phrase("x", 9, plain))
    )
    assert [(one.text, one.offset, one.duration, one.speaker) for one in found] == [
        ("mwána merci abé.", 0.5, 1.0, "Ana")
    ]
    assert found[0].extra["annotations"] == {
        "phrase-gls-en": ["The child, thanks, is here."],
        "word-txt-mdw": ["mwána", "", "abé"],
        "word-txt-fr": ["", "merci", ""],
        "word-gls-en": ["child", "", "be here"],
        "morph-txt-mdw": ["mw-", "ána"],
        "morph-gls-en": ["CL1", ""],
    }
    assert [(problem.where.partition(": ")[2], problem.what) for problem in rejected] == [
        ("text 'Talk', phrase 2", "no times"),
        ("text 'Talk', phrase 2", "no valid times: nan to 0.009 s"),
    ]


def test_a_baseline_in_two_writing_systems_must_be_chosen(file: Path) -> None:
    both = text(phrase(0, 1000, words('<item type="txt" lang="mdw-Latn">mwana</item>'), GLOSS))
    with pytest.raises(AnadilError, match="2 tiers hold text, and none was chosen") as caught:
        read(file, both)
    assert "'phrase-txt-mdw-Latn', type 'phrase-txt', 1 annotations with text, such as 'mwana merci" in str(
        caught.value
    )
    assert [one.text for one in read(file, both, tier="phrase-txt-mdw")[0]] == ["mwána merci abé."]
    assert [one.text for one in read(file, both, tier="phrase-gls-en")[0]] == ["The child, thanks, is here."]


@pytest.mark.parametrize(
    ("pieces", "joined"),
    [
        (["a", ",", "b", "."], "a, b."),
        (["a", "(", "b", ")", "c"], "a (b) c"),
        (["«", "a", "»", "¿", "qué", "?"], "«a» ¿qué?"),
    ],
)
def test_words_and_punctuation_are_joined(pieces: list[str], joined: str) -> None:
    assert flextext._join(pieces) == joined


def test_each_phrase_has_the_recording_that_it_names(file: Path, write_wav: Callable[..., Path]) -> None:
    write_wav("second.wav", 0.1)
    media = '<media guid="m1" location="talk.wav"/><media guid="m2" location="second.wav"/><media guid="m3" location="gone.wav"/>'
    baseline = '<item type="txt" lang="x">w</item>'
    phrases = [phrase(0, 100, baseline, media_file=guid) for guid in ("m1", "m2", "m3")]
    found, rejected = read(file, text(*phrases, media=media))
    assert [Path(one.audio_filepath).name for one in found] == ["talk.wav", "second.wav"]
    assert (
        "no recording found: looked for gone.wav" in rejected[0].what
    )  # talk.wav, the file's own name, is another one
    with pytest.raises(AnadilError, match="it names 3 recordings, and --audio is one"):
        read(file, text(*phrases, media=media), audio=file.with_suffix(".wav"))


def test_a_text_without_times_is_one_clear_error(file: Path) -> None:
    with pytest.raises(AnadilError, match=r"none of its 2 phrases has times \(begin-time-offset\)(?s:.*)ELAN"):
        read(file, text(phrase(None, None, words()), phrase(None, None, GLOSS)))
    with pytest.raises(AnadilError, match="it has no phrases"):
        read(file)
    file.write_text('<document version="2"><interlinear-text>')
    with pytest.raises(AnadilError, match="not readable as XML(?s:.*)FLEx"):
        list(flextext.utterances(file, Options(), lambda problem: None))
