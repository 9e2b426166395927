"""Saving a model folder of a run, with its card (README.md): training data, licences, error rates."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

from anadil.data.examples import Example
from anadil.models.acoustic import save_model
from anadil.models.summary import describe_model
from anadil.settings import dump
from anadil.text.tokenizer import tokenizer_files
from anadil.training.config import Config
from anadil.training.prepare import Prepared
from anadil.training.run import Run
from anadil.training.transfer.lora import merged_state


def save_run_model(data: Prepared, run: Run, name: str, weights: str) -> None:
    """Write RUN/`name` ("best" or "last") with its card. `weights`: in words, if they are an average. Raises AnadilError."""
    last = run.last
    card = model_card(
        data.config, data.train, run.epoch, run.step, last.cer if last else None, last.wer if last else None, weights
    )
    network, init = data.acoustic.network, data.config.init
    state = merged_state(network, init.lora if init else None)
    save_model(run.out / name, data.acoustic, dump(data.config), card, tokenizer_files(data.rules), state)


def model_card(
    config: Config,
    train: Sequence[Example],
    epoch: int,
    step: int,
    cer: float | None,
    wer: float | None,
    weights: str = "",
) -> str:
    """Return the card as Markdown. Rates are fractions, None without validation data; `weights` describes an average."""
    hours = sum(example.duration for example in train) / 3600
    pseudo = sum(example.duration for example in train if example.utterance.is_pseudo_label) / 3600
    synthetic = sum(example.duration for example in train if example.utterance.extra.get("synthetic") is True) / 3600
    labelled = f", {pseudo:.2f} h of it with pseudo labels" if pseudo else ""
    labelled += f", {synthetic:.2f} h of it synthetic speech" if synthetic else ""
    rates = "no validation data was given" if cer is None or wer is None else f"CER {cer:.2%}, WER {wer:.2%}"
    labels = config.tokenizer.labels
    start = "random weights" if config.init is None else f"{config.init.from_} (head: {config.init.head})"
    return f"""# {config.name}

Speech recogniser for the language `{config.language}`, trained with Anadil.

| | |
|---|---|
| model | {describe_model(config.model)} |
| started from | {start} |
| training speech | {hours:.2f} h ({", ".join(config.data.train)}){labelled} |
| its licences | {licenses(train)} |
| labels | {len(labels)} |
| at | epoch {epoch}, step {step:,}{f" ({weights})" if weights else ""} |
| validation, greedy decoding, no LM | {rates} ({", ".join(config.data.valid) or "none"}) |

This checkpoint was chosen on the validation set, so its figures are a little too good. `anadil evaluate` on speech of
other speakers gives honest ones. Training and validation may share speakers; see the manifests.
"""


def licenses(train: Sequence[Example]) -> str:
    """Return the licences of the speech, from the manifests' key "license", the one with the most hours first."""
    seconds: dict[str, float] = defaultdict(float)
    for example in train:
        name = example.utterance.extra.get("license")
        seconds[_one_line(name) if isinstance(name, str) and name.strip() else "not given"] += example.duration
    longest = sorted(seconds.items(), key=lambda item: -item[1])
    return ", ".join(f"{name} ({total / 3600:.2f} h)" for name, total in longest)


def _one_line(text: str) -> str:
    """Return text that fits into one cell of a Markdown table."""
    return " ".join(text.replace("|", "/").split())
