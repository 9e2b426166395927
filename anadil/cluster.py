"""Work in shards that are done once each, on this machine or on a Ray cluster: the plan that is kept, and Ray Data."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from anadil.errors import AnadilError, shortened
from anadil.files import whole_file
from anadil.settings import read_json

PLAN, SHARDS = "plan.json", "shards"
MOST_BLOCKS = 1000  # of Ray Data; a block holds several shards if there are more


def shard_file(folder: Path, number: int) -> Path:
    """The output of a shard."""
    return folder / SHARDS / f"shard-{number:06d}.jsonl"


def keep_plan(folder: Path, identity: Mapping[str, Any], what: str, next_step: str) -> None:
    """Write `identity` to `folder`/plan.json, or compare it with what an earlier run wrote there.

    Raises AnadilError if the folder holds shards (`what`) of something else, or shards without a plan.
    """
    folder.mkdir(parents=True, exist_ok=True)
    plan = folder / PLAN
    if plan.is_file():
        if read_json(plan) != identity:
            raise AnadilError(f"{folder} holds {what}\n  next: {next_step}")
        return
    if (folder / SHARDS).exists():
        raise AnadilError(f"{folder / SHARDS} is there without {PLAN}\n  next: choose another folder")
    with whole_file(plan) as beside:
        beside.write_text(json.dumps(identity, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")


def map_on_ray(worker: type, arguments: Sequence[Any], rows: Sequence[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """`worker(*arguments)(row)` for each row, with a worker for each core of a Ray cluster; the results as they come.

    The cluster is that of RAY_ADDRESS, or is started on this machine and stopped at the end. A worker that dies is replaced,
    and its row begun anew. Raises AnadilError if Ray is not installed or the cluster cannot be used.
    """
    ray, data = import_ray()
    own = not ray.is_initialized()
    if own:
        _start(ray)
    try:
        data.DataContext.get_current().enable_progress_bars = False
        n_cores = max(1, int(ray.cluster_resources().get("CPU", 1)))
        found = data.from_items(list(rows), override_num_blocks=min(len(rows), MOST_BLOCKS)).map(
            worker,
            fn_constructor_args=tuple(arguments),
            num_cpus=1,
            compute=data.ActorPoolStrategy(min_size=1, max_size=min(n_cores, len(rows))),
        )
        yield from found.iter_rows()
    except ray.exceptions.RayError as error:
        raise AnadilError(
            f"the cluster failed: {shortened(str(error), 500)}\n  next: the same command goes on with the shards that are left"
        ) from error
    finally:
        if own:
            ray.shutdown()


def import_ray() -> tuple[Any, Any]:
    """Ray and Ray Data. Raises AnadilError if they are not installed."""
    try:
        import ray
        from ray import data
    except ImportError as error:
        raise AnadilError(
            "the engine ray needs Ray Data\n  next: pip install 'anadil[cluster]', or --engine local"
        ) from error
    return ray, data


def _start(ray: Any) -> None:
    """Join the cluster of RAY_ADDRESS, or start one on this machine. Raises AnadilError."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")
    logging.getLogger("ray.data").setLevel(logging.ERROR)
    address = os.environ.get("RAY_ADDRESS")
    here = {} if address else {"include_dashboard": False, "object_store_memory": 2**27}
    try:
        ray.init(address=address, log_to_driver=False, logging_level="ERROR", **here)
    except (ConnectionError, RuntimeError, ValueError) as error:
        raise AnadilError(
            f"no Ray cluster at {address or 'this machine'}: {shortened(str(error), 300)}\n"
            "  next: check RAY_ADDRESS, or unset it to use this machine"
        ) from error
