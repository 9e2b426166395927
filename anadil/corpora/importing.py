"""Import a source: read it, measure the audio, reject what cannot be used, write one manifest for each split."""

from __future__ import annotations

import contextlib
import json
import os
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Literal

import numpy as np
import soundfile
import soxr

from anadil import audio
from anadil.audio import Channel
from anadil.corpora.archive import unpack_if_archive
from anadil.corpora.catalog import CorpusKind
from anadil.corpora.reader import ANNOTATIONS, TIER, Notes, Options
from anadil.errors import AnadilError, Problem
from anadil.files import escape_surrogates, refuse_overwrite, whole_file
from anadil.manifest import Utterance, measured, probe_all, write_manifest_to
from anadil.sound_files import Recording, open_recording

_END_TOLERANCE_S = 0.2
"""How far tables and annotations may go past the end of the audio: encoders pad (MP3: up to 0.1 s), tools round."""

_LEAST_DIFFERENCE_DB = 3.0
"""With `--channel split`, an utterance is of the channel that is louder by this much, which is twice the power."""

_NO_SPLIT = "all"
_REJECTED, _UNPACKED, _CONVERTED = "rejected.jsonl", "unpacked", "wav"  # in the output folder
_WAV_SAMPLE_RATE = 16000  # Hz
_BLOCK_SAMPLES = 2**20
"""Samples of each channel that are converted at a time: an hour of stereo at 48 kHz takes 1.4 GB as a whole."""

Progress = Callable[[str, float, float], None]  # stage, done, total


@dataclass
class ImportResult:
    """The utterances and the manifest of each split, and what was rejected."""

    splits: dict[str, list[Utterance]] = field(default_factory=dict)
    manifests: dict[str, Path] = field(default_factory=dict)
    rejected: list[Problem] = field(default_factory=list)
    channels: Counter[int] = field(default_factory=Counter)  # utterances of each channel, of those that are of one
    notes: Notes = field(default_factory=Notes)
    tiers: Counter[str] = field(default_factory=Counter)  # utterances by the tier of their text, if the kind has tiers
    annotations: Counter[str] = field(default_factory=Counter)  # what they have in `extra["annotations"]`, by tier

    def reject(self, where: str, what: object) -> None:
        """Add a problem. File names that are not UTF-8 (old archives have some) are escaped, so that it can be written."""
        self.rejected.append(Problem(escape_surrogates(where), escape_surrogates(str(what))))

    @property
    def reasons(self) -> dict[str, list[Problem]]:
        """The problems by reason, the most frequent first. Names, numbers and quoted texts in a reason are ignored."""
        groups: dict[str, list[Problem]] = defaultdict(list)
        for problem in self.rejected:
            groups[_generalize(problem.what)].append(problem)
        return dict(sorted(groups.items(), key=lambda item: -len(item[1])))


def import_speech(
    kind: CorpusKind,
    source: Path,
    options: Options,
    out: Path,
    wav: bool = False,
    force: bool = False,
    on_progress: Progress = lambda stage, done, total: None,
    channel: Channel | Literal["split"] | None = None,
) -> ImportResult:
    """Read `source` as `kind`; write `out`/<split>.jsonl (all.jsonl if there are no splits) and `out`/rejected.jsonl.

    Archives are unpacked below `out`/unpacked. The audio stays where it is; with `wav` it is converted to 16 kHz mono
    WAV below `out`/wav. `channel` is that of all utterances, in place of what the source says. With "split", an utterance
    for which the source says nothing gets the channel that is louder in its stretch; it is rejected if none is by 3 dB.
    If it fails or is interrupted, all that it wrote is deleted. Raises AnadilError if the source is missing, empty or of
    another kind, if the kind does not support one of the options, or if earlier manifests would be replaced without `force`.
    """
    _require_supported_options(kind, options)
    if kind.is_file and not source.exists():
        raise AnadilError(f"{source} is not there\n  expected: {kind.source}\n  next: check the path")
    if kind.is_file and source.is_dir() and not any(path.is_file() for path in source.rglob("*")):
        raise AnadilError(f"{source} is an empty folder\n  expected: {kind.source}\n  next: check the path")
    only_rejected = [path.name for path in out.glob("*.jsonl")] == [_REJECTED]  # of an import that could use nothing
    for path in (*([] if only_rejected else [out / _REJECTED]), *([out / _CONVERTED] if wav else [])):
        refuse_overwrite(path, force)
    result = ImportResult()
    with _removed_on_failure(out, result):
        _import(kind, source, options, out, wav, force, result, on_progress, channel)
    return result


def _import(
    kind: CorpusKind,
    source: Path,
    options: Options,
    out: Path,
    wav: bool,
    force: bool,
    result: ImportResult,
    on_progress: Progress,
    channel: Channel | Literal["split"] | None,
) -> None:
    """Do the work of `import_speech`, and fill in `result`."""
    if kind.is_file:
        source = unpack_if_archive(source, out / _UNPACKED, lambda done, total: on_progress("unpacking", done, total))
    options = replace(options, unpack_to=out / _UNPACKED, notes=result.notes)
    read = list(kind.reader()(source, options, lambda problem: result.reject(problem.where, problem.what)))
    for split in sorted({_split_name(utterance) for utterance in read}):
        refuse_overwrite(out / f"{split}.jsonl", force)
    usable = _measure(read, None if channel == "split" else channel, result, on_progress)
    if channel == "split":
        usable = _choose_channels(usable, result, on_progress)
    result.channels.update(one.channel for one in usable if one.channel != "mix")
    if wav:
        usable = _convert(usable, out / _CONVERTED, result, on_progress)
    for utterance in usable:
        result.splits.setdefault(_split_name(utterance), []).append(utterance)
        if "tier" in kind.takes and TIER in utterance.extra:
            result.tiers[utterance.extra[TIER]] += 1
            beside = utterance.extra.get(ANNOTATIONS, {})
            result.annotations.update({tier: sum(map(bool, texts)) for tier, texts in beside.items()})
    if not usable and not result.rejected:
        raise AnadilError(f"{source} holds no utterances\n  expected: {kind.source}\n  next: check the path")
    _write(out, result)


@contextlib.contextmanager
def _removed_on_failure(out: Path, result: ImportResult) -> Iterator[None]:
    """Delete what the import wrote below `out` if the block fails or is interrupted; nothing that was there before."""
    folders = (out / _UNPACKED, out / _CONVERTED)
    before = {path for folder in folders for path in [folder, *folder.rglob("*")] if path.exists()}
    before |= set(out.glob("*.jsonl"))
    new_folders = [folder for folder in (out, *out.parents) if not folder.exists()]
    try:
        yield
    except BaseException:
        written = [path for folder in folders for path in [folder, *folder.rglob("*")]]
        written += [*result.manifests.values(), out / _REJECTED]
        for path in sorted(set(written) - before, reverse=True):  # what is inside a folder comes before the folder
            with contextlib.suppress(OSError):
                path.rmdir() if path.is_dir() and not path.is_symlink() else path.unlink()
        for folder in new_folders:
            with contextlib.suppress(OSError):  # not empty: another program wrote into it
                folder.rmdir()
        raise


def option_flag(name: str) -> str:
    """The command-line option that sets the field `name` of Options."""
    return "--lang" if name == "language" else f"--{name.replace('_', '-')}"


def total_hours(utterances: Sequence[Utterance]) -> float:
    return sum(utterance.duration or 0.0 for utterance in utterances) / 3600


def _require_supported_options(kind: CorpusKind, options: Options) -> None:
    given = [
        option.name
        for option in fields(Options)
        if option.name not in ("unpack_to", "notes") and getattr(options, option.name) is not None
    ]
    unsupported = [name for name in given if name not in kind.takes]
    if unsupported:
        supported = ", ".join(option_flag(name) for name in kind.takes)
        raise AnadilError(
            f"{kind.name} does not support {', '.join(option_flag(name) for name in unsupported)}\n"
            f"  it supports: {supported}\n  next: omit the option, or see anadil corpora {kind.name}"
        )


def _measure(
    utterances: Sequence[Utterance], channel: Channel | None, result: ImportResult, on_progress: Progress
) -> list[Utterance]:
    """Return the utterances with text and audio, with their channel and true duration; reject the others."""
    infos = probe_all(utterances, lambda done, total: on_progress("measuring", done, total))
    usable = []
    for utterance in utterances:
        info = infos[utterance.audio_filepath]
        try:
            usable.append(_with_duration(_with_channel(utterance, info, channel), info))
        except AnadilError as error:
            result.reject(utterance.source or utterance.audio_filepath, error)
    return usable


def _with_channel(utterance: Utterance, info: audio.AudioInfo | AnadilError, channel: Channel | None) -> Utterance:
    """The utterance with `channel`; if it is None, with the channel that the source says.

    A source may also say it by the value `channel` of `extra`: a column of a table, or the side of a telephone call, whose
    recording may have one side only. If the recording has no such channel, or `channel` is another, the value is kept as
    `original_channel`.
    """
    extra = dict(utterance.extra)
    named = extra.pop("channel", None)
    stated, n_channels = utterance.channel, 1 if isinstance(info, AnadilError) else info.channels
    if named is not None:
        try:
            found: Channel | None = audio.parse_channel(named)
        except ValueError:
            found = None  # the column means something else
        if channel is None and found is not None and audio.has_channel(n_channels, found):
            stated = found
        else:
            extra["original_channel"] = named
    stated = stated if channel is None else channel
    return replace(utterance, extra=extra, channel="mix" if n_channels == 1 and stated == 1 else stated)


def _choose_channels(utterances: Sequence[Utterance], result: ImportResult, on_progress: Progress) -> list[Utterance]:
    """Give each utterance the channel that is louder in its stretch; reject those where none is, and what is unreadable.

    Those with a channel and those of recordings with one channel stay as they are.
    """
    by_file: dict[str, list[int]] = defaultdict(list)
    for i in sorted(range(len(utterances)), key=lambda i: utterances[i].offset):
        if utterances[i].channel == "mix":
            by_file[utterances[i].audio_filepath].append(i)

    def choose(path: str) -> list[Channel | AnadilError]:
        try:
            with open_recording(path) as recording:
                return [_louder_channel(recording, utterances[i]) for i in by_file[path]]
        except AnadilError as error:
            return [error] * len(by_file[path])

    outcomes = audio.in_threads(choose, by_file, lambda done: on_progress("choosing channels", done, len(by_file)))
    chosen: dict[int, Channel | AnadilError] = {}
    for indices, found in zip(by_file.values(), outcomes, strict=True):
        chosen.update(zip(indices, found, strict=True))
    kept = []
    for i, utterance in enumerate(utterances):
        channel = chosen.get(i, utterance.channel)
        if isinstance(channel, AnadilError):
            result.reject(utterance.source or utterance.audio_filepath, channel)
        else:
            kept.append(replace(utterance, channel=channel))
    return kept


def _louder_channel(recording: Recording, utterance: Utterance) -> Channel | AnadilError:
    """The channel with the most power in the stretch of an utterance; an error if no other is less by 3 dB."""
    if recording.channels == 1:
        return "mix"
    recording.seek(round(utterance.offset * recording.sample_rate))
    powers = audio.channel_powers(recording.blocks(round((utterance.duration or 0.0) * recording.sample_rate)))
    if not powers.any():
        return AnadilError("no channel has any sound in its stretch")
    second, first = np.sort(powers)[-2:].tolist()
    difference_db = 10 * np.log10(first / second) if second else np.inf
    if difference_db >= _LEAST_DIFFERENCE_DB:
        return int(powers.argmax()) + 1
    return AnadilError(
        f"not clear which channel it is on: the two loudest differ by {difference_db:.1f} dB, and --channel split needs "
        f"{_LEAST_DIFFERENCE_DB:g} dB"
    )


def _with_duration(utterance: Utterance, info: audio.AudioInfo | AnadilError) -> Utterance:
    """The utterance with its true duration. Raises AnadilError if it cannot be used.

    It may go past the end of the audio by _END_TOLERANCE_S, and is then cut. If the duration of a whole recording differs
    by no more than that, it is the duration of the audio.
    """
    for value in (utterance.audio_filepath, utterance.text, utterance.speaker, *utterance.extra.values()):
        _require_utf8(value)
    if not utterance.text.strip():
        raise AnadilError("empty text")
    with_duration = measured(utterance, info)
    if isinstance(info, AnadilError) or utterance.duration is None:
        return with_duration
    excess = utterance.offset + utterance.duration - info.duration
    if excess > _END_TOLERANCE_S:
        end = utterance.offset + utterance.duration
        raise AnadilError(f"ends at {end:.2f} s, past the end of {utterance.audio_filepath} ({info.duration:.2f} s)")
    if not utterance.offset and excess > -_END_TOLERANCE_S:  # the whole recording
        return replace(utterance, duration=info.duration)
    return with_duration


def _convert(
    utterances: Sequence[Utterance], folder: Path, result: ImportResult, on_progress: Progress
) -> list[Utterance]:
    """Convert all recordings to mono WAV files in `folder`, one for each channel that is used.

    Returns the utterances with the new paths and without channel; rejects the others.
    """
    sources = list(dict.fromkeys((utterance.audio_filepath, utterance.channel) for utterance in utterances))
    targets = _wav_paths(sources, folder)

    def convert(source: tuple[str, Channel]) -> AnadilError | None:
        try:
            _convert_to_wav(Path(source[0]), targets[source], source[1])
        except AnadilError as error:
            return error
        return None

    outcomes = audio.in_threads(convert, sources, lambda done: on_progress("converting", done, len(sources)))
    errors = dict(zip(sources, outcomes, strict=True))
    converted = []
    for utterance in utterances:
        source = utterance.audio_filepath, utterance.channel
        error = errors[source]
        if error is None:
            extra = utterance.extra | {"original_audio": os.path.abspath(utterance.audio_filepath)}
            if utterance.channel != "mix":
                extra["original_channel"] = utterance.channel
            converted.append(replace(utterance, audio_filepath=str(targets[source]), channel="mix", extra=extra))
        else:
            result.reject(utterance.source or utterance.audio_filepath, error)
    return converted


def _wav_paths(sources: Sequence[tuple[str, Channel]], folder: Path) -> dict[tuple[str, Channel], Path]:
    """A different path in `folder` for each recording and channel, in the subfolders below the recordings' common folder."""
    absolute = {source: Path(os.path.abspath(source[0])) for source in sources}
    common = os.path.commonpath([path.parent for path in absolute.values()]) if sources else ""
    whole = {source: str(path.relative_to(common)) for source, path in absolute.items()}
    sides = {source: "" if source[1] == "mix" else f"-channel{source[1]}" for source in sources}
    names = {source: f"{path.relative_to(common).with_suffix('')}{sides[source]}" for source, path in absolute.items()}
    counts = Counter(names.values())
    return {
        source: folder / (f"{name}.wav" if counts[name] == 1 else f"{whole[source]}{sides[source]}.wav")
        for source, name in names.items()
    }


def _convert_to_wav(source: Path, target: Path, channel: Channel = "mix") -> None:
    """Write `source` as 16 kHz 16-bit WAV, the same samples as `audio.read` gives of this channel.

    Raises AnadilError if it cannot be read as audio.
    """
    try:
        with (
            whole_file(target) as beside,
            open_recording(source) as recording,
            soundfile.SoundFile(str(beside), "w", _WAV_SAMPLE_RATE, 1, "PCM_16", format="WAV") as out,
        ):
            stream = soxr.ResampleStream(recording.sample_rate, _WAV_SAMPLE_RATE, 1, dtype="float32", quality="HQ")
            chosen, full_scale = audio.chosen_channel(recording, channel), np.float32(audio.full_scale(recording))
            for block in recording.blocks(size=_BLOCK_SAMPLES):
                if not np.isfinite(block).all():
                    raise AnadilError(f"audio contains values that are not numbers (NaN or infinity): {source}")
                mono = np.ascontiguousarray(audio.take_channel(block, chosen) / full_scale)
                out.write(np.clip(stream.resample_chunk(mono), -1.0, 1.0))
            out.write(np.clip(stream.resample_chunk(np.zeros(0, np.float32), last=True), -1.0, 1.0))
    except (soundfile.LibsndfileError, RuntimeError) as error:
        raise AnadilError(f"could not be converted: {source} ({error})") from error


def _split_name(utterance: Utterance) -> str:
    """The name of the utterance's split, made safe for a file name."""
    name = str(utterance.extra.get("split") or _NO_SPLIT)
    name = re.sub(r"[^\w.+-]", "_", name).lstrip(".") or _NO_SPLIT
    return f"{name}_" if f"{name}.jsonl" == _REJECTED else name


def _write(out: Path, result: ImportResult) -> None:
    """Write the manifests and the list of what was rejected. They appear together, when all are complete."""
    with contextlib.ExitStack() as files:
        for split, utterances in result.splits.items():
            result.manifests[split] = out / f"{split}.jsonl"
            write_manifest_to(files.enter_context(whole_file(result.manifests[split])), out, utterances)
        beside = files.enter_context(whole_file(out / _REJECTED))
        with open(beside, "w", encoding="utf-8", newline="\n") as file:
            for problem in result.rejected:
                file.write(json.dumps({"where": problem.where, "reason": problem.what}, ensure_ascii=False) + "\n")


def _require_utf8(value: object) -> None:
    if isinstance(value, str) and escape_surrogates(value) != value:
        raise AnadilError(f"not UTF-8: {value}; rename the file or folder")


def _generalize(what: str) -> str:
    """A problem without its particulars: "audio file not found: clips/a.mp3" becomes "audio file not found"."""
    first_line = what.partition("\n")[0]
    general = re.sub(r"'[^']*'|\"[^\"]*\"|[-+]?\d+(?:[.,]\d+)*", "…", re.sub(r": .*", "", first_line))
    return re.sub(r"\S*[/\\]\S*", "…", general).strip()
