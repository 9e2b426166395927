"""Files from the web that arrive whole: resumed after a cut, never spliced from two versions, checked, then renamed."""

from __future__ import annotations

import contextlib
import hashlib
import http.client
import json
import os
import re
import shutil
import ssl
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from anadil import __version__
from anadil.errors import AnadilError

TRIES = 6
"""In a row that bring nothing new: with the waits between them, about a minute without network."""

LONGEST_WAIT_S = 60.0
TIMEOUT_S = 60.0  # without a single byte
CHUNK_BYTES = 2**18
MAX_PAGE_BYTES = 64 * 2**20  # of a listing or a list of sums
PASSING_STATUS = frozenset({408, 425, 429, 500, 502, 503, 504})  # worth another try

Progress = Callable[[str, float, float], None]  # what, bytes done, bytes in all (0: unknown)


@dataclass(frozen=True, slots=True)
class RemoteFile:
    """One file of a corpus."""

    url: str
    name: str  # path below the folder it goes to
    size: int | None = None  # bytes, where it is published
    checksum: str | None = None  # "sha256:..." or "md5:...", where it is published


def fetch_all(files: Sequence[RemoteFile], out: Path, progress: Progress = lambda *step: None) -> list[Path]:
    """Fetch files into `out`, those that are there already only if they are not as published."""
    fetched = []
    for number, file in enumerate(files, start=1):
        fetched.append(fetch(file, out / file.name, progress))
        if len(files) > 1:
            progress("files", number, len(files))
    return fetched


def fetch(file: RemoteFile, target: Path, progress: Progress = lambda *step: None) -> Path:
    """Fetch one file to `target`, or find it there. Returns `target`.

    What has come stays in `TARGET.partial` when the network fails, and the next call goes on from there, if the server
    still has the same file (ETag, date, size) and can send a part of it.
    Raises AnadilError if the server refuses, stays out of reach, or sends another size or checksum than published.
    """
    if target.exists():
        if wrong := difference(file, target):
            raise AnadilError(f"{target} is there already, but {wrong}\n  next: move it away, and run this again")
        return target
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = _Partial(target.with_name(target.name + ".partial"))
    in_pieces = _complete(file, partial, progress)
    wrong = difference(file, partial.path)
    if wrong and in_pieces:  # they do not fit together: once more, as a whole
        partial.discard()
        _complete(file, partial, progress)
        wrong = difference(file, partial.path)
    if wrong:
        partial.discard()
        raise AnadilError(
            f"{file.url} is not the file that is meant, or was damaged on the way: {wrong}\n"
            "  nothing of it was kept\n"
            "  next: run the same command again; if it stays so, ask those who publish the corpus"
        )
    os.replace(partial.path, target)
    partial.discard()
    return target


def read_page(url: str) -> bytes:
    """A listing or a list of checksums. Raises AnadilError as `fetch`."""

    def read() -> bytes:
        with _open(url, {}) as response:
            page: bytes = response.read(MAX_PAGE_BYTES + 1)
        if len(page) > MAX_PAGE_BYTES:
            raise AnadilError(f"{url} is larger than any listing ({MAX_PAGE_BYTES >> 20} MB)")
        return page

    page: bytes = _persist(read, lambda: 0, url)
    return page


class _Partial:
    """A file that is still coming, and a note on which version of it."""

    def __init__(self, path: Path) -> None:
        self.path, self.note = path, path.with_name(path.name + ".json")

    @property
    def size(self) -> int:
        return self.path.stat().st_size if self.path.exists() else 0

    def version(self) -> dict[str, Any] | None:
        try:
            version = json.loads(self.note.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return None
        return version if isinstance(version, dict) else None

    def begin(self, version: dict[str, Any]) -> None:
        self.discard()
        self.note.write_text(json.dumps(version), encoding="utf-8")

    def discard(self) -> None:
        for path in (self.path, self.note):
            path.unlink(missing_ok=True)


def _complete(file: RemoteFile, partial: _Partial, progress: Progress) -> bool:
    """Fill `partial` to its end. Returns whether it was put together from more than one answer."""
    pieces: list[int] = []

    def get() -> None:
        begin = _receive(file, partial, progress)
        if begin is not None:
            pieces.append(begin)

    _persist(get, lambda: partial.size, file.url)
    return any(begin > 0 for begin in pieces)


def _persist(get: Callable[[], Any], n_bytes: Callable[[], int], url: str) -> Any:
    """Call `get` until it ends; give up after `TRIES` failures in a row that brought the file no further than before."""
    furthest, failures = n_bytes(), 0
    while True:
        try:
            return get()
        except (OSError, http.client.HTTPException) as error:  # URLError, time-outs and cuts among them
            if n_bytes() > furthest:
                furthest, failures = n_bytes(), 0
            wait = _wait_for(error, failures)
            failures += 1
            if wait is None or failures >= TRIES:
                raise _failed(url, error, failures) from error
        time.sleep(wait)


def _wait_for(error: Exception, failures: int) -> float | None:
    """Seconds until another try, doubling from one; None if there is no point in it."""
    wait: float = min(2.0**failures, LONGEST_WAIT_S)
    if isinstance(error, urllib.error.HTTPError):
        if error.code not in PASSING_STATUS:
            return None
        asked = error.headers.get("Retry-After", "")
        return min(float(asked), LONGEST_WAIT_S) if asked.isdecimal() else wait
    passing = urllib.error.URLError | ConnectionError | TimeoutError | ssl.SSLError
    if isinstance(error, OSError) and not isinstance(error, passing):
        return None  # the disk is full, not the line cut
    return wait


def _receive(file: RemoteFile, partial: _Partial, progress: Progress) -> int | None:
    """One request: append to `partial` or begin anew. Returns the byte it began at, None if all was there."""
    begin, known = partial.size, partial.version()
    if begin and (known is None or known["url"] != file.url):
        begin, known = 0, None
    try:
        response = _open(file.url, _conditions(begin, known))
    except urllib.error.HTTPError as error:
        if error.code != 416 or not begin:
            raise
        total = re.fullmatch(r"bytes \*/(\d+)", error.headers.get("Content-Range", ""))
        if total and known and int(total[1]) == begin == known["size"]:
            return None
        partial.discard()
        response, begin, known = _open(file.url, {}), 0, None
    with response:
        version = _version(file.url, response)
        if response.status == 206 and known and _continues(response, begin, version, known):
            mode = "ab"
        elif response.status == 206:  # another part, or of another version: not to be spliced
            partial.discard()
            raise ConnectionError("the file on the server has changed")
        else:
            begin, mode = 0, "wb"
            _require_room(file, version["size"], partial.path)
            partial.begin(version)
        _copy(response, partial, mode, begin, version["size"], lambda done, total: progress(file.name, done, total))
    return begin


def _conditions(begin: int, known: dict[str, Any] | None) -> dict[str, str]:
    if not begin or known is None:
        return {}
    headers = {"Range": f"bytes={begin}-"}
    validator = known["etag"] or known["modified"]
    if validator and not validator.startswith("W/"):  # RFC 9110, 13.1.5: a weak ETag is no condition for a range
        headers["If-Range"] = validator
    return headers


def _version(url: str, response: Any) -> dict[str, Any]:
    """What tells one version of a file from another; its full size, whatever part of it comes."""
    length = response.headers.get("Content-Length", "")
    size = int(length) if length.isdecimal() else None
    part = re.fullmatch(r"bytes \d+-\d+/(\d+)", response.headers.get("Content-Range", ""))
    if response.status == 206:
        size = int(part[1]) if part else None
    return {
        "url": url,
        "etag": response.headers.get("ETag"),
        "modified": response.headers.get("Last-Modified"),
        "size": size,
    }


def _continues(response: Any, begin: int, version: dict[str, Any], known: dict[str, Any]) -> bool:
    """Whether this part follows on what is there. A part may leave out what If-Range has settled (RFC 9110, 15.3.7)."""
    told = [key for key in ("etag", "modified", "size") if version[key] is not None]
    starts = response.headers.get("Content-Range", "").startswith(f"bytes {begin}-")
    return bool(starts and told and all(version[key] == known[key] for key in told))


def _copy(
    response: Any,
    partial: _Partial,
    mode: str,
    begin: int,
    total: int | None,
    on_progress: Callable[[float, float], None],
) -> None:
    done = begin
    with open(partial.path, mode) as out:
        while chunk := response.read(CHUNK_BYTES):
            out.write(chunk)
            done += len(chunk)
            on_progress(done, total or 0)
    if total is not None and done != total:
        if done > total:
            partial.discard()
        raise ConnectionError(f"the connection was cut after {done:,} of {total:,} bytes")


def _open(url: str, headers: dict[str, str]) -> Any:
    if urllib.parse.urlsplit(url).scheme not in ("http", "https"):
        raise AnadilError(f"{url} is no web address")
    plain = {"User-Agent": f"anadil/{__version__}", "Accept-Encoding": "identity"}
    return urllib.request.urlopen(urllib.request.Request(url, headers=plain | headers), timeout=TIMEOUT_S)


def _require_room(file: RemoteFile, size: int | None, path: Path) -> None:
    if file.size is not None and size is not None and size != file.size:
        raise AnadilError(
            f"{file.url} has {size:,} bytes, {file.size:,} are published: it is not the file that is meant\n"
            "  next: look whether the corpus has moved (anadil corpora tells its page)"
        )
    free = shutil.disk_usage(path.parent).free
    if size is not None and size > free:
        raise AnadilError(
            f"{file.url} has {size / 1e9:.1f} GB, and {free / 1e9:.1f} GB are free in {path.parent}\n"
            "  next: free disk space, or choose another --out"
        )


def difference(file: RemoteFile, path: Path) -> str | None:
    """How the file at `path` differs from the published one."""
    size = path.stat().st_size
    if file.size is not None and size != file.size:
        return f"it has {size:,} bytes where {file.size:,} are published"
    if file.checksum is None:
        return None
    method, _, expected = file.checksum.partition(":")
    with open(path, "rb") as content:
        found = hashlib.file_digest(content, method).hexdigest()
    return None if found == expected.lower() else f"its {method} checksum is {found} where {expected} is published"


def _failed(url: str, error: Exception, failures: int) -> AnadilError:
    reason: object = error
    if isinstance(error, urllib.error.HTTPError):
        reason = f"the server answers {error.code} {error.reason}"
        with contextlib.suppress(OSError):
            error.close()
    elif isinstance(error, urllib.error.URLError):
        reason = error.reason
    tried = f" ({failures} tries)" if failures > 1 else ""
    return AnadilError(
        f"could not fetch {url}: {reason}{tried}\n  next: run the same command again; it goes on where it stopped"
    )
