"""A server on this machine that misbehaves as real ones do."""

from __future__ import annotations

import hashlib
import http.server
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest

from anadil.corpora import download

CONTENT = bytes(range(256)) * 4000  # 1 MB, more than the chunks it is read in


@dataclass
class Server:
    """What the server sends, how it misbehaves, and the requests it got."""

    content: bytes = CONTENT
    etag: str | None = '"one"'
    ranges: bool = True
    cuts: list[int] = field(default_factory=list)  # bytes after which the next answers break off
    statuses: list[int] = field(default_factory=list)  # of the next answers; after them it answers normally
    retry_after: str | None = None
    honest_length: bool = True
    on_request: Callable[[Server], None] = lambda server: None
    asked: list[str | None] = field(default_factory=list)  # Range headers
    url: str = ""

    @property
    def sha256(self) -> str:
        return f"sha256:{hashlib.sha256(self.content).hexdigest()}"


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        server: Server = self.server.state  # type: ignore[attr-defined]
        server.asked.append(self.headers["Range"])
        server.on_request(server)
        if server.statuses:
            self.send_response(server.statuses.pop(0))
            if server.retry_after:
                self.send_header("Retry-After", server.retry_after)
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        begin, size = 0, len(server.content)
        condition = self.headers["If-Range"]
        if server.ranges and self.headers["Range"] and condition in (None, server.etag):
            begin = int(self.headers["Range"].removeprefix("bytes=").removesuffix("-"))
            if begin >= size:
                self.send_response(416)
                self.send_header("Content-Range", f"bytes */{size}")
                self.send_header("Content-Length", "0")
                self.end_headers()
                return
            self.send_response(206)
            self.send_header("Content-Range", f"bytes {begin}-{size - 1}/{size}")
        else:
            self.send_response(200)
        if server.etag:
            self.send_header("ETag", server.etag)
        if server.honest_length:
            self.send_header("Content-Length", str(size - begin))
        self.send_header("Connection", "close")
        self.end_headers()
        end = begin + server.cuts.pop(0) if server.cuts else size
        self.wfile.write(server.content[begin:end])
        self.close_connection = True

    def log_message(self, format: str, *args: Any) -> None:
        pass


class Listening(http.server.ThreadingHTTPServer):
    def handle_error(self, request: Any, client_address: Any) -> None:
        """Do not report a client that hangs up."""


@pytest.fixture
def server() -> Iterator[Server]:
    state = Server()
    with Listening(("127.0.0.1", 0), Handler) as listening:
        listening.state = state  # type: ignore[attr-defined]
        state.url = f"http://127.0.0.1:{listening.server_address[1]}/a.bin"
        thread = threading.Thread(target=listening.serve_forever, args=(0.01,))
        thread.start()
        yield state
        listening.shutdown()
        thread.join()


@pytest.fixture(autouse=True)
def waits(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Replace `time.sleep` and return the waits that were asked for, in seconds."""
    waited: list[float] = []
    monkeypatch.setattr(download.time, "sleep", waited.append)
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    return waited
