from __future__ import annotations

import pytest

from anadil.errors import AnadilError
from anadil.text.rules import TextSettings, text_rules
from anadil.text.scoring import scoring_view


@pytest.mark.parametrize(
    ("language", "name", "text", "seen"),
    [
        ("tr", "plain", "IŞIK, ali'nin", "IŞIK, ali'nin"),
        ("tr", "no-case", "IŞIK, Ali'nin", "ışık, ali'nin"),
        ("tr", "no-punctuation", "Evet,hayır - ali'nin!", "Evet hayır alinin"),
        ("tr", "no-case,no-punctuation", "IŞIK, İl.", "ışık il"),
        ("mdw", "no-tone", "mósωngώsώ ngá", "mosωngωsω nga"),
        ("vi", "no-tone", "tiếng việt đường", "tiêng viêt đương"),  # ê and ư are letters, not tones
        ("th", "no-tone", "ใช้", "ใช"),
    ],
)
def test_the_view_that_is_scored(language: str, name: str, text: str, seen: str) -> None:
    view = scoring_view(text_rules(language, TextSettings()), name)
    assert view(text) == seen
    assert view(seen) == seen


@pytest.mark.parametrize(
    ("language", "name", "what"),
    [("tr", "no-tone", "Turkish name no tone marks"), ("tr", "no-cas", "unknown scoring 'no-cas'\n  next: .*no-case"),
     ("tr", "", "unknown scoring ''")],
)  # fmt: skip
def test_a_view_that_cannot_be_had_is_refused(language: str, name: str, what: str) -> None:
    with pytest.raises(AnadilError, match=what):
        scoring_view(text_rules(language, TextSettings()), name)
