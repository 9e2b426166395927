"""Transcribing more than one machine holds: manifests in, one JSONL file per shard out, on this machine or on a Ray cluster.

A shard is a stretch of a manifest. Its output appears whole or not at all, and what is there is not made again: so each shard is
done exactly once, whatever was killed meanwhile, and the same command goes on where an earlier one stopped. The plan holds byte
offsets, not utterances, so its size is that of the list of shards.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from anadil import audio
from anadil.cluster import import_ray, keep_plan, map_on_ray, shard_file
from anadil.data.pauses import WHOLE_S
from anadil.decoding.transcript import Transcript
from anadil.errors import AnadilError
from anadil.files import whole_file
from anadil.manifest import MAX_LINE_BYTES, Utterance, parse_line, read_audio, write_manifest, write_manifest_to
from anadil.recognition.load import load
from anadil.recognition.recognizer import Recognizer

INPUTS = "inputs.jsonl"
UTTERANCES_PER_SHARD = 200

Progress = Callable[[int, int], None]  # utterances done, of all


@dataclass(frozen=True)
class Shard:
    """A stretch of a manifest: `n_lines` from byte `offset` on, which is line `first_line`, from 1."""

    number: int
    manifest: str
    offset: int
    first_line: int
    n_lines: int

    def output(self, out: Path) -> Path:
        return shard_file(out, self.number)


@dataclass(frozen=True)
class Counts:
    """Of utterances. `failed` have the key "error" instead of a text."""

    done: int = 0
    failed: int = 0
    kept: int = 0  # done by an earlier run

    def __add__(self, other: Counts) -> Counts:
        return Counts(self.done + other.done, self.failed + other.failed, self.kept + other.kept)


def plan(
    model: Path, manifests: Sequence[Path], recordings: Sequence[Path], out: Path, per_shard: int = UTTERANCES_PER_SHARD
) -> list[Shard]:
    """The shards of the manifests, and of a list of the recordings, which is written to `out`/inputs.jsonl.

    `out`/plan.json keeps what they were made of. Raises AnadilError if `out` holds a plan for other input or another
    model, or if there is nothing to do.
    """
    out.mkdir(parents=True, exist_ok=True)
    sources = [Path(os.path.abspath(path)) for path in manifests]
    if recordings:
        listed = Path(os.path.abspath(out / INPUTS))
        write_manifest(listed, (Utterance(os.path.abspath(path)) for path in recordings))
        sources.append(listed)
    shards: list[Shard] = []
    digests = {}
    for source in sources:
        found, digests[str(source)] = _index(source, per_shard, len(shards))
        shards += found
    if not shards:
        raise AnadilError(f"no utterance in {', '.join(map(str, sources))}\n  next: check what wrote the manifests")
    identity = {"manifests": digests, "model": _digest_of(model), "utterances_per_shard": per_shard}
    keep_plan(
        out,
        identity,
        "transcripts of other input, of another model, or in shards of another size",
        "choose another --out, or give the model, input and --shard-size of the first time to go on",
    )
    return shards


def transcribe_here(
    model: Path, shards: Sequence[Shard], out: Path, lm: bool = True, on_progress: Progress = lambda done, of: None
) -> Counts:
    """Transcribe the shards that are not done, one after the other, in this process."""
    recognizer = load(model, lm)
    counts, total = Counts(), sum(shard.n_lines for shard in shards)
    for shard in shards:
        counts += transcribe_shard(recognizer, shard, out)
        on_progress(counts.done + counts.failed + counts.kept, total)
    return counts


def transcribe_on_ray(
    model: Path, shards: Sequence[Shard], out: Path, lm: bool = True, on_progress: Progress = lambda done, of: None
) -> Counts:
    """Transcribe the shards that are not done with a worker for each core of a Ray cluster: `map_on_ray`.

    Model, manifests, recordings and `out` must have the same paths on all its machines.
    """
    import_ray()
    load(model, lm)  # an error of the model is raised here, not by every worker
    counts, total = Counts(), sum(shard.n_lines for shard in shards)
    arguments = str(Path(model).absolute()), str(out.absolute()), lm
    for row in map_on_ray(_Worker, arguments, [asdict(shard) for shard in shards]):
        counts += Counts(row["done"], row["failed"], row["kept"])
        on_progress(counts.done + counts.failed + counts.kept, total)
    return counts


def transcribe_shard(recognizer: Recognizer, shard: Shard, out: Path) -> Counts:
    """Write the transcripts of a shard: its lines with "pred_text" and "words", or "error" for what cannot be read.

    Does nothing if the output is there.
    """
    target = shard.output(out)
    if target.is_file():
        return Counts(kept=shard.n_lines)
    lines = list(_utterances(shard))
    audible = [number for number, one in enumerate(lines) if "error" not in one.extra]
    readers = [partial(_blocks, lines[number], recognizer.sample_rate) for number in audible]
    for place, outcome in recognizer.transcribe_each(readers):
        number = audible[place]
        lines[number] = _with_outcome(lines[number], outcome)
    with whole_file(target) as beside:
        write_manifest_to(beside, target.parent, lines)
    failed = sum("error" in one.extra for one in lines)
    return Counts(done=len(lines) - failed, failed=failed)


class _Worker:
    """What runs on a core of the cluster: it loads the model once."""

    def __init__(self, model: str, out: str, lm: bool) -> None:
        self._recognizer, self._out = load(Path(model), lm), Path(out)

    def __call__(self, row: dict[str, Any]) -> dict[str, int]:
        return asdict(transcribe_shard(self._recognizer, Shard(**row), self._out))


def _index(manifest: Path, per_shard: int, first: int) -> tuple[list[Shard], str]:
    """The shards of a manifest, numbered from `first`, and the SHA-256 of the file. Raises AnadilError."""
    if not manifest.is_file():
        raise AnadilError(f"manifest not found: {manifest}\n  next: check the path")
    shards: list[Shard] = []
    digest = hashlib.sha256()
    offset = start = n_lines = 0
    line_number = first_line = 1
    with open(manifest, "rb") as file:
        while line := file.readline(MAX_LINE_BYTES + 1):
            if len(line) > MAX_LINE_BYTES:
                raise AnadilError(
                    f"{manifest}:{line_number}: the line is longer than {MAX_LINE_BYTES:,} bytes\n"
                    "  next: check that the file is a manifest (JSONL, one utterance per line)"
                )
            digest.update(line)
            offset, line_number, n_lines = offset + len(line), line_number + 1, n_lines + 1
            if n_lines == per_shard:
                shards.append(Shard(first + len(shards), str(manifest), start, first_line, n_lines))
                start, first_line, n_lines = offset, line_number, 0
    if n_lines:
        shards.append(Shard(first + len(shards), str(manifest), start, first_line, n_lines))
    return shards, digest.hexdigest()


def _utterances(shard: Shard) -> Iterator[Utterance]:
    """The shard's utterances; a line that is none has the key "error", and the manifest as its recording."""
    folder = str(Path(shard.manifest).parent)
    with open(shard.manifest, "rb") as file:
        file.seek(shard.offset)
        for number in range(shard.first_line, shard.first_line + shard.n_lines):
            where = f"{shard.manifest}:{number}"
            line = file.readline()
            try:
                yield parse_line(line.removeprefix(b"\xef\xbb\xbf") if number == 1 else line, folder, where)
            except ValueError as error:
                yield Utterance(shard.manifest, extra={"line": number, "error": str(error)})


def _blocks(one: Utterance, sample_rate: int) -> Iterable[np.ndarray]:
    if one.offset == 0 and one.duration is None:  # of any length
        return audio.read_blocks(one.audio_filepath, sample_rate, one.channel, whole_s=WHOLE_S)
    return [read_audio(one, sample_rate)]


def _with_outcome(one: Utterance, outcome: Transcript | AnadilError) -> Utterance:
    if isinstance(outcome, AnadilError):
        return replace(one, extra=one.extra | {"error": str(outcome)})
    found = outcome.to_dict()
    return replace(
        one,
        duration=found["duration"] if one.duration is None else one.duration,
        extra=one.extra | {"pred_text": found["text"], "words": found["words"]},
    )


def _digest_of(model: Path) -> str:
    """SHA-256 of the files of a model, by name."""
    digest = hashlib.sha256()
    for file in sorted(model.iterdir()) if model.is_dir() else [model]:
        if file.is_file():
            digest.update(file.name.encode("utf-8", "surrogateescape"))
            with open(file, "rb") as opened:
                digest.update(hashlib.file_digest(opened, "sha256").digest())
    return digest.hexdigest()
