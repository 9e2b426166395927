"""The processes of a Ray cluster that a test has started."""

from __future__ import annotations

import os
import signal
from pathlib import Path


def kill_workers() -> int:
    """SIGKILL to the processes of Ray's workers that this process has started, directly or not; how many they were."""
    parents, names = {}, {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                status = (entry / "stat").read_text()
                names[int(entry.name)] = (entry / "cmdline").read_text()
                parents[int(entry.name)] = int(status.rpartition(")")[2].split()[1])
            except OSError:
                continue

    def is_ours(process: int) -> bool:
        while process in parents and process != os.getpid():
            process = parents[process]
        return process == os.getpid()

    workers = [process for process, name in names.items() if "ray::MapWorker" in name and is_ours(process)]
    for worker in workers:
        os.kill(worker, signal.SIGKILL)
    return len(workers)
