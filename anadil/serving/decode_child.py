"""The process that decodes what clients send: with limits of memory and time, and nothing but this one file.

A question gives a file and where its samples go; the answer tells how long it is and where it has speech.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import numpy as np
import soundfile

from anadil import audio
from anadil.data.pauses import WHOLE_S, PauseLimits, pieces_of_blocks
from anadil.errors import AnadilError
from anadil.serving.child import Answer, Question, answer_questions
from anadil.sound_files import open_recording

try:
    import resource
except ImportError:  # Windows: the time limit of the parent is left
    resource = None  # type: ignore[assignment]

PEAKS_PER_S, MOST_PEAKS = 50, 60_000
"""Peaks of the waveform on the page: a pixel of an ordinary zoom is one."""

_OWN_BYTES = 2**30
"""Address space of Python, NumPy and the codecs."""


def limit_memory(max_s: float, sample_rate: int) -> None:
    """Limit the address space to what a recording of `max_s` needs: its samples twice, and those of a block."""
    if resource is not None:
        most = _OWN_BYTES + round(3 * max_s * sample_rate * 4)
        _, hard = resource.getrlimit(resource.RLIMIT_AS)
        resource.setrlimit(resource.RLIMIT_AS, (most, hard if hard == resource.RLIM_INFINITY else max(most, hard)))


def decode(question: Question) -> Answer:
    """Decode question["path"] to float32 samples in question["pcm"], and cut them to pieces with speech.

    {"op": "start"} has no file: the process is only started.
    Answers {"long": true} if the recording is longer than question["long_s"]: another process takes long ones.
    """
    if question.get("op") == "start":
        return {}
    path, target, name = question["path"], Path(question["pcm"]), question["name"]
    try:
        with _alarm(question["time_s"]):
            limits, rate = PauseLimits(*question["pauses"]), question["rate"]
            with open(target, "wb") as file:
                blocks = _written(_blocks(path, name, question), file, name, question)
                found = pieces_of_blocks(blocks, rate, question["longest_s"], limits)
                pieces = [(piece.start, piece.end, piece.lead) for piece in found]
                n_samples = file.tell() // 4
            if not n_samples:
                raise AnadilError(f"{name} has no samples")
            answer: Answer = {"n_samples": n_samples, "pieces": pieces}
            if question.get("flac"):
                samples = np.memmap(target, dtype=np.float32, mode="r")  # an hour is read from the disk as it is needed
                _write_flac(Path(question["flac"]), samples, question["rate"])
                answer["peaks"] = peaks(samples, question["rate"])
                answer["notes"] = list(audio.probe(path).notes_for(question["channel"]))
            return answer
    except _LongError:
        return {"long": True}
    except AnadilError as error:
        raise AnadilError(str(error).replace(str(path), name)) from error
    except OSError as error:  # a full disk
        return {"errno": error.errno}


class _LongError(Exception):
    """The recording is for the process that takes long ones."""


def _written(blocks: Iterator[np.ndarray], file: BinaryIO, name: str, question: Question) -> Iterator[np.ndarray]:
    """The blocks, which are also written to a file. Raises _LongError, and AnadilError if they are too long."""
    n_samples = 0
    for block in blocks:
        n_samples += len(block)
        if n_samples > question["long_s"] * question["rate"]:
            raise _LongError
        if n_samples > question["max_s"] * question["rate"]:
            raise _too_long(name, question["max_s"], "more than")
        file.write(block.tobytes())
        yield block


def peaks(samples: np.ndarray, sample_rate: int) -> list[float]:
    """The largest absolute sample of each of at most MOST_PEAKS equal stretches of float32 (samples,), to 2 decimals."""
    size = max(sample_rate // PEAKS_PER_S, -(-len(samples) // MOST_PEAKS))
    starts = np.arange(0, len(samples), size)
    highest = np.maximum(np.maximum.reduceat(samples, starts), -np.minimum.reduceat(samples, starts))
    return [round(float(peak), 2) for peak in highest]


def _blocks(path: str, name: str, question: Question) -> Iterator[np.ndarray]:
    """The blocks of a file. Raises _LongError or AnadilError if its header alone says that it is too long: nothing is decoded."""
    with open_recording(path) as recording:
        if recording.n_frames is not None:
            seconds = recording.n_frames / recording.sample_rate
            if seconds > question["max_s"]:
                raise _too_long(name, question["max_s"], f"{seconds:,.0f} s, more than")
            if seconds > question["long_s"]:
                raise _LongError
        yield from audio.blocks_of(recording, question["rate"], question["channel"], whole_s=WHOLE_S)


def _too_long(name: str, max_s: float, how: str) -> AnadilError:
    return AnadilError(f"{name} is too long: {how} the allowed {max_s:,.0f} s\n  next: cut it, and send the parts")


def _write_flac(target: Path, samples: np.ndarray, sample_rate: int) -> None:
    """What the page plays: every browser reads FLAC, and it takes half of WAV."""
    beside = target.with_name(f".{target.name}.partial")
    with soundfile.SoundFile(str(beside), "w", sample_rate, 1, "PCM_16", format="FLAC") as file:
        for start in range(0, len(samples), 2**20):
            file.write(samples[start : start + 2**20])
    os.replace(beside, target)


@contextlib.contextmanager
def _alarm(seconds: float) -> Iterator[None]:
    """SIGALRM ends this process if the block takes longer, even if the server is gone."""
    if hasattr(signal, "setitimer"):
        signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        if hasattr(signal, "setitimer"):
            signal.setitimer(signal.ITIMER_REAL, 0)


if __name__ == "__main__":
    limit_memory(float(sys.argv[1]), 48_000)
    if len(sys.argv) > 2 and hasattr(os, "nice"):
        os.nice(int(sys.argv[2]))
    answer_questions(decode)
