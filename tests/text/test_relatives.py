from __future__ import annotations

import string
import unicodedata

import pytest

from anadil.text.relatives import BASES, LabelInit, label_inits

ENGLISH = [" ", *string.ascii_lowercase, "'"]


@pytest.mark.parametrize(
    ("label", "known", "kind", "sources"),
    [
        ("a", ENGLISH, "same", ("a",)),
        (" ", ENGLISH, "same", (" ",)),
        ("ş", ENGLISH, "relative", ("s",)),
        ("ı", ENGLISH, "relative", ("i",)),
        ("ğ", ENGLISH, "relative", ("g",)),
        ("á", ENGLISH, "relative", ("a",)),
        ("ω", ENGLISH, "relative", ("o",)),
        ("ώ", ENGLISH, "relative", ("o",)),  # omega with tonos: decomposition, then the table
        ("έ", ENGLISH, "relative", ("e",)),
        ("ɓ", ENGLISH, "relative", ("b",)),
        ("ŋ", ENGLISH, "relative", ("n",)),
        ("ɛ̃", ENGLISH, "relative", ("e",)),  # two code points, one letter
        ("ʼ", ENGLISH, "relative", ("'",)),
        ("ω", [*ENGLISH, "ɔ"], "relative", ("ɔ",)),  # the nearest, not the last
        ("ấ", [*ENGLISH, "â"], "relative", ("â",)),
        ("й", ENGLISH, "relative", ("i",)),
        ("ғ", [*ENGLISH, "г"], "relative", ("г",)),
        ("گ", ["ا", "ك"], "relative", ("ك",)),
        ("Ş", ENGLISH, "relative", ("s",)),
        ("é", ["o", "è", "ê"], "relative", ("è",)),  # another letter on the same base
        ("i", ["ı"], "relative", ("ı",)),
        ("mb", ENGLISH, "mean", ("m", "b")),
        ("ŋg", ENGLISH, "mean", ("n", "g")),
        ("mb", [*ENGLISH, "mb"], "same", ("mb",)),
        (" k", ENGLISH, "relative", ("k",)),
        (" ken", ENGLISH, "mean", ("k", "e", "n")),
        ("k", [" k", "e"], "relative", (" k",)),
        ("▁the", ENGLISH, "mean", ("t", "h", "e")),
        ("▁the", ["▁the", "t"], "same", ("▁the",)),
        (" ", ["▁", "a"], "same", ("▁",)),
        ("aか", ENGLISH, "mean", ("a",)),  # of the letters that are known
        ("か", ENGLISH, "new", ()),
        ("한", ENGLISH, "new", ()),
        ("़", ENGLISH, "new", ()),  # a mark by itself
        ("q", ["a"], "new", ()),
    ],
)
def test_the_nearest_relative(label: str, known: list[str], kind: str, sources: tuple[str, ...]) -> None:
    assert label_inits([label], known) == [LabelInit(label, kind, sources)]  # type: ignore[arg-type]


def test_the_table_has_each_letter_once_and_ends() -> None:
    fields = BASES.split()
    letters = "".join(fields[1::2])
    assert len(letters) == len(set(letters)) > 150
    assert unicodedata.normalize("NFC", BASES) == BASES
    assert all(len(base) == 1 for base in fields[::2])
    assert all(
        start.sources for start in label_inits(list(letters.lower()), [*ENGLISH, *"كيبجزتدرفهنوسכמנפצ"])
    )  # no circle
