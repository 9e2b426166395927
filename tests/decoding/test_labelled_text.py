from __future__ import annotations

import pytest

from anadil.decoding.labelled_text import cuts_words, labelled_text
from anadil.errors import AnadilError
from anadil.text.rules import TextRules, TextSettings, text_rules

LABELS = [" ", *"abcdeiknorstuşx"]


def rules(language: str = "tr", labels: list[str] = LABELS, **settings: str) -> TextRules:
    return text_rules(language, TextSettings.model_validate(settings), labels)


def spelled(text: str, own: TextRules) -> list[tuple[str, str]]:
    """Each word as written, and its labels."""
    found = labelled_text(own, text)
    return [
        (word.text, "".join(own.labels[label] for label in found.labels[first:end]))
        for word, first, end in zip(found.words, found.firsts, found.ends, strict=True)
    ]


def test_words_keep_their_labels() -> None:
    found = labelled_text(rules(), "Kedi,\n12 ada")
    assert spelled("Kedi,\n12 ada", rules()) == [("Kedi,", "kedi"), ("12", "on iki"), ("ada", "ada")]
    assert "".join(LABELS[label] for label in found.labels) == "kedi on iki ada"
    ends, starts = found.gaps
    assert (ends.tolist(), starts.tolist()) == ([0, 4, 11, 15], [0, 5, 12, 15])
    assert [word.line for word in found.words] == [1, 2, 2]


def test_characters_without_a_label_are_ignored_and_counted() -> None:
    found = labelled_text(rules(), "zz kedi zeki gg ada")
    assert spelled("zz kedi zeki gg ada", rules()) == [("zz kedi", "kedi"), ("zeki gg", "eki"), ("ada", "ada")]
    assert found.ignored == {"z": 3, "g": 2}
    assert spelled("kedi zeki", rules(unknown="drop")) == [("kedi", "kedi"), ("zeki", "eki")]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "empty text"),
        (" \n\t", "empty text"),
        ("... — !", "the text rules leave nothing of '... — !'"),
        ("привет мир", "no label for 9 of 9 characters, such as 'р'.*another script"),
        ("zzz", "no label for 3 of 3 characters"),
    ],
    ids=["empty", "white", "marks", "script", "unknown"],
)
def test_a_text_of_which_nothing_is_left_is_refused(text: str, message: str) -> None:
    with pytest.raises(AnadilError, match=message):
        labelled_text(rules(), text)


def test_labels_that_start_words_and_labels_without_a_space() -> None:
    own = rules("en", [" ken", " lo", "ken", "lo"])
    assert spelled("Ken, lolo", own) == [("Ken,", " ken"), ("lolo", " lolo")]
    assert labelled_text(own, "ken lo").labels == (0, 1) and cuts_words(own)
    chinese = rules("zh", [*"你好世界"])
    assert spelled("你好，世界。", chinese) == [("你", "你"), ("好，", "好"), ("世", "世"), ("界。", "界")]
    assert not cuts_words(chinese)
    ends, starts = labelled_text(chinese, "你好世").gaps
    assert ends.tolist() == starts.tolist() == [0, 1, 2, 3]
