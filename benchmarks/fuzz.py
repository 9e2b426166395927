"""Hostile input to every reader and every verb, for as long as wanted; prints each new finding and keeps its input.

    python benchmarks/fuzz.py --minutes 10 [--seed 1000] [--keep fuzz-findings]

It damages the file of each reader in turn, with the seeds from `--seed` on, and mixes in options, paths and known cases of
`tests/test_fuzz.py`. A finding is new if its kind (the last line of a traceback, a hang, memory, ...) did not come before from
the same command. Exit status 1 if there is any.
"""

from __future__ import annotations

import argparse
import random
import re
import shutil
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from tests.support.fuzz_cases import READERS, Case, option_cases, path_cases, write_seeds
from tests.support.fuzzing import Runner, faults, keep, snapshot
from tests.support.known_faults import known_cases


def cases(seed: int) -> Iterator[Case]:
    """A mutation for each reader and a few options, paths and known cases, over and over."""
    rng = random.Random(seed)
    table = [*option_cases(), *path_cases(), *known_cases()]
    while True:
        yield from rng.sample([*(reader.case(seed) for reader in READERS), *rng.sample(table, 10)], len(READERS) + 10)
        seed += 1


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--seed", type=int, default=1000, help="of the first mutations; `make test` runs those from 0")
    parser.add_argument("--keep", type=Path, default=Path("fuzz-findings"), help="folder for the inputs of findings")
    options = parser.parse_args()
    runner, found, statuses = Runner(), Counter[str](), Counter[int]()
    peak_mb = slowest_s = 0.0
    ends = time.monotonic() + 60 * options.minutes
    with tempfile.TemporaryDirectory() as place:
        seeds = write_seeds(Path(place) / "seeds")
        for n, case in enumerate(cases(options.seed)):
            if time.monotonic() > ends:
                break
            folder = Path(place) / str(n)
            arguments = case.set_up(seeds, folder)
            before = snapshot(folder / "in")
            outcome = runner.run(folder, arguments, case.terminate)
            statuses[outcome.status] += 1
            peak_mb, slowest_s = max(peak_mb, outcome.peak_mb), max(slowest_s, outcome.seconds)
            problems = faults(folder, outcome, before)
            for problem in [*problems, *case.unexpected(folder, outcome.status, outcome.stdout + outcome.stderr)]:
                kind = f"{case.arguments[0]}: {re.sub(r'[0-9./]+', '', problem)[:60]}"
                found[kind] += 1
                if found[kind] == 1:
                    kept = keep(folder, options.keep / re.sub(r"\W+", "-", case.name))
                    print(f"{case.name}: {problem}\n  kept in {kept}", flush=True)
            shutil.rmtree(folder)
    runner.close()
    listed = ", ".join(f"{count:,} x {status}" for status, count in sorted(statuses.items()))
    print(f"{statuses.total():,} cases (exit status {listed}), at most {slowest_s:.1f} s and {peak_mb:,.0f} MB; "
          f"{found.total():,} findings of {len(found):,} kinds")  # fmt: skip
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
