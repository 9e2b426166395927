"""A server in a process of its own, and what tests send to it."""

from __future__ import annotations

import contextlib
import io
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2 as httpx
import numpy as np
import soundfile

from tests.support.micro import speak

START_S = 120.0


class Running:
    """`anadil serve` with a client. `log` has what it wrote to stderr."""

    def __init__(self, process: subprocess.Popen[str], data: Path) -> None:
        self.process, self.data = process, data
        self._lines: list[str] = []
        self._started = threading.Event()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        assert self._started.wait(START_S), self.log
        found = re.search(r"the page is at (\S+)/ ", self.log)
        assert found, self.log
        self.url = found[1].replace("localhost", "127.0.0.1")
        self.client = httpx.Client(base_url=self.url, timeout=120, trust_env=False)

    def _read(self) -> None:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            self._lines.append(line)
            if "recordings and corrections are kept in" in line:
                self._started.set()
        self._started.set()

    @property
    def log(self) -> str:
        return "".join(self._lines)

    def has_logged(self, text: str) -> bool:
        """Whether the log has a text; a line may come after the answer that it is about."""
        end = time.monotonic() + 30
        while text not in self.log and time.monotonic() < end:
            time.sleep(0.05)
        return text in self.log

    def get(self, path: str, **options: Any) -> httpx.Response:
        return self.client.get(path, **options)

    def transcribe(self, content: bytes, name: str = "clip.wav", **fields: Any) -> httpx.Response:
        return self.client.post("/v1/audio/transcriptions", files={"file": (name, content)}, data=fields)

    def metric(self, line: str) -> float:
        """The value of a line of /metrics; 0 if it is not there."""
        for one in self.get("/metrics").text.splitlines():
            if one.startswith(line + " "):
                return float(one.split()[-1])
        return 0.0

    def children(self, module: str) -> list[int]:
        """Pids of the server's processes that run a module (Linux)."""
        found = []
        for folder in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                command = (folder / "cmdline").read_bytes().decode("utf-8", "replace")
                parent = int((folder / "stat").read_text().rsplit(")", 1)[1].split()[1])
                if parent == self.process.pid and module in command:
                    found.append(int(folder.name))
        return sorted(found)

    def end(self, how: int = signal.SIGTERM) -> int:
        """Its exit status."""
        self.client.close()
        self.process.send_signal(how)
        status = self.process.wait(60)
        self._reader.join(10)
        return status


@contextlib.contextmanager
def running(
    *arguments: str | Path,
    data: Path,
    env: dict[str, str] | None = None,
    code: str = "",
) -> Iterator[Running]:
    """A server with these arguments, on a port of its own. `code` runs instead of the command line, which it may prepare."""
    start = ["-c", code] if code else ["-m", "anadil.cli.main"]
    command = [sys.executable, *start, "serve", *map(str, arguments)]
    process = subprocess.Popen(
        [*command, "--data", str(data), "--no-browser", *(() if "--port" in command else ("--port", "0"))],
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"OMP_NUM_THREADS": "1"} | (env or {}),
    )
    server = None
    try:
        server = Running(process, data)
        yield server
    finally:
        if process.poll() is None:
            if server is not None:
                server.client.close()
            process.kill()
            process.wait()


def sound(text: str, rate: int = 16000, form: str = "WAV", seed: int = 0) -> bytes:
    """The bytes of a file in which the micro language's `text` is spoken."""
    return encoded(speak(text, rate, seed), rate, form)


def encoded(samples: np.ndarray, rate: int = 16000, form: str = "WAV") -> bytes:
    file = io.BytesIO()
    soundfile.write(file, samples, rate, format=form)
    return file.getvalue()
