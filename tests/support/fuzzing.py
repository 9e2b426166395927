"""Run commands on hostile input in forked processes, and judge them: no traceback, no hang, bounded memory, nothing else touched.

`python -m tests.support.fuzzing` is the server: it imports the heavy libraries once and forks a process per command.
"""

from __future__ import annotations

import atexit
import contextlib
import gc
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

ROOT = Path(__file__).parents[2]
HANG_S = 60.0
MEMORY_MB = 2048
_HARD_MEMORY = 4 << 30
"""Bytes at which the system refuses memory, so that a case that explodes does not take the machine with it."""
_MOST_OUTPUT = 100_000
"""Characters on stderr: a message that repeats a number of 5,000 digits or a file of megabytes is not a message."""

PRELOAD = (
    *("numpy", "torch", "onnxruntime", "soundfile", "soxr", "openpyxl", "sentencepiece", "rapidfuzz", "rich.console"),
    *("lightning_fabric", "anadil.training.train", "anadil.training.transfer.convert", "anadil.corpora.importing"),
    *("anadil.recognition.pseudo_labels", "anadil.doctor.examine", "anadil.data.augment.copies", "anadil.cli.main"),
    *(
        "anadil.export.onnx",
        "anadil.training.monitoring.dry_run",
        "anadil.splitting.tradeoffs",
        "typer.rich_utils",
        "rich.table",
        "rich.traceback",
    ),
    *(
        "anadil.corpora.elan",
        "anadil.corpora.table",
        "anadil.corpora.lhotse",
        "transformers.models.wav2vec2.modeling_wav2vec2",
        "anadil.text.changes",
        "matplotlib.font_manager",
    ),
)


@dataclass(frozen=True)
class Outcome:
    """What one command did."""

    status: int  # exit status; negative: the signal that ended it
    seconds: float
    peak_mb: float  # largest resident memory
    hung: bool
    touched: list[str]  # writes outside the folder of the case, network, other programs
    stdout: str
    stderr: str


@dataclass
class Runner:
    """The server process, as seen by the tests."""

    preload: tuple[str, ...] = PRELOAD
    _process: subprocess.Popen[str] | None = field(default=None, init=False)
    _cache: tempfile.TemporaryDirectory[str] | None = field(default=None, init=False)  # of fonts, for matplotlib

    def run(self, folder: Path, arguments: list[str], terminate: str | None = None, limit_s: float = HANG_S) -> Outcome:
        """Run `anadil ARGUMENTS` in `folder`/work. `terminate`: send SIGTERM as soon as a path matches this pattern."""
        for name in ("work", "tmp", "home"):
            (folder / name).mkdir(parents=True, exist_ok=True)
        request = {"folder": str(folder), "arguments": arguments, "terminate": terminate, "limit_s": limit_s}
        server = self._server()
        assert server.stdin is not None and server.stdout is not None
        server.stdin.write(json.dumps(request) + "\n")
        server.stdin.flush()
        reply = json.loads(server.stdout.readline())
        texts = [(folder / name).read_text("utf-8", errors="replace") for name in ("stdout", "stderr")]
        return Outcome(**reply, stdout=texts[0], stderr=texts[1])

    def close(self) -> None:
        if self._process is not None:
            assert self._process.stdin is not None
            self._process.stdin.close()
            self._process.wait()
            self._process = None
        if self._cache is not None:
            self._cache.cleanup()

    def _server(self) -> subprocess.Popen[str]:
        if self._process is None or self._process.poll() is not None:
            environment = os.environ | {"PYTHONPATH": f"{ROOT}{os.pathsep}{os.environ.get('PYTHONPATH', '')}"}
            self._cache = tempfile.TemporaryDirectory()
            environment |= {
                "MPLCONFIGDIR": self._cache.name,
                "OMP_NUM_THREADS": "1",
                "COLUMNS": "100",
                "NO_COLOR": "1",
                "HF_HUB_OFFLINE": "1",
            }
            self._process = subprocess.Popen(
                [sys.executable, "-m", "tests.support.fuzzing", *self.preload],
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment, cwd=ROOT,
            )  # fmt: skip
        return self._process


def snapshot(folder: Path) -> dict[str, tuple[int, int] | None]:
    """Size and time of each file below a folder, None for a folder."""
    return {
        path.relative_to(folder).as_posix(): None if path.is_dir() else (path.lstat().st_size, path.lstat().st_mtime_ns)
        for path in folder.rglob("*")
    }


def faults(folder: Path, outcome: Outcome, before: dict[str, tuple[int, int] | None]) -> list[str]:
    """What is wrong with an outcome, whatever the input was; empty for an acceptable one. `before`: the inputs."""
    found = []
    if outcome.hung:
        found.append(f"hangs: not done after {outcome.seconds:.0f} s")
    elif outcome.status < 0:
        found.append(f"ended by {signal.Signals(-outcome.status).name}")
    elif outcome.status not in (0, 1, 2, 130, 128 + signal.SIGTERM):
        found.append(f"exit status {outcome.status}")
    if "Traceback (most recent call last)" in outcome.stderr:
        found.append(f"traceback: {outcome.stderr.strip().splitlines()[-1][:300]}")
    if (
        outcome.status == 1
        and not (outcome.stderr.strip() and outcome.stdout.strip())
        and not re.search("^(error|warning): ", outcome.stderr, re.MULTILINE)
    ):
        found.append(f"exit status 1 without a message: {outcome.stderr[-300:]!r}")
    if len(outcome.stderr) > _MOST_OUTPUT or max(map(len, outcome.stderr.splitlines()), default=0) > _MOST_OUTPUT // 10:
        found.append(f"a message of {len(outcome.stderr):,} characters: {outcome.stderr[:200]}")
    if outcome.peak_mb > MEMORY_MB:
        found.append(f"{outcome.peak_mb:,.0f} MB of memory")
    found += [f"touched: {what}" for what in outcome.touched]
    after = snapshot(folder / "in")
    if after != before:
        changed = sorted(name for name in after.keys() | before.keys() if after.get(name, 0) != before.get(name, 0))
        found.append(f"changed its input: {', '.join(changed[:5])}")
    for place in ("tmp", "home"):
        left = sorted(path.name for path in (folder / place).iterdir())
        if left:
            found.append(f"left in {place}: {', '.join(left[:5])}")
    partial = [path.name for path in (folder / "work").rglob(".*") if path.name.endswith((".partial", ".replaced"))]
    if partial:
        found.append(f"partial files left: {', '.join(partial[:5])}")
    return found


# The server, and what runs in a forked process


def _serve(preload: list[str]) -> None:
    import importlib

    for name in preload:
        with contextlib.suppress(ImportError):  # an extra that is not installed
            importlib.import_module(name)
    gc.collect()
    gc.freeze()  # a collection in a child would copy every page
    for line in sys.stdin:
        print(json.dumps(_run(json.loads(line))), flush=True)


def _run(request: dict[str, Any]) -> dict[str, Any]:
    reading, writing = os.pipe()
    started = time.monotonic()
    child = os.fork()
    if child == 0:
        os.close(reading)
        _become(Path(request["folder"]), request["arguments"], os.fdopen(writing, "w"))
    os.close(writing)
    pattern, hung = request["terminate"], False
    while True:
        done, status, usage = os.wait4(child, os.WNOHANG)
        seconds = time.monotonic() - started
        if done:
            break
        if pattern and any(True for _ in (Path(request["folder"]) / "work").glob(pattern)):
            os.kill(child, signal.SIGTERM)
            pattern = None
        if seconds > request["limit_s"] and not hung:
            hung = True
            os.killpg(child, signal.SIGKILL)
        time.sleep(0.002 if seconds < 2 else 0.02)
    with os.fdopen(reading) as pipe:
        touched = json.loads(pipe.read() or "[]")
    peak_mb = usage.ru_maxrss / (1024 if sys.platform == "linux" else 1024**2)
    return {
        "status": os.waitstatus_to_exitcode(status), "seconds": seconds, "peak_mb": peak_mb, "hung": hung,
        "touched": touched,
    }  # fmt: skip


def _become(folder: Path, arguments: list[str], pipe: IO[str]) -> None:
    """Run the command in this forked process, and exit."""
    status = 70
    try:
        os.setsid()
        os.chdir(folder / "work")
        places = {"HOME": "home", "TMPDIR": "tmp", "XDG_CACHE_HOME": "home/.cache"}
        os.environ |= {name: str(folder / place) for name, place in places.items()}
        tempfile.tempdir = None
        sys.dont_write_bytecode = True
        for number, name in ((0, os.devnull), (1, folder / "stdout"), (2, folder / "stderr")):
            os.dup2(os.open(name, os.O_RDWR if number == 0 else os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644), number)
        if sys.platform == "linux":
            import resource

            resource.setrlimit(resource.RLIMIT_DATA, (_HARD_MEMORY, _HARD_MEMORY))
        touched = _watch(folder)
        status = _call(arguments)
        atexit._run_exitfuncs()
        pipe.write(json.dumps(sorted(touched)[:20]))
        pipe.flush()
    except BaseException:
        import traceback

        traceback.print_exc()
    finally:
        with contextlib.suppress(Exception):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(status)


def _call(arguments: list[str]) -> int:
    """The exit status of `anadil ARGUMENTS`, as the console script gives it; `--program` runs Python instead."""
    import anadil.cli.main as anadil_main

    sys.argv = ["anadil", *arguments]
    try:
        if arguments[0] == "--program":  # for the tests of the judge
            exec(arguments[1], {"__name__": "program"})
        else:
            anadil_main.main()
    except SystemExit as exit_:
        return exit_.code if isinstance(exit_.code, int) else int(exit_.code is not None)
    return 0


def _watch(folder: Path) -> set[str]:
    """Record, from now on, what Python writes outside of `folder`, connections to a network, and other programs."""
    touched: set[str] = set()
    own = str(folder) + os.sep
    writes = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
    paths = {"os.mkdir": 1, "os.rename": 2, "os.remove": 1, "os.rmdir": 1, "os.link": 2, "os.symlink": 2}
    paths |= {"os.truncate": 1, "os.chmod": 1, "shutil.rmtree": 1}
    programs = ("subprocess.Popen", "os.system", "os.exec", "os.posix_spawn", "socket.connect", "socket.getaddrinfo")

    def hook(event: str, details: tuple[Any, ...]) -> None:
        named: tuple[Any, ...] = ()
        if event == "open":
            named = details[:1] if isinstance(details[2], int) and details[2] & writes else ()
        elif event in paths:
            named = details[: paths[event]]
        elif event in programs:
            touched.add(f"{event} {details[0]!r}"[:200])
        for path in named:
            if isinstance(path, str | bytes | os.PathLike):
                full = os.path.abspath(os.fsdecode(path))
                if full != os.devnull and not full.startswith((own, "/dev/shm/", "/proc/")):
                    touched.add(f"{event} {full}")

    sys.addaudithook(hook)
    return touched


def keep(folder: Path, target: Path) -> Path:
    """Copy the input and the output of a case to where they can be looked at."""
    shutil.rmtree(target, ignore_errors=True)
    shutil.copytree(folder, target, symlinks=True, ignore_dangling_symlinks=True)
    return target


if __name__ == "__main__":
    _serve(sys.argv[1:])
