"""Measuring more recordings than one run can: in shards, on this machine or on a Ray cluster.

A shard's measurements appear whole or not at all, and what is there is not made again unless a recording has changed since. So
the same command goes on where an earlier one stopped, and finds what `measure_here` finds.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any

from anadil.audio import AudioInfo
from anadil.cluster import keep_plan, map_on_ray, shard_file
from anadil.doctor.audio import Measured, Measurement, MeasureTasks, Task, measure_here
from anadil.errors import AnadilError
from anadil.files import whole_file
from anadil.sound_files import find_file

RECORDINGS_PER_SHARD = 200

Progress = Callable[[int], None]


def in_shards(folder: Path, on_ray: bool, per_shard: int = RECORDINGS_PER_SHARD) -> MeasureTasks:
    """A function that measures recordings in shards of `folder`. On Ray all machines need the same paths."""
    return partial(_measure, folder, on_ray, per_shard)


def _measure(
    folder: Path, on_ray: bool, per_shard: int, tasks: Sequence[Task], on_progress: Progress
) -> list[Measured]:
    here = Path.cwd()
    tasks = [replace(task, path=os.path.join(here, task.path)) for task in tasks]
    digest = hashlib.sha256()
    for task in tasks:
        digest.update(json.dumps(asdict(task)).encode())
    keep_plan(
        folder,
        {"recordings": digest.hexdigest(), "recordings_per_shard": per_shard},
        "measurements of other recordings, or in shards of another size",
        "choose another --measured, or give the manifests and --shard-size of the first time to go on",
    )
    shards = [list(tasks[start : start + per_shard]) for start in range(0, len(tasks), per_shard)]
    missing = [number for number, some in enumerate(shards) if _read(shard_file(folder, number), some) is None]
    n_done = len(tasks) - sum(len(shards[number]) for number in missing)
    if n_done:
        on_progress(n_done)
    rows = [{"number": number, "tasks": json.dumps(list(map(asdict, shards[number])))} for number in missing]
    done = map_on_ray(_Worker, [str(folder.absolute())], rows) if on_ray and rows else map(_Worker(str(folder)), rows)
    for row in done:
        n_done += len(shards[row["number"]])
        on_progress(n_done)
    return [one for number, some in enumerate(shards) for one in _of_shard(shard_file(folder, number), some)]


class _Worker:
    """What runs on a core of the cluster, or here."""

    def __init__(self, folder: str) -> None:
        self._folder = Path(folder)

    def __call__(self, row: dict[str, Any]) -> dict[str, Any]:
        tasks = [
            Task(one["path"], [(start, length) for start, length in one["stretches"]], one["channels"])
            for one in json.loads(row["tasks"])
        ]
        states = [_state(task.path) for task in tasks]  # before they are read: a later change shows
        with whole_file(shard_file(self._folder, row["number"])) as beside:
            lines = map(_to_json, tasks, states, measure_here(tasks))
            beside.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
        return {"number": row["number"]}


def _state(path: str) -> list[int]:
    """Size and time of the last change; empty if there is no such file."""
    try:
        found = Path(find_file(path)).stat()
    except (OSError, ValueError, AnadilError):
        return []
    return [found.st_size, found.st_mtime_ns]


def _to_json(task: Task, state: list[int], measured: Measured) -> str:
    info, measurements = measured
    row: dict[str, Any] = {"path": task.path, "state": state}
    row |= {"error": str(info)} if isinstance(info, AnadilError) else {"info": asdict(info)}
    row["segments"] = [asdict(one) | {"digest": one.digest.hex()} for one in measurements]
    return json.dumps(row)


def _read(path: Path, tasks: Sequence[Task]) -> list[Measured] | None:
    """The measurements of a shard; None if they are not there, damaged, or of recordings that have changed since."""
    if not path.is_file():
        return None
    try:
        with open(path, "rb") as file:
            found = [_from_json(file.readline(), task) for task in tasks]
    except (ValueError, TypeError, KeyError, RecursionError):
        return None
    return found


def _of_shard(path: Path, tasks: Sequence[Task]) -> Iterator[Measured]:
    found = _read(path, tasks)
    if found is None:
        raise AnadilError(f"{path}: recordings changed while they were measured\n  next: the same command again")
    yield from found


def _from_json(line: bytes, task: Task) -> Measured:
    """Raises ValueError, TypeError or KeyError."""
    row = json.loads(line)
    if row["path"] != task.path or row["state"] != _state(task.path):
        raise ValueError("not the same recording")
    segments = [Measurement(**one | {"digest": bytes.fromhex(one["digest"])}) for one in row["segments"]]
    if "error" in row:
        return AnadilError(row["error"]), segments
    if len(segments) != len(task.stretches):
        raise ValueError("other segments")
    return AudioInfo(**row["info"] | {"notes": tuple(row["info"]["notes"])}), segments
