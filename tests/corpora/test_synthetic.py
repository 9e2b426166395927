"""Synthetic speech: sentences, voices, and a corpus whose splits share nothing and whose transcripts are exact."""

from __future__ import annotations

import functools
import re
import subprocess
import sys
import unicodedata
from collections import Counter
from itertools import chain
from pathlib import Path

import numpy as np
import pytest

from anadil import audio
from anadil.corpora import synthetic
from anadil.corpora.synthetic import VOICES, Synthesizer, Voice, sentences, synthesize_corpus, vary_digits
from anadil.errors import AnadilError
from anadil.manifest import Utterance, read_manifest
from anadil.text.numbers import spell_integers

LABELS = frozenset(" abcçdefgğhıijklmnoöpqrsştuüvwxyz'")
Corpus = dict[str, list[Utterance]]


def turkish_lower(text: str) -> str:
    return text.replace("İ", "i").replace("I", "ı").lower()


def written(text: str) -> str:
    """The transcript of `text`."""
    return re.sub('[.,?!;:"]', "", spell_integers(text, "tr"))


# ---- sentences


def test_there_are_many_different_sentences() -> None:
    words = [frozenset(turkish_lower(written(sentence)).split()) for sentence in sentences("tr")]
    assert len(words) >= 700
    shared = [(first, second) for i, first in enumerate(words) for second in words[:i] if len(first & second) >= 3]
    assert not [pair for pair in shared if len(pair[0] & pair[1]) / len(pair[0] | pair[1]) > 0.5]


def test_each_sentence_is_clean() -> None:
    for sentence in sentences("tr"):
        assert unicodedata.normalize("NFC", sentence) == sentence
        assert " ".join(sentence.split()) == sentence
        assert 3 <= len(sentence.split()) <= 11, sentence
        assert sentence[-1] in '.?!"' and (sentence[0].isupper() or sentence[0].isdigit()), sentence
        assert not re.search("[0-9][.,:][0-9]|[0-9]{8}", sentence), sentence
        assert set(turkish_lower(written(sentence))) <= LABELS, sentence


def test_rare_letters_numbers_and_suffixes_are_covered() -> None:
    lines = sentences("tr")
    letters = Counter(turkish_lower("".join(lines)))
    assert min(letters[letter] for letter in "qwx") >= 40
    assert letters["j"] >= 80
    assert sum("'" in line for line in lines) >= 120
    assert sum(bool(re.search("[0-9]", line)) for line in lines) >= 150
    assert sum(line[0] in "İI" for line in lines) >= 50


@pytest.mark.parametrize("seed", range(3))
def test_the_training_sentences_contain_all_labels(seed: int) -> None:
    texts = synthetic._split(sentences("tr"), 60, 120, np.random.default_rng(seed))
    assert {split: len(part) for split, part in texts.items()} == {
        "valid": 60,
        "test": 120,
        "train": len(sentences("tr")) - 180,
    }
    assert set(turkish_lower(" ".join(map(written, texts["train"])))) == LABELS
    assert sorted(chain(*texts.values())) == sorted(sentences("tr"))


def test_the_error_for_an_unknown_language_lists_the_languages() -> None:
    with pytest.raises(AnadilError, match=r"language 'xx'; there are sentences for: tr\n  next"):
        sentences("xx")


# ---- numbers


def test_numbers_change_but_not_their_length_nor_the_digits_that_a_suffix_agrees_with() -> None:
    text = "0532 evde 7 kişi, 1923'te 340'ı, 9'da 2000'in 10'u"
    varied = [vary_digits(text, np.random.default_rng(seed)) for seed in range(30)]
    pattern = r"0[0-9]{3} evde [1-9] kişi, [1-9][0-9]{2}3'te [1-9]40'ı, 9'da 2000'in 10'u"
    assert all(re.fullmatch(pattern, other) for other in varied), varied
    for number in range(3):  # 0532, 7 and 1923: the others keep all or all but one digit
        assert len({re.findall("[0-9]+", other)[number] for other in varied}) > 5


def test_text_without_numbers_is_unchanged() -> None:
    assert vary_digits("Ayşe'nin evi.", np.random.default_rng(0)) == "Ayşe'nin evi."


# ---- one utterance


@functools.cache
def synthesizer() -> Synthesizer:
    return Synthesizer()


def synthesize(text: str, voice: Voice, sample_rate: int = 16000) -> np.ndarray:
    return synthesizer().synthesize(text, voice, sample_rate)


def test_synthesize_returns_speech_at_the_given_sample_rate() -> None:
    samples = synthesize("Kapıyı kim çalıyor?", Voice("tr", "m3", 150, 50))
    assert samples.dtype == np.float32 and samples.ndim == 1
    assert 1.0 < len(samples) / 16000 < 3.0
    assert 0.1 < np.abs(samples).max() <= 1.0
    half = synthesize("Kapıyı kim çalıyor?", Voice("tr", "m3", 150, 50), sample_rate=8000)
    assert len(half) == pytest.approx(len(samples) / 2, rel=0.03)


def test_rate_pitch_variant_and_text_change_the_audio() -> None:
    def seconds(text: str, rate: int) -> float:
        return len(synthesize(text, Voice("tr", "adam", rate, 50))) / 16000

    assert seconds("Kapıyı kim çalıyor?", 190) < 0.85 * seconds("Kapıyı kim çalıyor?", 130)
    assert seconds("Kapıyı kim çalıyor, bakar mısın?", 160) > 1.3 * seconds("Kapıyı kim çalıyor?", 160)
    low, high, female = (
        _pitch(synthesize("Ananas alalım mı?", voice))
        for voice in (Voice("tr", "m3", 150, 30), Voice("tr", "m3", 150, 70), Voice("tr", "f3", 150, 50))
    )
    assert 60 < low < 0.85 * high < high < 170 < female < 300


def _pitch(samples: np.ndarray) -> float:
    """Median over voiced frames of the pitch in Hz, from the autocorrelation."""
    pitches = []
    for start in range(0, len(samples) - 1024, 512):
        frame = samples[start : start + 1024] - samples[start : start + 1024].mean()
        correlation = np.fft.irfft(np.abs(np.fft.rfft(frame, 2048)) ** 2)
        lag = 40 + int(correlation[40:270].argmax())
        if correlation[lag] > 0.6 * correlation[0]:
            pitches.append(16000 / lag)
    return float(np.median(pitches))


def test_nothing_is_printed(capfd: pytest.CaptureFixture[str]) -> None:
    synthesize("Merhaba!", Voice("tr"))
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("voice", "message"),
    [
        (Voice("tr", "nobody"), "no variant 'nobody'"),
        (Voice("xx", "m3"), "does not have the language 'xx'"),
        (Voice("tr", "m3", rate=20), "rate 20 of voice tr[+]m3 must be 80 to 450"),
        (Voice("tr", "m3", pitch=100), "pitch 100 of voice tr[+]m3 must be 0 to 99"),
    ],
)
def test_an_unknown_voice_is_an_error(voice: Voice, message: str) -> None:
    with pytest.raises(AnadilError, match=message):
        synthesize("Merhaba", voice)


def test_phonemes_are_those_of_the_voice_and_of_all_clauses() -> None:
    engine = synthesizer()
    assert (
        engine.phonemes("Hello world. How are you, my friend?", Voice("en-us"))
        == "həlˈoʊ wˈɜːld hˈaʊ ɑːɹ juː maɪ fɹˈɛnd"
    )
    assert engine.phonemes("ışık", Voice("tr")) != engine.phonemes("ışık", Voice("de"))
    assert engine.phonemes("", Voice("tr")) == engine.phonemes("...", Voice("tr")).strip() == ""
    with pytest.raises(AnadilError, match="does not have the language 'xx'"):
        engine.phonemes("a", Voice("xx"))


def test_silent_audio_is_an_error() -> None:
    with pytest.raises(AnadilError, match="produces no sound for '...' with voice tr[+]m3"):
        synthesize("...", Voice("tr", "m3"))


def test_without_espeak_the_error_names_the_extra(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "espeakng_loader", None)
    with pytest.raises(AnadilError, match=r"pip install 'anadil\[demo\]'"):
        synthesize_corpus(tmp_path, "tr", 0, 0.01)


def test_a_data_path_too_long_for_espeak_is_an_error(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    loader = synthetic._loader()
    far = tmp_path / ("x" * 160) / "espeak-ng-data"
    far.parent.mkdir()
    far.symlink_to(loader.get_data_path(), target_is_directory=True)
    monkeypatch.setattr(loader, "get_data_path", lambda: str(far))
    with pytest.raises(AnadilError, match="espeak-ng allows at most 159"):
        Synthesizer()


# ---- a corpus


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("corpus")


@pytest.fixture(scope="module")
def corpus(folder: Path) -> Corpus:
    return synthesize_corpus(folder, "tr", seed=7, hours=0.02, n_valid=6, n_test=9)


def test_the_corpus_has_the_requested_size(corpus: Corpus) -> None:
    assert list(corpus) == ["train", "valid", "test"]
    assert len(corpus["valid"]) == 6 and len(corpus["test"]) == 9
    seconds = [utterance.duration or 0.0 for utterance in corpus["train"]]
    assert sum(seconds[:-1]) < 72 <= sum(seconds)


def test_splits_share_neither_sentence_nor_voice(corpus: Corpus) -> None:
    for attribute in ("text", "speaker"):
        values = {split: {getattr(utterance, attribute) for utterance in part} for split, part in corpus.items()}
        assert sum(map(len, values.values())) == len(set.union(*values.values())), attribute
    for split, part in corpus.items():
        assert {utterance.speaker for utterance in part} <= set(VOICES[split])
    assert {utterance.speaker for utterance in corpus["test"]} == set(VOICES["test"])
    assert len(set(chain(*VOICES.values()))) == sum(map(len, VOICES.values()))


def test_transcripts_match_the_spoken_text_and_contain_only_labels(corpus: Corpus) -> None:
    for utterance in chain(*corpus.values()):
        assert utterance.text == written(utterance.extra["raw_text"])
        assert set(turkish_lower(utterance.text)) <= LABELS
        assert utterance.extra["voice"] == f"tr+{utterance.speaker}"
        assert 130 <= utterance.extra["rate"] <= 190 and 30 <= utterance.extra["pitch"] <= 70
    assert any(re.search("[0-9]", utterance.extra["raw_text"]) for utterance in corpus["train"])


def test_audio_is_16_khz_wav_with_noise_and_no_clipping(corpus: Corpus) -> None:
    for utterance in chain(*corpus.values()):
        info = audio.probe(utterance.audio_filepath)
        assert (info.sample_rate, info.channels) == (16000, 1)
        assert info.duration == utterance.duration
        samples = audio.read(utterance.audio_filepath, 16000)
        assert 0.2 < np.abs(samples).max() < 0.99
        edge, whole = np.std(samples[:700]), np.std(samples)  # the first 0.05 s are never speech
        assert 0 < edge < 0.08 * whole


def test_manifests_can_be_read_back(corpus: Corpus, folder: Path) -> None:
    for split, utterances in corpus.items():
        assert read_manifest(folder / f"{split}.jsonl") == utterances
        assert utterances[0].audio_filepath == str(folder / "wav" / split / "00000.wav")


DIGEST = """
import hashlib, sys
from pathlib import Path
from anadil.corpora.synthetic import Synthesizer, Voice, synthesize_corpus
if sys.argv[3]:
    Synthesizer().synthesize(sys.argv[3], Voice("tr", "f2"), 16000)
corpus = synthesize_corpus(Path(sys.argv[1]), "tr", seed=int(sys.argv[2]), hours=0.005, n_valid=6, n_test=9)
digest = hashlib.sha256()
for split in ("valid", "test", "train"):
    for utterance in corpus[split]:
        digest.update(Path(utterance.audio_filepath).read_bytes() + repr((utterance.text, utterance.extra)).encode())
print(digest.hexdigest())
"""


def test_the_same_seed_gives_the_same_audio_after_other_calls(tmp_path: Path) -> None:
    """Each in its own process: espeak-ng uses the C library's random numbers, which threads of other libraries share."""

    def digest(name: str, seed: int, said_before: str) -> str:
        command = [sys.executable, "-c", DIGEST, str(tmp_path / name), str(seed), said_before]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout

    first = digest("a", 7, "")
    assert first == digest("b", 7, "Bu arada başka bir şey.")
    assert first != digest("c", 8, "")


def test_training_sentences_are_repeated_with_other_voices_and_numbers(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(
        synthetic, "sentences", lambda language: ["Bir.", "İki.", "Saat 73 oldu.", "Evde 481 kişi var."]
    )
    heard: list[tuple[int, int]] = []
    train = synthesize_corpus(tmp_path, "tr", 1, 0.02, lambda *seconds: heard.append(seconds), 1, 1)["train"]
    kinds = [re.sub("[0-9]", "#", utterance.extra["raw_text"]) for utterance in train]
    assert len(train) > 24 and len(set(kinds)) == 2
    for kind in set(kinds):
        same = [utterance for utterance, other in zip(train, kinds, strict=True) if other == kind]
        assert {utterance.speaker for utterance in same[:12]} == set(VOICES["train"])
        assert "#" not in kind or len({utterance.text for utterance in same[:12]}) > 8
    assert heard[-1] == (72, 72) and heard == sorted(heard)


def test_too_few_sentences_or_zero_hours_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(AnadilError, match="sentences are too few for 500 validation and 500 test sentences"):
        synthesize_corpus(tmp_path, "tr", 0, 1.0, n_valid=500, n_test=500)
    with pytest.raises(AnadilError, match="cannot synthesise 0 hours"):
        synthesize_corpus(tmp_path, "tr", 0, 0)
