"""FSDP in two processes with gloo: the losses, models and checkpoints of one process, in half of the memory."""

from __future__ import annotations

import copy
import json
import multiprocessing
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning_fabric.plugins.environments.lightning import find_free_network_port
from safetensors.torch import load_file

from anadil.errors import AnadilError
from anadil.models.acoustic import AcousticModel, load_model
from anadil.models.conformer import ConformerSettings
from anadil.models.features import FeatureSettings
from anadil.training import train as module
from anadil.training.config import Config
from anadil.training.distributed.sharding import _blocks, local_shard, refuse_layerdrop
from anadil.training.learner import Learner
from anadil.training.train import train
from tests.support.micro import BLOCKS, micro_data
from tests.support.runs import metrics
from tests.support.workers import assert_same_course, data_of, posix

STATES = ("network", "optimizer", "ema", "precision")

Pair = Callable[..., None]


def _work(rank: int, jobs: Any) -> None:
    """Train as one of two processes: every run that is sent, one after the other."""
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "WORLD_SIZE": "2", "NODE_RANK": "0", "LOCAL_RANK": str(rank)}
    torch.set_num_threads(1)
    take_step = module.take_step
    while True:
        port, data, out, resume = jobs.recv()
        os.environ["MASTER_PORT"] = str(port)

        def step(learner: Learner, *rest: Any, out: Path = out) -> None:
            take_step(learner, *rest)
            (out / f"held-{rank}.json").write_text(json.dumps(_held(learner)))

        module.take_step = step  # type: ignore[assignment]
        try:
            train(Config.model_validate(data), out, resume=resume)
        except BaseException as error:
            jobs.send(repr(error))
        else:
            jobs.send("")


def _held(learner: Learner) -> dict[str, int]:
    """Return how many weights, moments and gradients this process holds."""
    weights = list(learner.data.acoustic.parameters())
    name = "exp_avg" if learner.settings.optimizer == "adamw" else "first"
    moments = [learner.optimizer.state[weight][name] for weight in weights if weight in learner.optimizer.state]
    gradients = [weight.grad for weight in weights if weight.grad is not None]
    kinds = {"weights": weights, "moments": moments, "gradients": gradients}
    return {kind: sum(local_shard(one).numel() for one in tensors) for kind, tensors in kinds.items()}


@pytest.fixture(scope="module")
def pair() -> Iterator[Pair]:
    """pair(data, out, resume=False, **training) trains in two processes, which are started once for all tests."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["tests.training.distributed.test_sharding"])  # PyTorch is imported once
    pipes = [context.Pipe() for _ in range(2)]
    processes = [
        context.Process(target=_work, args=(rank, theirs), daemon=True) for rank, (_, theirs) in enumerate(pipes)
    ]
    for process in processes:
        process.start()

    def run(data: dict[str, Any], out: Path, resume: bool = False, strategy: str = "fsdp") -> None:
        data = data | {"training": data["training"] | {"devices": 2, "strategy": strategy}}
        port = find_free_network_port()
        for ours, _ in pipes:
            ours.send((port, data, out, resume))
        for ours, _ in pipes:
            assert ours.poll(300), "a process hangs"
        assert {ours.recv() for ours, _ in pipes} == {""}

    yield run
    for process in processes:
        process.kill()
        process.join()


def alone(data: dict[str, Any], out: Path, resume: bool = False) -> None:
    train(Config.model_validate(data), out, resume=resume)


def conformer(micro: Path, epochs: int = 2) -> dict[str, Any]:
    """Batches of one to three utterances in up to two micro-batches: a process may have dummies only, or one."""
    settings = {"ema_decay": 0.9, "average_last": 2, "accumulate": 2, "checkpoint_minutes": 5}
    data = data_of(micro, batch_seconds=2.6, epochs=epochs, **settings)
    data["model"] |= {"n_layers": 2, "use_bias": False}  # the gradient of keys' biases is rounding alone
    return data


def newest(out: Path) -> dict[str, Any]:
    state: dict[str, Any] = torch.load(max((out / "checkpoints").iterdir()), weights_only=True)
    return state


def assert_alike(one: Any, other: Any, where: str = "") -> None:
    """Nested states of the same keys, kinds and shapes, and about the same numbers."""
    assert type(one) is type(other), where
    if isinstance(one, dict):
        assert list(one) == list(other), where
        for key in one:
            assert_alike(one[key], other[key], f"{where}.{key}")
    elif isinstance(one, torch.Tensor):
        assert (one.shape, one.dtype) == (other.shape, other.dtype), where
        apart = float(
            (one.double() - other.double()).norm()
        )  # single weights of small gradients move by rounding alone
        assert apart <= 0.01 * float(one.double().norm()) + 1e-4, where
    elif isinstance(one, list):
        assert len(one) == len(other), where


@pytest.fixture(scope="module")
def one(micro: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("one") / "run"
    alone(conformer(micro), out)
    return out


@posix
def test_two_processes_with_a_sharded_model_train_as_one(tmp_path: Path, micro: Path, pair: Pair, one: Path) -> None:
    two = tmp_path / "two"
    pair(conformer(micro), two)
    assert_same_course(two, one)
    for column in ("ema_cer", "average_cer"):
        assert [row[column] for row in metrics(two)] == [row[column] for row in metrics(one)]
    for name in ("best", "last"):
        assert sorted(path.name for path in (two / name).iterdir()) == sorted(p.name for p in (one / name).iterdir())
        assert_alike(*(load_file(run / name / "model.safetensors") for run in (one, two)))
        load_model(two / name)
    assert_alike(*({key: newest(run)[key] for key in STATES} for run in (one, two)))
    held = [json.loads((two / f"held-{rank}.json").read_text()) for rank in (0, 1)]
    total = sum(one.numel() for one in load_model(two / "best").acoustic.parameters())
    for kind in ("weights", "moments", "gradients"):
        assert held[0][kind] + held[1][kind] == total
        assert held[1][kind] > 0.4 * total


@posix
def test_one_process_resumes_the_run_of_two_and_two_that_of_one(
    tmp_path: Path, micro: Path, pair: Pair, one: Path
) -> None:
    short, long = conformer(micro, epochs=1), conformer(micro)
    pair(short, tmp_path / "first-two")
    alone(long, tmp_path / "first-two", resume=True)
    alone(short, tmp_path / "first-one")
    pair(long, tmp_path / "first-one", resume=True)
    for name in ("first-two", "first-one"):
        assert_same_course(tmp_path / name, one)
        assert_alike(*({key: newest(run)[key] for key in STATES} for run in (tmp_path / name, one)))


def quartznet(micro: Path) -> dict[str, Any]:
    """A transfer with all that reads weights outside of `forward`: freezing, L2-SP, NovoGrad and the time-major layout."""
    data = micro_data(micro / "train.jsonl", micro / "train.jsonl", epochs=2, optimizer="novograd", warmup_steps=1)
    data["training"] |= {"batch_seconds": 2.6, "precision": "32-true", "lr": 0.01}
    data["features"]["dither"] = 0.0
    data["model"] = {"blocks": copy.deepcopy(BLOCKS)}
    data["init"] = {"from": str(micro / "run/best"), "freeze": {"first_n": 1}, "unfreeze_after": 1, "l2_sp": 0.1}
    return data


def wav2vec2(micro: Path) -> dict[str, Any]:
    data = micro_data(micro / "train.jsonl", micro / "train.jsonl", epochs=1, warmup_steps=1, lr=0.01)
    data["training"] |= {"batch_seconds": 2.6, "flat_start_steps": 2}
    data |= {"features": {}, "model": {"kind": "wav2vec2", "hidden_size": 16, "num_hidden_layers": 2}}
    data["model"] |= {"num_attention_heads": 2, "intermediate_size": 32, "num_conv_pos_embeddings": 4, "layerdrop": 0.0}
    data["model"] |= {"conv_dim": [8] * 7, "num_conv_pos_embedding_groups": 2, "gradient_checkpointing": True}
    rates = ("hidden_dropout", "activation_dropout", "attention_dropout", "feat_proj_dropout", "final_dropout")
    data["model"] |= dict.fromkeys(rates, 0.0)
    return data


@posix
@pytest.mark.parametrize("build", [quartznet, wav2vec2])
def test_fsdp_gives_the_results_of_ddp(tmp_path: Path, micro: Path, pair: Pair, build: Any) -> None:
    """Two processes each: on a CPU batch norms see the batch of one process."""
    data = build(micro)
    pair(data, tmp_path / "ddp", strategy="ddp")
    pair(data, tmp_path / "fsdp")
    assert_same_course(tmp_path / "fsdp", tmp_path / "ddp")
    assert_alike(*(newest(tmp_path / name)["optimizer"] for name in ("fsdp", "ddp")))
    assert_alike(*(load_file(tmp_path / name / "last/model.safetensors") for name in ("fsdp", "ddp")))


def test_blocks_that_share_a_parameter_are_not_sharded_one_by_one() -> None:
    for untied, n_blocks in ((True, 3), (False, 0)):
        settings = ConformerSettings(n_layers=3, d_model=8, n_heads=2, conv_kernel_size=5, untie_biases=untied)
        assert len(_blocks(AcousticModel(FeatureSettings(), settings, 4).network)) == n_blocks


def test_settings_that_exclude_sharding_are_refused_before_anything_starts(tmp_path: Path, micro: Path) -> None:
    training = {"devices": 1, "precision": "16-mixed", "batch_seconds": "auto"}
    with pytest.raises(AnadilError) as refused:
        alone(data_of(micro, strategy="fsdp", **training), tmp_path / "run")
    message = str(refused.value)
    assert "this is one process" in message and "next: training.devices=2" in message
    assert "training.precision 16-mixed" in message and "training.batch_seconds auto" in message
    assert not (tmp_path / "run").exists()


def test_layerdrop_is_refused(micro: Path) -> None:
    data = wav2vec2(micro)
    data["training"]["strategy"] = "fsdp"
    refuse_layerdrop(Config.model_validate(data))
    data["model"]["layerdrop"] = 0.1
    with pytest.raises(AnadilError, match="next: model.kind=wav2vec2 model.layerdrop=0, or training.strategy=ddp"):
        refuse_layerdrop(Config.model_validate(data))
    data["training"]["strategy"] = "ddp"
    refuse_layerdrop(Config.model_validate(data))


@posix
def test_layerdrop_is_refused_by_all_processes(tmp_path: Path, micro: Path, pair: Pair) -> None:
    data = wav2vec2(micro)
    data["model"]["layerdrop"] = 0.1
    with pytest.raises(AssertionError, match="model.layerdrop 0.1"):
        pair(data, tmp_path / "run")
    assert not (tmp_path / "run").exists()
