"""`anadil train`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from anadil.cli.console import ConsoleReporter, verb

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np

    from anadil.text.rules import TextRules
    from anadil.training.judge import Judgement

EXAMPLE = "Example: anadil train configs/few-hours.yaml language=mdw data.train=train.jsonl data.valid=valid.jsonl --out runs/mdw"


@verb
def train(
    config: Annotated[Path, typer.Argument(help="YAML config; configs/ has some to start from.")],
    overrides: Annotated[
        list[str] | None, typer.Argument(metavar="[KEY=VALUE]...", help="Change keys: training.epochs=20")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Folder of the run.", show_default="runs/NAME")] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on with the run in --out that was interrupted or killed.")
    ] = False,
    force: Annotated[bool, typer.Option("--force", help="Replace an earlier run in --out.")] = False,
) -> None:
    """Train a model: writes OUT/best and OUT/last (model folders), OUT/metrics.csv and TensorBoard logs."""
    from anadil.training.config import load_config
    from anadil.training.train import train as train_model

    settings = load_config(config, overrides or [])
    out = out or Path("runs") / settings.name
    with ConsoleReporter() as report:
        run = train_model(settings, out, judge, report, force, resume)
    name = "best" if run.best else "last"
    report.say(f"\n{run.minutes:.1f} minutes; next: anadil export {out / name} --out {out / 'exported'}")
    print(out / name)


command = train


def judge(log_probs: Sequence[np.ndarray], rules: TextRules, references: Sequence[str]) -> Judgement:
    """Greedy decoding and corpus-level CER and WER, for the training loop's validation."""
    from anadil.decoding.greedy import best_path
    from anadil.evaluation.errors import character_errors, total, word_errors
    from anadil.training.judge import Judgement

    hypotheses = [
        " ".join(rules.decode(token.id for token in best_path(row, rules.blank_id)).split()) for row in log_probs
    ]
    pairs = list(zip(references, hypotheses, strict=True))
    cer = total(character_errors(reference, hypothesis) for reference, hypothesis in pairs).rate
    wer = total(word_errors(reference, hypothesis) for reference, hypothesis in pairs).rate
    return Judgement(cer, wer, hypotheses)
