"""Downloads that arrive complete: resumed when cut off, never mixed from two versions, verified, then renamed."""

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
"""Failed requests in a row that bring no new bytes: with the waits between them, about a minute without network."""

_MAX_WAIT_S = 60.0
_TIMEOUT_S = 60.0  # without receiving a byte
_CHUNK_BYTES = 2**18
MAX_PAGE_BYTES = 64 * 2**20  # of a file listing or a list of checksums
_TEMPORARY_STATUS = frozenset({408, 425, 429, 500, 502, 503, 504})  # worth another try

Progress = Callable[[str, float, float], None]  # what, bytes done, total bytes (0: unknown)


@dataclass(frozen=True, slots=True)
class RemoteFile:
    """One file of a corpus on a web server."""

    url: str
    name: str  # path below the target folder
    size: int | None = None  # bytes, if it is published
    checksum: str | None = None  # "sha256:..." or "md5:...", if it is published


def fetch_all(files: Sequence[RemoteFile], out: Path, progress: Progress = lambda *step: None) -> list[Path]:
    """Download files into `out`; return their paths. Raises AnadilError as `fetch`."""
    paths = []
    for number, file in enumerate(files, start=1):
        paths.append(fetch(file, out / file.name, progress))
        if len(files) > 1:
            progress("files", number, len(files))
    return paths


def fetch(file: RemoteFile, target: Path, progress: Progress = lambda *step: None) -> Path:
    """Download one file to `target`, unless it is there already. Returns `target`.

    If the network fails, the received part stays in `TARGET.partial`. The next call resumes it if the server still has
    the same file (ETag, date, size) and supports range requests.
    Raises AnadilError if the server refuses, cannot be reached, or sends another size or checksum than published.
    """
    if target.exists():
        if problem := difference(file, target):
            raise AnadilError(
                f"{target} is there already, but {problem}\n  next: rename or delete it, and run the same command again"
            )
        return target
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = _Partial(target.with_name(target.name + ".partial"))
    in_parts = _complete(file, partial, progress)
    problem = difference(file, partial.path)
    if problem and in_parts:  # the parts do not fit together: download it again as a whole
        partial.discard()
        _complete(file, partial, progress)
        problem = difference(file, partial.path)
    if problem:
        partial.discard()
        raise AnadilError(
            f"{file.url} is not the published file, or was damaged in transit: {problem}\n"
            "  the download was deleted\n"
            "  next: run the same command again; if it fails again, ask the publishers of the corpus"
        )
    os.replace(partial.path, target)
    partial.discard()
    return target


def read_page(url: str) -> bytes:
    """Download a small page: a file listing or a list of checksums. Raises AnadilError as `fetch`."""

    def read() -> bytes:
        with _open(url, {}) as response:
            page: bytes = response.read(MAX_PAGE_BYTES + 1)
        if len(page) > MAX_PAGE_BYTES:
            raise AnadilError(f"{url} is larger than a listing can be ({MAX_PAGE_BYTES >> 20} MB)")
        return page

    page: bytes = _retry(read, lambda: 0, url)
    return page


class _Partial:
    """A file that is being downloaded, and beside it a JSON file on which version of it."""

    def __init__(self, path: Path) -> None:
        self.path, self.version_file = path, path.with_name(path.name + ".json")

    @property
    def size(self) -> int:
        return self.path.stat().st_size if self.path.exists() else 0

    def version(self) -> dict[str, Any] | None:
        try:
            version = json.loads(self.version_file.read_text(encoding="utf-8"))
        except (OSError, ValueError, RecursionError):
            return None
        return version if isinstance(version, dict) else None

    def begin(self, version: dict[str, Any]) -> None:
        self.discard()
        self.version_file.write_text(json.dumps(version), encoding="utf-8")

    def discard(self) -> None:
        for path in (self.path, self.version_file):
            path.unlink(missing_ok=True)


def _complete(file: RemoteFile, partial: _Partial, progress: Progress) -> bool:
    """Download `partial` to its end. Returns whether it was put together from several responses."""
    begins: list[int] = []

    def get() -> None:
        begin = _receive(file, partial, progress)
        if begin is not None:
            begins.append(begin)

    _retry(get, lambda: partial.size, file.url)
    return any(begin > 0 for begin in begins)


def _retry(get: Callable[[], Any], n_bytes: Callable[[], int], url: str) -> Any:
    """Call `get` until it succeeds; give up after `TRIES` failures in a row in which `n_bytes` did not grow."""
    most_bytes, failures = n_bytes(), 0
    while True:
        try:
            return get()
        except (OSError, http.client.HTTPException) as error:  # includes URLError, time-outs and lost connections
            if n_bytes() > most_bytes:
                most_bytes, failures = n_bytes(), 0
            wait = _seconds_to_wait(error, failures)
            failures += 1
            if wait is None or failures >= TRIES:
                raise _network_error(url, error, failures) from error
        time.sleep(wait)


def _seconds_to_wait(error: Exception, failures: int) -> float | None:
    """Seconds until the next try, doubling from one; None if another try cannot help."""
    wait: float = min(2.0**failures, _MAX_WAIT_S)
    if isinstance(error, urllib.error.HTTPError):
        if error.code not in _TEMPORARY_STATUS:
            return None
        retry_after = error.headers.get("Retry-After", "")
        return min(float(retry_after), _MAX_WAIT_S) if retry_after.isdecimal() else wait
    network_errors = urllib.error.URLError | ConnectionError | TimeoutError | ssl.SSLError
    if isinstance(error, OSError) and not isinstance(error, network_errors):
        return None  # not the network: for example, the disk is full
    return wait


def _receive(file: RemoteFile, partial: _Partial, progress: Progress) -> int | None:
    """Make one request: append to `partial`, or start it again. Returns the first byte received, None if all was there."""
    begin, known = partial.size, partial.version()
    if begin and (known is None or known["url"] != file.url):
        begin, known = 0, None
    try:
        response = _open(file.url, _range_headers(begin, known))
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
        elif response.status == 206:  # a part that does not continue ours
            partial.discard()
            raise ConnectionError("the file on the server has changed")
        else:
            begin, mode = 0, "wb"
            _check_size(file, version["size"], partial.path)
            partial.begin(version)
        _copy(response, partial, mode, begin, version["size"], lambda done, total: progress(file.name, done, total))
    return begin


def _range_headers(begin: int, known: dict[str, Any] | None) -> dict[str, str]:
    if not begin or known is None:
        return {}
    headers = {"Range": f"bytes={begin}-"}
    validator = known["etag"] or known["modified"]
    if validator and not validator.startswith("W/"):  # RFC 9110, 13.1.5: If-Range needs a strong ETag
        headers["If-Range"] = validator
    return headers


def _version(url: str, response: Any) -> dict[str, Any]:
    """What identifies a version of a file; `size` is its full size, even in a partial response."""
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
    """Whether this partial response continues ours. It may omit fields that If-Range has settled (RFC 9110, 15.3.7)."""
    given = [key for key in ("etag", "modified", "size") if version[key] is not None]
    starts = response.headers.get("Content-Range", "").startswith(f"bytes {begin}-")
    return bool(starts and given and all(version[key] == known[key] for key in given))


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
        while chunk := response.read(_CHUNK_BYTES):
            out.write(chunk)
            done += len(chunk)
            on_progress(done, total or 0)
    if total is not None and done != total:
        if done > total:
            partial.discard()
        raise ConnectionError(f"the connection was cut after {done:,} of {total:,} bytes")


def _open(url: str, headers: dict[str, str]) -> Any:
    if urllib.parse.urlsplit(url).scheme not in ("http", "https"):
        raise AnadilError(f"{url} is not a web address")
    plain = {"User-Agent": f"anadil/{__version__}", "Accept-Encoding": "identity"}
    return urllib.request.urlopen(urllib.request.Request(url, headers=plain | headers), timeout=_TIMEOUT_S)


def _check_size(file: RemoteFile, size: int | None, path: Path) -> None:
    if file.size is not None and size is not None and size != file.size:
        raise AnadilError(
            f"{file.url} has {size:,} bytes, but {file.size:,} are published: it is another file\n"
            "  next: check whether the corpus has moved (anadil corpora NAME shows where it is)"
        )
    free = shutil.disk_usage(path.parent).free
    if size is not None and size > free:
        raise AnadilError(
            f"{file.url} has {size / 1e9:.1f} GB, and {free / 1e9:.1f} GB are free in {path.parent}\n"
            "  next: free disk space, or choose another --out"
        )


def difference(file: RemoteFile, path: Path) -> str | None:
    """How the file at `path` differs from the published size or checksum; None if it does not."""
    size = path.stat().st_size
    if file.size is not None and size != file.size:
        return f"it has {size:,} bytes, but {file.size:,} are published"
    if file.checksum is None:
        return None
    method, _, expected = file.checksum.partition(":")
    with open(path, "rb") as content:
        checksum = hashlib.file_digest(content, method).hexdigest()
    if checksum == expected.lower():
        return None
    return f"its {method} checksum is {checksum}, but {expected} is published"


def _network_error(url: str, error: Exception, failures: int) -> AnadilError:
    reason: object = error
    if isinstance(error, urllib.error.HTTPError):
        reason = f"the server answers {error.code} {error.reason}"
        with contextlib.suppress(OSError):
            error.close()
    elif isinstance(error, urllib.error.URLError):
        reason = error.reason
    tried = f" ({failures} tries)" if failures > 1 else ""
    return AnadilError(
        f"could not download {url}: {reason}{tried}\n  next: run the same command again; it resumes where it stopped"
    )
