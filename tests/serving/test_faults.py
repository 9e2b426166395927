"""What goes wrong, in clients, files, processes and the disk: others are served throughout."""

from __future__ import annotations

import concurrent.futures
import contextlib
import io
import os
import signal
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import httpx2 as httpx
import numpy as np
import pytest
import soundfile

from tests.support.micro import speak
from tests.support.server import Running, encoded, running, sound

resource = pytest.importorskip("resource", reason="limits of Unix")

pytestmark = [pytest.mark.slow, pytest.mark.skipif(not Path("/proc/self").is_dir(), reason="Linux's /proc and limits")]

TEXT = "abc cab"


@pytest.fixture(scope="module")
def sturdy(exported: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    arguments = (exported, "--rate-limit", "0", "--workers", "1", "--max-minutes", "10", "--max-megabytes", "20")
    with running(*arguments, data=tmp_path_factory.mktemp("sturdy") / "data") as one:
        assert one.transcribe(sound(TEXT)).json()["text"] == TEXT
        yield one
        assert one.process.poll() is None, one.log
        assert one.end() == 143


@contextlib.contextmanager
def others_are_served(server: Running, at_least: int = 3) -> Iterator[None]:
    """Within the block somebody else transcribes all the time, and always gets the text."""
    ended, texts = threading.Event(), list[str]()

    def ask() -> None:
        while not ended.is_set() or len(texts) < at_least:
            answer = server.transcribe(sound(TEXT))
            texts.append(answer.json().get("text", answer.text))

    with concurrent.futures.ThreadPoolExecutor() as pool:
        asking = pool.submit(ask)
        try:
            yield
        finally:
            ended.set()
            asking.result()
    assert set(texts) == {TEXT}


def raw(server: Running, data: bytes) -> socket.socket:
    host, port = server.url.removeprefix("http://").split(":")
    one = socket.create_connection((host, int(port)), 30)
    one.sendall(data)
    return one


def test_random_bytes(sturdy: Running) -> None:
    generator = np.random.default_rng(0)
    with others_are_served(sturdy):
        for head in (
            b"",
            b"RIFF",
            b"fLaC",
            b"OggS",
            b"ID3\x04",
            b"\xff\xfb\x90",
            b"\x1aE\xdf\xa3",
            b"\0\0\0\x20ftypM4A ",
        ):
            for suffix in ("wav", "mp3", "m4a", "bin"):
                answer = sturdy.transcribe(head + generator.bytes(20_000), f"a.{suffix}")
                assert answer.status_code in (200, 422), answer.text
        with contextlib.closing(raw(sturdy, generator.bytes(5000))) as connection:
            assert connection.recv(100).startswith((b"HTTP/1.1 400", b""))


@pytest.mark.parametrize("form", ["WAV", "FLAC", "OGG", "MP3"])
def test_truncated_files(sturdy: Running, form: str) -> None:
    content = sound(TEXT, form=form)
    with others_are_served(sturdy):
        for part in (0.05, 0.5, 0.95):
            answer = sturdy.transcribe(content[: int(part * len(content))], f"a.{form.lower()}")
            assert answer.status_code in (200, 422)
    assert sturdy.transcribe(b"", "a.wav").status_code == 422


def test_ten_gigabytes_are_refused_before_they_come(sturdy: Running) -> None:
    head = f"POST /v1/audio/transcriptions HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: {10 * 2**30}\r\n"
    with others_are_served(sturdy):
        for kind in ("multipart/form-data; boundary=x", "application/json"):
            with contextlib.closing(raw(sturdy, f"{head}Content-Type: {kind}\r\n\r\n".encode())) as connection:
                answer = connection.recv(1000)
                assert answer.startswith(b"HTTP/1.1 413") and b"connection: close" in answer.lower()


def test_a_body_that_grows_beyond_the_limit(sturdy: Running) -> None:
    def body() -> Iterator[bytes]:
        yield b'--x\r\nContent-Disposition: form-data; name="file"; filename="a.wav"\r\n\r\n'
        for _ in range(100):
            yield bytes(2**20)

    with others_are_served(sturdy), contextlib.suppress(OSError, httpx.TransportError):
        headers = {"Content-Type": "multipart/form-data; boundary=x"}
        answer = sturdy.client.post("/v1/audio/transcriptions", content=body(), headers=headers)
        assert answer.status_code == 413
    assert list((sturdy.data / ".spool").iterdir()) == []


def bomb(seconds: int, hides_length: bool) -> bytes:
    """A FLAC file of silence: an hour takes some hundred kilobytes."""
    file = io.BytesIO()
    with soundfile.SoundFile(file, "w", 16000, 1, "PCM_16", format="FLAC") as one:
        for _ in range(seconds // 10):
            one.write(np.zeros(160_000, np.int16))
    data = bytearray(file.getvalue())
    if hides_length:  # the 36 bits of the number of samples in STREAMINFO: 0 is unknown
        data[21] &= 0xF0
        data[22:26] = bytes(4)
    return bytes(data)


@pytest.mark.parametrize("hides_length", [False, True])
def test_a_zip_bomb_of_silence(sturdy: Running, hides_length: bool) -> None:
    content = bomb(2 * 3600, hides_length)
    assert len(content) < 5 * 2**20
    with others_are_served(sturdy):
        answer = sturdy.transcribe(content, "a.flac")
    assert answer.status_code == 422 and "too long" in answer.json()["error"]["message"]


def test_slow_clients(exported: Path, tmp_path: Path) -> None:
    """Slow-loris: headers that never end, and a body of a byte a second."""
    form = "Content-Type: multipart/form-data; boundary=x\r\nContent-Length: 100000\r\n"
    code = (  # shorter limits than the defaults, in the server's own process
        "import functools, anadil.serving.limits as limits; "
        "limits.Limits = functools.partial(limits.Limits, idle_s=1.0, header_s=2.0); "
        "from anadil.cli.main import main; main()"
    )
    with (
        running(exported, "--workers", "1", data=tmp_path / "data", code=code) as server,
        contextlib.ExitStack() as stack,
    ):
        headers = [
            stack.enter_context(contextlib.closing(raw(server, b"POST /v1/x HTTP/1.1\r\nX-A: 1\r\n")))
            for _ in range(50)
        ]
        bodies = [
            stack.enter_context(
                contextlib.closing(
                    raw(server, f"POST /v1/audio/transcriptions HTTP/1.1\r\nHost: 127.0.0.1\r\n{form}\r\n--x".encode())
                )
            )
            for _ in range(50)
        ]
        with others_are_served(server):
            for _ in range(6):
                time.sleep(0.7)
                for one in (*headers, *bodies):
                    with contextlib.suppress(OSError):
                        one.send(b"a")
        for one in headers:
            with contextlib.suppress(ConnectionResetError):
                assert one.recv(100) == b""
        for one in bodies:
            with contextlib.suppress(ConnectionResetError):
                assert one.recv(100).startswith((b"HTTP/1.1 408", b"HTTP/1.1 400"))


def kill_again_and_again(server: Running, module: str, seconds: float) -> int:
    end, killed = time.monotonic() + seconds, 0
    while time.monotonic() < end:
        for pid in server.children(module):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
                killed += 1
        time.sleep(1.5)
    return killed


@pytest.mark.parametrize(("module", "kind"), [("decode_child", "decoder"), ("model_child", "model")])
def test_a_killed_process_is_started_again(sturdy: Running, module: str, kind: str) -> None:
    before = sturdy.metric(f'anadil_process_deaths_total{{kind="{kind}"}}')
    for pid in sturdy.children(module):
        os.kill(pid, signal.SIGKILL)
    assert sturdy.transcribe(sound(TEXT)).json()["text"] == TEXT  # at once
    assert sturdy.metric(f'anadil_process_deaths_total{{kind="{kind}"}}') > before


@pytest.mark.parametrize("module", ["decode_child", "model_child"])
def test_processes_killed_while_they_work(sturdy: Running, module: str) -> None:
    """Requests in flight are tried again; one whose process dies twice is answered 503 or 422, not left hanging."""
    ended, statuses = threading.Event(), list[int]()

    def ask() -> None:
        while not ended.is_set():
            answer = sturdy.transcribe(sound(TEXT))
            statuses.append(answer.status_code)
            assert answer.status_code in (422, 503) or answer.json()["text"] == TEXT

    with concurrent.futures.ThreadPoolExecutor() as pool:
        asking = [pool.submit(ask) for _ in range(3)]
        killed = kill_again_and_again(sturdy, module, 8)
        ended.set()
        for one in asking:
            one.result()
    assert killed >= 2 and statuses.count(200) >= 1
    assert sturdy.transcribe(sound(TEXT)).json()["text"] == TEXT


LIMITED = (  # every file beyond so many bytes fails to grow, as on a full disk
    "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (60_000, 60_000)); from anadil.cli.main import main; main()"
)


def test_a_full_disk(exported: Path, tmp_path: Path) -> None:
    small, large = encoded(speak("ab")[:12_000]), encoded(np.tile(speak(TEXT), 20))
    with running(exported, "--workers", "1", data=tmp_path / "data", code=LIMITED) as server:
        text = server.transcribe(small).json()["text"]
        for _ in range(2):
            answer = server.transcribe(large)
            assert answer.status_code == 507 and "the disk of the server is full" in answer.text
            answer = server.transcribe(sound(TEXT, form="OGG"), "a.ogg")  # the upload fits, its samples do not
            assert answer.status_code == 507, answer.text
            assert server.transcribe(small).json()["text"] == text
        answer = server.client.post("/v1/recordings", files={"file": ("a.wav", large)})
        assert answer.status_code == 507 and server.get("/v1/recordings").json() == []
        assert list((server.data / ".spool").iterdir()) == []
        assert server.end() == 143


def test_a_thousand_connections(sturdy: Running) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard < 4096:
        pytest.skip(f"only {hard} open files are allowed here (ulimit -n)")
    resource.setrlimit(resource.RLIMIT_NOFILE, (4096, hard))
    try:
        with contextlib.ExitStack() as stack:
            for number in range(1000):
                head = b"" if number % 2 else b"GET /health HTTP/1.1\r\n"
                stack.enter_context(contextlib.closing(raw(sturdy, head)))
            with others_are_served(sturdy):
                assert sturdy.get("/health").status_code == 200
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_clients_that_go_away_free_their_places(sturdy: Running) -> None:
    content = sound(TEXT)
    body = b'--x\r\nContent-Disposition: form-data; name="file"; filename="a.wav"\r\n\r\n' + content + b"\r\n--x--\r\n"
    head = (
        f"POST /v1/audio/transcriptions HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: {len(body)}\r\n"
        "Content-Type: multipart/form-data; boundary=x\r\n\r\n"
    )
    with others_are_served(sturdy):
        for _ in range(100):  # more than there are places
            raw(sturdy, head.encode() + body).close()
    end = time.monotonic() + 30
    while sturdy.metric("anadil_open_requests") > 1 and time.monotonic() < end:
        time.sleep(0.2)
    assert sturdy.metric("anadil_open_requests") == 1  # this one
    assert list((sturdy.data / ".spool").iterdir()) == []


def test_a_full_queue_is_answered_at_once(exported: Path, tmp_path: Path) -> None:
    with running(exported, "--workers", "1", "--queue", "2", "--rate-limit", "0", data=tmp_path / "data") as server:
        server.transcribe(sound(TEXT))
        (pid,) = server.children("model_child")
        os.kill(pid, signal.SIGSTOP)  # so that nothing leaves the queue
        try:
            with concurrent.futures.ThreadPoolExecutor() as pool:
                waiting = [pool.submit(server.transcribe, sound(TEXT)) for _ in range(2)]
                end = time.monotonic() + 30
                while server.get("/ready").status_code != 503 and time.monotonic() < end:
                    time.sleep(0.1)
                answer = server.transcribe(sound(TEXT))
                assert answer.status_code == 429 and int(answer.headers["retry-after"]) >= 1
                assert server.get("/ready").status_code == 503
                os.kill(pid, signal.SIGCONT)
                assert [one.result().json()["text"] for one in waiting] == [TEXT, TEXT]
        finally:
            os.kill(pid, signal.SIGCONT)
        assert server.transcribe(sound(TEXT)).status_code == 200


def test_sigterm_finishes_what_it_has(exported: Path, tmp_path: Path) -> None:
    with running(exported, "--workers", "1", data=tmp_path / "data") as server:
        server.transcribe(sound(TEXT))
        (pid,) = server.children("model_child")
        os.kill(pid, signal.SIGSTOP)
        with concurrent.futures.ThreadPoolExecutor() as pool:
            waiting = pool.submit(server.transcribe, sound(TEXT))
            while not list((server.data / ".spool").iterdir()):
                time.sleep(0.05)
            server.process.terminate()
            time.sleep(0.5)
            os.kill(pid, signal.SIGCONT)
            assert waiting.result().json()["text"] == TEXT
        assert server.process.wait(30) == 143
        assert server.children("child") == [] and not (server.data / ".spool").exists()


def test_sighup_loads_the_models_again(exported: Path, tmp_path: Path) -> None:
    import shutil

    shutil.copytree(exported, tmp_path / "model")
    with running(tmp_path / "model", "--workers", "1", data=tmp_path / "data") as server:
        server.transcribe(sound(TEXT))
        before = server.children("model_child")
        server.process.send_signal(signal.SIGHUP)
        end = time.monotonic() + 60
        while set(before) & set(server.children("model_child")) and time.monotonic() < end:
            assert server.transcribe(sound(TEXT)).json()["text"] == TEXT
        assert not set(before) & set(server.children("model_child"))
        (tmp_path / "model/model.onnx").write_bytes(b"damaged")
        server.process.send_signal(signal.SIGHUP)
        while "the earlier version stays" not in server.log and time.monotonic() < end:
            time.sleep(0.1)
        assert server.transcribe(sound(TEXT)).json()["text"] == TEXT


def test_memory_of_a_decoder_is_limited() -> None:
    """In a process of its own, as the limit cannot be taken back."""
    import subprocess
    import sys

    code = (
        "from anadil.serving.decode_child import limit_memory\nimport numpy\nlimit_memory(60, 48000)\n"
        "try:\n    numpy.zeros(3 * 2**30, dtype=numpy.uint8)[:] = 1\nexcept MemoryError:\n    print('refused')"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert found.stdout.strip() == "refused", found.stderr
