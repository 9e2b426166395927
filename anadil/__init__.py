"""Anadil (Turkish: mother tongue): a working speech recogniser for a language that has few recordings.

The four functions here are the road from Python: train, evaluate, export, load. Nothing heavy is imported before one
of them is called. They print nothing; what cannot be used raises `anadil.errors.AnadilError`.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from anadil.evaluation.evaluate import Evaluation
    from anadil.recognition.recognizer import Recognizer
    from anadil.training.config import Config

__version__ = "0.1.0"


def train(
    config: str | Path | Config,
    out: str | Path,
    overrides: Sequence[str] = (),
    *,
    resume: bool = False,
    force: bool = False,
) -> Path:
    """Train a model and return its folder: `out`/best, or `out`/last if there is no validation data.

    `config` is a YAML file or a `Config`; `overrides` change keys of the file, as in ["training.epochs=20"].
    `resume` goes on with an interrupted run in `out`, `force` replaces one. Raises AnadilError if the config or the data
    cannot be used.
    """
    from anadil.errors import AnadilError
    from anadil.training.config import Config, load_config
    from anadil.training.train import train as train_model

    if isinstance(config, Config):
        if overrides:
            raise AnadilError(
                "overrides change a config file, and a Config was given\n  next: change the Config itself"
            )
    else:
        config = load_config(Path(config), overrides)
    run = train_model(config, Path(out), resume=resume, force=force)
    return run.out / ("best" if run.best else "last")


def evaluate(model: str | Path, manifests: str | Path | Sequence[str | Path]) -> Evaluation:
    """Recognise manifests and score them: `.cer`, `.wer` (fractions), their 95 % intervals, `.scored` utterances.

    With the model's language model, if it has one. `model` is what `load` takes. Words recognised where the reference is
    empty count as insertions.
    Raises AnadilError naming every utterance that cannot be scored.
    """
    from anadil.manifest import read_manifests
    from anadil.recognition.recognize_manifest import evaluate_manifest

    paths = [manifests] if isinstance(manifests, str | Path) else manifests
    evaluation, _ = evaluate_manifest(load(model), read_manifests(paths))
    return evaluation


def export(model: str | Path, out: str | Path, *, force: bool = False) -> Path:
    """Write a model folder as an exported folder (ONNX), which needs no PyTorch, and return `out`.

    Raises AnadilError if the ONNX model disagrees with the PyTorch model, or `out` exists and not `force`.
    """
    from anadil.export.onnx import export_folder

    export_folder(Path(model), Path(out), force)
    return Path(out)


def load(model: str | Path, *, lm: bool = True, provider: str = "cpu") -> Recognizer:
    """Load a recogniser from an exported folder (fast, without PyTorch), a model folder or a .nemo file.

    `lm`: with the language model in the folder, if there is one. `provider`: auto, cpu, cuda, tensorrt, directml, coreml,
    openvino or xnnpack, for an exported folder; `Recognizer.provider` says which one it is.
    `anadil.load("exported").transcribe("clip.wav").text`. Raises AnadilError if it is none of these.
    """
    from anadil.recognition.load import load as load_recognizer

    return load_recognizer(model, lm, provider)
