"""Several manifests evaluated at once: each utterance is scored once, and each manifest has its own figures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from anadil.errors import AnadilError
from anadil.evaluation.evaluate import Evaluation, evaluation_of
from anadil.evaluation.hypotheses import place_of
from anadil.manifest import Utterance, read_manifest


@dataclass(frozen=True)
class Together:
    """The utterances of several manifests, and which of them each manifest has."""

    utterances: tuple[Utterance, ...]  # in the order of the manifests
    lines: Mapping[Path, tuple[str, ...]]  # manifest to the `source` of each of its utterances
    n_repeated: int = 0  # lines that say the same as a line of an earlier manifest; not in `utterances`
    n_other_text: int = 0  # lines with the recording of an earlier manifest and another text or duration

    @property
    def names(self) -> dict[Path, str]:
        """A name for each manifest: that of its file, or the path if two files have the same name."""
        n_names = len({path.name for path in self.lines})
        return {path: path.name if n_names == len(self.lines) else str(path) for path in self.lines}

    def notes(self) -> list[str]:
        """In words, which utterances are in more than one manifest."""
        found = []
        if self.n_repeated:
            found.append(
                f"{self.n_repeated:,} utterances are in more than one manifest: each counts for every manifest that has it, "
                "and once in the rates over all manifests"
            )
        if self.n_other_text:
            found.append(
                f"{self.n_other_text:,} recordings are in more than one manifest with another text or duration: each of these "
                "lines counts; anadil compare cannot tell them apart without a key id"
            )
        return found

    def parts(self, evaluation: Evaluation) -> list[Part]:
        """The figures of each manifest, of an evaluation of `utterances`."""
        by_line = {one.utterance.source: one for one in evaluation.scored}
        scored = {path: [by_line[line] for line in lines if line in by_line] for path, lines in self.lines.items()}
        return [Part(path, self.names[path], evaluation_of(own) if own else None) for path, own in scored.items()]


@dataclass(frozen=True)
class Part:
    """What an evaluation says of one of several manifests."""

    manifest: Path
    name: str
    evaluation: Evaluation | None  # None: all its utterances were skipped

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready."""
        figures = {"n_utterances": 0} if self.evaluation is None else self.evaluation.to_dict()
        return {"manifest": str(self.manifest)} | figures


def read_together(paths: Sequence[Path]) -> Together:
    """Read manifests, a path that is given twice once.

    A line is left out of `utterances` if an earlier manifest has the same stretch of the same recording with the same text.
    Raises AnadilError naming each manifest that cannot be read, with the reason.
    """
    errors: list[AnadilError] = []
    utterances: list[Utterance] = []
    lines: dict[Path, tuple[str, ...]] = {}
    seen: dict[object, dict[object, str]] = {}  # place to what is there, and the line that said so first
    n_repeated = n_other = 0
    for path in dict.fromkeys(paths):
        try:
            own = read_manifest(path)
        except AnadilError as error:
            errors.append(error)
            continue
        kept = [seen.get(place_of(one), {}).get((one.text, one.duration)) for one in own]
        n_repeated += sum(line is not None for line in kept)
        n_other += sum(line is None and place_of(one) in seen for one, line in zip(own, kept, strict=True))
        new = [one for one, line in zip(own, kept, strict=True) if line is None]
        for one in new:
            seen.setdefault(place_of(one), {}).setdefault((one.text, one.duration), one.source)
        utterances += new
        lines[path] = tuple(line or one.source for one, line in zip(own, kept, strict=True))
    if errors:
        raise AnadilError("\n".join(map(str, errors))) from errors[0]
    return Together(tuple(utterances), lines, n_repeated, n_other)
