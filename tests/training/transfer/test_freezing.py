"""Freezing, unfreezing and learning rates, also in resumed runs."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from anadil.errors import AnadilError
from anadil.training.config import Config, TrainingSettings
from anadil.training.optimizers import Pull, begin_thaw, build_optimizer, set_learning_rates
from anadil.training.train import train
from anadil.training.transfer.freezing import apply_freezing, block_depths, frozen_names, is_frozen, lr_factors
from anadil.training.transfer.settings import InitSettings
from tests.support.micro import BLOCKS
from tests.support.runs import EVERY_STEP, Crash, CrashAt, Told, assert_same_run
from tests.support.transfer import data_of, prepared, spoken, weights_of


def init_of(**fields: Any) -> InitSettings:
    return InitSettings.model_validate({"from": "x", **fields})


def run_data(folder: Path, micro: Path, **init: Any) -> dict[str, Any]:
    data = data_of(spoken(folder, micro, "áćb"), micro, init=init)
    data["training"] |= {"epochs": 3, "checkpoint_minutes": EVERY_STEP, "batch_seconds": 2.5, "warmup_steps": 2}
    return data


def changed(run: Path, source: Path, name: str = "last") -> set[str]:
    now, before = weights_of(run / name), weights_of(source)
    return {key for key in before if before[key].shape != now[key].shape or not torch.equal(before[key], now[key])}


NORM, STATISTIC = ("norm weights", "norm statistics")


def kind_of(name: str) -> str:
    if name.startswith("decoder."):
        return "head"
    block, rest = name.split(".")[2], name.split(".")[-1]
    if rest in ("running_mean", "running_var", "num_batches_tracked"):
        return f"{STATISTIC} {block}"
    return f"filters {block}" if ".conv." in name else f"{NORM} {block}"


EVERYTHING = {f"{kind} {block}" for kind in (NORM, STATISTIC, "filters") for block in range(3)} | {"head"}


@pytest.mark.parametrize(
    ("freeze", "moves"),
    [
        ("none", EVERYTHING),
        ("encoder", {"head"}),
        ("encoder_except_norm", {name for name in EVERYTHING if not name.startswith("filters")}),
        ({"first_n": 2}, {"head", *(name for name in EVERYTHING if name.endswith("2"))}),
        ({"first_n": 3}, {"head"}),
    ],
)
def test_frozen_weights_do_not_change(tmp_path: Path, micro: Path, freeze: Any, moves: set[str]) -> None:
    data = run_data(tmp_path, micro, freeze=freeze)
    data["training"] |= {"epochs": 1, "weight_decay": 0.3}
    train(Config.model_validate(data), tmp_path / "run")
    assert {kind_of(name) for name in changed(tmp_path / "run", micro / "run/best")} == moves


def test_more_blocks_than_there_are_cannot_be_frozen(tmp_path: Path, micro: Path) -> None:
    with pytest.raises(AnadilError, match="first_n: 4, but the encoder has 3 blocks\n  next: give at most 3"):
        train(Config.model_validate(run_data(tmp_path, micro, freeze={"first_n": 4})), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_frozen_encoder_costs_no_backward_pass_and_has_no_dropout(tmp_path: Path, micro: Path) -> None:
    data = run_data(tmp_path, micro, freeze="encoder")
    data["model"] = {"blocks": [{**block, "dropout": 0.5} for block in BLOCKS]}
    acoustic = prepared(data, tmp_path).acoustic.train()
    apply_freezing(acoustic.network, init_of(freeze="encoder", unfreeze_after=1), epoch=1)
    features = torch.randn(2, 20, 50)
    counts = torch.tensor([50, 40])
    encoded, _ = acoustic.network.encoder(features, counts)
    assert not encoded.requires_grad
    assert torch.equal(encoded, acoustic.network.encoder(features, counts)[0])
    acoustic.network(features, counts)[0].sum().backward()
    graded = {name for name, parameter in acoustic.network.named_parameters() if parameter.grad is not None}
    assert graded == {"decoder.decoder_layers.0.weight", "decoder.decoder_layers.0.bias"}
    acoustic.train()
    apply_freezing(acoustic.network, init_of(freeze="encoder", unfreeze_after=1), epoch=2)
    assert acoustic.network.encoder(features, counts)[0].requires_grad
    assert all(module.training for module in acoustic.modules())


class Watch(Told):
    """Looks at RUN/last after each epoch."""

    def __init__(self, look: Callable[[], None]) -> None:
        super().__init__(lambda text: look() if text.startswith("epoch") else None)


def test_unfreezing_after_an_epoch(tmp_path: Path, micro: Path) -> None:
    seen: list[set[str]] = []

    def look() -> None:  # during the validation of an epoch, `last` is of the one before
        if (tmp_path / "run/last").exists():
            seen.append({kind_of(name) for name in changed(tmp_path / "run", micro / "run/best")})

    data = run_data(tmp_path, micro, freeze="encoder", unfreeze_after=2)
    data["training"]["epochs"] = 4
    train(Config.model_validate(data), tmp_path / "run", Watch(look))
    assert seen == [{"head"}, {"head"}, EVERYTHING]
    state = torch.load(max((tmp_path / "run/checkpoints").iterdir()), weights_only=True)
    since = {(group["frozen"], group["since"]) for group in state["optimizer"]["param_groups"]}
    assert since == {(False, 0), (True, 2 * 4)}  # its warm-up begins with the third epoch


@pytest.mark.parametrize(
    "init",
    [
        {"freeze": "encoder", "unfreeze_after": 1, "layer_lr_decay": 0.7, "l2_sp": 0.5},
        {"freeze": "encoder_except_norm", "unfreeze_after": 2, "head": "new"},
    ],
    ids=["encoder", "filters"],
)
@pytest.mark.parametrize("optimizer", ["adamw", "novograd"])
def test_a_resumed_transfer_is_exact_across_the_unfreezing_and_needs_no_source(
    tmp_path: Path, micro: Path, init: dict[str, Any], optimizer: str
) -> None:
    source = tmp_path / "source"
    shutil.copytree(micro / "run/best", source)
    data = run_data(tmp_path, micro, **init) | {"augment": {}}
    data["init"]["from"] = str(source)
    data["training"]["optimizer"] = optimizer
    config = Config.model_validate(data)
    train(config, tmp_path / "undisturbed")
    for attempt, crash_after in enumerate((3, 1, 1, 2, 1, 1, 99)):  # of 12 steps, 4 an epoch
        torch.manual_seed(crash_after)
        try:
            train(config, tmp_path / "run", CrashAt(crash_after), resume=attempt > 0)
        except Crash:
            shutil.rmtree(source, ignore_errors=True)
        else:
            assert attempt == 6
    assert_same_run(tmp_path / "run", tmp_path / "undisturbed")


def test_a_run_without_its_saved_start_cannot_be_resumed(tmp_path: Path, micro: Path) -> None:
    config = Config.model_validate(run_data(tmp_path, micro, l2_sp=0.5))
    with pytest.raises(Crash):
        train(config, tmp_path / "run", CrashAt(3))
    for name in ("start.safetensors", "init.json"):
        (tmp_path / "run" / name).unlink()
        with pytest.raises(AnadilError, match=rf"{name}, which a run .* cannot be read.*\n  next: leave --resume out"):
            train(config, tmp_path / "run", resume=True)


def test_a_resumed_run_has_the_same_source(tmp_path: Path, micro: Path) -> None:
    data = run_data(tmp_path, micro, freeze="encoder")
    with pytest.raises(Crash):
        train(Config.model_validate(data), tmp_path / "run", CrashAt(3))
    data["init"] = {"from": "elsewhere", "freeze": "none"}
    with pytest.raises(
        AnadilError, match=r'(?s)init.freeze was "encoder", is "none".*init.from was .*, is "elsewhere"'
    ):
        train(Config.model_validate(data), tmp_path / "run", resume=True)


# --- names and rates


class Net(nn.Module):
    """Named as a Conformer, with a squeeze-and-excitation in it."""

    def __init__(self) -> None:
        super().__init__()
        layer = {"norm": nn.LayerNorm(2), "linear": nn.Linear(2, 2), "se": nn.ModuleDict({"fc": nn.Linear(2, 2)})}
        layers = nn.ModuleList([nn.ModuleDict(layer), nn.ModuleDict({"linear": nn.Linear(2, 2)})])
        modules = {"pre_encode": nn.Linear(2, 2), "layers": layers, "out_proj": nn.Linear(2, 2)}
        self.encoder = nn.ModuleDict(modules)
        self.decoder = nn.ModuleDict({"decoder_layers": nn.ModuleList([nn.Linear(2, 2)])})


NAMES = [name for name, _ in Net().named_parameters()]


def test_parameters_outside_the_blocks_belong_to_the_nearest_block() -> None:
    depth, n_blocks = block_depths(NAMES)
    assert n_blocks == 2
    weights = {name.removeprefix("encoder."): depth[name] for name in depth if name.endswith("weight")}
    assert weights == {"pre_encode.weight": 0, "layers.0.norm.weight": 0, "layers.0.linear.weight": 0,
                       "layers.0.se.fc.weight": 0, "layers.1.linear.weight": 1, "out_proj.weight": 1}  # fmt: skip
    first = frozen_names(Net(), init_of(freeze={"first_n": 1}))
    assert first == {name for name in depth if depth[name] == 0}


def test_squeeze_excite_layers_are_trained_with_the_norms() -> None:
    frozen = frozen_names(Net(), init_of(freeze="encoder_except_norm"))
    assert {name.removeprefix("encoder.") for name in frozen if name.endswith("weight")} == {
        "pre_encode.weight", "layers.0.linear.weight", "layers.1.linear.weight", "out_proj.weight"}  # fmt: skip


def test_rates_fall_from_the_head_to_the_input() -> None:
    factors = lr_factors(NAMES, init_of(layer_lr_decay=0.5, encoder_lr_factor=0.8))
    assert factors["decoder.decoder_layers.0.weight"] == 1
    assert factors["encoder.out_proj.weight"] == factors["encoder.layers.1.linear.bias"] == pytest.approx(0.8 * 0.5)
    assert factors["encoder.pre_encode.bias"] == pytest.approx(0.8 * 0.25)
    assert set(lr_factors(NAMES, None).values()) == {1.0}


@pytest.mark.parametrize(("epoch", "frozen"), [(1, True), (2, True), (3, False), (9, False)])
def test_epochs_count_from_one(epoch: int, frozen: bool) -> None:
    assert is_frozen(init_of(freeze="encoder", unfreeze_after=2), epoch) == frozen
    assert is_frozen(init_of(freeze="encoder"), epoch)


def test_unfrozen_weights_warm_up_when_unfrozen() -> None:
    settings = TrainingSettings(lr=1.0, min_lr=0, warmup_steps=10)
    init = init_of(freeze="encoder", unfreeze_after=2, encoder_lr_factor=0.5)
    optimizer = build_optimizer(Net(), settings, init)

    def rates(step: int) -> set[float]:
        set_learning_rates(optimizer, settings, step, 0.0)
        return {round(group["lr"], 6) for group in optimizer.param_groups}

    assert rates(0) == {0.1, 0.05} and rates(9) == {1.0, 0.5}
    for epoch in (2, 4):
        begin_thaw(optimizer, init, epoch, step=100)
    assert rates(100) == {1.0, 0.5}
    begin_thaw(optimizer, init, 3, step=100)
    assert rates(100) == {1.0, 0.05} and rates(104) == {1.0, 0.25} and rates(150) == {1.0, 0.5}


def test_frozen_weights_have_no_moments_until_unfrozen() -> None:
    net = Net()
    optimizer = build_optimizer(net, TrainingSettings(), init_of(freeze="encoder"))
    apply_freezing(net, init_of(freeze="encoder"), 1)
    net.decoder["decoder_layers"][0](net.encoder["out_proj"](torch.ones(1, 2))).sum().backward()  # type: ignore[index]
    optimizer.step()
    assert len(optimizer.state) == 2  # weight and bias of the head


def test_l2_sp_pulls_weights_to_their_start() -> None:
    """By hand: w = 3 and start = 1, rate 0.1 x 0.5 (factor), strength 2: w - 0.1 * (3 - 1) = 2.8."""
    net = Net()
    weight = net.encoder["out_proj"].weight
    assert isinstance(weight, Tensor)
    nn.init.constant_(weight, 3.0)
    start = {name: torch.ones_like(parameter) for name, parameter in net.named_parameters() if "out_proj" in name}
    pull = Pull(net, start, strength=2.0)
    optimizer = build_optimizer(net, TrainingSettings(), init_of(encoder_lr_factor=0.5), pulled=start)
    set_learning_rates(optimizer, TrainingSettings(lr=0.1, warmup_steps=0), 0, 0.0)
    head = next(net.decoder.parameters()).detach().clone()
    pull.step(optimizer)
    assert set(weight.flatten().tolist()) == {3.0}  # no gradient: frozen
    for parameter in net.parameters():
        parameter.grad = torch.zeros_like(parameter)
    pull.step(optimizer)
    torch.testing.assert_close(weight.detach(), torch.full((2, 2), 2.8))
    assert torch.equal(next(net.decoder.parameters()), head)
    decay = {id(p): group["weight_decay"] for group in optimizer.param_groups for p in group["params"]}
    assert decay[id(weight)] == 0 < decay[id(net.encoder["pre_encode"].weight)]


def test_a_stronger_pull_keeps_weights_nearer_to_the_start(tmp_path: Path, micro: Path) -> None:
    def distance(strength: float) -> float:
        out = tmp_path / f"{strength:g}"
        train(Config.model_validate(run_data(tmp_path, micro, l2_sp=strength, head="new")), out)
        now, start = weights_of(out / "last"), weights_of(micro / "run/best")
        assert (out / "start.safetensors").exists() == (strength > 0)
        return sum(float((now[name] - start[name]).square().sum()) for name in now if name.endswith("conv.weight"))

    free, soft, hard = distance(0), distance(1), distance(30)
    assert free > soft > 4 * hard
