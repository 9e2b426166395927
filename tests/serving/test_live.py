"""WebSocket /v1/stream against a running server."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import connect

import anadil
from tests.support.micro import speak
from tests.support.server import Running

TEXT = "abc cab"


def converse(server: Running, blocks: list[bytes | str], query: str = "") -> list[dict[str, Any]]:
    """All that the server sends, until it closes the socket."""
    found = []
    with connect(server.url.replace("http", "ws") + f"/v1/stream?{query}", proxy=None, max_size=2**22) as socket:
        try:
            for block in blocks:
                socket.send(block)
        except ConnectionClosed:
            pass
        try:
            while True:
                found.append(json.loads(socket.recv(timeout=60)))
        except ConnectionClosed:
            return found


FINISH = json.dumps({"type": "finish"})


@pytest.mark.parametrize("encoding", ["pcm16", "float32"])
@pytest.mark.parametrize("rate", [16000, 48000])
def test_final_results_are_those_of_the_recognisers_stream(
    server: Running, exported: Any, encoding: str, rate: int
) -> None:
    samples = speak(TEXT, rate)
    stream = anadil.load(exported).stream(rate)
    expected = " ".join(one.text for one in [*stream.feed(samples), *stream.finish()] if one.final and one.text)
    data = (samples * 32767).astype("<i2").tobytes() if encoding == "pcm16" else samples.astype("<f4").tobytes()
    blocks: list[bytes | str] = [data[i : i + 8192] for i in range(0, len(data), 8192)]
    found = converse(server, [*blocks, FINISH], f"sample_rate={rate}&encoding={encoding}")
    assert found[-1] == {"type": "done"}
    assert " ".join(one["text"] for one in found if one["type"] == "final" and one["text"]) == expected
    assert {one["type"] for one in found} <= {"partial", "final", "done"}
    words = [word for one in found if one["type"] == "final" for word in one["words"]]
    assert words and all(word["end"] > word["start"] for word in words)


@pytest.mark.parametrize(
    ("blocks", "query", "message"),
    [
        (["hello"], "", "expected samples as binary messages"),
        ([b"odd"], "encoding=float32", "no whole number of samples"),
        ([np.full(10, np.nan, "<f4").tobytes()], "encoding=float32", "not numbers"),
        ([b"\0\0"], "sample_rate=1", "sample rate"),
        ([b"\0\0"], "model=none", "there is no model 'none'"),
    ],
)
def test_what_cannot_be_used_is_said(server: Running, blocks: list[bytes | str], query: str, message: str) -> None:
    (error,) = converse(server, blocks, query)
    assert error["type"] == "error" and message in error["message"]


def test_a_client_that_goes_away_frees_its_place(server: Running) -> None:
    for _ in range(20):  # more than there are places
        with connect(server.url.replace("http", "ws") + "/v1/stream", proxy=None) as socket:
            socket.send(b"\0\0" * 1600)
    assert converse(server, [FINISH])[-1] == {"type": "done"}
    assert server.metric("anadil_streams") == 0


def test_beyond_the_number_of_streams(server: Running) -> None:
    url = server.url.replace("http", "ws") + "/v1/stream"
    opened = [connect(url, proxy=None) for _ in range(8)]
    try:
        for socket in opened:
            socket.send(b"\0\0" * 160)
        (error,) = converse(server, [])
        assert error["type"] == "error" and "full" in error["message"]
    finally:
        for socket in opened:
            socket.close()


def test_another_site_is_refused(server: Running) -> None:
    with pytest.raises(InvalidStatus):
        connect(server.url.replace("http", "ws") + "/v1/stream", proxy=None, origin="https://elsewhere.example")  # type: ignore[arg-type]
