"""Augmented copies of a manifest's audio as files, beside the original lines."""

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
from anadil.data.augment.steps import STEPS, Done, Step, steps
from anadil.errors import AnadilError, Problem, summarize
from anadil.files import refuse_overwrite, whole_folder
from anadil.manifest import Utterance, measured, probe_all, read_manifest, write_manifest

MOST_HZ = 48000
"""Copies of recordings above this come at this rate; there is nothing to gain for speech."""


@dataclass
class Outcome:
    """What was made. `unchanged`: copies for which chance chose no transform, so that they were not written."""

    manifest: Path
    originals: int = 0
    copies: int = 0
    unchanged: int = 0
    scaled: int = 0  # copies that had to be scaled down to stay within [-1, 1]
    audio_s: float = 0.0  # of the copies
    counts: Counter[str] = field(default_factory=Counter)  # by transform


class Chains:
    """The steps of `settings` at each sample rate that occurs, made once. Raises AnadilError if nothing is on."""

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
) -> Outcome:
    """Write `out`/NAME.jsonl, the lines of NAME.jsonl and their copies, and the copies' audio into `out`/NAME (FLAC).

    A copy keeps text, speaker, language and `extra`; what was done to it, in order, is added to `extra["augmented"]`.
    Which transforms it gets, and how much, follows from (seed, number of the copy, number of the line). Nothing is
    written if anything fails. Raises AnadilError naming every recording that cannot be used, and if nothing is on.
    """
    target, folder = plan_files(manifest, out, force)
    chains = Chains(settings)
    utterances = read_manifest(manifest)
    refuse_to_replace_sources(utterances, folder)
    rates = [min(rate, MOST_HZ) for rate in sample_rates(utterances)]
    for rate in set(rates):
        chains.at(rate)  # what is wrong with a noise is told before anything is made
    outcome = Outcome(target, originals=len(utterances))
    tasks = [(index, turn) for index in range(len(utterances)) for turn in range(1, n_copies + 1)]

    def make(task: tuple[int, int], beside: Path) -> tuple[Utterance, list[Done]] | None:
        index, turn = task
        rate = rates[index]
        samples, history = apply(chains.at(rate), load(utterances[index], rate), rate, seed, turn, index)
        if not history:
            return None
        name = f"{index + 1:06d}-{turn}.flac"
        write_flac(beside / name, samples, rate)
        return copied(utterances[index], folder / name, len(samples) / rate, history), history

    with whole_folder(folder) as beside:
        results = audio.in_threads(
            lambda task: make(task, beside), tasks, lambda done: on_progress(done, len(tasks)), os.cpu_count()
        )
    made = [copy for copy in results if copy is not None]
    outcome.unchanged = len(tasks) - len(made)
    for _, history in made:
        outcome.counts.update(done["transform"] for done in history)
        outcome.scaled += any("scaled_db" in done for done in history)
    copies = [copy for copy, _ in made]
    write_manifest(target, [*utterances, *copies])
    outcome.copies = len(copies)
    outcome.audio_s = sum(copy.duration or 0.0 for copy in copies)
    return outcome


def plan_files(manifest: Path, out: Path, force: bool) -> tuple[Path, Path]:
    """Where manifest and audio go. Raises AnadilError if they are there already, or would replace the source."""
    target, folder = out / f"{manifest.stem}.jsonl", out / manifest.stem
    if target.resolve() == manifest.resolve():
        raise AnadilError(f"{target} is the manifest itself\n  next: choose another --out")
    for path in (target, folder):
        refuse_overwrite(path, force)
    return target, folder


def refuse_to_replace_sources(utterances: Sequence[Utterance], folder: Path) -> None:
    """Raises AnadilError if recordings of the manifest lie where the copies would go."""
    for utterance in utterances:
        if Path(utterance.audio_filepath).resolve().is_relative_to(folder.resolve()):
            raise AnadilError(
                f"{utterance.source}: the recording is in {folder}, which the copies would replace: "
                f"{utterance.audio_filepath}\n  next: choose another --out"
            )


def sample_rates(utterances: Sequence[Utterance]) -> list[int]:
    """The sample rate of each recording. Raises AnadilError naming every one that cannot be used."""
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
        next_step = "mend them, or take them out of the manifest"
        raise AnadilError(summarize(problems, "utterances", len(utterances), next_step))
    return rates


def load(utterance: Utterance, rate: int) -> np.ndarray:
    """Decode an utterance. Raises AnadilError naming it."""
    try:
        samples = audio.read(utterance.audio_filepath, rate, utterance.offset, utterance.duration)
    except AnadilError as error:
        raise AnadilError(f"{utterance.source}: {error}") from error
    if len(samples) == 0:
        raise AnadilError(f"{utterance.source}: audio has no samples: {utterance.audio_filepath}")
    return samples


def write_flac(path: Path, samples: np.ndarray, rate: int) -> None:
    """16 bits a sample."""
    try:
        soundfile.write(str(path), samples, rate, format="FLAC", subtype="PCM_16")
    except soundfile.LibsndfileError as error:
        raise OSError(f"{path.name}: {error.error_string}") from error


def copied(utterance: Utterance, path: Path, seconds: float, history: list[Done]) -> Utterance:
    """The line of a copy. The speaker stays, pitch or no pitch: a split by speaker must keep the two together."""
    before = utterance.extra.get("augmented", [])
    earlier = before if isinstance(before, list) else [before]
    return replace(
        utterance,
        audio_filepath=str(path),
        offset=0.0,
        duration=round(seconds, 6),
        extra=utterance.extra | {"augmented": [*earlier, *history]},
    )
