"""What the doctor can find, how bad each finding is, and how it is mended: one table."""

from __future__ import annotations

import enum
from collections.abc import Iterable
from dataclasses import dataclass

from anadil.manifest import Utterance


class Severity(enum.StrEnum):
    SPOILS = "spoils training"  # training stops at it or learns what is wrong, or its error rate would be untrue
    LOOK = "look at it"


class Order(enum.Enum):
    """Which values are the worst."""

    HIGH = -1
    LOW = 1


@dataclass(frozen=True, slots=True)
class FindingKind:
    """One sort of finding. `mend` is a command or what to do; CONFIG and MANIFESTS in it are filled in."""

    name: str
    title: str
    severity: Severity
    mend: str
    worst: Order = Order.HIGH


@dataclass(frozen=True, slots=True)
class Finding:
    """`value` is what was measured, in the unit that `what` names."""

    kind: FindingKind
    lines: tuple[str, ...]  # of the utterances that it concerns: "data/tr/train.jsonl:118"
    what: str
    value: float
    own_severity: Severity | None = None  # None: that of the kind

    @property
    def where(self) -> str:
        return self.lines[0]

    @property
    def severity(self) -> Severity:
        return self.own_severity or self.kind.severity


def found(
    kind: FindingKind,
    concerned: Utterance | Iterable[Utterance],
    what: str,
    value: float,
    severity: Severity | None = None,
) -> Finding:
    """A finding about one utterance, or about several."""
    utterances = (concerned,) if isinstance(concerned, Utterance) else concerned
    return Finding(kind, tuple(one.source or one.audio_filepath for one in utterances), what, value, severity)


_SPOILS, _LOOK, _LOW = Severity.SPOILS, Severity.LOOK, Order.LOW
_SKIP = "anadil train CONFIG data.skip_bad=true trains without them"
_WITHOUT = "anadil check MANIFESTS --without {0} --out cleaned writes manifests without them"
_SPLIT = "anadil split MANIFESTS --out splits makes parts that share neither"


def _taken_out(name: str, title: str, severity: Severity, first: str, worst: Order = Order.HIGH) -> FindingKind:
    return FindingKind(name, title, severity, f"{first}; {_WITHOUT.format(name)}", worst)


BROKEN_LINE = FindingKind(
    "broken-line", "lines that are no utterance", _SPOILS, "mend them in an editor, or import again"
)
MISSING = FindingKind("missing-audio", "audio files that are not there", _SPOILS, f"check the paths; {_SKIP}")
UNREADABLE = _taken_out("unreadable-audio", "audio that cannot be decoded", _SPOILS, "copy or record it again")
OUTSIDE = FindingKind(
    "outside-audio", "stretches outside their recording", _SPOILS, f"check offset and duration; {_SKIP}"
)
TRUNCATED = _taken_out("truncated-audio", "recordings that were cut off", _LOOK, "copy them again from their source")
SILENT = _taken_out("silent-audio", "silence with a text", _SPOILS, "record again", _LOW)
NEAR_SILENT = _taken_out("near-silent-audio", "audio that is nearly silent", _LOOK, "listen to them", _LOW)
CLIPPED = _taken_out("clipped-audio", "clipped audio", _LOOK, "record with less gain")
WRONG_DURATION = FindingKind(
    "wrong-duration",
    "durations that are not those of the audio",
    _LOOK,
    "take the key duration out of the manifest where the utterance is the whole file",
)
TOO_SHORT = FindingKind(
    "too-short", "utterances that are too short", _LOOK, "anadil train sets them aside (data.min_duration)", _LOW
)
TOO_LONG = FindingKind(
    "too-long", "utterances that are too long", _LOOK, "anadil train sets them aside (data.max_duration)"
)
MIXED_RATES = FindingKind(
    "mixed-rates", "sample rates that differ", _LOOK, "nothing: anadil resamples; are they of one source?", _LOW
)
LOW_RATE = FindingKind(
    "low-rate", "audio below the model's sample rate", _LOOK, "anadil train CONFIG features.sample_rate=RATE", _LOW
)
CHANNELS = FindingKind(
    "several-channels", "audio of several channels", _LOOK, "nothing if all hear the same: they are averaged"
)
NARROW_BAND = _taken_out(
    "narrow-band",
    "upsampled telephone audio: nothing above 4 kHz",
    _LOOK,
    "use the recordings from before the telephone",
)
DUPLICATE_AUDIO = _taken_out("duplicate-audio", "audio that is there twice", _LOOK, "keep one of each")
SHARED_AUDIO = _taken_out("shared-audio", "audio in two splits", _SPOILS, "anadil split MANIFESTS --out splits")
EMPTY_TEXT = FindingKind("empty-text", "utterances without text", _SPOILS, f"write what is said; {_SKIP}")
NOT_NFC = FindingKind(
    "not-nfc", "text that is not in Unicode's form NFC", _LOOK, "nothing for anadil, which composes it itself"
)
STRAY_MARK = FindingKind("stray-mark", "combining marks that belong to no letter", _LOOK, "mend them in the text")
SYMBOLS = _taken_out(
    "symbols",
    "digits and symbols that a recogniser cannot hear",
    _LOOK,
    "write them as words; or add numbers.rules or symbols to a file for text.rules; or list symbols in text.drop",
)
LOOK_ALIKE = FindingKind(
    "look-alike",
    "letters that only look right",
    _LOOK,
    "add FOUND: RIGHT to text.map in CONFIG, or mend the text",
)
RARE_CHARACTER = FindingKind(
    "rare-character",
    "characters heard too seldom to be learned",
    _LOOK,
    "add RARE: USUAL to text.map in CONFIG or RARE to text.drop, or find more speech with them",
    _LOW,
)
ORPHAN_MARK = FindingKind(
    "orphan-mark",
    "combining marks that compose with no letter, and would be labels of their own",
    _LOOK,
    "nothing if the language writes them; else add them to text.drop or text.map in CONFIG",
)
OUTSIDE_ALPHABET = FindingKind(
    "outside-alphabet",
    "characters that are not in the language's alphabet",
    _LOOK,
    "add FOUND: RIGHT to text.map or FOUND to text.drop in CONFIG; nothing if they are meant",
)
UNSEEN_CHARACTER = FindingKind(
    "unseen-character",
    "characters that training never has",
    _SPOILS,
    "add NEW: USUAL to text.map in CONFIG; or anadil train CONFIG text.unknown=drop; or anadil split MANIFESTS --out splits",
)
PSEUDO_LABELS = FindingKind(
    "pseudo-label",
    "texts that a model wrote (pseudo labels), among those that errors are counted against",
    _SPOILS,
    "give validation and test texts that people wrote",
)
NO_LABEL = FindingKind(
    "no-label",
    "characters without a label",
    _SPOILS,
    f"add them to tokenizer.labels, text.map or text.drop in CONFIG; {_SKIP}",
)
DUPLICATE_TEXT = FindingKind(
    "duplicate-text", "sentences said more than once", _LOOK, "nothing, if they were said so often"
)
SHARED_TEXT = FindingKind("shared-text", "sentences in two splits", _LOOK, _SPLIT)
SHARED_SPEAKER = FindingKind("shared-speaker", "speakers in two splits", _LOOK, _SPLIT)
SPEAKING_RATE = _taken_out(
    "speaking-rate", "text that does not fit the audio's length", _LOOK, "listen: wrong transcript?"
)
TOO_MANY_LABELS = FindingKind(
    "too-many-labels", "text too long for its audio (CTC)", _SPOILS, f"check the text; {_SKIP}"
)

KINDS = (
    BROKEN_LINE, MISSING, UNREADABLE, OUTSIDE, SILENT, SHARED_AUDIO, EMPTY_TEXT, PSEUDO_LABELS,
    UNSEEN_CHARACTER, NO_LABEL,
    TOO_MANY_LABELS, TRUNCATED, NEAR_SILENT, CLIPPED, WRONG_DURATION, TOO_SHORT, TOO_LONG, MIXED_RATES, LOW_RATE,
    CHANNELS, NARROW_BAND, DUPLICATE_AUDIO, SPEAKING_RATE, LOOK_ALIKE, STRAY_MARK, ORPHAN_MARK, SYMBOLS,
    OUTSIDE_ALPHABET, RARE_CHARACTER, NOT_NFC, DUPLICATE_TEXT, SHARED_TEXT, SHARED_SPEAKER,
)  # fmt: skip
"""In the order of the report: what spoils training first."""
