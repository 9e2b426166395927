"""What a run leaves to look at: samples, hypotheses, curves, trackers."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from anadil.cli.train import judge
from anadil.errors import AnadilError
from anadil.evaluation.evaluate import score
from anadil.evaluation.evaluate import write_hypotheses as as_evaluate_does
from anadil.manifest import read_manifest
from anadil.training.config import Config
from anadil.training.monitoring.logs import describe_samples, pick
from anadil.training.run import Validation
from anadil.training.train import train
from anadil.training.validation import Judgement, Look
from tests.support.curves import curves
from tests.support.micro import TEXTS, micro_config
from tests.training.test_checkpoint import Crash, CrashAt
from tests.training.test_train import Told, metrics


def test_the_best_epochs_hypotheses_are_as_evaluate_writes_them(tmp_path: Path, micro: Path) -> None:
    written = read_manifest(micro / "run/hypotheses.jsonl")
    assert [one.text for one in written] == list(TEXTS)
    hypotheses = [one.extra["pred_text"] for one in written]
    bare = [type(one)(one.audio_filepath, one.duration, one.text) for one in written]
    evaluation = score(bare, list(TEXTS), hypotheses)
    best = min(float(row["valid_cer"]) for row in metrics(micro / "run"))
    assert evaluation.cer == pytest.approx(best)
    as_evaluate_does(tmp_path / "evaluate.jsonl", evaluation)
    assert read_manifest(tmp_path / "evaluate.jsonl") == written


def test_samples_are_of_different_kinds() -> None:
    references = ["a", "abcd", "abcdefgh", "ab", "abc"]
    hypotheses = ["b", "abcd", "abcd", "ab", "xxx"]
    look = Look(Validation(1.0, 0.5, 0.9), references, hypotheses)
    assert pick(look) == {"short": 0, "usual": 4, "long": 2, "best": 1, "middling": 2, "worst": 4}
    text = describe_samples(look, 7, 70)
    assert text.startswith("epoch 7, step 70: CER 50.00%, WER 90.00%\n")
    assert "  long, middling (CER 50%)\n    said  abcdefgh\n    heard abcd\n" in text
    assert text.count("said") == 4


def test_samples_and_curves_of_a_run_that_crashed_hold_each_epoch_once(tmp_path: Path, micro: Path) -> None:
    config = micro_config(micro / "train.jsonl", micro / "train.jsonl", epochs=4, checkpoint_minutes=1e-9)
    with pytest.raises(Crash):
        train(config, tmp_path / "run", judge, CrashAt(8))  # of 3 steps an epoch
    with open(tmp_path / "run/validation.txt", "a", encoding="utf-8") as file:
        file.write("epoch 3, step 9: CER 12.00%, WER 40.00%\n  of an epoch that was cut o")
    train(config, tmp_path / "run", judge, resume=True)
    text = (tmp_path / "run/validation.txt").read_text(encoding="utf-8")
    assert [line.split(",")[0] for line in text.splitlines() if line.startswith("epoch")] == [
        f"epoch {i}" for i in range(1, 5)
    ]
    assert "cut o" not in text
    drawn = curves((tmp_path / "run/metrics.svg").read_text(encoding="utf-8"))
    assert [len(points) for points in drawn.values()] == [4] * 5  # CER, WER, two losses, lr
    (events, _) = sorted((tmp_path / "run/tensorboard").iterdir())
    assert b"said" in events.read_bytes()


# --- trackers


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Any, ...]]:
    """Stand-ins for wandb and mlflow that note how they are called."""
    calls: list[tuple[Any, ...]] = []

    def noted(name: str, result: Any = None) -> Any:
        return lambda *args, **options: calls.append((name, args, options)) or result

    run = SimpleNamespace(id="w1", log=noted("wandb.log"), finish=noted("wandb.finish"))
    wandb, mlflow = ModuleType("wandb"), ModuleType("mlflow")
    wandb.init = noted("wandb.init", run)  # type: ignore[attr-defined]
    for name in ("set_experiment", "log_params", "log_metrics", "end_run"):
        setattr(mlflow, name, noted(f"mlflow.{name}"))
    mlflow.start_run = noted("mlflow.start_run", SimpleNamespace(info=SimpleNamespace(run_id="m1")))  # type: ignore[attr-defined]
    for module in (wandb, mlflow):
        module.__spec__ = SimpleNamespace(name=module.__name__)  # type: ignore[assignment]
        monkeypatch.setitem(sys.modules, module.__name__, module)
    for name in ("WANDB_PROJECT", "MLFLOW_EXPERIMENT_NAME", "MLFLOW_EXPERIMENT_ID"):
        monkeypatch.delenv(name, raising=False)
    return calls


def tracked(micro: Path, epochs: int = 2, **training: Any) -> Config:
    loggers = {"loggers": ["wandb", "mlflow"]} | training
    return micro_config(micro / "train.jsonl", micro / "train.jsonl", epochs=epochs, **loggers)


def test_trackers_get_the_settings_every_row_and_the_end(
    tmp_path: Path, micro: Path, fake: list[tuple[Any, ...]]
) -> None:
    train(tracked(micro), tmp_path / "run", judge)
    names = [name for name, _, _ in fake]
    assert names[:4] == ["wandb.init", "mlflow.set_experiment", "mlflow.start_run", "mlflow.log_params"]
    assert names[4:] == ["wandb.log", "mlflow.log_metrics"] * 2 + ["wandb.finish", "mlflow.end_run"]
    init = fake[0][2]
    assert (init["project"], init["name"], init["id"], init["config"]["training.lr"]) == ("anadil", "micro", None, 0.02)
    rows = metrics(tmp_path / "run")
    for (_, (figures,), options), row in zip((call for call in fake if call[0] == "wandb.log"), rows, strict=True):
        assert options == {"step": int(row["step"])}
        assert figures["valid_cer"] == float(row["valid_cer"]) and figures["train_loss"] == float(row["train_loss"])
    assert fake[-2][2] == {"exit_code": 0} and fake[-1][2] == {"status": "FINISHED"}
    assert json.loads((tmp_path / "run/trackers.json").read_text()) == {"wandb": "w1", "mlflow": "m1"}
    fake.clear()
    train(tracked(micro, epochs=3), tmp_path / "run", judge, resume=True)
    assert (fake[0][2]["id"], fake[0][2]["resume"]) == ("w1", "allow")
    assert fake[2][2]["run_id"] == "m1" and "mlflow.log_params" not in [name for name, _, _ in fake]


def test_a_tracker_that_fails_costs_its_figures_and_not_the_run(
    tmp_path: Path, micro: Path, fake: list[tuple[Any, ...]], monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_network(*_: Any, **__: Any) -> None:
        raise ConnectionError("no network")

    monkeypatch.setattr(sys.modules["mlflow"], "log_metrics", no_network, raising=False)
    told = Told()
    train(tracked(micro), tmp_path / "run", judge, told)
    assert told.warned == ["mlflow gets no more figures: ConnectionError: no network"]
    assert [name for name, _, _ in fake].count("wandb.log") == 2


def test_a_run_that_breaks_is_reported_as_failed(tmp_path: Path, micro: Path, fake: list[tuple[Any, ...]]) -> None:
    def broken(*_: Any) -> Judgement:
        raise AnadilError("broken")

    with pytest.raises(AnadilError, match="broken"):
        train(tracked(micro), tmp_path / "run", broken)
    assert fake[-2][2] == {"exit_code": 1} and fake[-1][2] == {"status": "FAILED"}


def test_a_tracker_that_is_not_installed_is_named_before_anything_is_done(
    tmp_path: Path, micro: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(AnadilError, match=r"wandb.* is not installed\n  next: pip install wandb"):
        train(tracked(micro, loggers=["wandb"]), tmp_path / "run", judge)
    assert not (tmp_path / "run").exists()
