"""The folder of a project: recordings, what the model heard in them, and what people made of it.

    DIR/corrections.jsonl                the manifest of all confirmed segments, for training
    DIR/fine-tune.yaml                   a config that trains on it
    DIR/recordings/ID/recording.json     name, state, and the segments that the model found
    DIR/recordings/ID/audio.EXT          the file as it was sent
    DIR/recordings/ID/playback.flac      what the page plays
    DIR/recordings/ID/edits.jsonl        each change, with who and when: appended and synced before it is answered
    DIR/recordings/ID/confirmed.jsonl    the manifest of this recording's confirmed segments

Only `edits.jsonl` is changed in place. The manifests are made of it, and made again when a server starts.
"""

from __future__ import annotations

import contextlib
import datetime
import json
import math
import os
import re
import secrets
import shutil
import sys
from collections import Counter, OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from shlex import quote
from typing import Any, BinaryIO, Literal

from anadil.decoding.transcript import Transcript, Word
from anadil.errors import AnadilError
from anadil.files import sweep, whole_file
from anadil.manifest import Utterance, write_manifest
from anadil.serving.replies import with_words
from anadil.settings import dump_mapping

MANIFEST, RECORDINGS, DELETED = "corrections.jsonl", "recordings", "deleted"
CONFIG, SPLIT = "fine-tune.yaml", "corrections-split"  # of the training on the corrections
State = Literal["heard", "draft", "confirmed", "deleted"]
"""heard: as the model wrote it; draft: changed, not finished; deleted: not to be transcribed."""

_ID = re.compile(r"[a-z0-9-]{1,40}")
_SHORTEST_S, _LONGEST_S = 0.05, 120.0
_MOST_CHARACTERS = 5000
_BEFORE_S, _AFTER_S = 0.15, 0.3
"""Kept around a segment where there is a pause: CTC's word times are those of spikes, which come late and end early."""
_OPEN_RECORDINGS = 16


class ConflictError(Exception):
    """Somebody else changed the segment; `current` is how it is now."""

    def __init__(self, current: Segment) -> None:
        super().__init__("the segment was changed by somebody else")
        self.current = current


@dataclass(frozen=True)
class Segment:
    """A stretch of a recording as it is now. `revision` counts its changes, from 0."""

    id: str
    start: float
    end: float
    text: str
    state: State = "heard"
    revision: int = 0
    who: str = ""
    when: str = ""
    heard: str = ""  # what the model wrote
    words: tuple[tuple[str, float, float, float], ...] = ()  # text, start, end, confidence, of the model

    def to_dict(self) -> dict[str, Any]:
        return {
            "id": self.id,
            "start": round(self.start, 3),
            "end": round(self.end, 3),
            "text": self.text,
            "state": self.state,
            "revision": self.revision,
            "who": self.who,
            "when": self.when,
            "heard": self.heard,
            "words": [[text, round(start, 3), round(end, 3), round(sure, 4)] for text, start, end, sure in self.words],
        }


@dataclass
class Recording:
    """A recording and its segments. Only `Archive` changes it."""

    folder: Path
    id: str
    name: str
    created: str
    model: str
    audio: str  # the file's name in the folder
    state: str = "waiting"  # waiting, done or failed
    error: str = ""
    duration: float = 0.0
    language: str | None = None
    joiner: str = " "
    notes: list[str] = field(default_factory=list)
    peaks: list[float] = field(default_factory=list)
    segments: dict[str, Segment] = field(default_factory=dict)
    version: int = 0  # counts all changes
    n_torn: int = 0  # lines of edits.jsonl that could not be read

    @property
    def ordered(self) -> list[Segment]:
        """Its segments by time, without the deleted ones."""
        kept = (one for one in self.segments.values() if one.state != "deleted")
        return sorted(kept, key=lambda one: (one.start, one.end))

    def summary(self) -> dict[str, Any]:
        segments = self.ordered
        confirmed = [one for one in segments if one.state == "confirmed"]
        return {
            "id": self.id,
            "name": self.name,
            "created": self.created,
            "model": self.model,
            "language": self.language,
            "state": self.state,
            "error": self.error,
            "duration": round(self.duration, 3),
            "n_segments": len(segments),
            "n_confirmed": len(confirmed),
            "confirmed_s": round(sum(one.end - one.start for one in confirmed), 3),
            "version": self.version,
        }


def now() -> str:
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")


class Archive:
    """The project in a folder; one server at a time may have it open. All its methods are quick but wait for the disk."""

    def __init__(self, folder: Path) -> None:
        """Open or make the folder. Raises AnadilError if another server has it open, or it cannot be written."""
        self.folder = folder
        try:
            (folder / RECORDINGS).mkdir(parents=True, exist_ok=True)
            self._lock = _lock(folder / ".lock")
        except OSError as error:
            raise AnadilError(
                f"{folder}: the project's folder cannot be used ({error.strerror or error})\n"
                "  next: choose another --data, or end the server that uses it"
            ) from error
        self._open: OrderedDict[str, Recording] = OrderedDict()
        self._summaries: dict[str, dict[str, Any]] = {}
        self.unreadable: list[str] = []
        sweep(folder)
        for one in sorted((folder / RECORDINGS).iterdir()):
            if one.is_dir() and not one.name.startswith("."):
                self._take(one)
        self._stale: set[str] = set(self._summaries)
        self._manifest_is_stale = True
        self.write_manifests()

    def close(self) -> None:
        self.write_manifests()
        self._lock.close()

    def summaries(self) -> list[dict[str, Any]]:
        """All recordings, the newest first."""
        return sorted(self._summaries.values(), key=lambda one: (one["created"], one["id"]), reverse=True)

    def waiting(self) -> list[str]:
        """Ids of the recordings that wait for the model."""
        return [one["id"] for one in self._summaries.values() if one["state"] == "waiting"]

    def get(self, id: str) -> Recording:
        """Raises KeyError if there is none."""
        if id not in self._summaries:
            raise KeyError(id)
        if id not in self._open:
            self._open[id] = _read(self.folder / RECORDINGS / id)
            while len(self._open) > _OPEN_RECORDINGS:
                self._open.popitem(last=False)
        self._open.move_to_end(id)
        return self._open[id]

    def add(self, upload: Path, name: str, model: str) -> Recording:
        """Move an uploaded file into a new folder. Raises OSError if the disk is full."""
        id = f"{datetime.datetime.now(datetime.UTC):%Y%m%d-%H%M%S}-{secrets.token_hex(4)}"
        folder = self.folder / RECORDINGS / id
        beside = folder.with_name(f".{id}.partial")
        beside.mkdir()
        try:
            audio = f"audio{upload.suffix}"
            os.replace(upload, beside / audio)
            _sync(beside / audio)
            recording = Recording(beside, id, name, now(), model, audio)
            _write(recording)
            (beside / "edits.jsonl").touch()
            _sync_folder(beside)
            os.rename(beside, folder)
            _sync_folder(folder.parent)
        except BaseException:
            shutil.rmtree(beside, ignore_errors=True)
            raise
        recording.folder = folder
        self._open[id] = recording
        self._summaries[id] = recording.summary()
        return recording

    def recognized(
        self, id: str, transcript: Transcript, joiner: str, peaks: list[float], notes: list[str]
    ) -> Recording:
        """Keep what the model wrote. Changes that people made before stay."""
        one = self.get(id)
        heard = {f"s{n}": segment for n, segment in enumerate(_segments(transcript, joiner))}
        edited = {key: segment for key, segment in one.segments.items() if segment.revision}
        one.segments = {key: replace(segment, id=key) for key, segment in heard.items()} | edited
        one.state, one.error, one.duration = "done", "", transcript.duration
        one.language, one.joiner, one.peaks, one.notes = transcript.language, joiner, peaks, notes
        return self._changed(one)

    def failed(self, id: str, error: str) -> Recording:
        one = self.get(id)
        one.state, one.error = "failed", error
        return self._changed(one)

    def wait_again(self, id: str) -> Recording:
        """A recording that failed waits for the model once more."""
        one = self.get(id)
        one.state, one.error = "waiting", ""
        return self._changed(one)

    def delete(self, id: str) -> None:
        """Move a recording to DIR/deleted, where a person may delete or rescue it. Raises KeyError."""
        one = self.get(id)
        (self.folder / DELETED).mkdir(exist_ok=True)
        os.rename(one.folder, self.folder / DELETED / id)
        self._open.pop(id, None)
        del self._summaries[id]
        self._stale.discard(id)
        self._manifest_is_stale = True

    def change(
        self, id: str, segment: str, base: int, who: str, *, start: float, end: float, text: str, state: State
    ) -> Segment:
        """Change a segment, or add one, if its revision is still `base`; it is on the disk when this returns.

        Raises KeyError if there is no such recording, ConflictError if the segment has changed, AnadilError if the change is not
        possible, OSError if the disk is full (nothing has changed then).
        """
        one = self.get(id)
        before = one.segments.get(segment)
        text = " ".join(text.split())
        _check(one, segment, start, end, text, state)
        if (before.revision if before else 0) != base:
            raise ConflictError(before or Segment(segment, start, end, "", "deleted"))
        after = replace(
            before or Segment(segment, start, end, text),
            **{"start": start, "end": end, "text": text, "state": state},  # type: ignore[arg-type]
            revision=base + 1,
            who=who,
            when=now(),
        )
        line = {key: value for key, value in after.to_dict().items() if key not in ("words", "heard")}
        _append(one.folder / "edits.jsonl", json.dumps(line, ensure_ascii=False).encode() + b"\n")
        one.segments[segment] = after
        one.version += 1
        self._summaries[id] = one.summary()
        if state != "draft" or (before and before.state == "confirmed"):
            self._stale.add(id)
            self._manifest_is_stale = True
        return after

    def write_manifests(self) -> None:
        """Write the manifests that do not have the last changes. Raises AnadilError if the disk is full."""
        for id in sorted(self._stale):
            one = self.get(id)
            write_manifest(one.folder / "confirmed.jsonl", utterances(one))
            self._stale.discard(id)
        if self._manifest_is_stale:
            confirmed = (id for id, one in sorted(self._summaries.items()) if one["n_confirmed"])
            write_manifest(self.folder / MANIFEST, (u for id in confirmed for u in utterances(self._peek(id))))
            self._manifest_is_stale = False

    def corrections(self) -> dict[str, Any]:
        """How much speech has been confirmed, the manifest that holds it, and the commands that fine-tune a model on it.

        The config that they name is written if it is not there. Raises AnadilError if the disk is full.
        """
        chosen = [one for one in self._summaries.values() if one["n_confirmed"]]
        languages = Counter(one["language"] or "und" for one in chosen)
        folder = self.folder.resolve()
        if not (folder / CONFIG).exists():  # a person may have changed it
            language = languages.most_common(1)[0][0] if languages else "und"
            data = {"train": [f"{folder / SPLIT}/train.jsonl"], "valid": [f"{folder / SPLIT}/valid.jsonl"]}
            training = {"lr": 0.003}  # as configs/transfer.yaml
            settings = {"name": "corrected", "language": language, "data": data, "training": training}
            with whole_file(folder / CONFIG) as beside:
                beside.write_text(dump_mapping(settings), encoding="utf-8")
        return {
            "n_segments": sum(one["n_confirmed"] for one in chosen),
            "seconds": round(sum(one["confirmed_s"] for one in chosen), 1),
            "manifest": str(folder / MANIFEST),
            "commands": [
                f"anadil split {quote(str(folder / MANIFEST))} --out {quote(str(folder / SPLIT))}",
                f"anadil train {quote(str(folder / CONFIG))} init.from=MODEL --out runs/corrected",
            ],
        }

    def _peek(self, id: str) -> Recording:
        """As `get`, without keeping it in memory."""
        return self._open.get(id) or _read(self.folder / RECORDINGS / id)

    def _take(self, folder: Path) -> None:
        try:
            self._summaries[folder.name] = _read(folder).summary()
        except (AnadilError, OSError, ValueError, KeyError, TypeError):
            self.unreadable.append(folder.name)

    def _changed(self, one: Recording) -> Recording:
        one.version += 1
        _write(one)
        self._summaries[one.id] = one.summary()
        return one


def utterances(one: Recording) -> Iterator[Utterance]:
    """The confirmed segments of a recording that have text, as lines of a manifest."""
    for segment in one.ordered:
        if segment.state == "confirmed" and segment.text:
            yield Utterance(
                audio_filepath=str(one.folder / one.audio),
                duration=round(segment.end - segment.start, 3),
                text=segment.text,
                offset=round(segment.start, 3),
                language=one.language,
                extra={
                    "recording": one.name,
                    "confirmed_by": segment.who,
                    "confirmed_at": segment.when,
                    "hypothesis": segment.heard,
                },
            )


def _segments(transcript: Transcript, joiner: str) -> list[Segment]:
    """The transcript in stretches of a few seconds, with a margin where there is a pause around them."""
    found = with_words(transcript)
    segments = []
    for index, (cue, words) in enumerate(found):
        free = cue.start - found[index - 1][0].end if index else cue.start
        rest = found[index + 1][0].start - cue.end if index + 1 < len(found) else transcript.duration - cue.end
        start = cue.start - min(_BEFORE_S, free / 2 if index else free)
        end = cue.end + min(_AFTER_S, rest / 2 if index + 1 < len(found) else rest)
        text = joiner.join(word.text for word in words)
        segments.append(
            Segment(
                "",
                math.ceil(round(1000 * max(0.0, start), 3)) / 1000,  # so that neighbours do not overlap by rounding
                math.floor(round(1000 * min(end, transcript.duration), 3)) / 1000,
                text,
                heard=text,
                words=_plain(words),
            )
        )
    return segments


def _plain(words: tuple[Word, ...]) -> tuple[tuple[str, float, float, float], ...]:
    return tuple((word.text, word.start, word.end, word.confidence) for word in words)


def _check(one: Recording, segment: str, start: float, end: float, text: str, state: State) -> None:
    """Raise AnadilError if a segment cannot be so."""
    if not _ID.fullmatch(segment):
        raise AnadilError("a segment's id has letters a to z, digits and hyphens, at most 40")
    if not (math.isfinite(start) and math.isfinite(end) and start >= 0 and end <= one.duration + 0.01):
        raise AnadilError(f"the segment is outside of the recording (0 to {one.duration:.2f} s)")
    if not _SHORTEST_S <= end - start <= _LONGEST_S:
        raise AnadilError(f"a segment is between {_SHORTEST_S:g} and {_LONGEST_S:g} s long")
    if len(text) > _MOST_CHARACTERS or any(
        ord(c) < 32 or 0xD800 <= ord(c) < 0xE000 or c in "\ufffe\uffff" for c in text
    ):
        raise AnadilError(f"a text has at most {_MOST_CHARACTERS:,} characters, and no control characters")
    if state == "deleted":
        return
    for other in one.segments.values():
        if other.id != segment and other.state != "deleted" and start < other.end - 0.001 and other.start < end - 0.001:
            raise AnadilError(f"the segment overlaps the one from {other.start:.2f} to {other.end:.2f} s")


def _write(one: Recording) -> None:
    """Write recording.json; what people changed is in edits.jsonl."""
    heard = [
        [s.id, s.heard, [list(word) for word in s.words], s.start, s.end]
        for s in one.segments.values()
        if s.revision == 0 or s.words
    ]
    data = {
        key: value
        for key, value in vars(one).items()
        if key not in ("folder", "segments", "n_torn", "peaks", "version")
    }
    with whole_file(one.folder / "recording.json") as beside:
        beside.write_text(
            json.dumps(data | {"segments": heard, "peaks": one.peaks}, ensure_ascii=False), encoding="utf-8"
        )


def _read(folder: Path) -> Recording:
    """Read a recording with its edits. Raises OSError, ValueError, KeyError or TypeError if it is damaged."""
    data = json.loads((folder / "recording.json").read_text(encoding="utf-8"))
    heard = data.pop("segments")
    if not re.fullmatch(r"audio(\.[a-z0-9]+)?", data["audio"]) or data["id"] != folder.name.strip(".").removesuffix(
        ".partial"
    ):
        raise ValueError(f"{folder}: it is not what a server wrote")
    one = Recording(folder=folder, **data)
    for id, text, words, start, end in heard:
        times = tuple((word[0], word[1], word[2], word[3]) for word in words)
        one.segments[id] = Segment(id, start, end, text, heard=text, words=times)
    for edit in _edits(one):
        before = one.segments.get(edit["id"]) or Segment(edit["id"], 0.0, 0.0, "")
        one.segments[edit["id"]] = replace(before, **edit)
        one.version += 1
    return one


def _edits(one: Recording) -> Iterator[dict[str, Any]]:
    """The changes in edits.jsonl. A last line without its end was not confirmed to anybody: the next one begins after it."""
    path = one.folder / "edits.jsonl"
    for line in path.read_bytes().split(b"\n") if path.exists() else ():
        if not line.strip():
            continue
        try:
            edit = json.loads(line)
            yield {key: edit[key] for key in ("id", "start", "end", "text", "state", "revision", "who", "when")}
        except (ValueError, KeyError, TypeError):
            one.n_torn += 1


def _append(path: Path, line: bytes) -> None:
    """Append a line and wait until it is on the disk. If that fails, the file is as long as before. Raises OSError."""
    file = os.open(path, os.O_RDWR | os.O_CREAT | getattr(os, "O_BINARY", 0), 0o600)
    try:
        size = os.lseek(file, 0, os.SEEK_END)
        if size:
            os.lseek(file, size - 1, os.SEEK_SET)
            if os.read(file, 1) != b"\n":  # a line that a loss of power cut off
                line = b"\n" + line
        try:
            view = memoryview(line)
            while view:
                view = view[os.write(file, view) :]
            os.fsync(file)
        except OSError:
            with contextlib.suppress(OSError):
                os.ftruncate(file, size)
            raise
    finally:
        os.close(file)


def _sync(path: Path) -> None:
    with open(path, "rb+") as file:
        os.fsync(file.fileno())


def _sync_folder(folder: Path) -> None:
    """The names in a folder are on the disk too, on systems that can wait for this."""
    if sys.platform != "win32":
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def _lock(path: Path) -> BinaryIO:
    """An open file that no other process has locked. Raises OSError if one has."""
    file = open(path, "a+b")  # noqa: SIM115 - open as long as the archive
    try:
        if sys.platform == "win32":
            import msvcrt

            msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
        else:
            import fcntl

            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        file.close()
        raise OSError("another server uses it") from None
    return file
