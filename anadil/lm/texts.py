"""Text for language models: files of any kind to sentences, sentences through the text rules to tokens."""

from __future__ import annotations

import bz2
import codecs
import contextlib
import gzip
import importlib
import io
import json
import lzma
import sys
import zlib
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import IO, Any, Literal, cast

from anadil.errors import AnadilError, Problem
from anadil.lm.counts import Progress
from anadil.text.changes import Normalized, normalize_text, outside_alphabet
from anadil.text.rules import TextRules, describe

Unit = Literal["word", "char", "subword"]

SPACE = "▁"
"""The token for a space in models of characters, and the space at the start of a subword."""

STDIN = "-"
MAX_LINE_BYTES = 1 << 26

_SHOWN = 5


@dataclass
class Tokenization:
    """Turns sentences into tokens of a unit, through text rules if there are any; counts what that changed or refused."""

    unit: Unit
    rules: TextRules | None = None  # with labels: those of a model or a tokenizer; without: those of a language
    n_lines: int = 0  # that are not blank
    n_left_out: int = 0
    problems: list[Problem] = field(default_factory=list)  # the first lines that were left out
    foreign: Counter[str] = field(default_factory=Counter)  # characters for which lines were left out
    normalized: Normalized = field(default_factory=Normalized)

    def __post_init__(self) -> None:
        check_unit(self.unit, self.rules)

    def tokens(self, text: str, where: str) -> str | None:
        """The tokens of a sentence with spaces between them, or None if the sentence is left out."""
        self.n_lines += 1
        try:
            return self._tokens(text, where)
        except ValueError as reason:
            self._leave_out(Problem(where, str(reason)))
            return None

    def _tokens(self, text: str, where: str) -> str:
        """As `tokens`; raises ValueError with the reason if the sentence cannot be used."""
        rules = self.rules
        if rules is None:
            return text if self.unit == "word" else _characters(text)
        normal = normalize_text(self.normalized, rules, text, where)
        if normal is None:
            raise ValueError(self.normalized.problems.pop().what)
        foreign = rules.unlabelled(normal) if rules.labels else outside_alphabet(rules, normal)
        if foreign:
            self.foreign.update(set(foreign))
            owner = "without a label" if rules.labels else f"not in the alphabet of {rules.language_rules.name}"
            raise ValueError(f"{owner}: {describe(dict.fromkeys(foreign))} in {_short(normal)!r}")
        if self.unit == "word":
            return normal
        if rules.labels and (self.unit == "subword" or not rules.subwords):
            return " ".join([self._shown_labels[i] for i in rules.encode(normal)])
        return _characters(normal)

    @cached_property
    def _shown_labels(self) -> list[str]:
        assert self.rules is not None
        return [label.replace(" ", SPACE) for label in self.rules.labels]

    def _leave_out(self, problem: Problem) -> None:
        self.n_left_out += 1
        if len(self.problems) < _SHOWN:
            self.problems.append(problem)

    def sentences(self, sources: Sequence[str], on_progress: Progress = lambda *_: None) -> Iterator[str]:
        """The sentences of text sources as tokens with spaces between them."""
        for where, text in read_lines(sources, self._reject, on_progress):
            tokens = self.tokens(text, where)
            if tokens is not None:
                yield tokens

    def _reject(self, problem: Problem) -> None:
        self.n_lines += 1
        self._leave_out(problem)

    def complaint(self, noun: str = "the text") -> str:
        """What was left out and why, in words; empty if nothing was. Raises AnadilError if it was half or more."""
        if not self.n_left_out:
            return ""
        lines = [f"{self.n_left_out:,} of {self.n_lines:,} lines of {noun} cannot be used and are left out"]
        if self.foreign:
            common = [f"{describe(c)} x {n:,}" for c, n in self.foreign.most_common(_SHOWN)]
            lines.append(f"  characters that do not belong there, and in how many lines: {', '.join(common)}")
        lines += [f"  {problem}" for problem in self.problems]
        if 2 * self.n_left_out >= self.n_lines:
            language = self.rules.language_rules.name or self.rules.language if self.rules else "this model"
            lines.append(
                f"  next: check that the text is in {language} and its script; anadil normalize shows what the rules do"
            )
            raise AnadilError("\n".join(lines))
        return "\n".join(lines)


def check_unit(unit: Unit, rules: TextRules | None) -> None:
    """Raise AnadilError if a text of these rules cannot be cut into the unit."""
    if unit == "subword" and not (rules and rules.subwords):
        has = "the model's labels are characters" if rules and rules.labels else "no subwords are given"
        raise AnadilError(
            f"--unit subword: {has}\n"
            "  next: --unit char, a --model with subwords, or --tokenizer DIR (anadil tokenizer --kind bpe makes one)"
        )
    if unit != "word" or rules is None:
        return
    no_space = bool(rules.labels) and not any(label.startswith(" ") for label in rules.labels)
    if rules.language_rules.spaces == "none" or no_space:
        why = "the labels have no space" if no_space else f"{rules.language_rules.name} has no spaces between words"
        raise AnadilError(
            f"--unit word: {why}, so each line would be one word; Anadil does not cut words\n"
            f"  next: --unit {'subword' if rules.subwords else 'char'}"
        )


def read_lines(
    sources: Sequence[str], reject: Callable[[Problem], None], on_progress: Progress = lambda *_: None
) -> Iterator[tuple[str, str]]:
    """Place and text of every line of the sources that is not blank; a line that is no text goes to `reject`.

    A source is a text file with a sentence per line, or a JSONL file with a "text" per line, as a manifest; either may be
    compressed (gzip, bzip2, xz, zstd), and "-" is standard input. What it is is read from its content.
    Raises AnadilError if one is missing or damaged.
    """
    total = sum(Path(source).stat().st_size for source in sources if source != STDIN and Path(source).is_file())
    before = 0
    for source in sources:
        name = "standard input" if source == STDIN else source
        try:
            with _opened(source) as raw:
                for number, (where, line) in enumerate(_texts(name, raw, reject), start=1):
                    if number % 50_000 == 0 and source != STDIN:
                        on_progress("reading", before + raw.tell(), total)
                    yield where, line
                before += 0 if source == STDIN else raw.tell()
        except OSError as error:
            raise AnadilError(f"could not read {name}: {error.strerror or error}\n  next: check the file") from error
        except Exception as error:
            if (
                isinstance(error, EOFError | zlib.error | lzma.LZMAError | UnicodeError)
                or type(error).__name__ == "ZstdError"
            ):
                raise AnadilError(f"{name}: cannot be read to its end: {error}\n  next: copy the file again") from error
            raise
    on_progress("reading", total, total)


def split_lines(name: str, file: IO[bytes], max_bytes: int) -> Iterator[bytes]:
    """The lines of a file without their line feeds. Raises AnadilError for a line of more than `max_bytes`."""
    rest: list[bytes] = []
    size = 0
    while data := file.read(1 << 20):
        first, *lines = data.split(b"\n")
        rest.append(first)
        size += len(first)
        if lines:
            yield b"".join(rest)
            yield from lines[:-1]
            rest, size = lines[-1:], len(lines[-1])
        if size > max_bytes:
            raise AnadilError(
                f"{name}: a line is longer than {max_bytes:,} bytes\n  next: give a text file with a sentence per line"
            )
    if size:
        yield b"".join(rest)


@contextlib.contextmanager
def _opened(source: str) -> Iterator[io.BufferedReader[Any]]:
    if source == STDIN:
        reader = io.BufferedReader(cast(io.RawIOBase, sys.stdin.buffer))
        try:
            yield reader
        finally:
            reader.detach()  # leaves standard input open
        return
    path = Path(source)
    if not path.is_file():
        state = "a folder" if path.is_dir() else "not there"
        raise AnadilError(f"text not found: {path} is {state}\n  next: check the path; - is standard input")
    with open(path, "rb") as file:
        yield file


def _unpacked(name: str, file: io.BufferedReader[Any]) -> IO[bytes]:
    """The file's content, decompressed and as UTF-8, by its first bytes."""
    head = file.peek(8)
    if head.startswith(b"\x1f\x8b"):
        return cast(IO[bytes], gzip.GzipFile(fileobj=file))
    if head.startswith(b"BZh"):
        return cast(IO[bytes], bz2.BZ2File(file))
    if head.startswith(b"\xfd7zXZ\x00"):
        return cast(IO[bytes], lzma.LZMAFile(file))
    if head.startswith(b"\x28\xb5\x2f\xfd"):
        return cast(IO[bytes], _zstd(name).ZstdFile(file))
    if head.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return cast(IO[bytes], codecs.EncodedFile(file, "utf-8", "utf-16"))
    return file


def _zstd(name: str) -> Any:
    """The module of Zstandard: Python's own from 3.14 on, or its copy for earlier versions."""
    for module in ("compression.zstd", "backports.zstd"):
        with contextlib.suppress(ImportError):
            return importlib.import_module(module)
    raise AnadilError(
        f"{name} is compressed by zstd, for which a library is missing\n  next: pip install backports.zstd"
    )


def _texts(name: str, raw: io.BufferedReader[Any], reject: Callable[[Problem], None]) -> Iterator[tuple[str, str]]:
    is_json: bool | None = None  # decided by the first line that is not blank
    for number, line in enumerate(split_lines(name, _unpacked(name, raw), MAX_LINE_BYTES), start=1):
        where = f"{name}:{number}"
        try:
            text = line.decode("utf-8-sig" if number == 1 else "utf-8")
        except UnicodeDecodeError as error:
            reject(Problem(where, f"not UTF-8 at byte {error.start}"))
            continue
        if not text or text.isspace():
            continue
        if is_json is None:
            is_json = text.lstrip().startswith("{") and _is_record(text)
            if not is_json and (columns := text.strip().split("\t"))[1:]:
                names = ", ".join(map(_short, columns[:10]))
                raise AnadilError(
                    f"{where}: a table, whose first line has {len(columns)} columns ({names}), and no sentences\n"
                    "  next: take the column of the sentences (cut -f3), or make a manifest of it: anadil import"
                )
        if is_json:
            try:
                text = _text_of(text)
            except ValueError as error:
                reject(Problem(where, str(error)))
                continue
        if "\0" in text:
            reject(Problem(where, "contains zero bytes: it is no text"))
        elif text.strip():
            yield where, text


def _is_record(line: str) -> bool:
    try:
        return isinstance(json.loads(line), dict)
    except (ValueError, RecursionError):
        return False


def _text_of(line: str) -> str:
    """The text in a line of JSON. Raises ValueError with the reason if there is none."""
    try:
        record = json.loads(line)
    except json.JSONDecodeError as error:
        raise ValueError(f"not valid JSON: {error.msg} at column {error.colno}") from None
    except RecursionError:
        raise ValueError("not valid JSON: nested too deeply") from None
    text = record.get("text") if isinstance(record, dict) else None
    if not isinstance(text, str):
        raise ValueError('no "text"')
    try:
        text.encode()
    except UnicodeEncodeError:
        raise ValueError("the text holds half a surrogate pair") from None
    return text


def _characters(text: str) -> str:
    """The characters of a text with spaces between them. Raises ValueError if it contains the sign for a space."""
    if SPACE in text:
        raise ValueError(f"contains {SPACE} (U+2581), which stands for the space in a model of characters")
    return " ".join(SPACE.join(text.split()))


def _short(text: str) -> str:
    return text if len(text) <= 60 else text[:59] + "…"
