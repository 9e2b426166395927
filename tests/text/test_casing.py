from __future__ import annotations

import unicodedata

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from anadil.text.casing import lower

tricky = st.sampled_from("iIİıjÌĮΣσςẞßǅÅ\u0307\u0300\u0301\u0323\u0345 '")
texts = st.text(tricky | st.characters(exclude_categories=["Cs"]))


@pytest.mark.parametrize(
    ("language", "text", "expected"),
    [
        ("tr", "İSTANBUL", "istanbul"),
        ("tr", "ILIK IŞIK", "ılık ışık"),
        ("tr", "I\u0307zmir", "izmir"),
        ("tr-TR", "I", "ı"),
        ("TUR", "I", "ı"),
        ("az", "İŞIQ", "işıq"),
        ("az_Latn", "I", "ı"),
        ("crh", "I", "ı"),
        ("en", "İSTANBUL I", "istanbul i"),  # the dot goes: no reference could be matched with it
        ("ku", "İI", "ii"),
        ("trv", "I", "i"),  # Taroko is not Turkish
        ("lt", "i\u0307\u0301", "i\u0307\u0301"),  # Lithuanian writes both marks
        ("lt", "I", "i"),
        ("en", "i\u0307\u0301", "í"),
        ("lt", "Ì Í Ĩ", "i\u0307\u0300 i\u0307\u0301 i\u0307\u0303"),
        ("lt", "J\u0301 Į\u0301 I\u0328\u0301", "j\u0307\u0301 į\u0307\u0301 į\u0307\u0301"),
        ("kk-Latn", "I İ", "ı i"),
        ("tt_Latn", "I", "ı"),
        ("kk", "I", "i"),
        ("ga", "Ár nAthair, an tUisce, na hÉireann", "ár n-athair, an t-uisce, na héireann"),
        ("ga", "bhfuil NATO", "bhfuil nato"),
        ("el", "Σ ΑΣ' ΜΑΣ, ὈΔΥΣΣΕΎΣ", "σ ας' μας, ὀδυσσεύς"),
        ("el", "ΟΔΟΣ ΣΟΦΟΣ", "οδος σοφος"),
        ("de", "STRAẞE", "straße"),
        ("yo", "Ọ\u0301", "ọ\u0301"),
        ("ka", "ქართული", "ქართული"),
    ],
)
def test_lower_case_of_the_language(language: str, text: str, expected: str) -> None:
    assert lower(text, language) == expected


def test_why_python_alone_will_not_do() -> None:
    assert "İ".lower() == unicodedata.normalize("NFC", "İ".lower()) == "i\u0307"
    assert "ILIK".lower() == "ilik"


@pytest.mark.parametrize("language", ["tr", "lt", "el", "en"])
@given(text=texts)
@example(text="i\u0307\u0307")
@example(text="İ\u0307")
def test_lower_case_has_nothing_left_to_lower(language: str, text: str) -> None:
    once = lower(unicodedata.normalize("NFC", text), language)
    assert lower(once, language) == once
    assert unicodedata.is_normalized("NFC", once)
