"""Several processes that train one model, on one machine, with gloo."""

from __future__ import annotations

import multiprocessing
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from lightning_fabric.plugins.environments.lightning import find_free_network_port

from anadil.errors import AnadilError
from anadil.training.config import Config, TrainingSettings
from anadil.training.distributed.workers import gathered, launch, split_batch, world_shape
from anadil.training.monitoring.report import Silent
from anadil.training.train import train
from tests.support.micro import write_config
from tests.support.runs import metrics
from tests.support.workers import assert_same_course, data_of, posix


def command(config: Path, out: Path, *options: str) -> list[str]:
    return [sys.executable, "-m", "anadil.cli.main", "train", str(config), "--out", str(out), *options]


def environment(**more: str) -> dict[str, str]:
    root = str(Path(__file__).parents[3])
    return os.environ | {"PYTHONPATH": root, "OMP_NUM_THREADS": "1", "PYTHONFAULTHANDLER": "1"} | more


def output_of(process: subprocess.Popen[str]) -> tuple[str, str]:
    """Wait for the process and return its stdout and stderr; one that hangs is stopped and says where it was."""
    try:
        return process.communicate(timeout=300)
    except subprocess.TimeoutExpired:
        process.send_signal(signal.SIGABRT)
        pytest.fail(f"{process.args} hangs:\n{process.communicate()[1]}")


def start_two(config: Path, out: Path, *options: str) -> tuple[subprocess.Popen[str], int]:
    """Start a run that does not end by itself and wait for its first epoch. Returns rank 0 and the process id of rank 1."""
    options = ("training.devices=2", "training.epochs=100000", *options)
    process = subprocess.Popen(command(config, out, *options), stderr=subprocess.PIPE, text=True, env=environment())
    deadline = time.monotonic() + 600
    while not (out / "metrics.csv").exists() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.02)
    (worker,) = [int(pid) for pid in Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()]
    return process, worker


@pytest.fixture(scope="module")
def alone(micro: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("alone") / "run"
    train(Config.model_validate(data_of(micro)), out)
    return out


@pytest.mark.parametrize("accumulate", [2, 3, 50])
def test_gradient_accumulation_changes_nothing(tmp_path: Path, micro: Path, alone: Path, accumulate: int) -> None:
    train(Config.model_validate(data_of(micro, accumulate=accumulate)), tmp_path / "run")
    assert_same_course(tmp_path / "run", alone)


@pytest.mark.slow
@posix
def test_two_processes_give_the_losses_of_one_and_one_goes_on_where_two_were_killed(
    tmp_path: Path, micro: Path, alone: Path
) -> None:
    """Batches hold two or three utterances, and the last of an epoch one: then the second process has none."""
    config = write_config(tmp_path / "config.yaml", data_of(micro, batch_seconds=2.6))
    single, pair = tmp_path / "single", tmp_path / "pair"
    train(Config.model_validate(data_of(micro, batch_seconds=2.6)), single)
    two = ["training.devices=2", "training.accumulate=2"]
    done = subprocess.run(command(config, pair, *two), capture_output=True, text=True, env=environment(), timeout=600)
    assert done.returncode == 0, done.stderr
    assert done.stdout == f"{pair / 'best'}\n"
    assert done.stderr.count("epoch   1") == 1  # only rank 0 reports
    assert_same_course(pair, single)

    killed = tmp_path / "killed"
    process, worker = start_two(config, killed, "training.accumulate=2")
    os.kill(worker, signal.SIGKILL)
    _, message = output_of(process)
    assert process.returncode == 1, message
    assert "training stopped: process 1 of 2 was killed by signal 9" in message
    assert "--resume goes on from the last checkpoint, with any number of processes" in message
    assert "Traceback" not in message
    n_epochs = max(3, len(metrics(killed)) + 1)
    again = Config.model_validate(data_of(micro, batch_seconds=2.6, epochs=n_epochs))
    assert train(again, killed, resume=True).epoch == n_epochs
    losses = [[float(row["train_loss"]) for row in metrics(run)[:3]] for run in (killed, single)]
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)  # the learning rate is constant here


@pytest.mark.slow
@posix
def test_ctrl_c_saves_a_checkpoint_and_ends_all_processes(tmp_path: Path, micro: Path) -> None:
    out = tmp_path / "run"
    process, worker = start_two(write_config(tmp_path / "config.yaml", data_of(micro)), out)
    process.send_signal(signal.SIGINT)
    _, message = output_of(process)
    assert process.returncode == 130, message
    stopped = re.search(r"interrupted: stopped at epoch \d+, step (\d+); .* is usable", message)
    assert stopped is not None and "--resume goes on" in message
    assert (out / f"checkpoints/step-{int(stopped[1]):08d}.ckpt").is_file()
    with pytest.raises(ProcessLookupError):
        os.kill(worker, 0)


@pytest.mark.slow
@posix
def test_torchrun_starts_the_processes(tmp_path: Path, micro: Path, alone: Path) -> None:
    config, out = write_config(tmp_path / "config.yaml", data_of(micro)), tmp_path / "run"
    shared = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(find_free_network_port())}
    shared |= {"WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2", "TORCHELASTIC_RUN_ID": "test"}
    processes = [
        subprocess.Popen(
            command(config, out), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
            env=environment(RANK=rank, LOCAL_RANK=rank, GROUP_RANK="0", **shared),
        )
        for rank in "01"
    ]  # fmt: skip
    message = [output_of(process) for process in processes]
    assert [process.returncode for process in processes] == [0, 0], message
    assert [stdout for stdout, _ in message] == [f"{out / 'best'}\n", ""]
    assert_same_course(out, alone)


def test_torchrun_and_devices_must_agree(monkeypatch: pytest.MonkeyPatch, micro: Path) -> None:
    for name, value in (("TORCHELASTIC_RUN_ID", "x"), ("LOCAL_WORLD_SIZE", "4"), ("WORLD_SIZE", "12")):
        monkeypatch.setenv(name, value)
    settings = Config.model_validate(data_of(micro)).training
    assert world_shape(settings) == (4, 3)
    with pytest.raises(AnadilError, match="training.devices is 2, but torchrun started 4 processes"):
        world_shape(settings.model_copy(update={"devices": 2}))


@pytest.mark.parametrize("n", range(1, 12))
@pytest.mark.parametrize(("n_processes", "accumulate"), [(1, 1), (2, 1), (2, 3), (4, 2)])
def test_every_utterance_is_in_one_micro_batch(n: int, n_processes: int, accumulate: int) -> None:
    ranks = [split_batch(range(n), rank, n_processes, accumulate) for rank in range(n_processes)]
    real = [
        i
        for micro_batches, n_dummies in ranks
        for batch in micro_batches[: len(micro_batches) - n_dummies]
        for i in batch
    ]
    assert sorted(real) == list(range(n))
    assert all(micro_batches and all(micro_batches) for micro_batches, _ in ranks)
    (n_micro_batches,) = {len(micro_batches) for micro_batches, _ in ranks}  # sharded ranks meet in each
    assert n_micro_batches <= accumulate
    assert max(n_dummies for _, n_dummies in ranks) <= 1


def test_an_error_that_is_not_of_the_connection_stays_what_it_is(micro: Path) -> None:
    settings = Config.model_validate(data_of(micro)).training
    with pytest.raises(RuntimeError, match="shapes"), launch(settings, Silent()):
        raise RuntimeError("shapes cannot be multiplied")


def test_training_from_python_starts_no_processes(tmp_path: Path, micro: Path) -> None:
    """They would run the rest of the program, too."""
    with pytest.raises(AnadilError, match="next: anadil train CONFIG training.devices=2, or start .* torchrun"):
        train(Config.model_validate(data_of(micro, devices=2)), tmp_path / "run")
    assert not (tmp_path / "run").exists()


@posix
def test_a_worker_ends_with_rank_0() -> None:
    """Even one that waits in a collective operation for ever, as those of GPUs do."""
    program = (
        "from anadil.training.config import TrainingSettings; import time\n"
        "from anadil.training.distributed.workers import launch\n"
        "from anadil.training.monitoring.report import Silent\n"
        "with launch(TrainingSettings(devices=2), Silent()): print('started', flush=True); time.sleep(1000)"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        env=environment(ANADIL_WORKER="1", LOCAL_RANK="1"),
    )  # fmt: skip
    assert process.stdout is not None and process.stdin is not None
    assert process.stdout.readline() == "started\n"
    process.stdin.close()
    assert process.wait(timeout=300) == 1


def _short_runs(rank: int, folder: Path) -> None:
    os.environ["LOCAL_RANK"] = str(rank)
    torch.set_num_threads(1)
    for number in range(20):
        with launch(TrainingSettings(devices=2), Silent()):
            torch.distributed.init_process_group("gloo", f"file://{folder}/{number}", rank=rank, world_size=2)
            model = torch.nn.parallel.DistributedDataParallel(torch.nn.Linear(4, 4))
            fabric = SimpleNamespace(world_size=2)
            generators = [torch.get_rng_state() for _ in range(4)]
            assert len(gathered(fabric, generators)) == 2  # type: ignore[arg-type]
        del model  # after `launch`, as in `train`


@posix
def test_a_run_that_ends_with_a_collective_operation_does_not_hang(tmp_path: Path) -> None:
    """Without the reference that `launch` keeps, two processes hang within 2 to 10 of these runs."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["tests.training.distributed.test_workers"])
    processes = [context.Process(target=_short_runs, args=(rank, tmp_path), daemon=True) for rank in range(2)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(300)
        assert process.exitcode == 0
