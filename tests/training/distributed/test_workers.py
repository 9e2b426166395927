"""Several processes that train one model, on one machine, with gloo."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from anadil.errors import AnadilError
from anadil.training.config import Config
from anadil.training.distributed import workers as module
from anadil.training.distributed.workers import members, share_of
from anadil.training.train import train
from tests.support.micro import write_config
from tests.support.runs import metrics
from tests.support.workers import assert_same_course, data_of, posix


def command(config: Path, out: Path, *options: str) -> list[str]:
    program = "from tests.support.micro import *; from anadil.cli.main import main; main()"  # on one thread
    return [sys.executable, str(_script(config.parent, program)), "train", str(config), "--out", str(out), *options]


def _script(folder: Path, program: str) -> Path:
    """Others are started by the same command line, so it must be a file."""
    path = folder / "start.py"
    path.write_text(program + "\n", encoding="utf-8")
    return path


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
    assert done.stderr.count("epoch   1") == 1  # one of them speaks
    assert_same_course(pair, single)

    killed = tmp_path / "killed"
    process = subprocess.Popen(
        command(config, killed, *two, "training.epochs=100000"), stderr=subprocess.PIPE, text=True, env=environment()
    )
    deadline = time.monotonic() + 600
    while not (killed / "metrics.csv").exists() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.02)
    (other,) = [int(pid) for pid in Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()]
    os.kill(other, signal.SIGKILL)
    _, told = output_of(process)
    assert process.returncode == 1, told
    assert "training stopped: process 1 of 2 was killed by signal 9" in told
    assert "--resume goes on from the last checkpoint, with any number of processes" in told
    assert "Traceback" not in told
    n_epochs = max(3, len(metrics(killed)) + 1)
    again = Config.model_validate(data_of(micro, batch_seconds=2.6, epochs=n_epochs))
    assert train(again, killed, resume=True).epoch == n_epochs
    losses = [[float(row["train_loss"]) for row in metrics(run)[:3]] for run in (killed, single)]
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)  # the learning rate is constant here


@pytest.mark.slow
@posix
def test_torchruns_environment_is_obeyed(tmp_path: Path, micro: Path, alone: Path) -> None:
    config, out = write_config(tmp_path / "config.yaml", data_of(micro)), tmp_path / "run"
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    shared = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2"}
    shared |= {"TORCHELASTIC_RUN_ID": "test"}
    processes = [
        subprocess.Popen(
            command(config, out), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
            env=environment(RANK=rank, LOCAL_RANK=rank, GROUP_RANK="0", **shared),
        )
        for rank in "01"
    ]  # fmt: skip
    told = [output_of(process) for process in processes]
    assert [process.returncode for process in processes] == [0, 0], told
    assert [stdout for stdout, _ in told] == [f"{out / 'best'}\n", ""]
    assert_same_course(out, alone)


def test_torchrun_and_devices_must_agree(monkeypatch: pytest.MonkeyPatch, micro: Path) -> None:
    for name, value in (("TORCHELASTIC_RUN_ID", "x"), ("LOCAL_WORLD_SIZE", "4"), ("WORLD_SIZE", "12")):
        monkeypatch.setenv(name, value)
    settings = Config.model_validate(data_of(micro)).training
    assert members(settings) == (4, 3)
    with pytest.raises(AnadilError, match="training.devices is 2, but torchrun started 4 processes"):
        members(settings.model_copy(update={"devices": 2}))


@pytest.mark.parametrize("n", range(1, 12))
@pytest.mark.parametrize(("n_processes", "accumulate"), [(1, 1), (2, 1), (2, 3), (4, 2)])
def test_every_utterance_is_heard_once(n: int, n_processes: int, accumulate: int) -> None:
    shares = [share_of(range(n), rank, n_processes, accumulate) for rank in range(n_processes)]
    heard = [i for share in shares for piece in share.pieces[: len(share.pieces) - share.idle] for i in piece]
    assert sorted(heard) == list(range(n))
    assert all(share.pieces and all(share.pieces) and len(share.pieces) <= accumulate for share in shares)
    assert len({len(share.pieces) for share in shares}) == 1  # with sharded weights they meet in each
    assert max(share.idle for share in shares) <= 1


def test_an_error_that_is_not_of_the_connection_stays_what_it_is(micro: Path) -> None:
    settings = Config.model_validate(data_of(micro)).training
    with pytest.raises(RuntimeError, match="shapes"), module.together(settings, None):  # type: ignore[arg-type]
        raise RuntimeError("shapes cannot be multiplied")
