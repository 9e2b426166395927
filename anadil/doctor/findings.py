"""The kinds of findings, with their severity and how to correct each: one table."""

from __future__ import annotations

import enum
from collections.abc import Iterable
from dataclasses import dataclass

from anadil.manifest import Utterance


class Severity(enum.StrEnum):
    SPOILS = "spoils training"  # training stops, or learns something wrong, or reports a wrong error rate
    LOOK = "look at it"


class Order(enum.Enum):
    """Which values of a kind are the worst."""

    HIGH = -1
    LOW = 1


@dataclass(frozen=True, slots=True)
class FindingKind:
    """One kind of finding. `mend`: what to do, often a command; CONFIG and MANIFESTS are placeholders in it."""

    name: str
    title: str
    severity: Severity
    mend: str
    worst: Order = Order.HIGH


@dataclass(frozen=True, slots=True)
class Finding:
    """Something found in one or several utterances. `value`: what was measured, in the unit that `what` names."""

    kind: FindingKind
    lines: tuple[str, ...]  # of the utterances that it concerns: "data/tr/train.jsonl:118"
    what: str
    value: float
    own_severity: Severity | None = None  # None: the severity of the kind

    @property
    def where(self) -> str:
        return self.lines[0]

    @property
    def severity(self) -> Severity:
        return self.own_severity or self.kind.severity


def make_finding(
    kind: FindingKind,
    concerned: Utterance | Iterable[Utterance],
    message: str,
    value: float,
    severity: Severity | None = None,
) -> Finding:
    """A finding about one utterance, or about several."""
    utterances = (concerned,) if isinstance(concerned, Utterance) else concerned
    return Finding(kind, tuple(one.source or one.audio_filepath for one in utterances), message, value, severity)


_SPOILS, _LOOK, _LOW = Severity.SPOILS, Severity.LOOK, Order.LOW
_SKIP = "anadil train CONFIG data.skip_bad=true trains without them"
_WITHOUT = "anadil check MANIFESTS --without {0} --out cleaned writes manifests without them"
_SPLIT = "anadil split MANIFESTS --out splits makes splits that share neither"


def _removable(name: str, title: str, severity: Severity, first: str, worst: Order = Order.HIGH) -> FindingKind:
    return FindingKind(name, title, severity, f"{first}; {_WITHOUT.format(name)}", worst)


BROKEN_LINE = FindingKind(
    "broken-line", "lines that are not utterances", _SPOILS, "mend them in an editor, or import again"
)
MISSING = FindingKind("missing-audio", "audio files that do not exist", _SPOILS, f"check the paths; {_SKIP}")
UNREADABLE = _removable("unreadable-audio", "audio that cannot be decoded", _SPOILS, "copy or record it again")
OUTSIDE = FindingKind(
    "outside-audio", "stretches outside their recording", _SPOILS, f"check offset and duration; {_SKIP}"
)
TRUNCATED = _removable("truncated-audio", "recordings that are cut off", _LOOK, "copy them again from their source")
SILENT = _removable("silent-audio", "silence with a text", _SPOILS, "record again", _LOW)
NEAR_SILENT = _removable("near-silent-audio", "audio that is nearly silent", _LOOK, "listen to them", _LOW)
CLIPPED = _removable("clipped-audio", "clipped audio", _LOOK, "record with less gain")
WRONG_DURATION = FindingKind(
    "wrong-duration",
    "durations that differ from the audio",
    _LOOK,
    "remove the key duration from the manifest if the utterance is the whole file",
)
TOO_SHORT = FindingKind(
    "too-short", "utterances that are too short", _LOOK, "anadil train omits them (data.min_duration)", _LOW
)
TOO_LONG = FindingKind("too-long", "utterances that are too long", _LOOK, "anadil train omits them (data.max_duration)")
MIXED_RATES = FindingKind(
    "mixed-rates",
    "sample rates that differ",
    _LOOK,
    "nothing: anadil resamples; check that they are from the same source",
    _LOW,
)
LOW_RATE = FindingKind(
    "low-rate", "audio below the model's sample rate", _LOOK, "anadil train CONFIG features.sample_rate=RATE", _LOW
)
CHANNELS = FindingKind(
    "several-channels",
    "audio with several channels",
    _LOOK,
    "nothing if all channels hold the same speech: they are averaged",
)
NARROW_BAND = _removable(
    "narrow-band",
    "upsampled telephone audio: nothing above 4 kHz",
    _LOOK,
    "use the original recordings",
)
DUPLICATE_AUDIO = _removable("duplicate-audio", "audio that occurs more than once", _LOOK, "keep one of each")
SHARED_AUDIO = _removable("shared-audio", "audio in two splits", _SPOILS, "anadil split MANIFESTS --out splits")
EMPTY_TEXT = FindingKind("empty-text", "utterances without text", _SPOILS, f"write what is spoken; {_SKIP}")
NOT_NFC = FindingKind(
    "not-nfc", "text that is not in Unicode normalisation form NFC", _LOOK, "nothing: anadil converts it"
)
STRAY_MARK = FindingKind("stray-mark", "combining marks without a letter", _LOOK, "correct the text")
SYMBOLS = _removable(
    "symbols",
    "digits and symbols, which have no sound of their own",
    _LOOK,
    "write them as words; or add numbers.rules or symbols to a file for text.rules; or list symbols in text.drop",
)
LOOK_ALIKE = FindingKind(
    "look-alike",
    "letters that look like others",
    _LOOK,
    "add FOUND: RIGHT to text.map in CONFIG, or correct the text",
)
RARE_CHARACTER = FindingKind(
    "rare-character",
    "characters too rare to be learned",
    _LOOK,
    "add RARE: USUAL to text.map in CONFIG or RARE to text.drop, or find more speech with them",
    _LOW,
)
ORPHAN_MARK = FindingKind(
    "orphan-mark",
    "combining marks that do not compose with a letter, and so become labels of their own",
    _LOOK,
    "nothing if the language uses them; else add them to text.drop or text.map in CONFIG",
)
OUTSIDE_ALPHABET = FindingKind(
    "outside-alphabet",
    "characters that are not in the language's alphabet",
    _LOOK,
    "add FOUND: RIGHT to text.map or FOUND to text.drop in CONFIG; nothing if they are intended",
)
UNSEEN_CHARACTER = FindingKind(
    "unseen-character",
    "characters that the training text does not have",
    _SPOILS,
    "add NEW: USUAL to text.map in CONFIG; or anadil train CONFIG text.unknown=drop; or anadil split MANIFESTS --out splits",
)
PSEUDO_LABELS = FindingKind(
    "pseudo-label",
    "texts that a model wrote (pseudo labels), in validation or test data",
    _SPOILS,
    "use texts that people wrote for validation and test",
)
NO_LABEL = FindingKind(
    "no-label",
    "characters without a label",
    _SPOILS,
    f"add them to tokenizer.labels, text.map or text.drop in CONFIG; {_SKIP}",
)
DUPLICATE_TEXT = FindingKind(
    "duplicate-text", "sentences that occur more than once", _LOOK, "nothing, if they were spoken that often"
)
SHARED_TEXT = FindingKind("shared-text", "sentences in two splits", _LOOK, _SPLIT)
SHARED_SPEAKER = FindingKind("shared-speaker", "speakers in two splits", _LOOK, _SPLIT)
SPEAKING_RATE = _removable(
    "speaking-rate", "text that does not fit the audio's length", _LOOK, "listen to them: the transcript may be wrong"
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
"""In the order of the report: kinds that spoil training first."""
