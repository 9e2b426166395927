"""What the readers of annotation files share: segments, tiers and their choice, and segments to Utterances."""

from __future__ import annotations

import math
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from anadil.corpora.reader import ANNOTATIONS, TIER, Options, Reject
from anadil.corpora.recordings import Media, RecordingFinder
from anadil.errors import AnadilError, Problem
from anadil.manifest import Utterance

DECIMALS = 6
"""To which times in a manifest are rounded (microseconds): the difference of two floats has rounding noise beyond."""

_SHOWN_TIERS, _SAMPLE_CHARACTERS = 40, 50  # in a list of tiers


@dataclass(frozen=True, slots=True)
class Segment:
    """A stretch of a recording and its text: two times in seconds, a text, perhaps a speaker."""

    start: float
    end: float
    text: str
    speaker: str | None = None
    place: str = field(default="", compare=False)  # in the annotation file, for messages: "line 12"
    problem: str = field(default="", compare=False)  # why its text cannot be used, such as a code for unintelligible
    removed: Sequence[str] = field(default=(), compare=False)  # codes that were removed from its text
    media: Sequence[Media] = field(default=(), compare=False)  # its recordings, if the file has several
    extra: dict[str, Any] = field(default_factory=dict, compare=False)


@dataclass(frozen=True, slots=True)
class Tier:
    """A tier of an annotation file: all its annotations, whether they are taken or not."""

    name: str
    tier_type: str  # linguistic type (ELAN); "intervals" or "points" (Praat); the kind of line in other formats
    segments: list[Segment]
    has_intervals: bool = True  # False for a tier of points, which have no length
    transcribes: str | None = None  # whose speech it transcribes, if the format says so; "": of an unknown speaker
    is_speaker: bool = False  # whether its name stands for a speaker, where several tiers are taken
    n_annotations: int | None = None  # those with text, if a segment joins several
    beside: Callable[[int], dict[str, list[str]]] | None = None  # what other tiers hold beside segments[i], by tier

    @property
    def n_texts(self) -> int:
        """The number of annotations with text."""
        if self.n_annotations is not None:
            return self.n_annotations
        return sum(bool(segment.text) for segment in self.segments)


@dataclass(frozen=True, slots=True)
class AnnotationFile:
    """The content of one annotation file, in the file's own time, and the recordings that it names.

    A format without tiers has `segments`; one with tiers has `tiers`, of which the user chooses.
    """

    segments: list[Segment] = field(default_factory=list)
    media: Sequence[Media] = ()
    tiers: list[Tier] | None = None


def read_annotation_files(
    source: Path,
    options: Options,
    reject: Reject,
    suffixes: Sequence[str],
    read: Callable[[Path], AnnotationFile],
) -> Iterator[Utterance]:
    """Yield the utterances of one annotation file, or of all such files in a folder and its subfolders.

    `choose_tiers` chooses the tiers. `options.notes` gets how many annotations of other tiers are left. A file that
    cannot be read, or whose recording is not found, is an error if it is the source itself, and rejected if the source
    is a folder. Raises AnadilError if none of the files can be used, or if the user names a tier that no file has.
    """
    files = find_files(source, suffixes)
    recordings = RecordingFinder(options.audio, n_files=len(files))
    failures: list[AnadilError] = []
    seen: dict[tuple[str, str], Tier] = {}  # one for each name and type, with the counts of all files
    for file in files:
        try:
            content = read(file)
            for tier in content.tiers or ():
                _add_summary(seen, tier)
            segments = content.segments if content.tiers is None else _take(content.tiers, options, file)
            if content.tiers is None and (options.tier is not None or options.tier_type is not None):
                raise AnadilError(f"{file}: it has no tiers\n  next: omit --tier")
            found = _find_recordings(segments, content.media, file, recordings, reject)
        except AnadilError as error:
            if source.is_file():
                raise
            failures.append(error)
            reject(Problem(str(file), str(error).removeprefix(f"{file}: ")))
            continue
        options.notes.removed.update(code for segment in segments for code in segment.removed)
        for (recording, time_origin_s), its_segments in found:
            yield from segments_to_utterances(its_segments, file, recording, time_origin_s, options, reject)
    _require_known_names(list(seen.values()), options, source)
    if len(failures) == len(files):
        count = f"none of the {len(files):,} files in {source} can be used; the first: " if len(files) > 1 else ""
        raise AnadilError(f"{count}{failures[0]}")


def _add_summary(seen: dict[tuple[str, str], Tier], tier: Tier) -> None:
    """Add the count of a tier to that of its name and type; a segment is kept as a sample."""
    known = seen.get((tier.name, tier.tier_type), Tier(tier.name, tier.tier_type, [], n_annotations=0))
    sample = known.segments or [one for one in tier.segments if one.text][:1]
    n_annotations = known.n_texts + tier.n_texts
    seen[tier.name, tier.tier_type] = replace(known, segments=sample, n_annotations=n_annotations)


def _find_recordings(
    segments: Sequence[Segment], media: Sequence[Media], file: Path, recordings: RecordingFinder, reject: Reject
) -> list[tuple[tuple[Path, float], list[Segment]]]:
    """The segments by their recording, which comes with the time at which the file's time starts in it (s).

    Segments whose recording is not found are rejected. Raises AnadilError if no recording is found.
    """
    named = list(dict.fromkeys(tuple(segment.media) or tuple(media) for segment in segments))
    if len(named) <= 1:
        return [(recordings.find(file, named[0] if named else media), list(segments))]
    found: dict[tuple[Media, ...], tuple[Path, float]] = {}
    errors: dict[tuple[Media, ...], AnadilError] = {}
    for its_media in named:
        try:
            found[its_media] = recordings.find(file, its_media, is_one_of=len(named))
        except AnadilError as error:
            errors[its_media] = error
    if not found:
        raise next(iter(errors.values()))
    groups: list[tuple[tuple[Path, float], list[Segment]]] = []
    for segment in segments:
        its_media = tuple(segment.media) or tuple(media)
        if its_media in errors:
            reject(Problem(f"{file}: {segment.place}", str(errors[its_media]).removeprefix(f"{file}: ")))
        elif groups and groups[-1][0] == found[its_media]:
            groups[-1][1].append(segment)
        else:
            groups.append((found[its_media], [segment]))
    return groups


def _take(tiers: Sequence[Tier], options: Options, file: Path) -> list[Segment]:
    """The segments of the tiers that are chosen. `options.notes` gets what was left."""
    chosen = choose_tiers(tiers, options, file)
    name_is_speaker = options.tier_type is not None or len(chosen) > 1
    names = {id(tier) for tier in chosen}
    for tier in tiers:
        if id(tier) not in names:
            options.notes.left[tier.name] += tier.n_texts
    segments = []
    for tier in chosen:
        for index, segment in enumerate(tier.segments):
            extra = {TIER: tier.name} | segment.extra
            beside = extra.get(ANNOTATIONS) or (tier.beside(index) if tier.beside else {})
            if beside:
                extra[ANNOTATIONS] = beside
            speaker = segment.speaker or (tier.name if tier.is_speaker and name_is_speaker else None)
            segments.append(replace(segment, speaker=speaker, extra=extra))
    return segments


def find_files(source: Path, suffixes: Sequence[str]) -> list[Path]:
    """Return the file itself, or all files with these suffixes in a folder and its subfolders.

    Raises AnadilError if there is none.
    """
    if source.is_file():
        return [source]
    patterns = ", ".join(f"*{suffix}" for suffix in suffixes)
    if not source.is_dir():
        raise AnadilError(
            f"{source} is not there: looked for a file {patterns}, or a folder of these\n  next: check the path"
        )
    files = sorted(path for path in source.rglob("*") if path.suffix.lower() in suffixes and path.is_file())
    files = [path for path in files if not path.name.startswith("._")]  # macOS metadata on other file systems
    if not files:
        raise AnadilError(f"no {patterns} in {source}\n  next: check the path")
    return files


def segments_to_utterances(
    segments: Iterable[Segment], file: Path, recording: Path, time_origin_s: float, options: Options, reject: Reject
) -> Iterator[Utterance]:
    """Yield an Utterance for each segment of an annotation file; reject those without text or without length.

    `time_origin_s` is where in the recording the file's time starts; it is added to all times.
    """
    for segment in segments:
        where = f"{file}: {segment.place}" if segment.place else str(file)
        start, end = segment.start + time_origin_s, segment.end + time_origin_s
        text = collapse_whitespace(segment.text)
        problem = segment.problem or _find_problem(start, end, text)
        if problem:
            reject(Problem(where, problem))
            continue
        yield Utterance(
            audio_filepath=str(recording),
            duration=round(end - start, DECIMALS),
            text=text,
            offset=round(start, DECIMALS),
            speaker=segment.speaker,
            language=options.language,
            extra=dict(segment.extra),
            source=where,
        )


def _find_problem(start: float, end: float, text: str) -> str | None:
    if math.isnan(start) and math.isnan(end):
        return "no times"
    if not (math.isfinite(start) and math.isfinite(end)):
        return f"no valid times: {start} to {end} s"
    if round(end - start, DECIMALS) <= 0:
        return f"lasts {end - start:g} s ({start:g} to {end:g} s)"
    if start < 0:
        return f"starts {-start:g} s before the recording does"
    if not text:
        return f"no text ({start:g} to {end:g} s)"
    return None


def collapse_whitespace(text: str) -> str:
    """Replace each run of white space, line ends included, by one space; strip both ends."""
    return " ".join(text.split())


def parse_seconds(text: str) -> float:
    """Parse a finite number of seconds. Raises ValueError, also for "NaN" and infinity."""
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(f"{text.strip()!r} is not a number of seconds")
    return number


@dataclass(frozen=True, slots=True)
class Record:
    """A stretch of a recording with several lines about it: text, words, glosses, translations (interlinear text)."""

    start: float
    end: float
    lines: dict[str, list[str]]  # by name; a line of words has a string for each word
    speaker: str | None = None
    place: str = ""
    media: Sequence[Media] = ()


def record_tiers(
    records: Sequence[Record], tier_type: Callable[[str], str], is_text: Callable[[str], bool]
) -> list[Tier]:
    """A tier for each line of the records; its segments have the other lines in `extra["annotations"]`.

    `tier_type` gives the type of a line by its name; `is_text` says whether it holds what was said, by the format.
    """
    names = dict.fromkeys(name for record in records for name in record.lines)
    return [
        Tier(
            name,
            tier_type(name),
            [_record_segment(record, name) for record in records if name in record.lines],
            transcribes="" if is_text(name) else None,
            n_annotations=sum(bool(piece) for record in records for piece in record.lines.get(name, ())),
        )
        for name in names
    ]


def _record_segment(record: Record, name: str) -> Segment:
    others = {other: pieces for other, pieces in record.lines.items() if other != name and any(pieces)}
    return Segment(
        record.start,
        record.end,
        " ".join(piece for piece in record.lines[name] if piece),
        record.speaker,
        place=record.place,
        media=record.media,
        extra={ANNOTATIONS: others} if others else {},
    )


def choose_tiers(tiers: Sequence[Tier], options: Options, file: Path) -> list[Tier]:
    """The tiers that `options.tier` (names and patterns, see `match_names`) and `options.tier_type` select.

    Without either, they are the tiers that the format itself calls transcriptions, if each speaker has only one, or the
    only tier with text. `options.notes` gets which were taken and why. Raises AnadilError with a list of the tiers if
    none matches, if a name matches none, or if several have text and the user named none.
    """
    if options.tier is not None or options.tier_type is not None:
        chosen = _named(tiers, options)
        if not chosen:
            raise AnadilError(f"{file}: no tier {_wanted(options)}; {_describe(tiers)}")
        points = [tier.name for tier in chosen if not tier.has_intervals]
        exact = {_plain(part) for item in _several(options.tier or ()) for part in (item, *item.split(","))}
        if len(points) == len(chosen) or any(_plain(name) in exact for name in points):
            raise AnadilError(f"{file}: tier {points[0]!r} holds points, which have no length; {_describe(tiers)}")
        return [tier for tier in chosen if tier.has_intervals]
    with_text = [tier for tier in tiers if tier.n_texts and tier.has_intervals]
    transcriptions = [tier for tier in with_text if tier.transcribes is not None]
    candidates = transcriptions or with_text
    if not candidates:
        raise AnadilError(f"{file}: no tier of intervals holds any text; {_describe(tiers)}")
    if len(candidates) > 1 and len({tier.transcribes for tier in candidates}) < len(candidates):
        raise AnadilError(f"{file}: {len(candidates)} tiers hold text, and none was chosen; {_describe(tiers)}")
    if transcriptions:
        many = len(candidates) > 1
        why = f"by the format, {'each of them holds what a speaker said' if many else 'it holds what was said'}"
    else:
        why = "no other tier of intervals holds text"
    names = ", ".join(repr(tier.name) for tier in candidates)
    options.notes.remarks[f"{'tiers' if len(candidates) > 1 else 'tier'} {names} taken: {why}"] += 1
    return candidates


def match_names(wanted: Sequence[str], names: Iterable[str]) -> tuple[set[str], list[str]]:
    """Which of `names` the user means, and which parts of `wanted` match none of them.

    Each of `wanted` is a name, a pattern such as "tx@*", or several of these with commas between. Where a name itself
    holds a comma, the longest exact name wins. Names are compared in Unicode's composed form.
    """
    known: dict[str, set[str]] = {}
    for name in names:
        known.setdefault(_plain(name), set()).add(name)
    matched: set[str] = set()
    unmatched: list[str] = []
    for item in wanted:
        parts = item.split(",")
        index = 0
        while index < len(parts):
            for end in range(len(parts), index, -1):
                joined = _plain(",".join(parts[index:end]))
                if joined in known:
                    matched |= known[joined]
                    index = end
                    break
            else:
                pattern = _plain(parts[index])
                hits = [name for plain, same in known.items() if fnmatchcase(plain, pattern) for name in same]
                matched.update(hits)
                if not hits and (pattern or len(parts) == 1):
                    unmatched.append(parts[index].strip())
                index += 1
    return matched, unmatched


def _plain(name: str) -> str:
    return unicodedata.normalize("NFC", name.strip())


def _named(tiers: Sequence[Tier], options: Options) -> list[Tier]:
    """The tiers that `options.tier` and `options.tier_type` select; names that match none are ignored."""
    chosen = list(tiers)
    if options.tier is not None:
        names, _ = match_names(_several(options.tier), (tier.name for tier in tiers))
        chosen = [tier for tier in chosen if tier.name in names]
    if options.tier_type is not None:
        types, _ = match_names(_several(options.tier_type), (tier.tier_type for tier in tiers))
        chosen = [tier for tier in chosen if tier.tier_type in types]
    return chosen


def _require_known_names(tiers: Sequence[Tier], options: Options, source: Path) -> None:
    """Raise AnadilError if the user named a tier or type that none of `tiers` has, even if other names match."""
    if not tiers:
        return
    for wanted, known, what in (
        (options.tier, (tier.name for tier in tiers), "called"),
        (options.tier_type, (tier.tier_type for tier in tiers), "of type"),
    ):
        if wanted is not None:
            _, unmatched = match_names(_several(wanted), known)
            if unmatched:
                raise AnadilError(f"{source}: no tier {what} {', '.join(map(repr, unmatched))}; {_describe(tiers)}")


def _several(value: str | Sequence[str]) -> Sequence[str]:
    return [value] if isinstance(value, str) else value


def _wanted(options: Options) -> str:
    return " and ".join(
        f"{what} {', '.join(map(repr, _several(value)))}"
        for what, value in (("called", options.tier), ("of type", options.tier_type))
        if value is not None
    )


def _describe(tiers: Sequence[Tier]) -> str:
    """The tiers as a list: name, type, number of annotations with text, and a sample. Tiers of one name are counted as one."""
    counts: Counter[tuple[str, str]] = Counter()
    samples: dict[tuple[str, str], str] = {}
    for tier in tiers:
        counts[tier.name, tier.tier_type] += tier.n_texts
        samples.setdefault((tier.name, tier.tier_type), next((one.text for one in tier.segments if one.text), ""))
    lines = []
    for (name, tier_type), n_texts in list(counts.items())[:_SHOWN_TIERS]:
        sample = collapse_whitespace(samples[name, tier_type])
        if len(sample) > _SAMPLE_CHARACTERS:
            sample = f"{sample[: _SAMPLE_CHARACTERS - 3]}..."
        example = f", such as {sample!r}" if sample else ""
        lines.append(f"  {name!r}, type {tier_type!r}, {n_texts:,} annotations with text{example}")
    if not lines:
        return "it has no tiers\n  next: check the file"
    if len(counts) > len(lines):
        lines.append(f"  ... and {len(counts) - len(lines):,} more")
    by_type = ", or with --tier-type TYPE" if len({tier_type for _, tier_type in counts}) > 1 else ""
    return (
        "it has:\n" + "\n".join(lines) + "\n"
        f"  next: choose with --tier NAME (may be repeated; or a list A,B; or a pattern such as 'tx@*'){by_type}"
    )
