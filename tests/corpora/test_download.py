"""Downloads from a local server with the faults of real ones. No test uses the network."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from anadil.corpora import download
from anadil.corpora.download import TRIES, RemoteFile, fetch, fetch_all, read_page
from anadil.errors import AnadilError
from tests.support.download_server import CONTENT, Server, server, waits

__all__ = ["server", "waits"]

OTHER = CONTENT[::-1]


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_file_is_downloaded_once_with_progress(server: Server, tmp_path: Path) -> None:
    heard: list[tuple[str, float, float]] = []
    file = RemoteFile(server.url, "sub/a.bin", len(CONTENT), server.sha256)
    for _ in range(2):
        (path,) = fetch_all([file], tmp_path, lambda *step: heard.append(step))
    assert path.read_bytes() == CONTENT and names(tmp_path / "sub") == ["a.bin"]
    assert server.asked == [None]
    assert heard[-1] == ("sub/a.bin", len(CONTENT), len(CONTENT)) and len(heard) > 2
    fetch_all([file, RemoteFile(server.url, "b.bin")], tmp_path, lambda *step: heard.append(step))
    assert heard[-1] == ("files", 2, 2)


def test_a_cut_connection_is_resumed(server: Server, tmp_path: Path, waits: list[float]) -> None:
    server.cuts = [300_000, 0, 300_000]
    fetch(RemoteFile(server.url, "a.bin", checksum=server.sha256), tmp_path / "a.bin")
    assert server.asked == [None, "bytes=300000-", "bytes=300000-", "bytes=600000-"]
    assert (tmp_path / "a.bin").read_bytes() == CONTENT and names(tmp_path) == ["a.bin"]
    assert waits == [1, 2, 1]  # an answer without anything new doubles the wait, progress starts it anew


def test_the_next_run_resumes_where_the_last_one_gave_up(server: Server, tmp_path: Path, waits: list[float]) -> None:
    server.cuts = [500_000] + [0] * TRIES
    with pytest.raises(AnadilError, match=r"cut after 500,000 of 1,024,000 bytes \(6 tries\)\n  next: run the same"):
        fetch(RemoteFile(server.url, "a.bin"), tmp_path / "a.bin")
    assert waits == [1, 2, 4, 8, 16] and names(tmp_path) == ["a.bin.partial", "a.bin.partial.json"]
    fetch(RemoteFile(server.url, "a.bin"), tmp_path / "a.bin")
    assert server.asked[-1] == "bytes=500000-" and (tmp_path / "a.bin").read_bytes() == CONTENT
    assert names(tmp_path) == ["a.bin"]


@pytest.mark.parametrize("etag", [None, '"one"', 'W/"weak"'])
def test_a_server_without_range_requests_sends_the_whole_file_again(
    server: Server, tmp_path: Path, etag: str | None
) -> None:
    server.ranges, server.cuts, server.etag = False, [300_000], etag
    fetch(RemoteFile(server.url, "a.bin"), tmp_path / "a.bin")
    assert (tmp_path / "a.bin").read_bytes() == CONTENT and server.asked == [None, "bytes=300000-"]


def test_a_server_that_always_breaks_off_and_cannot_resume_is_given_up(server: Server, tmp_path: Path) -> None:
    server.ranges, server.cuts = False, [300_000] * 50
    with pytest.raises(AnadilError, match="6 tries"):
        fetch(RemoteFile(server.url, "a.bin"), tmp_path / "a.bin")
    assert len(server.asked) == TRIES


@pytest.mark.parametrize("etags", [('"one"', '"two"'), ('W/"one"', 'W/"two"'), (None, None)])
def test_two_versions_of_a_file_are_not_mixed(
    server: Server, tmp_path: Path, etags: tuple[str | None, str | None]
) -> None:
    server.etag, server.cuts = etags[0], [300_000]

    def change(state: Server) -> None:
        if len(state.asked) == 2:
            state.content, state.etag = OTHER[:-7], etags[1]  # another size: without an ETag nothing else tells

    server.on_request = change
    fetch(RemoteFile(server.url, "a.bin"), tmp_path / "a.bin")
    assert (tmp_path / "a.bin").read_bytes() == OTHER[:-7]
    assert len(server.asked) == (2 if etags[0] == '"one"' else 3)  # If-Range has the server send the new one at once


def test_parts_that_do_not_fit_together_are_downloaded_again_as_a_whole(server: Server, tmp_path: Path) -> None:
    server.etag, server.cuts = None, [300_000]  # no ETag and the same size: only the checksum tells

    def change(state: Server) -> None:
        if len(state.asked) == 2:
            state.content = OTHER

    server.on_request = change
    checksum = f"md5:{hashlib.md5(OTHER).hexdigest()}"
    fetch(RemoteFile(server.url, "a.bin", checksum=checksum.upper().replace("MD5", "md5")), tmp_path / "a.bin")
    assert (tmp_path / "a.bin").read_bytes() == OTHER
    assert server.asked == [None, "bytes=300000-", None]


@pytest.mark.parametrize(
    ("size", "checksum", "message"),
    [
        (None, "sha256:" + "0" * 64, f"its sha256 checksum is {hashlib.sha256(CONTENT).hexdigest()}, but 0000"),
        (None, "md5:" + "0" * 32, "its md5 checksum is"),
        (7, None, "has 1,024,000 bytes, but 7 are published"),
    ],
)
def test_a_file_that_is_not_the_published_one_is_not_kept(
    server: Server, tmp_path: Path, size: int | None, checksum: str | None, message: str
) -> None:
    with pytest.raises(AnadilError, match=message):
        fetch(RemoteFile(server.url, "a.bin", size, checksum), tmp_path / "a.bin")
    assert names(tmp_path) == [] and server.asked == [None]  # once: it came in one piece


def test_a_file_that_is_cut_off_without_an_error_is_detected_by_its_size(server: Server, tmp_path: Path) -> None:
    server.honest_length, server.cuts = False, [1000]
    with pytest.raises(AnadilError, match="it has 1,000 bytes, but 1,024,000 are published"):
        fetch(RemoteFile(server.url, "a.bin", len(CONTENT)), tmp_path / "a.bin")


def test_another_file_with_that_name_is_not_touched(server: Server, tmp_path: Path) -> None:
    (tmp_path / "a.bin").write_text("mine")
    with pytest.raises(AnadilError, match="is there already, but its sha256 checksum"):
        fetch(RemoteFile(server.url, "a.bin", checksum=server.sha256), tmp_path / "a.bin")
    assert (tmp_path / "a.bin").read_text() == "mine" and server.asked == []


def test_a_complete_partial_file_is_not_downloaded_again(server: Server, tmp_path: Path) -> None:
    server.cuts = [300_000] + [0] * TRIES
    with pytest.raises(AnadilError):
        fetch(RemoteFile(server.url, "a.bin"), tmp_path / "a.bin")
    (tmp_path / "a.bin.partial").write_bytes(CONTENT)
    fetch(RemoteFile(server.url, "a.bin"), tmp_path / "a.bin")
    assert server.asked[-1] == f"bytes={len(CONTENT)}-" and (tmp_path / "a.bin").read_bytes() == CONTENT


def test_the_servers_retry_after_is_respected(server: Server, tmp_path: Path, waits: list[float]) -> None:
    server.statuses, server.retry_after = [503, 429], "7"
    fetch(RemoteFile(server.url, "a.bin"), tmp_path / "a.bin")
    assert waits == [7, 7] and (tmp_path / "a.bin").read_bytes() == CONTENT


@pytest.mark.parametrize("status", [401, 403, 404, 410])
def test_a_refusal_is_reported_at_once(server: Server, tmp_path: Path, waits: list[float], status: int) -> None:
    server.statuses = [status]
    with pytest.raises(AnadilError, match=f"the server answers {status}"):
        fetch(RemoteFile(server.url, "a.bin"), tmp_path / "a.bin")
    assert (waits, len(server.asked)) == ([], 1)


def test_an_unreachable_server_is_named_in_the_error(tmp_path: Path, waits: list[float]) -> None:
    with pytest.raises(AnadilError, match=r"could not download http://127.0.0.1:9/a: .*\(6 tries\)"):
        read_page("http://127.0.0.1:9/a")
    assert waits == [1, 2, 4, 8, 16]


def test_too_little_free_space_is_an_error_before_anything_is_written(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = type("usage", (), {"free": len(CONTENT) - 1})
    monkeypatch.setattr(download.shutil, "disk_usage", lambda path: usage)
    with pytest.raises(AnadilError, match="are free in"):
        fetch(RemoteFile(server.url, "a.bin"), tmp_path / "a.bin")
    assert names(tmp_path) == []


def test_only_web_addresses_are_accepted(tmp_path: Path) -> None:
    with pytest.raises(AnadilError, match="file:///etc/passwd is not a web address"):
        fetch(RemoteFile("file:///etc/passwd", "a"), tmp_path / "a")


def test_a_page_is_read_and_a_page_that_is_too_large_refused(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    server.statuses = [500]
    assert read_page(server.url) == CONTENT
    monkeypatch.setattr(download, "MAX_PAGE_BYTES", 1000)
    with pytest.raises(AnadilError, match="larger than a listing can be"):
        read_page(server.url)
