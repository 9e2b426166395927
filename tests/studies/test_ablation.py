"""Ablations from the command line, on a language of tones: variants, seeds, differences, resumption, wrong usage."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from pytest import approx

from anadil.errors import AnadilError
from anadil.manifest import read_manifest
from anadil.settings import read_yaml
from anadil.studies.trials import _StudyReporter
from anadil.training.monitoring.report import Silent
from anadil.training.train import train as real_train
from tests.support.command_line import anadil, fails, succeeds
from tests.support.micro import TEXTS, micro_data, write_config, write_corpus

VARIANTS = ("--variant", "base", "--variant=slow", "training.lr=0.0001", "training.min_lr=0.0001", "--seeds", "0,1")

IMPOSSIBLE = "[{filters: 16, kernel: 9, residual: true, residual_projection: false}]"
"""Blocks that need as many output channels as input channels."""


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("corpus")
    manifest = write_corpus(folder, TEXTS * 3)
    write_config(folder / "config.yaml", micro_data(manifest, manifest, epochs=9) | {"lm": None})
    return folder


@pytest.fixture(scope="module")
def done(corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """The folder of an ablation, and what it wrote to stdout."""
    out = tmp_path_factory.mktemp("done") / "out"
    return out, succeeds("ablate", corpus / "config.yaml", *VARIANTS, "--epochs", 6, "--out", out).stdout


def figures_of(out: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((out / "ablate.json").read_text(encoding="utf-8"))
    return found


def test_each_variant_is_trained_with_each_seed_for_the_epochs_that_were_asked_for(done: tuple[Path, str]) -> None:
    out, _ = done
    assert sorted(one.name for one in out.iterdir() if one.is_dir()) == [
        f"{name}-seed-{seed}" for name in ("base", "slow") for seed in (0, 1)
    ]
    for folder in out.glob("*-seed-*"):
        saved = read_yaml(folder / "config.yaml")["training"]
        slow = folder.name.startswith("slow")
        assert (saved["epochs"], saved["max_minutes"], saved["seed"]) == (6, None, int(folder.name[-1]))
        assert saved["lr"] == (0.0001 if slow else 0.02)
        assert len((folder / "run/metrics.csv").read_text().splitlines()) == 1 + 6


def test_the_table_has_the_mean_of_the_seeds_and_the_difference_to_the_first_variant(done: tuple[Path, str]) -> None:
    out, printed = done
    found = figures_of(out)
    base, slow = found["variants"]
    names = [row.split()[0] for row in printed.splitlines() if row.strip().startswith(("base ", "slow "))]
    assert names == ["base", "slow", "slow"] and "Difference to base" in printed
    assert found["seeds"] == [0, 1] and found["epochs"] == 6 and found["failed"] == {}
    assert [run["seed"] for run in base["runs"]] == [0, 1]
    assert base["greedy"]["cer"] == approx(sum(run["cer"] for run in base["runs"]) / 2)
    assert base["greedy_minus_first"] is None and slow["changes"] == ["training.lr=0.0001", "training.min_lr=0.0001"]
    difference = slow["greedy_minus_first"]["characters"]
    assert (
        difference["difference"] == approx(slow["greedy"]["cer"] - base["greedy"]["cer"])
        and difference["a"] > difference["b"]
    )
    assert slow["greedy_minus_first"]["runs"] == [2, 2] and difference["interval"][0] <= difference["difference"]
    assert f" {100 * difference['difference']:+.2f} " in printed and f"{base['greedy']['cer']:.2%}" in printed
    assert base["training_seconds"] > 0 and base["audio_seconds_per_second"] > 0
    assert "no model has a language model" in printed and base["decoded"] is None


def test_a_finished_training_is_not_done_again_and_a_variant_can_be_added(
    corpus: Path, done: tuple[Path, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    out, trained = done[0], []

    def train(config: object, out: Path, *args: object, **kwargs: object) -> object:
        trained.append(out.parent.name)
        return real_train(config, out, *args, **kwargs)  # type: ignore[arg-type]

    monkeypatch.setattr("anadil.studies.trials.train", train)
    command = ("ablate", corpus / "config.yaml", *VARIANTS, "--epochs", 6, "--out", out)
    assert "--resume" in fails(*command)
    before = figures_of(out)
    succeeds(*command, "--variant", "short", "training.epochs=1", "--resume")
    assert trained == ["short-seed-0", "short-seed-1"]
    assert figures_of(out)["variants"][:2] == before["variants"]
    assert read_yaml(out / "short-seed-0/config.yaml")["training"]["epochs"] == 1
    message = fails(*command[:-2], "--epochs", 3, "--out", out, "--resume")
    assert "another config" in message


def test_a_failed_training_is_named_and_its_variant_has_the_other_seeds(
    corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def train(config: object, out: Path, *args: object, **kwargs: object) -> object:
        if out.parent.name in ("base-seed-1", "lost-seed-0", "lost-seed-1"):
            raise AnadilError("the loss is not finite")
        return real_train(config, out, *args, **kwargs)  # type: ignore[arg-type]

    monkeypatch.setattr("anadil.studies.trials.train", train)
    out = tmp_path / "out"
    result = anadil(
        "ablate",
        corpus / "config.yaml",
        "--variant",
        "base",
        "--variant",
        "lost",
        "--seeds",
        "0,1",
        "--epochs",
        1,
        "--out",
        out,
    )
    assert result.exit_code == 1 and "not in the table: base-seed-1" in result.stderr
    base, lost = figures_of(out)["variants"]
    assert [run["seed"] for run in base["runs"]] == [0] and lost["runs"] == [] and lost["greedy"] is None


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (("--variant", "a", "--variant", "b", "model.dropuot=0.1"), "variant b: unknown key 'model.dropuot'"),
        (("--variant", "a", "training.lrr=1", "--variant", "b", "augmnt.speed=null"), "did you mean 'augment'"),
        (("--variant", "a", "training.seed=3"), "--seeds"),
        (("--variant", "a", "--variant", "b", "training.devices=2"), "training.devices=1"),
        (("data.valid=[]", "--variant", "a"), "data.valid=valid.jsonl"),
        (("--variant", "a", "--variant", "b", "data.valid=[]"), "data.valid=valid.jsonl"),
        (("--variant", "a", "--test", "none.jsonl"), "manifest not found"),
        (("--variant", "a", "--variant", "b", f"model.blocks={IMPOSSIBLE}"), "variant b: model.blocks"),
    ],
)
def test_what_cannot_be_trained_is_refused_before_any_training(
    corpus: Path, tmp_path: Path, arguments: tuple[str, ...], expected: str
) -> None:
    assert expected in fails("ablate", corpus / "config.yaml", *arguments, "--out", tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    "arguments",
    [
        (),
        ("--variant",),
        ("--variant", "training.lr=1"),
        ("--variant", "../a"),
        ("--variant", "a", "--variant", "a"),
        ("--variant", "a", "--seeds", "0,0"),
        ("--variant", "a", "--seeds", "one"),
        ("--variant", "a", "--seeds", "-1"),
        ("--variant", "a", "--epochs", "0"),
    ],
)
def test_wrong_usage(corpus: Path, tmp_path: Path, arguments: tuple[str, ...]) -> None:
    assert anadil("ablate", corpus / "config.yaml", *arguments, "--out", tmp_path / "out").exit_code == 2
    assert not (tmp_path / "out").exists()


def test_the_difference_is_that_of_compare(done: tuple[Path, str]) -> None:
    """`anadil compare slow against base` says the same."""
    out, _ = done
    lines = {one.name: read_manifest(one / "hypotheses.jsonl") for one in out.glob("*-seed-*")}
    assert {len(own) for own in lines.values()} == {3 * len(TEXTS)}
    result = succeeds(
        "compare",
        *sorted(out.glob("slow-seed-*")),
        "against",
        *sorted(out.glob("base-seed-*")),
        "--json",
        out / "compare.json",
    )
    assert result.exit_code == 0
    compared = json.loads((out / "compare.json").read_text(encoding="utf-8"))
    found = figures_of(out)["variants"][1]["greedy_minus_first"]
    assert compared["characters"]["interval"] == approx(found["characters"]["interval"])


class Seen(Silent):
    """Keeps the progress of the stage "trials"."""

    def __init__(self) -> None:
        self.shares: list[float] = []

    def progress(self, stage: str, done: float, total: float, note: str = "") -> None:
        if stage == "trials":
            self.shares.append(done / total)


def test_the_progress_of_each_training_is_that_of_the_whole_study() -> None:
    seen = Seen()
    study = _StudyReporter(seen, [1.0, 3.0])
    assert study.begin("small") == ""
    study.progress("checking training audio", 1, 1)
    study.progress("training", 1, 2)
    study.count_trained()
    assert "min left for all" in study.begin("large")
    study.progress("training", 2, 3)
    study.end()
    assert seen.shares == approx([0, 0.125, 0.25, 0.75, 1.0], abs=0.001)
