"""Hostile input to every reader and every verb: no traceback, no hang, bounded memory, nothing else touched.

Each case runs in a process of its own. `benchmarks/fuzz.py` goes on with other mutations for as long as it is told to.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.fuzz_cases import (
    NUMBERS,
    PATHS,
    Case,
    mutations,
    number_options,
    option_cases,
    path_cases,
    write_seeds,
)
from tests.support.fuzzing import Outcome, Runner, faults, snapshot
from tests.support.known_faults import known_cases

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="a process per case is forked, which Windows cannot")

CASES = [*known_cases(), *mutations(), *option_cases(NUMBERS[:3]), *path_cases(PATHS[:2])]
"""`benchmarks/fuzz.py` runs the options and the paths with all of their values."""


@pytest.fixture(scope="session")
def seeds(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_seeds(tmp_path_factory.mktemp("fuzz") / "seeds")


@pytest.fixture(scope="session")
def runner() -> Iterator[Runner]:
    runner = Runner()
    yield runner
    runner.close()


def run(runner: Runner, case: Case, seeds: Path, folder: Path) -> tuple[Outcome, list[str]]:
    """The outcome of a case, and what is wrong with it."""
    arguments = case.set_up(seeds, folder)
    before = snapshot(folder / "in")
    outcome = runner.run(folder, arguments, case.terminate)
    return outcome, [
        *faults(folder, outcome, before),
        *case.unexpected(folder, outcome.status, outcome.stdout + outcome.stderr),
    ]


@pytest.mark.parametrize("case", CASES, ids=[case.name for case in CASES])
def test_hostile_input(runner: Runner, seeds: Path, tmp_path: Path, case: Case) -> None:
    _, found = run(runner, case, seeds, tmp_path)
    assert not found, f"{'; '.join(found)}\n  the input is in {tmp_path}"


def test_there_are_at_least_300_cases_with_names_of_their_own() -> None:
    assert len(CASES) >= 300
    assert len({case.name for case in CASES}) == len(CASES)


def test_every_number_of_the_command_line_has_a_range() -> None:
    """From a lowest to a highest value; `option_cases` tries values outside."""
    options = list(number_options())
    assert len(options) >= 10
    unbounded = [f"{verb} {name}" for verb, name, info in options if info.min is None or info.max is None]
    assert not unbounded


@pytest.mark.parametrize(
    ("name", "program", "fault"),
    [
        ("a traceback", "raise ValueError('x')", "traceback: ValueError: x"),
        ("a hang", "import time; time.sleep(30)", "hangs"),
        ("memory", "x = bytearray(2500 << 20); x[::4096] = b'x' * len(x[::4096])", "MB of memory"),
        ("a crash", "import os; os.kill(os.getpid(), 11)", "ended by SIGSEGV"),
        ("a changed input", "open('../in/a', 'w').write('b')", "changed its input: a"),
        ("a file elsewhere", "open(__import__('os').path.expanduser('~/x'), 'w')", "left in home: x"),
        ("a file outside", "import os; os.mkdir('../../outside-of-the-case')", "touched: os.mkdir"),
        ("a program", "import subprocess; subprocess.run(['true'])", "touched: subprocess.Popen"),
        ("a partial file", "open('.out.1.partial', 'w')", "partial files left"),
        ("silence", "raise SystemExit(1)", "without a message"),
    ],
)
def test_the_judge_sees(tmp_path: Path, name: str, program: str, fault: str) -> None:
    """Each kind of fault is found, with a program in place of the command line."""
    (tmp_path / "in").mkdir()
    (tmp_path / "in/a").write_text("a")
    before = snapshot(tmp_path / "in")
    runner = Runner(preload=())
    try:
        outcome = runner.run(tmp_path, ["--program", program], limit_s=5 if name == "a hang" else 60)
    finally:
        runner.close()
    assert any(fault in one for one in faults(tmp_path, outcome, before)), outcome
