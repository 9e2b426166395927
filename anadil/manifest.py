"""Utterances, their true durations, and manifests: JSONL files with NeMo's keys, one utterance per line."""

from __future__ import annotations

import json
import math
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from anadil import audio
from anadil.audio import AudioInfo, Channel, in_threads, parse_channel, probe, require_channel
from anadil.errors import AnadilError, Problem, summarize
from anadil.files import whole_file

PSEUDO_LABEL, CONFIDENCE, PSEUDO_LABEL_MODEL = "pseudo_label", "confidence", "pseudo_label_model"
"""Keys of `extra` in a line whose text a model wrote: true, the model's confidence, and its name."""

MIN_DURATION_S, MAX_DURATION_S = 0.1, 20.0
"""Default limits of the utterances that training uses."""

DURATION_TOLERANCE_S = 0.05
"""Manifests round, and MP3 headers are off by up to a frame (18 ms over 100 Common Voice clips)."""


@dataclass(frozen=True, slots=True)
class Utterance:
    """A segment of one recording, and its text.

    `audio_filepath` is absolute or relative to the working directory; in a manifest file it is relative to the manifest.
    A `duration` of None means to the end of the recording; `measured` fills it in. `extra` has every key of the manifest
    that Anadil does not know. `source` is the line that the utterance is from ("train.jsonl:118"), for messages; it is
    not written. `read_audio` decodes an utterance.
    """

    audio_filepath: str
    duration: float | None = None  # seconds
    text: str = ""
    offset: float = 0.0  # seconds from the start of the file
    speaker: str | None = None
    language: str | None = None
    extra: dict[str, Any] = field(default_factory=dict)
    source: str = field(default="", compare=False, repr=False)
    channel: Channel = "mix"  # the number of one, from 1, or all of them

    @property
    def is_pseudo_label(self) -> bool:
        """Whether a model wrote the text; spreadsheets write "TRUE" or 1."""
        return str(self.extra.get(PSEUDO_LABEL)).strip().lower() in ("true", "1", "1.0")


def read_manifest(path: str | Path) -> list[Utterance]:
    """Read a JSONL manifest.

    Raises AnadilError if the file is missing or empty; also naming every line that is not an utterance in UTF-8.
    """
    problems: list[Problem] = []
    utterances = list(iter_manifest(path, problems.append))
    if problems:
        n_lines = len(utterances) + len(problems)
        raise AnadilError(
            summarize(problems, "lines", n_lines, "correct these lines, or remove them from the manifest")
        )
    if not utterances:
        raise AnadilError(f"{path}: the manifest is empty\n  next: check what wrote it")
    return utterances


def iter_manifest(path: str | Path, reject: Callable[[Problem], None]) -> Iterator[Utterance]:
    """Yield the utterances of a manifest line by line; call `reject` for a line that is not an utterance.

    Raises AnadilError if the file is missing.
    """
    path = Path(path)
    if not path.is_file():
        state = "a folder" if path.is_dir() else "not there"
        raise AnadilError(
            f"manifest not found: {path} is {state}\n"
            "  a manifest is a JSONL file with one utterance per line: "
            '{"audio_filepath": "clips/1.wav", "duration": 3.2, "text": "..."}\n'
            "  next: check the path"
        )
    name, folder = str(path), str(path.parent)
    with open(path, "rb") as file:
        for number, line in enumerate(file, start=1):
            if number == 1:
                line = line.removeprefix(b"\xef\xbb\xbf")  # noqa: PLW2901 - the byte-order mark of Windows editors
            if line.isspace() or not line:
                continue
            where = f"{name}:{number}"
            try:
                utterance = parse_line(line, folder, where)
            except ValueError as error:
                reject(Problem(where, str(error)))
            else:
                yield utterance


def read_manifests(paths: Sequence[str | Path]) -> list[Utterance]:
    """Read several manifests, in order."""
    return [utterance for path in paths for utterance in read_manifest(path)]


def refuse_pseudo_labels(utterances: Sequence[Utterance], use: str) -> None:
    """Raise AnadilError if a model wrote some of the texts: errors cannot be measured against a model's own output."""
    problems = [Problem(one.source or one.audio_filepath, PSEUDO_LABEL) for one in utterances if one.is_pseudo_label]
    if problems:
        step = f"give {use} texts that people wrote: against a model's texts, a model seems better than it is"
        raise AnadilError(summarize(problems, "utterances", len(utterances), step, shown=3))


def probe_all(
    utterances: Iterable[Utterance], on_progress: Callable[[int, int], None] = lambda done, total: None
) -> dict[str, AudioInfo | AnadilError]:
    """Probe each recording once. Returns by `audio_filepath` its `AudioInfo`, or the error if it is missing or no audio."""

    def probe_or_error(path: str) -> AudioInfo | AnadilError:
        try:
            return probe(path)
        except AnadilError as error:
            return error

    paths = list(dict.fromkeys(utterance.audio_filepath for utterance in utterances))
    infos = in_threads(probe_or_error, paths, lambda done: on_progress(done, len(paths)))
    return dict(zip(paths, infos, strict=True))


def read_audio(utterance: Utterance, sample_rate: int) -> np.ndarray:
    """Decode the stretch and the channel of an utterance: float32 (samples,). Everything that reads one calls this.

    Raises AnadilError if the file is missing or no audio, or has no such channel.
    """
    return audio.read(utterance.audio_filepath, sample_rate, utterance.offset, utterance.duration, utterance.channel)


def measured(utterance: Utterance, info: AudioInfo | AnadilError) -> Utterance:
    """The utterance with its true duration: that of the manifest, but at most to the end of the recording (`info`).

    Raises AnadilError if `info` is an error, if the recording or the utterance is empty, if the offset is outside, or if
    the recording does not have the channel.
    """
    if isinstance(info, AnadilError):
        raise info
    path, offset = utterance.audio_filepath, utterance.offset
    require_channel(path, info.channels, utterance.channel)
    if info.duration <= 0:
        raise AnadilError(f"audio has no samples: {path}")
    if not 0 <= offset < info.duration:
        raise AnadilError(f"offset {offset:g} s is outside of {path} ({info.duration:.2f} s)")
    available = info.duration - offset
    if utterance.duration is None:
        return replace(utterance, duration=available)
    if utterance.duration <= 0:
        raise AnadilError(f"duration is {utterance.duration:g} s: expected more than 0")
    return replace(utterance, duration=min(utterance.duration, available))


def duration_error_s(utterance: Utterance, info: AudioInfo) -> float:
    """Seconds by which the manifest's duration exceeds the audio from the offset to the end (negative: is shorter).

    0 if there is no duration, if the difference is within `DURATION_TOLERANCE_S`, for a segment with an offset that ends
    before the recording does, and if the recording was cut off and its header promises what the manifest says.
    """
    if utterance.duration is None:
        return 0.0
    error = utterance.duration - (info.duration - utterance.offset)
    promised_error = utterance.duration - (info.promised - utterance.offset)
    if min(error, promised_error) > DURATION_TOLERANCE_S or (error < -DURATION_TOLERANCE_S and utterance.offset == 0):
        return error
    return 0.0


def write_manifest(path: str | Path, utterances: Iterable[Utterance]) -> None:
    """Write a manifest, whole or not at all. Paths of audio inside its folder become relative to it."""
    path = Path(path)
    with whole_file(path) as beside:
        write_manifest_to(beside, path.parent, utterances)


def write_manifest_to(path: Path, folder: Path, utterances: Iterable[Utterance]) -> None:
    """Write a manifest to `path`, in place, which the caller will rename into `folder`."""
    with open(path, "w", encoding="utf-8", newline="\n") as file:
        for utterance in utterances:
            file.write(json.dumps(_record(utterance, folder), ensure_ascii=False) + "\n")


def parse_line(raw: bytes, folder: str, where: str) -> Utterance:
    """Parse one line of a manifest in `folder`. Raises ValueError with the reason if it is not an utterance."""
    try:
        record = json.loads(raw.decode("utf-8"))
    except UnicodeDecodeError as error:
        raise ValueError(f"not UTF-8 at byte {error.start}") from None
    except json.JSONDecodeError as error:
        raise ValueError(f"not valid JSON: {error.msg} at column {error.colno}") from None
    except RecursionError:
        raise ValueError("not valid JSON: nested too deeply") from None
    if not isinstance(record, dict):
        raise ValueError(f"expected a JSON object {{...}}, found {type(record).__name__}")
    if b"\\ud" in raw or b"\\uD" in raw:  # only JSON's escapes can write half a surrogate pair
        _require_utf8(record)
    path = record.pop("audio_filepath", None)
    if not isinstance(path, str) or not path:
        raise ValueError('no "audio_filepath"')
    speaker, language = _string(record, "speaker"), _string(record, "language")
    return Utterance(
        audio_filepath=os.path.join(folder, os.path.expanduser(path) if path[0] == "~" else path),
        duration=_seconds(record, "duration"),
        text=_string(record, "text") or "",
        offset=_seconds(record, "offset") or 0.0,
        speaker=sys.intern(speaker) if speaker else speaker,  # one string in memory for all utterances of a speaker
        language=sys.intern(language) if language else language,
        channel=_channel(record),
        extra=record,
        source=where,
    )


def _seconds(record: dict[str, Any], key: str) -> float | None:
    value = record.pop(key, None)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < math.inf:
        raise ValueError(f'"{key}" must be a number of seconds, found {json.dumps(value)}')
    try:
        return float(value)
    except OverflowError:
        raise ValueError(f'"{key}" is too large for a number of seconds') from None


def _string(record: dict[str, Any], key: str) -> str | None:
    value = record.pop(key, None)
    if value is not None and not isinstance(value, str):
        raise ValueError(f'"{key}" must be a string, found {json.dumps(value)}')
    return value


def _channel(record: dict[str, Any]) -> Channel:
    value = record.pop("channel", None)
    if value is None:
        return "mix"
    try:
        return parse_channel(value)
    except ValueError:
        raise ValueError(
            f'"channel" must be a number from 1, "left", "right" or "mix", found {json.dumps(value)}; '
            "rename the key if it means something else"
        ) from None


def _require_utf8(record: dict[str, Any]) -> None:
    """Raise ValueError for half a surrogate pair, which could neither be written nor opened as a file."""
    for key, value in record.items():
        text = value if isinstance(value, str) else json.dumps([key, value], ensure_ascii=False)
        try:
            text.encode("utf-8")
        except UnicodeEncodeError as error:
            position = f" at character {error.start + 1}" if text is value else ""
            raise ValueError(f"{json.dumps(key)} holds half a surrogate pair{position}") from None


def _record(utterance: Utterance, folder: Path) -> dict[str, Any]:
    path = os.path.abspath(utterance.audio_filepath)
    relative = os.path.relpath(path, os.path.abspath(folder))
    record: dict[str, Any] = {
        "audio_filepath": path if relative.startswith("..") else Path(relative).as_posix(),
        "duration": utterance.duration,
        "text": utterance.text,
        "offset": utterance.offset or None,
        "speaker": utterance.speaker,
        "language": utterance.language,
        "channel": None if utterance.channel == "mix" else utterance.channel,
    }
    return {key: value for key, value in record.items() if value is not None} | utterance.extra
