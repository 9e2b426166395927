"""API keys: several, named, from a file or the environment, and how many requests each may make."""

from __future__ import annotations

import hashlib
import hmac
import os
import time
from pathlib import Path

from anadil.errors import AnadilError

VARIABLE = "ANADIL_API_KEYS"
SHORTEST = 16
"""Characters of a key: 16 random ones of 64 letters cannot be guessed over a network."""

_HASHED = "sha256:"
_EXAMPLE = "a line is: NAME KEY, such as: radio 4f9d0c6be1a2470b"


class Keys:
    """The keys that are accepted. The file is read again when it changes, so a key is revoked by deleting its line."""

    def __init__(self, file: Path | None, environment: str | None = None) -> None:
        """Read the keys. Raises AnadilError if the file is missing or malformed, or a key is too short."""
        self._file = file
        self._fixed = _parse(environment.replace(",", "\n").splitlines(), VARIABLE) if environment else {}
        self._from_file: dict[str, bytes] = {}
        self._version: tuple[int, int, int] | None = None
        self.problem = ""  # why the last change of the file was not taken
        if file is not None:
            self._from_file, self._version = _read(file), _version(file)

    @property
    def required(self) -> bool:
        return self._file is not None or bool(self._fixed)

    def name_of(self, key: str) -> str | None:
        """The name of a key, or None if it is not accepted. Takes the same time wherever it differs."""
        self._refresh()
        digest, found = hashlib.sha256(key.encode("utf-8", "replace")).digest(), None
        for name, known in (self._fixed | self._from_file).items():
            if hmac.compare_digest(known, digest):
                found = name
        return found

    def _refresh(self) -> None:
        """Take the file's keys if it changed. A file that is gone has no keys; one that is malformed changes nothing."""
        if self._file is None or (version := _version(self._file)) == self._version:
            return
        self._version = version
        try:
            self._from_file, self.problem = (_read(self._file) if version else {}), ""
        except AnadilError as error:
            self.problem = str(error)


def _version(file: Path) -> tuple[int, int, int] | None:
    try:
        status = file.stat()
    except OSError:
        return None
    return status.st_mtime_ns, status.st_size, status.st_ino


def _read(file: Path) -> dict[str, bytes]:
    try:
        return _parse(file.read_text(encoding="utf-8-sig").splitlines(), str(file))
    except (OSError, UnicodeDecodeError) as error:
        raise AnadilError(f"{file}: the keys cannot be read ({error})\n  next: write the file; {_EXAMPLE}") from error


def _parse(lines: list[str], where: str) -> dict[str, bytes]:
    """Digests by name, of lines `NAME KEY` or `NAME sha256:HEX`; empty lines and those that start with # are skipped."""
    found: dict[str, bytes] = {}
    for number, line in enumerate(lines, start=1):
        parts = line.split()
        if not parts or parts[0].startswith("#"):
            continue
        if len(parts) != 2:
            raise AnadilError(f"{where}:{number}: {len(parts)} words; {_EXAMPLE}")
        name, key = parts
        if name in found:
            raise AnadilError(f"{where}:{number}: the name {name!r} is there already; {_EXAMPLE}")
        if key.startswith(_HASHED):
            try:
                found[name] = bytes.fromhex(key.removeprefix(_HASHED))
            except ValueError:
                found[name] = b""
            if len(found[name]) != 32:
                raise AnadilError(f"{where}:{number}: after sha256: 64 hexadecimal digits are expected")
            continue
        if len(key) < SHORTEST:
            raise AnadilError(
                f"{where}:{number}: the key of {name!r} has {len(key)} characters, at least {SHORTEST} are needed\n"
                "  next: make one with: python3 -c 'import secrets; print(secrets.token_urlsafe(24))'"
            )
        found[name] = hashlib.sha256(key.encode()).digest()
    if not found:
        raise AnadilError(f"{where}: no keys; {_EXAMPLE}")
    return found


def keys_from(file: Path | None) -> Keys:
    """The keys of a file and of the environment variable ANADIL_API_KEYS (NAME KEY, with commas between)."""
    return Keys(file, os.environ.get(VARIABLE))


class RateLimit:
    """So many requests per minute for each name, in bursts of at most as many (a token bucket)."""

    _MOST_NAMES = 10_000

    def __init__(self, per_minute: float) -> None:
        self._per_minute = per_minute
        self._left: dict[str, tuple[float, float]] = {}  # tokens, and when they were counted

    def wait_s(self, name: str, now: float | None = None) -> float:
        """0 if a request of `name` may pass, else the seconds after which it may."""
        if not self._per_minute:
            return 0.0
        now = time.monotonic() if now is None else now
        tokens, then = self._left.pop(name, (self._per_minute, now))
        tokens = min(self._per_minute, tokens + (now - then) * self._per_minute / 60)
        passes = tokens >= 1
        self._left[name] = (tokens - passes, now)
        if len(self._left) > self._MOST_NAMES:  # the one that was quiet for longest
            del self._left[next(iter(self._left))]
        return 0.0 if passes else (1 - tokens) * 60 / self._per_minute
