"""`anadil demo`: from speech to a recogniser, with synthetic speech or with the user's own manifests."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from anadil.cli.console import ConsoleReporter, rich_table, verb
from anadil.cli.options import number
from anadil.cli.options import seed as seed_option

if TYPE_CHECKING:
    from anadil.evaluation.evaluate import Evaluation
    from anadil.recognition.recognize_manifest import Results
    from anadil.training.config import Config
    from anadil.training.run import Run

EXAMPLE = (
    "Example: anadil demo --out demo    or, on your own speech: anadil demo --data my-speech --lang mdw --out demo"
)

SYNTHETIC_HOURS = 2.0
SYNTHETIC_MINUTES, OWN_MINUTES = 7.5, 30.0

SYNTHETIC_LABELS = list(" abcçdefgğhıijklmnoöpqrsştuüvwxyz'")


@dataclass(frozen=True)
class Splits:
    """The manifests of the demo."""

    train: Path
    valid: Path
    test: Path | None


@verb
def demo(
    out: Annotated[Path, typer.Option(help="Folder for everything that the demo makes.")] = Path("demo"),
    data: Annotated[
        Path | None, typer.Option(help="Your own train.jsonl, valid.jsonl and, if there, test.jsonl.")
    ] = None,
    lang: Annotated[str | None, typer.Option(help="Language code.", show_default="tr; with --data: und")] = None,
    minutes: Annotated[
        float | None,
        number(
            0.01, 100_000, "Time for training.", show_default=f"{SYNTHETIC_MINUTES:g}; with --data: {OWN_MINUTES:g}"
        ),
    ] = None,
    hours: Annotated[float, number(0.001, 1000, "Hours of speech to synthesise.")] = SYNTHETIC_HOURS,
    seed: Annotated[int, seed_option("Of the corpus and of training.")] = 0,
    force: Annotated[bool, typer.Option("--force", help="Replace an earlier demo in --out.")] = False,
) -> None:
    """Make a corpus, train, evaluate, export and transcribe: from speech to a recogniser in minutes."""
    from anadil.export.onnx import export_folder
    from anadil.files import refuse_overwrite
    from anadil.manifest import read_manifest
    from anadil.recognition.load import load
    from anadil.recognition.recognize_manifest import evaluate_decoders
    from anadil.training.train import train

    refuse_overwrite(out, force)
    with ConsoleReporter() as report:
        splits = synthesize(out, lang or "tr", hours, seed, report) if data is None else _own_splits(data)
        config = make_config(splits, lang or ("tr" if data is None else "und"), minutes, seed, synthetic=data is None)
        _save_config(out / "config.yaml", config)
        report.say(f"\ntraining for {config.training.max_minutes:g} minutes ({out / 'config.yaml'})")
        run = train(config, out / "run", report, force)
        export_folder(out / "run" / "best", out / "exported", force)
        tested = splits.test or splits.valid
        recognizer = load(out / "exported")
        results = evaluate_decoders(
            recognizer, read_manifest(tested), lambda n, of: report.progress("recognising", n, of)
        )
    _show_examples(results.evaluation)
    _show_summary(out, config, run, results, tested, chose_checkpoint=splits.test is None)


command = demo


def synthesize(out: Path, language: str, hours: float, seed: int, report: ConsoleReporter) -> Splits:
    """Synthesise a corpus with espeak-ng in `out`/corpus."""
    from anadil.corpora.synthetic import VOICES, synthesize_corpus

    report.say(
        f"synthesising {hours:g} h of speech in {language!r} with espeak-ng: {len(VOICES['train'])} voices for training, "
        "others for testing"
    )
    corpus = out / "corpus"
    synthesize_corpus(corpus, language, seed, hours, lambda done, total: report.progress("synthesising", done, total))
    return Splits(corpus / "train.jsonl", corpus / "valid.jsonl", corpus / "test.jsonl")


def _own_splits(data: Path) -> Splits:
    """Return the user's manifests. Raises AnadilError if train or valid is missing."""
    from anadil.errors import AnadilError

    missing = [name for name in ("train.jsonl", "valid.jsonl") if not (data / name).is_file()]
    if missing:
        raise AnadilError(
            f"not in {data}: {', '.join(missing)}\n  a manifest is JSONL, one line per utterance: "
            '{"audio_filepath": "clips/1.wav", "text": "..."} with paths relative to it\n  next: write it, or check --data'
        )
    test = data / "test.jsonl"
    return Splits(data / "train.jsonl", data / "valid.jsonl", test if test.is_file() else None)


def make_config(splits: Splits, language: str, minutes: float | None, seed: int, synthetic: bool) -> Config:
    """Return the default config with these manifests."""
    from anadil.settings import parse
    from anadil.training.config import Config

    data: dict[str, Any] = {
        "name": f"demo-{language}",
        "language": language,
        "data": {"train": [str(splits.train)], "valid": [str(splits.valid)]},
        "training": {
            "seed": seed,
            "max_minutes": minutes if minutes is not None else SYNTHETIC_MINUTES if synthetic else OWN_MINUTES,
        },
    }
    if synthetic and language == "tr":
        data["tokenizer"] = {"labels": SYNTHETIC_LABELS}
    return parse(Config, data, "demo")


def _save_config(path: Path, config: Config) -> None:
    from anadil.files import whole_file
    from anadil.settings import dump

    with whole_file(path) as beside:
        beside.write_text(dump(config), encoding="utf-8")


def _show_examples(result: Evaluation, n: int = 3) -> None:
    """Print utterances of median CER: neither the best nor the worst are typical of a model."""
    ordered = sorted(result.scored, key=lambda one: one.characters.rate)
    middle = len(ordered) // 2
    for one in ordered[max(0, middle - n // 2) : middle + n // 2 + 1]:
        print(f"reference   {one.reference}\nhypothesis  {one.hypothesis}\n")


def _show_summary(out: Path, config: Config, run: Run, results: Results, tested: Path, chose_checkpoint: bool) -> None:
    """Print the table of results, and what to do next."""
    import onnxruntime
    from rich.console import Console

    exported, result, greedy = out / "exported", results.evaluation, results.greedy
    size = (exported / "model.onnx").stat().st_size / 1e6

    def rate(value: float, interval: tuple[float, float] | None) -> str:
        return f"{value:.2%}" + (f"  (95 %: {interval[0]:.2%} to {interval[1]:.2%})" if interval else "")

    ways = [("greedy:", greedy or result), *([("with LM:", result)] if greedy else [])]
    rates = [
        [f"{way} {name} on {tested.name}", value]
        for way, one in ways
        for name, value in (("CER", rate(one.cer, one.cer_interval)), ("WER", rate(one.wer, one.wer_interval)))
    ]
    rows = [
        ["training speech", f"{run.hours:.2f} h"],
        ["parameters", f"{run.parameters:,}"],
        ["model on disk", f"{size:.1f} MB, ONNX"],
        *rates,
        ["real-time factor", f"{result.real_time_factor or 0:.4f}, ONNX Runtime {onnxruntime.__version__}, CPU"],
    ]
    Console(highlight=False).print(rich_table(config.name, ["", ""], rows))
    if chose_checkpoint:
        print("There is no test.jsonl: the validation set chose the checkpoint, so these rates are a little too good.")
    print(
        "Next:\n"
        f"  anadil transcribe {exported} YOUR.wav\n"
        f"  anadil evaluate {out / 'run' / 'best'} {tested} --out {out / 'evaluation'}\n"
        f"  anadil train {out / 'config.yaml'} training.max_minutes=30 --out runs/longer\n"
        f"  anadil serve {exported}"  # the last line, which starts the page on this model
    )
