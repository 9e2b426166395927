from __future__ import annotations

import random

import numpy as np
import pytest

from anadil.manifest import Utterance
from anadil.splitting.links import BOTH, Links, draw, find_links, groups, positions


def one(
    text: str, speaker: str | None = None, audio: str = "", language: str | None = None, offset: float = 0
) -> Utterance:
    return Utterance(audio or f"/c/{text}-{speaker}.wav", 1.0, text, offset, speaker, language)


@pytest.mark.parametrize(
    ("a", "b", "language", "same"),
    [
        ("Bugün hava güzel.", "bugün  hava,güzel", "tr", True),
        ("IŞIK", "ışık", "tr", True),
        ("IŞIK", "ışık", "en", False),  # İ and I are one letter nowhere else
        ("ağ\u0301 e\u0301", "ağ\u0301 é", None, True),  # NFC
        ("don`t", "don\u2019t", None, True),
        ("ab\u200dc\u00ad", "abc", None, True),  # joiners and soft hyphens are not seen
        ("Mósώ", "mósω", None, False),  # a tone is a word
        ("2 + 2", "2 2", None, False),
        ("का", "क", None, False),  # a vowel sign is a letter
        ("", "", None, False),  # nothing to compare: linked to nothing
        ("?!", "...", None, False),
    ],
)
def test_sentences_are_compared_without_case_punctuation_and_spaces(
    a: str, b: str, language: str | None, same: bool
) -> None:
    links = find_links([one(a, "x", "/c/1.wav"), one(b, "y", "/c/2.wav")], language)
    assert (links.sentence[0] == links.sentence[1]) == same
    own = find_links([one(a, "x", "/c/1.wav", language), one(b, "y", "/c/2.wav", language)])
    assert (own.sentence[0] == own.sentence[1]) == same


def test_a_recording_takes_the_place_of_a_missing_speaker() -> None:
    segments = [one("a", None, "/c/long.wav"), one("b", " ", "/c/../c/long.wav", offset=3), one("c", None, "/c/d.wav")]
    links = find_links(segments)
    assert links.speaker[0] == links.speaker[1] != links.speaker[2]
    assert links.n_unnamed == 3
    # a segment of the same recording that names him names the others; two that are named are two
    links = find_links([*segments, one("d", "ayşe", "/c/long.wav", offset=6)])
    assert links.speaker[0] == links.speaker[3]
    links = find_links([one("a", "x", "/c/talk.wav"), one("b", "y", "/c/talk.wav", offset=1)])
    assert links.speaker[0] != links.speaker[1]


def test_a_clip_that_is_listed_twice_is_one_clip() -> None:
    links = find_links([one("a", "x", "/c/1.wav"), one("b", "y", "/c/1.wav"), one("c", "z", "/c/1.wav", offset=1)])
    assert links.speaker[0] == links.speaker[1] != links.speaker[2]
    assert links.sentence[0] == links.sentence[1] != links.sentence[2]
    assert links.n_repeated == 1


def test_speakers_are_compared_in_nfc() -> None:
    links = find_links([one("a", "ayşe"), one("b", " ays\u0327e")])
    assert links.speaker[0] == links.speaker[1]


def test_groups_are_connected_components() -> None:
    corpus = [one("a", "1"), one("b", "1"), one("b", "2"), one("c", "3"), one("c", "4"), one("d", "5")]
    links = find_links(corpus)
    assert groups(links, BOTH).tolist() == [0, 0, 0, 1, 1, 2]
    assert groups(links, {"speaker"}).tolist() == [0, 0, 1, 2, 3, 4]
    assert groups(links, {"text"}).tolist() == [0, 1, 1, 2, 2, 3]


def test_a_long_chain_is_one_group() -> None:
    n = 30_000  # deeper than Python's stack
    chain = [one(f"s{(i + 1) // 2}", str(i // 2)) for i in range(n)]
    random.Random(0).shuffle(chain)
    assert set(groups(find_links(chain), BOTH).tolist()) == {0}


def places(links: Links) -> dict[str, float]:
    group = groups(links, BOTH)
    place = positions(links, group, BOTH, "0 test")
    return {links.sentence_names[s]: float(place[g]) for s, g in zip(links.sentence, group, strict=True)}


def test_the_position_of_a_group_does_not_depend_on_folders_and_order() -> None:
    corpus = [one("a", None, "/here/x/1.wav"), one("b", None, "/here/y/1.wav"), one("c", None, "/here/y/2.wav")]
    corpus += [one("c", None, "/here/2b.wav"), one("d", "x", "/here/2b.wav")]
    moved = [one(u.text, u.speaker, u.audio_filepath.replace("/here/", "/far/off/here/")) for u in reversed(corpus)]
    assert places(find_links(corpus)) == places(find_links(moved))
    assert len(set(places(find_links(corpus)).values())) == 3  # files of the same name are drawn apart


def test_draws_are_even_and_known() -> None:
    drawn = np.array([draw("0 test", f"speaker {i}") for i in range(4000)])
    for i in range(2):
        assert np.histogram(drawn[:, i], 4, (0, 1))[0] == pytest.approx([1000] * 4, rel=0.1)
    assert abs(np.corrcoef(drawn.T)[0, 1]) < 0.05
    assert draw("0 test", "speaker ayşe") == pytest.approx(KNOWN)  # as on every machine


def test_groups_of_many_speakers_are_held_out_no_more_often_than_others() -> None:
    links = find_links([one(str(g), f"{g}-{s}") for g in range(2000) for s in range(4)])
    place = positions(links, groups(links, BOTH), BOTH, "0 test")
    assert np.histogram(place, 4, (0, 1))[0] == pytest.approx([500] * 4, rel=0.12)


KNOWN = (0.2639931103444775, 0.15380309735604336)
