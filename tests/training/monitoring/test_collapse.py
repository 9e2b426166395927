from __future__ import annotations

import itertools
import random
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import soundfile

from anadil import audio
from anadil.data.examples import Example
from anadil.errors import AnadilError
from anadil.manifest import Utterance, read_manifest
from anadil.training.config import Config
from anadil.training.monitoring import diagnosis as module
from anadil.training.monitoring.diagnosis import explain_bandwidth, explain_rates, find_label_permutation, watch
from anadil.training.run import Run, Validation, ValidationResult
from anadil.training.train import train
from tests.support.lines import write_lines
from tests.support.micro import TEXTS, micro_config, micro_data
from tests.support.runs import Told
from tests.support.validation import result_of, script_validation

# --- letters in another order


def shuffled(texts: list[str], seed: int = 0) -> tuple[list[str], dict[str, str]]:
    letters = sorted(set("".join(texts)))
    others = letters[:]
    random.Random(seed).shuffle(others)
    table = dict(zip(letters, others, strict=True))
    return ["".join(table[letter] for letter in text) for text in texts], table


SENTENCES = [
    "the quick brown fox jumps over the lazy dog", "pack my box with five dozen liquor jugs",
    "how vexingly quick daft zebras jump", "sphinx of black quartz judge my vow", "we shall see what the day brings",
]  # fmt: skip


@pytest.mark.parametrize("seed", range(4))
def test_a_permutation_is_found_through_a_tenth_of_other_errors(seed: int) -> None:
    heard, table = shuffled(SENTENCES, seed)
    draws = random.Random(seed)
    noisy = ["".join(letter for letter in text if draws.random() > 0.1) for text in heard]
    found = find_label_permutation(SENTENCES, noisy)
    assert found is not None and found.cer > 0.7 and found.cer_permuted < 0.3
    right = sum(found.letters.get(table[letter], table[letter]) == letter for letter in "etaoinshr ")
    assert right >= 8


def test_what_is_merely_bad_or_good_is_no_permutation() -> None:
    draws = random.Random(0)
    garbage = ["".join(draws.choices("etaoin shrdlu", k=len(text))) for text in SENTENCES]
    assert find_label_permutation(SENTENCES, garbage) is None
    assert find_label_permutation(SENTENCES, ["e"] * 5) is None
    assert find_label_permutation(SENTENCES, [""] * 5) is None
    assert find_label_permutation(SENTENCES, SENTENCES) is None
    assert find_label_permutation(SENTENCES, [text.replace("e", "i") for text in SENTENCES]) is None


@pytest.mark.slow
def test_a_run_whose_labels_are_permuted_is_told_so(tmp_path: Path, micro: Path) -> None:
    """Validation writes b for a, c for b, a for c: the model learns its own letters, and every one is wrong."""
    table = str.maketrans("abc", "bca")
    rows = [
        {"audio_filepath": str(micro / f"clips/{i}.wav"), "text": text.translate(table)} for i, text in enumerate(TEXTS)
    ]
    valid = write_lines(tmp_path / "valid.jsonl", rows)
    told = Told()
    train(micro_config(micro / "train.jsonl", valid, epochs=40, validate_every=8), tmp_path / "run", told)
    (warning,) = told.warned
    assert "if letters were exchanged one for one" in warning and "'a' for 'b'" in warning
    assert "compare tokenizer.labels with those of the model in init.from" in warning


# --- causes


def state(cer: float = 1.0, step: int = 2000, losses: float = 3.0, **run: Any) -> tuple[Any, Run, ValidationResult]:
    config = Config.model_validate(micro_data(Path("train.jsonl")))
    example = Example(Utterance("gone.wav", duration=2.0), (0, 1, 2))
    data = SimpleNamespace(config=config, train=[example], valid=[], acoustic=SimpleNamespace(frame_s=0.04))
    learner = SimpleNamespace(data=data, settings=config.training)
    look = result_of(Validation(3.0, cer, 1.0), ["abc"], ["c"])
    return learner, Run(Path("run"), 10_000, 1.0, 1, 5.0, step=step, epoch=9, losses=[losses] * 10, **run), look


def warnings_of(learner: Any, run: Run, look: ValidationResult) -> list[str]:
    told = Told()
    watch(learner, run, look, told)
    return told.warned


def test_a_rising_loss_is_the_learning_rates_fault_and_told_once() -> None:
    learner, run, look = state(losses=4.1, lowest_loss=3.0)
    (warning,) = warnings_of(learner, run, look)
    assert "the training loss rises, from 3.00 to 4.10" in warning and "training.lr=0.005, or --find-lr" in warning
    assert warnings_of(learner, run, look) == []


def test_nothing_is_said_early_or_when_it_learns() -> None:
    assert warnings_of(*state(step=300)) == []  # 45 of them flat start and warm-up
    assert warnings_of(*state(cer=0.85)) == []


def test_crowded_texts_are_named_and_so_is_having_found_nothing() -> None:
    learner, run, look = state()
    (warning,) = warnings_of(learner, run, look)
    assert "labels, stride, speaking rates and the course of the loss look right" in warning
    learner, run, look = state()
    learner.data.train[:] = [Example(Utterance("gone.wav", duration=0.5), (0, 1, 0, 2, 0, 1, 0, 1, 2, 0, 1))]
    (warning,) = warnings_of(learner, run, look)
    assert "1 of 1 utterances need labels in more than 80% of the model's frames" in warning


# --- the sound


@pytest.fixture
def real(shared: Path, tmp_path: Path) -> Callable[[str, float], list[Example]]:
    """Ten real recordings, written with a header that tells so many times their rate."""

    def examples(corpus: str, factor: float) -> list[Example]:
        utterances = read_manifest(shared / "speech" / corpus / "train.jsonl")[::100][:10]
        found = []
        for i, utterance in enumerate(utterances):
            path = tmp_path / f"{corpus}-{factor:g}-{i}.wav"
            samples = audio.read(utterance.audio_filepath, 16000)
            soundfile.write(str(path), samples, round(16000 * factor))
            duration = len(samples) / 16000 / factor
            found.append(Example(Utterance(str(path), duration, utterance.text), (0,) * len(utterance.text)))
        return found

    return examples


def test_a_wrong_sample_rate_shows_in_the_characters_per_second(real: Callable[[str, float], list[Example]]) -> None:
    for corpus in ("mboshi", "english"):
        right = real(corpus, 1)
        assert explain_rates(right, right) is None and explain_rates(right, []) is None
        differing = explain_rates(right, real(corpus, 0.5))
        assert differing is not None and "training and validation differ in speaking rate" in differing
    fast = explain_rates(real("mboshi", 3), [])
    assert fast is not None and "the training set has 27.8 characters per second" in fast
    assert "headers state a wrong sample rate" in fast
    slow = explain_rates(real("english", 1), real("english", 0.25))
    assert slow is not None and "the validation set has 1.9 characters per second, but speech has 2 to 24" in slow
    assert explain_rates([Example(Utterance("gone.wav", duration=2.0), (0, 1, 2))], []) is None  # no text to count


def test_training_from_the_telephone_and_validation_that_is_not(
    real: Callable[[str, float], list[Example]], tmp_path: Path
) -> None:
    wide = real("english", 1)
    narrow = []
    for i, example in enumerate(wide):
        samples = audio.read(example.utterance.audio_filepath, 8000)
        soundfile.write(str(tmp_path / f"8k-{i}.wav"), samples, 8000)
        upsampled = audio.read(tmp_path / f"8k-{i}.wav", 16000)
        soundfile.write(str(tmp_path / f"narrow-{i}.wav"), upsampled, 16000)
        narrow.append(Example(Utterance(str(tmp_path / f"narrow-{i}.wav"), len(upsampled) / 16000), example.labels))
    message = explain_bandwidth(narrow, wide)
    assert message is not None and "the training recordings hold nothing above 4 kHz" in message
    assert explain_bandwidth(narrow, narrow) is None and explain_bandwidth(narrow, []) is None


# --- the end


@pytest.mark.slow
def test_a_dead_run_is_stopped_with_what_to_do_and_can_go_on(
    tmp_path: Path, micro: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "DEAD_STEPS", 6)
    script_validation(monkeypatch, itertools.repeat(1.0), hypothesis="")

    def config(**training: Any) -> Config:
        same = {"epochs": 9, "lr": 1e-9, "min_lr": 0, "flat_start_steps": 2, "warmup_steps": 1}
        return micro_config(micro / "train.jsonl", micro / "train.jsonl", **same, **training)

    with pytest.raises(
        AnadilError, match=r"the run is dead: .* only blanks in 3 validations over 6 steps.*\n.*--find-lr"
    ):
        train(config(), tmp_path / "run")
    assert (tmp_path / "run/last/model.safetensors").is_file()
    run = train(config(stop_on_collapse=False), tmp_path / "run", resume=True)
    assert run.epoch == 9


def test_a_run_whose_loss_falls_is_slow_and_not_dead(
    tmp_path: Path, micro: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "DEAD_STEPS", 6)
    script_validation(monkeypatch, itertools.repeat(1.0), hypothesis="")
    run = train(
        micro_config(micro / "train.jsonl", micro / "train.jsonl", epochs=9, flat_start_steps=0),
        tmp_path / "run",
    )
    assert run.epoch == 9
