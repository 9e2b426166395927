"""Write augmented copies of a manifest's utterances as audio files, and a manifest of originals and copies."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from threading import Lock

import numpy as np
import soundfile

from anadil import audio
from anadil.data.augment.chain import apply
from anadil.data.augment.settings import AugmentSettings
from anadil.data.augment.steps import STEPS, Record, Step, steps
from anadil.errors import AnadilError, Problem, summarize
from anadil.files import refuse_overwrite, whole_folder
from anadil.manifest import Utterance, measured, probe_all, read_audio, read_manifest, write_manifest

_MOST_HZ = 48000
"""Copies of recordings with a higher sample rate get this one; speech gains nothing from more."""


@dataclass
class AugmentResult:
    """Counts of what was written. `unchanged`: copies for which no transform was drawn; they are not written."""

    manifest: Path
    originals: int = 0
    copies: int = 0
    unchanged: int = 0
    scaled: int = 0  # copies that were scaled down to stay within [-1, 1]
    audio_s: float = 0.0  # of the copies
    counts: Counter[str] = field(default_factory=Counter)  # by transform


class Chains:
    """The steps of `settings` for each sample rate, made once. Raises AnadilError if no transform of audio is on."""

    def __init__(self, settings: AugmentSettings) -> None:
        if not any(
            section is not None and section.probability > 0 for section in (getattr(settings, n) for n in STEPS)
        ):
            raise AnadilError("no transform of audio is on\n  next: name one, for example speed.rate=[0.9,1.1]")
        self.settings = settings
        self._by_rate: dict[int, list[Step]] = {}
        self._lock = Lock()

    def at(self, rate: int) -> list[Step]:
        with self._lock:
            if rate not in self._by_rate:
                self._by_rate[rate] = steps(self.settings, rate)
            return self._by_rate[rate]


def augment_manifest(
    manifest: Path,
    out: Path,
    settings: AugmentSettings,
    n_copies: int = 1,
    seed: int = 0,
    force: bool = False,
    on_progress: Callable[[int, int], None] = lambda done, total: None,
) -> AugmentResult:
    """Write `out`/NAME.jsonl, the lines of NAME.jsonl and their copies, and the copies' audio into `out`/NAME (FLAC).

    A copy keeps text, speaker, language and `extra`; the transforms applied to it are added to `extra["augmented"]`. They
    depend only on (seed, number of the copy, number of the line). Nothing is written if anything fails. Raises AnadilError
    naming every recording that cannot be used, or if no transform of audio is on.
    """
    target, folder = _plan_files(manifest, out, force)
    chains = Chains(settings)
    utterances = read_manifest(manifest)
    _refuse_to_replace_sources(utterances, folder)
    rates = [min(rate, _MOST_HZ) for rate in sample_rates_of(utterances)]
    for rate in set(rates):
        chains.at(rate)  # raises for a noise that cannot be used before anything is written
    result = AugmentResult(target, originals=len(utterances))
    tasks = [(index, turn) for index in range(len(utterances)) for turn in range(1, n_copies + 1)]

    def make(task: tuple[int, int], beside: Path) -> tuple[Utterance, list[Record]] | None:
        index, turn = task
        rate = rates[index]
        samples, history = apply(chains.at(rate), load(utterances[index], rate), rate, seed, turn, index)
        if not history:
            return None
        name = f"{index + 1:06d}-{turn}.flac"
        write_flac(beside / name, samples, rate)
        return _copied(utterances[index], folder / name, len(samples) / rate, history), history

    with whole_folder(folder) as beside:
        results = audio.in_threads(
            lambda task: make(task, beside), tasks, lambda done: on_progress(done, len(tasks)), os.cpu_count()
        )
    made = [copy for copy in results if copy is not None]
    result.unchanged = len(tasks) - len(made)
    for _, history in made:
        result.counts.update(record["transform"] for record in history)
        result.scaled += any("scaled_db" in record for record in history)
    copies = [copy for copy, _ in made]
    write_manifest(target, [*utterances, *copies])
    result.copies = len(copies)
    result.audio_s = sum(copy.duration or 0.0 for copy in copies)
    return result


def _plan_files(manifest: Path, out: Path, force: bool) -> tuple[Path, Path]:
    """Paths of the manifest and the audio folder. Raises AnadilError if they exist or would replace the source."""
    target, folder = out / f"{manifest.stem}.jsonl", out / manifest.stem
    if target.resolve() == manifest.resolve():
        raise AnadilError(f"{target} is the manifest itself\n  next: choose another --out")
    for path in (target, folder):
        refuse_overwrite(path, force)
    return target, folder


def _refuse_to_replace_sources(utterances: Sequence[Utterance], folder: Path) -> None:
    """Raise AnadilError if recordings of the manifest are in the folder that the copies replace."""
    for utterance in utterances:
        if Path(utterance.audio_filepath).resolve().is_relative_to(folder.resolve()):
            raise AnadilError(
                f"{utterance.source}: the recording is in {folder}, which the copies would replace: "
                f"{utterance.audio_filepath}\n  next: choose another --out"
            )


def sample_rates_of(utterances: Sequence[Utterance]) -> list[int]:
    """The sample rate of each utterance. Raises AnadilError naming every one that cannot be used."""
    infos = probe_all(utterances)
    rates, problems = [], []
    for utterance in utterances:
        info = infos[utterance.audio_filepath]
        try:
            measured(utterance, info)
        except AnadilError as error:
            problems.append(Problem(utterance.source, str(error)))
        if isinstance(info, audio.AudioInfo):
            rates.append(info.sample_rate)
    if problems:
        next_step = "correct these lines, or remove them from the manifest"
        raise AnadilError(summarize(problems, "utterances", len(utterances), next_step))
    return rates


def load(utterance: Utterance, rate: int) -> np.ndarray:
    """Decode an utterance. Raises AnadilError naming the utterance if it cannot be decoded."""
    try:
        samples = read_audio(utterance, rate)
    except AnadilError as error:
        raise AnadilError(f"{utterance.source}: {error}") from error
    if len(samples) == 0:
        raise AnadilError(f"{utterance.source}: audio has no samples: {utterance.audio_filepath}")
    return samples


def write_flac(path: Path, samples: np.ndarray, rate: int) -> None:
    """Write FLAC with 16 bits per sample."""
    try:
        soundfile.write(str(path), samples, rate, format="FLAC", subtype="PCM_16")
    except soundfile.LibsndfileError as error:
        raise OSError(f"{path.name}: {error.error_string}") from error


def _copied(utterance: Utterance, path: Path, seconds: float, history: list[Record]) -> Utterance:
    """The manifest line of a copy. The speaker stays even if the pitch changes: a split must keep both together."""
    before = utterance.extra.get("augmented", [])
    earlier = before if isinstance(before, list) else [before]
    return replace(
        utterance,
        audio_filepath=str(path),
        offset=0.0,
        channel="mix",
        duration=round(seconds, 6),
        extra=utterance.extra | {"augmented": [*earlier, *history]},
    )
