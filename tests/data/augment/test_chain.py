from __future__ import annotations

import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from anadil import audio
from anadil.data.augment.chain import BLOCK, Augmenter, applied, apply, stream
from anadil.data.augment.settings import AugmentSettings
from anadil.data.augment.steps import STEPS, draw_rate, steps, transforms
from anadil.data.batches import Loader, plan_epoch
from anadil.data.examples import Example
from anadil.errors import AnadilError
from anadil.manifest import Utterance
from anadil.settings import parse
from tests.support.lines import write_lines
from tests.support.signals import EXTREMES, RATE, speech_with_pauses

SPEECH = speech_with_pauses(2)


@pytest.fixture
def noises(write_wav: Callable[..., Path], tmp_path: Path) -> Path:
    write_wav("noise.wav", 3.0, 8000)
    return write_lines(tmp_path / "noises.jsonl", [{"audio_filepath": "noise.wav"}])


def settings(noises: Path | None = None, names: tuple[str, ...] = STEPS, **more: Any) -> AugmentSettings:
    """These transforms on every utterance; keywords replace sections."""
    sections: dict[str, Any] = {name: {"probability": 1} for name in names if name != "background" or noises}
    if "background" in sections:
        sections["background"]["manifest"] = str(noises)
    return AugmentSettings.model_validate({"silence": None} | sections | more)


def augmenter(chosen: AugmentSettings, durations: list[float], seed: int = 0, allowed: bool = True) -> Augmenter:
    return Augmenter(chosen, RATE, seed, durations, lambda indices, seconds: allowed)


def speech(index: int) -> np.ndarray:
    return SPEECH


def test_the_order_is_that_of_the_settings(noises: Path) -> None:
    assert [step.name for step in steps(settings(noises), RATE)] == list(STEPS)
    _, history = apply(steps(settings(noises), RATE), SPEECH, RATE, 0, 1, 0)
    assert [done["transform"] for done in history] == list(STEPS)
    assert [name for name in AugmentSettings.model_fields if name in STEPS] == list(STEPS)


@pytest.mark.parametrize("samples", EXTREMES.values(), ids=EXTREMES)
def test_extremes_stay_finite_and_within_one(noises: Path, samples: np.ndarray) -> None:
    before = samples.copy()
    for name, transform in transforms(settings(noises), RATE).items():
        for seed in range(3):
            changed = transform(samples, RATE, np.random.default_rng(seed))
            assert changed.dtype == np.float32, name
            assert np.isfinite(changed).all() and np.abs(changed).max(initial=0) <= 1, name
            if name not in ("speed", "tempo"):
                assert len(changed) == len(samples), name
    for turn in range(5):
        changed, _ = apply(steps(settings(noises), RATE), samples, RATE, 0, turn, 0)
        assert np.isfinite(changed).all() and np.abs(changed).max(initial=0) <= 1
    np.testing.assert_array_equal(samples, before)


def test_every_transform_changes_speech(noises: Path) -> None:
    for name, transform in transforms(settings(noises), RATE).items():
        changed = transform(SPEECH, RATE, np.random.default_rng(1))
        assert len(changed) != len(SPEECH) or np.abs(changed - SPEECH).max() > 0.01, name


def test_with_a_probability_of_0_nothing_changes(noises: Path) -> None:
    off = AugmentSettings.model_validate(
        {"silence": None}
        | {name: {"probability": 0} | ({"manifest": str(noises)} if name == "background" else {}) for name in STEPS}
    )
    assert augmenter(off, [2.0])(speech, 0, 1) is SPEECH
    assert augmenter(AugmentSettings(silence=None), [2.0])(speech, 0, 1) is SPEECH


def test_a_transform_is_applied_with_its_probability() -> None:
    heard = augmenter(settings(names=("gain", "clipping"), gain={"probability": 0.3}), [2.0] * 400)
    for index in range(400):
        heard(speech, index, 1)
    assert heard.counts["gain"] == pytest.approx(120, abs=30)
    assert heard.counts["clipping"] == heard.counts["utterances"] == 400
    assert heard.report().startswith(f"augmented 400 utterances: gain {heard.counts['gain']}, clipping 400")


def test_parameters_are_within_range_and_differ_by_utterance_epoch_and_seed() -> None:
    chain = steps(settings(names=("white_noise",), white_noise={"probability": 1, "snr_db": [5, 15]}), RATE)

    def drawn(seed: int, turn: int, index: int) -> float:
        return float(apply(chain, SPEECH, RATE, seed, turn, index)[1][0]["snr_db"])

    some = [drawn(0, 1, index) for index in range(50)]
    assert 5 <= min(some) < 7 and 13 < max(some) <= 15
    assert len({drawn(0, 1, 0), drawn(1, 1, 0), drawn(0, 2, 0), drawn(0, 1, 1)}) == 4
    assert drawn(0, 1, 0) == drawn(0, 1, 0)


def test_turning_a_transform_on_changes_no_other() -> None:
    alone = apply(steps(settings(names=("gain",)), RATE), SPEECH, RATE, 3, 1, 7)[1]
    among = apply(steps(settings(), RATE), SPEECH, RATE, 3, 1, 7)[1]
    assert [done["db"] for done in among if done["transform"] == "gain"] == [alone[0]["db"]]


def test_each_transform_has_random_numbers_of_its_own() -> None:
    both = settings(
        names=("gain", "clipping"),
        gain={"probability": 1, "db": [-1, 0]},
        clipping={"probability": 1, "overload_db": [0, 1]},
    )
    chain = steps(both, RATE)
    drawn = np.array(
        [
            (one["db"] + 1, two["overload_db"])
            for one, two in (apply(chain, SPEECH, RATE, 0, 1, i)[1] for i in range(200))
        ]
    )
    assert abs(np.corrcoef(drawn.T)[0, 1]) < 0.25


def test_samples_beyond_1_are_scaled_and_counted() -> None:
    loud = settings(names=("gain",), gain={"probability": 1, "db": 30})
    changed, history = apply(steps(loud, RATE), SPEECH, RATE, 0, 1, 0)
    assert np.abs(changed).max() == 1
    np.testing.assert_allclose(changed, SPEECH / SPEECH.max(), atol=1e-6)
    expected = -(20 * np.log10(SPEECH.max()) + 30)
    assert history[0]["scaled_db"] == pytest.approx(expected, abs=1e-3)
    heard = augmenter(loud, [2.0])
    heard(speech, 0, 1)
    assert heard.counts["scaled down to [-1, 1] after gain"] == 1


@pytest.fixture
def examples(write_wav: Callable[..., Path]) -> list[Example]:
    rng = np.random.default_rng(0)
    paths = [write_wav(f"{i}.wav", float(rng.uniform(0.5, 2)), subtype="FLOAT") for i in range(12)]
    return [Example(Utterance(str(path), duration=audio.probe(path).duration), (1, 2, 3)) for path in paths]


def test_the_same_seed_gives_the_same_bytes_on_any_number_of_threads(examples: list[Example], noises: Path) -> None:
    """Also with a cache for only some of the clips, and in another order."""
    durations = [example.duration for example in examples]
    heard = []
    for threads, cache_mb in ((1, 0.1), (3, 0.1), (4, 100)):
        augment = augmenter(settings(noises, speed={}, codec={"probability": 0.1}), durations)
        loader = Loader(examples, RATE, cache_mb, threads, augment)
        for epoch in (1, 2):
            plan = plan_epoch(augment.durations(epoch), 4, 0, epoch)
            heard.append([batch.waveforms.numpy().tobytes() for batch in loader.batches(plan, epoch)])
    assert heard[0] == heard[2] == heard[4]
    assert heard[1] == heard[3] == heard[5]
    assert heard[0] != heard[1]


def test_threads_may_share_an_augmenter(noises: Path) -> None:
    heard = augmenter(settings(noises, codec=None), [2.0] * 24)
    one_by_one = [heard(speech, index, 1).tobytes() for index in range(24)]
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(lambda index: heard(speech, index, 1).tobytes(), range(24))) == one_by_one


def test_batches_stay_within_their_limit_at_changed_speeds(examples: list[Example]) -> None:
    durations = [example.duration for example in examples]
    slow = settings(
        names=("speed", "tempo"),
        speed={"probability": 0.7, "rate": [0.5, 0.8]},
        tempo={"probability": 0.5, "rate": 0.7},
    )
    augment = augmenter(slow, durations)
    planned = augment.durations(1)
    assert sum(planned) > 1.3 * sum(durations)
    loader = Loader(examples, RATE, augment=augment)
    plan = plan_epoch(planned, 8, 0, 1)
    for indices, batch in zip(plan, loader.batches(plan, 1), strict=True):
        assert batch.waveforms.numel() <= 8 * RATE or len(indices) == 1
        for index, count in zip(indices, batch.sample_counts.tolist(), strict=True):
            assert count / RATE == pytest.approx(planned[index], abs=2 / RATE)


def test_a_speed_that_text_or_limits_rule_out_is_not_used() -> None:
    fast = settings(names=("speed", "gain"), speed={"probability": 1, "rate": 1.5})
    heard = Augmenter(
        fast, RATE, 0, [2.0, 2.0], lambda indices, seconds: indices == (1,) and round(seconds, 3) == 1.333
    )
    assert heard.durations(1) == [2.0, pytest.approx(4 / 3, abs=1e-4)]
    assert [len(heard(speech, index, 1)) for index in (0, 1)] == [2 * RATE, round(2 * RATE / 1.5)]
    assert heard.counts["kept at their own speed, as text or limits of length leave no room"] == 1
    assert heard.counts["gain"] == 2  # the rest of the chain goes on


def test_a_silent_noise_and_a_silent_room_are_skipped_and_counted(
    write_wav: Callable[..., Path], tmp_path: Path
) -> None:
    write_wav("silence.wav", np.zeros(4000))
    silence = str(write_lines(tmp_path / "silence.jsonl", [{"audio_filepath": "silence.wav"}]))
    section = {"probability": 1, "manifest": silence}
    heard = augmenter(settings(names=(), background=section, reverb=section), [2.0])
    np.testing.assert_array_equal(heard(speech, 0, 1), SPEECH)
    assert heard.counts["reverb skipped: silent recording"] == heard.counts["background skipped: silent recording"] == 1
    assert heard.counts["reverb"] == heard.counts["background"] == 0


def test_rooms_may_be_recordings(write_wav: Callable[..., Path], tmp_path: Path) -> None:
    """A response with a direct sound 30 ms in and an echo 20 ms later: the echo comes 20 ms after the click."""
    response = np.zeros(4000)
    response[[480, 800]] = 0.5, 0.25
    write_wav("room.wav", response)
    manifest = write_lines(tmp_path / "rooms.jsonl", [{"audio_filepath": "room.wav"}])
    heard = augmenter(settings(names=(), reverb={"probability": 1, "manifest": str(manifest)}), [1.0])
    echoed = heard(lambda index: EXTREMES["a click"], 0, 1)
    assert list(np.flatnonzero(np.abs(echoed) > 0.01)) == [2500, 2820]
    assert echoed[2820] / echoed[2500] == pytest.approx(0.5, abs=1e-3)


def test_an_unknown_key_is_an_error_that_names_the_nearest() -> None:
    with pytest.raises(AnadilError, match=r"unknown key 'white_noise.snr'; did you mean 'white_noise.snr_db'"):
        parse(AugmentSettings, {"white_noise": {"snr": 10}}, "config")
    with pytest.raises(AnadilError, match=r"unknown key 'sped'; did you mean 'speed'"):
        parse(AugmentSettings, {"sped": {}}, "config")
    for wrong in ([1.1, 0.9], [0.1, 1], "fast", [1], [float("nan"), 1], 3, True):
        with pytest.raises(AnadilError, match=r"speed\.rate"):
            parse(AugmentSettings, {"speed": {"rate": wrong}}, "config")
    assert parse(AugmentSettings, {"speed": {"rate": 0.9}}, "config").speed.rate == (0.9, 0.9)  # type: ignore[union-attr]


def test_the_defaults_are_silence_and_spec_augment() -> None:
    on = {name for name, section in AugmentSettings() if section is not None}
    assert on == {"silence", "spec_augment"}


def test_audio_is_augmented_without_pytorch() -> None:
    """In loader threads PyTorch would compete with the model for the cores; without it `anadil augment` starts faster."""
    code = "import sys, anadil.data.augment.chain, anadil.data.augment.preview; assert 'torch' not in sys.modules"
    done = subprocess.run([sys.executable, "-c", code], cwd=Path(__file__).parents[3], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_streams_are_independent() -> None:
    """For neighbouring utterances, turns, seeds and transforms; and the same stream can be made again, in any order."""
    places = [(s, t, i, n) for s in (0, 1) for t in (1, 2) for i in (0, 1, 255, 256, 2**40) for n in (1, 2)]
    drawn = np.array([stream(*place).random(2000) for place in places])
    likeness = np.corrcoef(drawn) - np.eye(len(places))
    assert np.abs(likeness).max() < 0.11  # 5 standard deviations
    assert drawn.mean() == pytest.approx(0.5, abs=0.01)
    for place, row in zip(reversed(places), reversed(drawn), strict=True):
        np.testing.assert_array_equal(stream(*place).random(2000), row)


def test_probabilities_differ_between_utterances_across_blocks() -> None:
    chain = steps(settings(names=("gain", "clipping"), gain={"probability": 0.5}, clipping={"probability": 0.5}), RATE)
    chosen = [tuple(step.name for step in applied(chain, 0, 1, index)) for index in range(2 * BLOCK)]
    assert chosen[:BLOCK] != chosen[BLOCK:]
    counts = Counter(chosen)
    assert len(counts) == 4 and min(counts.values()) > 90  # of 128 expected
    assert [tuple(step.name for step in applied(chain, 0, 1, index)) for index in (300, 5)] == [chosen[300], chosen[5]]


def test_rates_are_whole_hundredths_if_the_range_has_ten_and_never_1() -> None:
    rng = np.random.default_rng(0)
    drawn = {draw_rate((0.9, 1.1), rng) for _ in range(2000)}
    assert drawn == {round(k / 100, 2) for k in range(90, 111) if k != 100}
    narrow = [draw_rate((1.001, 1.004), rng) for _ in range(50)]
    assert len(set(narrow)) == 50 and min(narrow) >= 1.001 and max(narrow) <= 1.004
    assert draw_rate((0.955, 0.955), rng) == 0.955


def test_pitch_is_drawn_where_its_resampling_is_cheap(noises: Path) -> None:
    chain = steps(settings(names=("pitch",)), RATE)
    drawn = [apply(chain, SPEECH[:4000], RATE, 0, 1, index)[1][0]["semitones"] for index in range(100)]
    ratios = 100 * 2 ** (np.array(drawn) / 12)
    np.testing.assert_allclose(ratios, np.round(ratios), atol=1e-3)
    assert -2 <= min(drawn) < -1.5 and 1.5 < max(drawn) <= 2 and 0 not in drawn
