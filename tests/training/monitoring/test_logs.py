"""What a run leaves to look at: samples, hypotheses, curves."""

from __future__ import annotations

from pathlib import Path

import pytest

from anadil.errors import AnadilError
from anadil.evaluation.evaluate import score
from anadil.evaluation.evaluate import write_hypotheses as as_evaluate_does
from anadil.manifest import read_manifest
from anadil.training.monitoring.logs import describe_samples, pick_samples
from anadil.training.run import Run, Validation
from anadil.training.train import train
from tests.support.curves import curves
from tests.support.micro import TEXTS, micro_config
from tests.support.runs import Crash, CrashAt, metrics
from tests.support.validation import result_of


def test_the_best_epochs_hypotheses_are_as_evaluate_writes_them(tmp_path: Path, micro: Path) -> None:
    written = read_manifest(micro / "run/hypotheses.jsonl")
    assert [one.text for one in written] == list(TEXTS)
    hypotheses = [one.extra["pred_text"] for one in written]
    bare = [type(one)(one.audio_filepath, one.duration, one.text) for one in written]
    evaluation = score(bare, list(TEXTS), hypotheses)
    best = min(float(row["valid_cer"]) for row in metrics(micro / "run"))
    assert evaluation.cer == pytest.approx(best)
    as_evaluate_does(tmp_path / "evaluate.jsonl", evaluation.scored)
    assert read_manifest(tmp_path / "evaluate.jsonl") == written


def test_samples_are_of_different_kinds() -> None:
    references = ["a", "abcd", "abcdefgh", "ab", "abc"]
    hypotheses = ["b", "abcd", "abcd", "ab", "xxx"]
    look = result_of(Validation(1.0, 0.5, 0.9), references, hypotheses)
    assert pick_samples(look) == {"short": 0, "usual": 4, "long": 2, "best": 1, "middling": 2, "worst": 4}
    text = describe_samples(look, Run(Path("run"), 100, 1.0, 1, 5.0, step=70, epoch=7))
    assert text.startswith("epoch 7, step 70: CER 50.00%, WER 90.00%\n")
    assert "  long, middling (CER 50%)\n    reference   abcdefgh\n    hypothesis  abcd\n" in text
    assert text.count("reference") == 4


def test_samples_and_curves_of_a_run_that_crashed_hold_each_epoch_once(tmp_path: Path, micro: Path) -> None:
    config = micro_config(micro / "train.jsonl", micro / "train.jsonl", epochs=4, checkpoint_minutes=1e-9)
    with pytest.raises(Crash):
        train(config, tmp_path / "run", CrashAt(8))  # of 3 steps an epoch
    with open(tmp_path / "run/validation.txt", "a", encoding="utf-8") as file:
        file.write("epoch 3, step 9: CER 12.00%, WER 40.00%\n  of an epoch that was cut o")
    train(config, tmp_path / "run", resume=True)
    text = (tmp_path / "run/validation.txt").read_text(encoding="utf-8")
    assert [line.split(",")[0] for line in text.splitlines() if line.startswith("epoch")] == [
        f"epoch {i}" for i in range(1, 5)
    ]
    assert "cut o" not in text
    drawn = curves((tmp_path / "run/metrics.svg").read_text(encoding="utf-8"))
    assert [len(points) for points in drawn.values()] == [4] * 5  # CER, WER, two losses, lr
    (events, _) = sorted((tmp_path / "run/tensorboard").iterdir())
    assert b"reference" in events.read_bytes()


# --- the key of 0.1.0's trackers


def test_trackers_are_refused_with_what_to_do_before_anything_is_done(tmp_path: Path, micro: Path) -> None:
    config = micro_config(micro / "train.jsonl", loggers=["wandb", "mlflow"])  # a model saved with it still loads
    with pytest.raises(
        AnadilError, match=r"training\.loggers: wandb, mlflow: .*\n.*wandb sync.*\n  next: delete the key"
    ):
        train(config, tmp_path / "run")
    assert not (tmp_path / "run").exists()
