from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import pytest
import torch

from anadil.data.augment.chain import Augmenter
from anadil.data.augment.settings import AugmentSettings
from anadil.data.augment.silence import DIGITAL, ROOM_TONE, SOUNDS, Scene, compose, draw_scene, room_tone
from anadil.data.batches import Batch, Loader
from anadil.data.examples import Example
from anadil.errors import AnadilError
from anadil.manifest import Utterance
from anadil.settings import parse
from anadil.training.step import consistency_loss, ctc_loss
from tests.support.signals import RATE, power_db, speech_with_pauses

SPEECH = speech_with_pauses(2)
NOISY = SPEECH + np.float32(1e-3) * np.random.default_rng(0).standard_normal(len(SPEECH)).astype(np.float32)
ALWAYS = AugmentSettings.model_validate({"silence": {"probability": 1, "joined": 0, "non_speech": 0}}).silence
assert ALWAYS is not None


def composed(scene: Scene, samples: np.ndarray = NOISY, partner: np.ndarray | None = None, seed: int = 0) -> np.ndarray:
    assert ALWAYS is not None
    return compose(scene, samples, partner, RATE, ALWAYS, np.random.default_rng(seed))


def augmenter(durations: list[float], **section: Any) -> Augmenter:
    settings = AugmentSettings.model_validate({"silence": {"probability": 0, "joined": 0, "non_speech": 0} | section})
    alike = ["a" if index % 2 else "b" for index in range(len(durations))]
    return Augmenter(settings, RATE, 0, durations, lambda indices, seconds: seconds < 8, alike, boundary=[9])


def test_room_tone_is_as_loud_as_the_pauses_and_as_long_as_asked() -> None:
    for n in (1, 319, 320, 16001):
        tone = room_tone(NOISY, n, RATE, np.random.default_rng(0))
        assert tone.shape == (n,) and tone.dtype == np.float32
    long = room_tone(NOISY, 5 * RATE, RATE, np.random.default_rng(0))
    assert power_db(long) == pytest.approx(-60, abs=1)
    assert np.abs(long).max() < 0.006  # nothing of the speech, no click where frames meet
    assert not room_tone(NOISY[:100], 50, RATE, np.random.default_rng(0)).any()  # no whole frame


@pytest.mark.parametrize("sound", [*SOUNDS, ROOM_TONE, DIGITAL])
def test_a_pause_stands_before_and_after_the_speech_which_stays_as_it_is(sound: str) -> None:
    made = composed(Scene(0, sound, before_s=0.5, after_s=1.0))
    assert made.dtype == np.float32 and len(made) == len(NOISY) + 1.5 * RATE
    np.testing.assert_array_equal(made[RATE // 2 : RATE // 2 + len(NOISY)], NOISY)
    assert made[: RATE // 2].any() == (sound != DIGITAL) or sound in ("keys", "notes")  # these have pauses of their own


def test_joined_utterances_follow_one_another_after_a_pause() -> None:
    made = composed(Scene(0, DIGITAL, partner=1, between_s=0.25), SPEECH, NOISY)
    np.testing.assert_array_equal(made, np.concatenate([SPEECH, np.zeros(RATE // 4, np.float32), NOISY]))


def test_a_sound_without_speech_is_as_long_as_the_utterance_and_holds_none_of_it() -> None:
    for sound in SOUNDS:
        made = composed(Scene(0, sound, has_speech=False))
        assert len(made) == len(NOISY) and abs(float(np.corrcoef(made, NOISY)[0, 1])) < 0.1
        assert -70 < power_db(composed(Scene(0, "white noise", has_speech=False))) < -10


def test_each_kind_is_drawn_with_its_share() -> None:
    settings = AugmentSettings.model_validate(
        {"silence": {"probability": 0.3, "joined": 0.2, "non_speech": 0.1, "seconds": [0.2, 0.5]}}
    ).silence
    assert settings is not None
    drawn = [draw_scene(settings, 0, [5, 6], np.random.default_rng(seed)) for seed in range(1000)]
    kinds = Counter(scene.kind for scene in drawn if scene)
    assert kinds["pause before or after"] == pytest.approx(300, abs=50)
    assert kinds["joined with another"] == pytest.approx(200, abs=50)
    assert kinds["sounds without speech"] == pytest.approx(100, abs=40)
    assert {scene.partner for scene in drawn if scene and scene.partner} == {5, 6}
    pauses = [s for scene in drawn if scene for s in (scene.before_s, scene.after_s, scene.between_s) if s]
    assert min(pauses) >= 0.2 and max(pauses) <= 0.5
    assert {scene.sound for scene in drawn if scene} == {ROOM_TONE, DIGITAL, *SOUNDS}


def test_planned_durations_are_those_of_the_samples_and_limits_hold() -> None:
    durations = [2.0, 2.0, 2.0, 7.5, 2.0, 2.0]
    clips = [NOISY if seconds == 2 else np.tile(NOISY, 4)[: round(7.5 * RATE)] for seconds in durations]
    for section in ({"probability": 1}, {"joined": 1}, {"non_speech": 1}):
        augment = augmenter(durations, **section)
        planned = augment.durations(1)
        for index in range(len(durations)):
            made = augment(clips.__getitem__, index, 1)
            assert len(made) / RATE == pytest.approx(planned[index], abs=2 / RATE)
        assert planned[3] < 8


def test_texts_of_joined_utterances_are_joined_and_sounds_have_none() -> None:
    texts = [[0], [1, 1], [2], [3, 3]]
    joined = augmenter([2.0] * 4, joined=1)
    for index in range(4):
        scene = joined.scene(index, 1)
        assert scene is not None and scene.partner is not None and scene.partner % 2 == index % 2  # the same speaker
        assert list(joined.labels(texts.__getitem__, index, 1)) == [*texts[index], 9, *texts[scene.partner]]
    assert list(augmenter([2.0] * 4, non_speech=1).labels(texts.__getitem__, 1, 1)) == []
    assert list(augmenter([2.0] * 4, probability=1).labels(texts.__getitem__, 1, 1)) == [1, 1]


def test_it_can_be_off_for_an_epoch_and_is_the_same_in_each_run() -> None:
    augment = augmenter([2.0] * 20, probability=0.5)
    augment.silence_is_on = False
    assert augment.durations(1) == [2.0] * 20
    augment.silence_is_on = True
    again = augmenter([2.0] * 20, probability=0.5)
    assert [2.0] * 20 != augment.durations(3) == again.durations(3) != again.durations(4)


def test_the_loader_gives_samples_and_labels_of_the_same_scene(tmp_path: Any, write_wav: Any) -> None:
    paths = [write_wav(f"{i}.wav", NOISY) for i in range(4)]
    examples = [Example(Utterance(str(path), duration=2.0), (index,)) for index, path in enumerate(paths)]
    loader = Loader(examples, RATE, augment=augmenter([2.0] * 4, joined=1))
    batch = loader.load([0, 1], 1)
    assert batch.target_counts.tolist() == [3, 3] and batch.targets[:, 1].tolist() == [9, 9]
    assert all(count > 4 * RATE for count in batch.sample_counts.tolist())
    silent = Loader(examples, RATE, augment=augmenter([2.0] * 4, non_speech=1)).load([0, 1], 1)
    assert silent.target_counts.tolist() == [0, 0]


def test_a_batch_without_any_label_has_a_loss() -> None:
    """-log P(only blanks) of each utterance; one that has speech beside it counts as before."""
    log_probs = torch.log_softmax(torch.randn(2, 20, 5, generator=torch.Generator().manual_seed(0)), 2)
    counts = torch.tensor([20, 12])
    none = Batch(torch.zeros(2, 1), torch.ones(2), torch.zeros((2, 0), dtype=torch.int64), torch.tensor([0, 0]), (0, 1))
    blanks = -(log_probs[0, :, 4].sum() + log_probs[1, :12, 4].sum())
    assert float(ctc_loss(log_probs, counts, none)) == pytest.approx(float(blanks), rel=1e-5)
    assert float(consistency_loss(torch.cat([log_probs, log_probs]), counts, none)) == pytest.approx(0, abs=1e-6)


def test_shares_above_one_are_refused() -> None:
    with pytest.raises(AnadilError, match="at most 1 together"):
        parse(AugmentSettings, {"silence": {"probability": 0.9, "joined": 0.2}}, "config")
