from __future__ import annotations

from pathlib import Path

from anadil.evaluation.evaluate import compare
from anadil.evaluation.leakage import find_leakage, listed_training_manifests
from anadil.manifest import Utterance

TRAINING = [
    Utterance("train/1.wav", 1.0, "The quick brown fox jumps over the lazy dog", speaker="ayşe"),
    Utterance("train/2.wav", 1.0, "yes", speaker="ali"),
]


def test_sentences_speakers_and_recordings_are_found() -> None:
    texts = [
        "the quick brown fox jumps over the lazy dog",  # the same
        "quick brown fox jumps over the lazy cat",  # five of six 3-grams
        "the quick brown cat sleeps on the mat",  # one of six
        "yes",
        "yes sir",
        "",
    ]
    utterances = [
        Utterance(f"test/{i}.wav", 1.0, speaker=name) for i, name in enumerate(["ayşe", "x", "x", "y", "y", "y"])
    ]
    utterances[4] = Utterance("train/../train/2.wav", 1.0, speaker="y")
    found = find_leakage(compare(utterances, texts, ["x", *texts[1:]]), TRAINING, str.lower)
    assert (found.same_text, found.close_text, found.same_recording) == (2, 3, 1)
    assert (found.shared_speakers, found.n_speakers) == (("ayşe",), 3)
    assert (found.words_of_known_texts.reference, found.words_of_new_texts.reference) == (9 + 8 + 1, 8 + 2)
    recordings, sentences, speakers = found.warnings()
    assert "1 of 6 test recordings are in the training manifests" in recordings
    assert (
        "3 of 6 test sentences are in the training texts or nearly so (2 word for word); WER on these 50.0%"
        in sentences
    )
    assert "1 of 3 test speakers are in the training manifests (ayşe)" in speakers


def test_nothing_shared_is_no_warning() -> None:
    scored = compare([Utterance("test/1.wav", 1.0, speaker="z")], ["a b c d"], ["a b c d"])
    assert find_leakage(scored, TRAINING, str.lower).warnings() == []


def test_the_card_names_the_training_manifests(tmp_path: Path) -> None:
    card = "| model | x |\n| training speech | 3.78 h (data/a.jsonl, b.jsonl), 1.00 h of it with pseudo labels |\n"
    (tmp_path / "README.md").write_text(card)
    assert listed_training_manifests(tmp_path) == [Path("data/a.jsonl"), Path("b.jsonl")]
    assert listed_training_manifests(tmp_path / "none") == []
