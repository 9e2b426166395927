"""Noise for a test set: recordings mixed into its utterances, the same ones for every model."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np

from anadil.data.augment.level import active_power
from anadil.data.augment.noise import Recordings, add_background
from anadil.data.augment.steps import within_range
from anadil.errors import AnadilError
from anadil.evaluation.hypotheses import place_of
from anadil.manifest import Utterance

_TRIES = 20


class NoiseMixer:
    """Adds recordings of noise to utterances, and counts what cannot be used.

    Which stretch of which recording is mixed in is drawn by a seed from the utterance's identity, so it is the same for every
    model and every signal-to-noise ratio. Levels are those of `add_background`: of the active frames of speech and noise.
    Raises AnadilError if the manifest cannot be read, or naming every recording that cannot be used.
    """

    def __init__(self, manifest: Path, sample_rate: int) -> None:
        self.manifest = manifest
        self.recordings = Recordings([str(manifest)], sample_rate)
        self.silent_noise: set[int] = set()  # recordings that were digital silence where they were drawn
        self.silent_speech: set[object] = set()  # the places of such utterances

    def mixed(self, utterance: Utterance, samples: np.ndarray, snr_db: float) -> np.ndarray:
        """The utterance's float32 (samples,) with noise `snr_db` below its speech; digital silence stays as it is.

        What exceeds [-1, 1] is scaled down as a whole. Raises AnadilError if only digital silence is drawn as noise.
        """
        rate = self.recordings.sample_rate
        if active_power(samples, rate) == 0:
            self.silent_speech.add(place_of(utterance))
            return samples
        rng = np.random.default_rng(noise_seed(utterance))
        for _ in range(_TRIES):
            index = self.recordings.draw(rng)
            noise = self.recordings.segment(index, len(samples), rng)
            if active_power(noise, rate) > 0:
                return within_range(add_background(samples, rate, noise, snr_db), {})
            self.silent_noise.add(index)
        names = ", ".join(sorted(map(self.recordings.name, self.silent_noise))[:5])
        raise AnadilError(
            f"{self.manifest}: {_TRIES} stretches of noise were drawn, and all of them are digital silence; it was found in "
            f"{len(self.silent_noise):,} recordings: {names}\n  next: remove these from {self.manifest}"
        )

    def notes(self) -> list[str]:
        """In words, what was left out."""
        found = []
        if self.silent_noise:
            found.append(
                f"{len(self.silent_noise):,} recordings of {self.manifest} are digital silence where they were drawn; "
                "another one took their place"
            )
        if self.silent_speech:
            found.append(
                f"{len(self.silent_speech):,} utterances are digital silence, which has no signal-to-noise ratio: no noise was "
                "added to them"
            )
        return found


def noise_seed(utterance: Utterance) -> int:
    """A number from the last two parts of the path, the offset and the channel: the same wherever the corpus lies."""
    place = (*Path(utterance.audio_filepath).parts[-2:], f"{utterance.offset:.3f}", str(utterance.channel))
    return int.from_bytes(hashlib.sha256("\0".join(place).encode("utf-8", "surrogateescape")).digest()[:8], "big")
