"""README.md of a model folder: what it is, what it heard, what it can do."""

from __future__ import annotations

from anadil.training.config import Config


def model_card(config: Config, hours: float, epoch: int, step: int, cer: float | None, wer: float | None) -> str:
    """Markdown; rates as fractions, None where there was no validation data."""
    rates = "no validation data was given" if cer is None or wer is None else f"CER {cer:.2%}, WER {wer:.2%}"
    labels = config.tokenizer.labels
    start = "random weights" if config.init is None else f"{config.init.from_} (head: {config.init.head})"
    return f"""# {config.name}

Speech recogniser for the language `{config.language}`, trained with Anadil.

| | |
|---|---|
| model | {config.model.kind}, {config.model.preset or ("small" if config.model.blocks is None else "own blocks")} |
| started from | {start} |
| training speech | {hours:.2f} h ({", ".join(config.data.train)}) |
| labels | {len(labels)} |
| at | epoch {epoch}, step {step:,} |
| validation, greedy decoding, no LM | {rates} ({", ".join(config.data.valid) or "none"}) |

The validation set chose this checkpoint, so its figures are a little too good: `anadil evaluate` on speech of
other speakers gives the honest ones. Speakers of training and validation may be shared; the manifests tell.
"""
