"""What a validation heard, for people: a few sentences of each epoch, and all of the best epoch's."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from pathlib import Path

from rapidfuzz.distance import Levenshtein

from anadil.data.checks import Example
from anadil.files import whole_file
from anadil.manifest import write_manifest
from anadil.training.validation import Look

SAMPLES, HYPOTHESES = "validation.txt", "hypotheses.jsonl"
_EPOCH = "epoch "


def pick(look: Look) -> dict[str, int]:
    """Kind of sample to its place: three whose kind is the same in each epoch, three that this one went by."""
    n = len(look.references)
    by_length = sorted(range(n), key=lambda i: (len(look.references[i]), i))
    by_errors = sorted(range(n), key=lambda i: (character_rate(look.references[i], look.hypotheses[i]), i))
    places = {"short": by_length[0], "usual": by_length[n // 2], "long": by_length[-1]}
    return places | {"best": by_errors[0], "middling": by_errors[n // 2], "worst": by_errors[-1]}


def describe_samples(look: Look, epoch: int, step: int) -> str:
    """Lines for `SAMPLES`; each picked sentence once."""
    kinds: dict[int, list[str]] = {}
    for kind, place in pick(look).items():
        kinds.setdefault(place, []).append(kind)
    lines = [f"{_EPOCH}{epoch}, step {step}: CER {look.validation.cer:.2%}, WER {look.validation.wer:.2%}"]
    for place, named in kinds.items():
        rate = character_rate(look.references[place], look.hypotheses[place])
        lines += [
            f"  {', '.join(named)} (CER {rate:.0%})",
            f"    said  {look.references[place]}",
            f"    heard {look.hypotheses[place]}",
        ]
    return "\n".join(lines) + "\n"


def drop_samples_after(path: Path, epoch: int) -> None:
    """Take out the epochs that a resumed run goes through again. Raises AnadilError if it cannot be written."""
    if not path.is_file():
        return
    kept: list[str] = []
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines(keepends=True):
        number = line.removeprefix(_EPOCH).split(",")[0]
        if line.startswith(_EPOCH) and number.isdigit() and int(number) > epoch:
            break
        kept.append(line)
    with whole_file(path) as beside:
        beside.write_text("".join(kept), encoding="utf-8")


def write_hypotheses(path: Path, examples: Sequence[Example], look: Look) -> None:
    """As `anadil evaluate` writes them: the reference as it was scored, `pred_text`, `wer` and `cer`."""
    write_manifest(
        path,
        (
            dataclasses.replace(
                example.utterance,
                text=said,
                extra=example.utterance.extra
                | {
                    "pred_text": heard,
                    "wer": _finite(Levenshtein.distance(said.split(), heard.split()), len(said.split())),
                    "cer": _finite(Levenshtein.distance(said, heard), len(said)),
                },
            )
            for example, said, heard in zip(examples, look.references, look.hypotheses, strict=True)
        ),
    )


def character_rate(said: str, heard: str) -> float:
    """CER of one sentence; infinite if nothing was said and something heard."""
    rate = _finite(Levenshtein.distance(said, heard), len(said))
    return math.inf if rate is None else rate


def _finite(errors: int, n_units: int) -> float | None:
    if n_units == 0:
        return None if errors else 0.0
    return errors / n_units
