"""ARPA files: n-grams with log10 probabilities and back-offs as text, also gzipped."""

from __future__ import annotations

import gzip
import math
import re
import zlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import islice, repeat
from pathlib import Path
from typing import IO, cast

import numpy as np

from anadil.errors import AnadilError
from anadil.files import whole_file
from anadil.lm.counts import MAX_ORDER
from anadil.lm.disk_sort import Array, Block
from anadil.lm.estimate import ZERO
from anadil.lm.texts import split_lines

MAX_LINE_BYTES = 1 << 20
MAX_NGRAMS = 1 << 28
"""Limits of a file that is read, so that a hostile one cannot fill the memory: 268 million n-grams take some 8 GB."""

_LINES_AT_ONCE = 1 << 16
_ROUNDED_UP = 1e-4
"""A log10 probability up to this is taken as 0: some programs round a probability of 1 up."""
_NEXT = "\n  next: make the file again: anadil lm build, or download it again"


@dataclass(frozen=True)
class NGrams:
    """The n-grams of an ARPA file. Words are numbered in the order of the unigrams."""

    words: tuple[str, ...]
    orders: tuple[Block, ...]  # per order k: word ids (n, k) uint32, log10 probabilities (n,), log10 back-offs (n,)

    @property
    def order(self) -> int:
        return len(self.orders)


def write_arpa(
    path: Path, words: Sequence[str], n_ngrams: Sequence[int], sections: Sequence[Callable[[], Iterable[Block]]]
) -> None:
    """Write an ARPA file, gzipped if its name ends with ".gz"; it appears whole or not at all.

    `sections`: per order a function that gives blocks of word ids (n, k), log10 probabilities and log10 back-offs.
    """
    with whole_file(path) as beside:
        if path.suffix == ".gz":
            with (
                open(beside, "wb") as raw,
                gzip.GzipFile("", "wb", 6, raw, mtime=0) as file,
            ):  # the same bytes each time
                _write(cast(IO[bytes], file), words, n_ngrams, sections)
        else:
            with open(beside, "wb") as file:
                _write(file, words, n_ngrams, sections)


def _write(
    file: IO[bytes],
    words: Sequence[str],
    n_ngrams: Sequence[int],
    sections: Sequence[Callable[[], Iterable[Block]]],
) -> None:
    header = [f"ngram {k}={n}\n" for k, n in enumerate(n_ngrams, start=1)]
    file.write(("\\data\\\n" + "".join(header)).encode())
    encoded = [word.encode() for word in words]
    inside = [word + b" " for word in encoded]
    for k, section in enumerate(sections, start=1):
        file.write(f"\n\\{k}-grams:\n".encode())
        ending = encoded if k < len(sections) else [word + b"\n" for word in encoded]
        for ngrams, probabilities, backoffs in section():
            for start in range(0, len(ngrams), _LINES_AT_ONCE):
                part = slice(start, start + _LINES_AT_ONCE)
                columns = ngrams[part].T.tolist()
                width, n = k + 1 + (k < len(sections)), len(columns[0])
                pieces: list[bytes] = [b""] * (width * n)
                pieces[::width] = _numbers(probabilities[part], "", "\t")
                for i, column in enumerate(columns[:-1], start=1):
                    pieces[i::width] = map(inside.__getitem__, column)
                pieces[k::width] = map(ending.__getitem__, columns[-1])
                if k < len(sections):
                    pieces[k + 1 :: width] = _numbers(backoffs[part], "\t", "\n")
                file.write(b"".join(pieces))
    file.write(b"\n\\end\\\n")


def _numbers(values: Array, before: str, after: str) -> list[bytes]:
    """Values (n,) that are 0 or negative, with six decimals, between `before` and `after`.

    The digits are computed by NumPy: 0.06 us a number; Python's formatting takes 0.24, half of the time of an ARPA file.
    """
    millionths = np.rint(-values * 1e6).astype(np.int64)
    whole, rest = np.divmod(millionths, 1_000_000)
    start = len(before)
    text = np.empty((len(values), start + 9 + len(after)), np.uint8)
    text[:] = np.frombuffer(f"{before}-0.000000{after}".encode(), np.uint8)
    text[:, start + 1] += whole.astype(np.uint8)
    for i in range(start + 8, start + 2, -1):
        rest, digit = np.divmod(rest, 10)
        text[:, i] += digit.astype(np.uint8)
    found: list[bytes] = text.view(f"S{text.shape[1]}").ravel().tolist()
    for i in np.flatnonzero((whole > 9) | (millionths == 0)).tolist():  # two digits before the point, or plain 0
        found[i] = (
            f"{before}{-millionths[i] / 1e6:.8g}{after}".encode() if millionths[i] else f"{before}0{after}".encode()
        )
    return found


def read_arpa(path: Path) -> NGrams:
    """Read an ARPA file, plain or gzipped.

    Raises AnadilError if it is missing, truncated, damaged, or larger than the limits of this module.
    """
    if not path.is_file():
        raise AnadilError(f"language model not found: {path}\n  next: check the path, or make one: anadil lm build")
    try:
        with open(path, "rb") as raw:
            zipped = raw.read(2) == b"\x1f\x8b"
        with gzip.open(path) if zipped else open(path, "rb") as file:
            return _Parser(str(path), cast(IO[bytes], file)).ngrams()
    except (EOFError, OSError, zlib.error) as error:
        raise AnadilError(f"{path}: cannot be read to its end: {error}{_NEXT}") from error


class _Parser:
    """Reads an ARPA file from top to bottom; an error names the line."""

    def __init__(self, name: str, file: IO[bytes]) -> None:
        self._name, self._lines, self._number = name, split_lines(name, file, MAX_LINE_BYTES), 0

    def ngrams(self) -> NGrams:
        expected = self._header()
        words: list[str] = []
        ids: dict[bytes, int] = {}
        orders = []
        for k, n in enumerate(expected, start=1):
            orders.append(self._section(k, n, len(expected), ids))
            if k == 1:
                try:
                    words = [word.decode() for word in ids]
                except UnicodeDecodeError as error:
                    raise self._error(f"the word {error.object!r} is not UTF-8") from None
            line = self._next()
            wanted = b"\\end\\" if k == len(expected) else f"\\{k + 1}-grams:".encode()
            if line != wanted:
                raise self._error(
                    f"expected {wanted.decode()} after {n:,} {k}-grams, found {_shown(line)}: "
                    f"the file is damaged, or its header has another number"
                )
        return NGrams(tuple(words), tuple(orders))

    def _header(self) -> list[int]:
        for line in self._lines:
            self._number += 1
            if line.strip() == b"\\data\\":
                break
            if self._number > 1000:
                break
        else:
            line = b""
        if line.strip() != b"\\data\\":
            raise AnadilError(f"{self._name}: no ARPA file: it has no line \\data\\{_NEXT}")
        expected: list[int] = []
        while match := re.fullmatch(rb"ngram\s+(\d{1,3})\s*=\s*(\d{1,18})", line := self._next()):
            k, n = int(match[1]), int(match[2])
            if k != len(expected) + 1 or k > MAX_ORDER or n > MAX_NGRAMS:
                raise self._error(
                    f"found {_shown(line)}; orders must rise from 1 to at most {MAX_ORDER}, with at most "
                    f"{MAX_NGRAMS:,} n-grams each"
                )
            expected.append(n)
        if not expected or line != b"\\1-grams:":
            raise self._error(f"expected lines such as ngram 1=5000, then \\1-grams:, found {_shown(line)}")
        return expected

    def _next(self) -> bytes:
        """The next line that is not blank."""
        for line in self._lines:
            self._number += 1
            if line := line.strip():
                return line
        raise self._error("the file ends here, but should end with \\end\\: it is truncated")

    def _section(self, k: int, n: int, order: int, ids: dict[bytes, int]) -> Block:
        ngrams, probabilities, backoffs = [], [], []
        while n:
            lines = list(islice(self._lines, min(n, _LINES_AT_ONCE)))
            if not lines:
                raise self._error(f"the file ends {n:,} {k}-grams early: it is truncated")
            rows = [line.split() for line in lines]
            try:
                values = np.array([(float(row[0]), float(row[k + 1]) if len(row) > k + 1 else 0.0) for row in rows])
                if k == 1:
                    found = np.arange(len(ids), len(ids) + len(rows), dtype=np.uint32)[:, None]
                    ids |= {row[1]: len(ids) + i for i, row in enumerate(rows)}
                else:
                    found = np.array([[ids[word] for word in row[1 : k + 1]] for row in rows], np.uint32)
                bad = ~((values[:, 0] <= _ROUNDED_UP) & (values[:, 1] < math.inf))
                if (
                    any(map(_wrong_length, rows, repeat(k), repeat(order)))
                    or bad.any()
                    or (k == 1 and len(ids) != found[-1, 0] + 1)
                ):
                    raise ValueError
            except (ValueError, IndexError, KeyError):
                self._explain(rows, k, order, ids)
            self._number += len(lines)
            n -= len(lines)
            ngrams.append(found)
            probabilities.append(np.clip(values[:, 0], ZERO, 0.0))
            backoffs.append(np.maximum(values[:, 1], ZERO))
        if not ngrams:
            return np.empty((0, k), np.uint32), np.empty(0), np.empty(0)
        return np.concatenate(ngrams), np.concatenate(probabilities), np.concatenate(backoffs)

    def _explain(self, rows: list[list[bytes]], k: int, order: int, ids: dict[bytes, int]) -> None:
        """Raise an error that names the first wrong line among `rows`."""
        seen = set() if k > 1 else set(islice(ids, max(0, len(ids) - len(rows))))
        for row in rows:
            self._number += 1
            if not row:
                raise self._error(f"the {k}-grams end here, earlier than the header says: the file is truncated")
            text = _shown(b" ".join(row))
            if _wrong_length(row, k, order):
                raise self._error(f"expected a probability, {k} words and perhaps a back-off weight, found {text}")
            for value, limit in ((row[0], _ROUNDED_UP), (b"".join(row[k + 1 :]) or b"0", math.inf)):
                try:
                    right = float(value) <= limit and float(value) < math.inf
                except ValueError:
                    right = False
                if not right:
                    raise self._error(f"{_shown(value)} is no log10 probability or back-off weight in {text}")
            for word in row[1 : k + 1]:
                if k > 1 and word not in ids:
                    raise self._error(f"the word {_shown(word)} is not among the 1-grams, in {text}")
            if k == 1 and row[1] in seen:
                raise self._error(f"the 1-gram {_shown(row[1])} is there twice")
            seen.add(row[1])
        raise self._error(f"a {k}-gram in the {len(rows):,} lines before is there twice")

    def _error(self, what: str) -> AnadilError:
        return AnadilError(f"{self._name}:{self._number}: {what}{_NEXT}")


def _wrong_length(row: list[bytes], k: int, order: int) -> bool:
    return not k + 1 <= len(row) <= k + 1 + (k < order)


def _shown(text: bytes) -> str:
    shown = text.decode("utf-8", "backslashreplace")
    return repr(shown if len(shown) <= 80 else shown[:79] + "…")
