"""Text rules over a manifest or a text file: the file that comes out, what was done to it, and what could not be."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

from anadil.errors import AnadilError, Problem, summarize
from anadil.files import whole_file
from anadil.manifest import read_manifest, write_manifest
from anadil.text.changes import Changes, record
from anadil.text.rules import TextRules

Progress = Callable[[int, int], None]
_NEXT = "mend them, add rules for them (--rules), or leave them out (--skip-bad)"


@dataclass
class Normalized:
    """What was done. `problems` were left out of the file."""

    changes: Changes = field(default_factory=Changes)
    problems: list[Problem] = field(default_factory=list)
    total: int = 0


def normalize_manifest(
    path: Path, out: Path, rules: TextRules, skip_bad: bool = False, on_progress: Progress = lambda done, total: None
) -> Normalized:
    """Write the manifest again with normalised text; every other key stays.

    Raises AnadilError listing the texts that cannot be normalised, unless `skip_bad` says to leave them out.
    """
    utterances = read_manifest(path)
    result, kept = Normalized(total=len(utterances)), []
    for done, utterance in enumerate(utterances, start=1):
        said = _said(result, rules, utterance.text, utterance.source)
        if said is not None:
            kept.append(replace(utterance, text=said))
        if done % 1000 == 0 or done == len(utterances):
            on_progress(done, len(utterances))
    _refuse(result, skip_bad)
    if not kept:
        raise AnadilError(f"{path}: nothing is left\n  next: check --lang and --rules")
    write_manifest(out, kept)
    return result


def normalize_lines(
    path: Path, out: Path, rules: TextRules, skip_bad: bool = False, on_progress: Progress = lambda done, total: None
) -> Normalized:
    """Write a text file again, a line for a line; blank lines stay blank. Reads and writes as it goes: any size.

    Raises AnadilError as `normalize_manifest`, and if the file is not there.
    """
    if not path.is_file():
        raise AnadilError(f"file not found: {path}\n  next: check the path")
    result, size, read = Normalized(), path.stat().st_size, 0
    with (
        whole_file(out) as beside,
        open(path, "rb") as lines,
        open(beside, "w", encoding="utf-8", newline="\n") as file,
    ):
        for number, raw in enumerate(lines, start=1):
            read += len(raw)
            if number % 10_000 == 0 or read == size:
                on_progress(read, size)
            where = f"{path}:{number}"
            try:
                text = raw.decode("utf-8-sig" if number == 1 else "utf-8").rstrip("\r\n")
            except UnicodeDecodeError as error:
                result.total += 1
                result.problems.append(Problem(where, f"not UTF-8 at byte {error.start}"))
                continue
            result.total += bool(text.strip())
            said = _said(result, rules, text, where) if text.strip() else ""
            if said is not None:
                file.write(said + "\n")
        _refuse(result, skip_bad)
    return result


def _said(result: Normalized, rules: TextRules, text: str, where: str) -> str | None:
    """The normalised text, or None and a problem."""
    try:
        said = record(result.changes, rules, text)
    except AnadilError as error:
        result.problems.append(Problem(where, str(error)))
        return None
    digits = next((c for c in said if c.isdecimal()), None) if rules.writing.digits == "spell" else None
    if digits is not None:
        result.problems.append(Problem(where, f"a number that no rule spells in {said!r}{rules.why_digits(digits)}"))
    elif not said:
        what = "empty text" if not text.strip() else f"nothing is left of the text {text!r}"
        result.problems.append(Problem(where, what))
    else:
        return said
    return None


def _refuse(result: Normalized, skip_bad: bool) -> None:
    if result.problems and not skip_bad:
        raise AnadilError(summarize(result.problems, "texts", result.total, _NEXT))
