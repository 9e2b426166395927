"""The server under load: throughput against the offline recogniser, waiting times beside a long upload, memory.

    python benchmarks/serve.py EXPORTED MANIFEST [--seconds 60] [--clients 32] [--requests 10000] [--only load,long,memory]

Clips of 2.5 to 3.5 s of the manifest are sent. Offline is `Recognizer.transcribe_utterances` on the same clips, decoding of the
files included, before and after the server; the mean counts. Clients and server share the machine. Exit status 1 if a limit
is not kept: an error, less than 85 % of the offline throughput, short clips that take more than twice their time beside an
hour-long upload, memory (PSS of all processes of the server) that grows by more than 5 % after the first tenth.
"""

from __future__ import annotations

import argparse
import concurrent.futures
import contextlib
import http.client
import json
import os
import re
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

SHORTEST_S, LONGEST_S = 2.5, 3.5
LEAST_OF_OFFLINE, MOST_DELAY, MOST_GROWTH = 0.85, 2.0, 1.05

OFFLINE = """
import itertools, json, sys, time
import anadil
from anadil.manifest import Utterance
recognizer = anadil.load(sys.argv[1])
clips = [Utterance(path, 3.0) for path in json.load(open(sys.argv[2]))]
list(recognizer.transcribe_utterances(clips[:20]))
begun, used, n = time.perf_counter(), time.process_time(), 0
while time.perf_counter() - begun < float(sys.argv[3]):
    n += sum(1 for _ in recognizer.transcribe_utterances(clips))
print(n / (time.perf_counter() - begun), (time.process_time() - used) / n)
"""


class Server:
    """`anadil serve` in a process of its own."""

    def __init__(self, model: Path, folder: Path) -> None:
        command = [sys.executable, "-m", "anadil.cli.main", "serve", str(model), "--data", str(folder / "data")]
        options = ["--port", "0", "--rate-limit", "0", "--no-browser"]
        self.process = subprocess.Popen([*command, *options], stderr=subprocess.PIPE, text=True)
        assert self.process.stderr is not None
        for line in self.process.stderr:
            found = re.search(r"the page is at http://localhost:(\d+)/", line)
            if found:
                self.port = int(found[1])
                break
        else:
            sys.exit("the server did not start")
        threading.Thread(target=self.process.stderr.read, daemon=True).start()

    def processes(self) -> Iterator[tuple[Path, list[str]]]:
        """Its processes in /proc, with the fields of `stat` from the state on."""
        for folder in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                fields = (folder / "stat").read_text().rsplit(")", 1)[1].split()
                if self.process.pid in (int(folder.name), int(fields[1])):
                    yield folder, fields

    def memory_mb(self) -> float:
        """PSS of its processes."""
        total = 0
        for folder, _ in self.processes():
            rollup = (folder / "smaps_rollup").read_text()
            total += int(re.search(r"^Pss:\s+(\d+)", rollup, re.MULTILINE)[1])  # type: ignore[index]
        return total / 1024

    def processor_s(self) -> dict[str, float]:
        """Processor time, user and system, of its processes by what they do: HTTP, decoders, models."""
        found = dict.fromkeys(("HTTP", "decoders", "models"), 0.0)
        for folder, fields in self.processes():
            with contextlib.suppress(OSError):
                command = (folder / "cmdline").read_bytes()
                kind = "decoders" if b"decode_child" in command else "models" if b"model_child" in command else "HTTP"
                found[kind] += (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
        return found


class Client:
    """A connection that is kept."""

    def __init__(self, port: int) -> None:
        self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=900)

    def send(self, content: bytes, name: str = "a.wav") -> tuple[int, float]:
        """Status and seconds of a request."""
        head = f'--xyz\r\nContent-Disposition: form-data; name="file"; filename="{name}"\r\n\r\n'.encode()
        body, begun = head + content + b"\r\n--xyz--\r\n", time.perf_counter()
        self._connection.request(
            "POST", "/v1/audio/transcriptions", body, {"Content-Type": "multipart/form-data; boundary=xyz"}
        )
        answer = self._connection.getresponse()
        answer.read()
        return answer.status, time.perf_counter() - begun


def clips_of(manifest: Path) -> list[Path]:
    found = []
    for line in manifest.read_text(encoding="utf-8").splitlines():
        record = json.loads(line)
        if SHORTEST_S <= record["duration"] <= LONGEST_S:
            found.append((manifest.parent / record["audio_filepath"]).resolve())
    return found[:300]


def offline(model: Path, clips: list[Path], folder: Path, seconds: float) -> tuple[float, float]:
    """Clips per second, and processor seconds per clip."""
    (folder / "clips.json").write_text(json.dumps([str(clip) for clip in clips]))
    command = [sys.executable, "-c", OFFLINE, str(model), str(folder / "clips.json"), str(seconds)]
    speed, used = subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()
    return float(speed), float(used)


def load(port: int, contents: list[bytes], n_clients: int, seconds: float) -> tuple[list[int], list[float]]:
    """Statuses and times of all requests of `n_clients` that each send one clip after the other."""
    statuses: list[int] = []
    times: list[float] = []
    end = time.perf_counter() + seconds

    def run(number: int) -> None:
        client, index = Client(port), number
        while time.perf_counter() < end:
            status, took = client.send(contents[index % len(contents)])
            statuses.append(status)
            times.append(took)
            index += n_clients

    threads = [threading.Thread(target=run, args=(number,)) for number in range(n_clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return statuses, times


def percentile(times: list[float], percent: float) -> float:
    return sorted(times)[min(len(times) - 1, int(len(times) * percent / 100))]


def hour(clips: list[Path]) -> bytes:
    """An hour of the clips as FLAC."""
    import io

    import numpy as np
    import soundfile

    from anadil import audio

    samples = np.concatenate([audio.read(clip, 16000) for clip in clips])
    file = io.BytesIO()
    soundfile.write(file, np.resize(samples, 3600 * 16000), 16000, format="FLAC")
    return file.getvalue()


def beside_long(port: int, contents: list[bytes], long: bytes) -> tuple[float, float, float]:
    """Median seconds of a short clip alone and beside an hour-long upload, and the seconds of that."""
    client = Client(port)
    for content in contents[:20]:
        client.send(content)
    alone = [client.send(content)[1] for content in contents[:60]]
    took: list[float] = []
    thread = threading.Thread(target=lambda: took.append(Client(port).send(long, "hour.flac")[1]))
    thread.start()
    beside: list[float] = []
    for index in range(100_000):
        if not thread.is_alive():
            break
        beside.append(client.send(contents[index % len(contents)])[1])
    thread.join()
    return percentile(alone, 50), percentile(beside, 50), took[0]


def memory(server: Server, clip: Path, n_requests: int) -> Iterator[float]:
    """Megabytes after each tenth of so many requests, each of the first second of a clip, from four clients."""
    import io

    import soundfile

    from anadil import audio

    file = io.BytesIO()
    soundfile.write(file, audio.read(clip, 16000, duration=1.0), 16000, format="WAV")
    content = file.getvalue()
    clients = [Client(server.port) for _ in range(4)]

    def run(client: Client) -> None:
        for _ in range(n_requests // 40):
            status, _ = client.send(content)
            assert status == 200, status

    for _ in range(10):
        with concurrent.futures.ThreadPoolExecutor() as pool:
            list(pool.map(run, clients))
        yield server.memory_mb()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("manifest", type=Path)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--clients", type=int, default=32)
    parser.add_argument("--requests", type=int, default=10_000)
    parser.add_argument("--only", default="load,long,memory")
    options = parser.parse_args()
    clips, only, missed = clips_of(options.manifest), options.only.split(","), []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        before = offline(options.model, clips, folder, options.seconds / 3) if "load" in only else (0.0, 0.0)
        server = Server(options.model, folder)
        contents = [clip.read_bytes() for clip in clips]
        Client(server.port).send(contents[0])
        try:
            if "load" in only:
                used, of_clients = server.processor_s(), time.process_time()
                statuses, times = load(server.port, contents, options.clients, options.seconds)
                speed, n_errors = len(times) / options.seconds, sum(status != 200 for status in statuses)
                print(f"{options.clients} clients: {speed:.1f} clips/s, {n_errors} errors of {len(times)}")
                of_clients = (time.process_time() - of_clients) / len(times)
                used = {kind: (now - used[kind]) / len(times) for kind, now in server.processor_s().items()}
                p50, p95 = percentile(times, 50), percentile(times, 95)
                print(f"p50 {p50:.3f} s, p95 {p95:.3f} s, memory {server.memory_mb():.0f} MB", flush=True)
                if n_errors:
                    missed.append("errors")
            if "long" in only:
                alone, beside, took = beside_long(server.port, contents, hour(clips))
                print(
                    f"median of a short clip alone {alone:.3f} s, beside an hour {beside:.3f} s: {beside / alone:.2f} times"
                )
                print(f"the hour takes {took:.0f} s", flush=True)
                if beside > MOST_DELAY * alone:
                    missed.append("delay")
            if "memory" in only:
                sizes = list(memory(server, clips[0], options.requests))
                print("memory in MB: " + ", ".join(f"{one:.0f}" for one in sizes))
                if sizes[-1] > MOST_GROWTH * sizes[0]:
                    missed.append("memory")
        finally:
            server.process.terminate()
            server.process.wait()
        if "load" in only:
            after = offline(options.model, clips, folder, options.seconds / 3)
            share = speed / ((before[0] + after[0]) / 2)
            print(f"offline {before[0]:.1f} and {after[0]:.1f} clips/s; the server reaches {100 * share:.0f} %")
            own, theirs = 1000 * sum(used.values()), 500 * (before[1] + after[1])
            print(f"processor time of a clip {own:.1f} ms, offline {theirs:.1f} ms: {own / theirs:.2f} times")
            parts = ", ".join(f"{kind} {1000 * one:.1f} ms" for kind, one in used.items())
            print(f"of that {parts}; beside it {1000 * of_clients:.1f} ms of the clients")
            if share < LEAST_OF_OFFLINE:
                missed.append("throughput")
    print(f"cores: {os.cpu_count()}")
    sys.exit(f"not kept: {', '.join(missed)}" if missed else 0)


if __name__ == "__main__":
    main()
