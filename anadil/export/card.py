"""The card of an exported folder (README.md): data, licences, error rates, size, speed, limits, and metadata for Hugging Face."""

from __future__ import annotations

import json
import platform
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from anadil.errors import AnadilError, shortened
from anadil.export.gate import COLUMNS, Choice, rate_with_interval
from anadil.export.layout import FRONT_MATTER, MODEL, ExportedSettings
from anadil.manifest import read_manifest

_LICENCES = re.compile(r"^\| its licences \| (.*) \|$", re.MULTILINE)
_LICENCE = re.compile(r"(.+?) \([\d.,]+ h\)(?:, |$)")

_HUB_LICENCES = frozenset(
    [
        *("apache-2.0", "mit", "cc0-1.0", "unlicense", "odbl", "pddl", "bsd-2-clause", "bsd-3-clause"),
        *("cc-by-2.0", "cc-by-3.0", "cc-by-4.0", "cc-by-sa-3.0", "cc-by-sa-4.0", "cc-by-nd-4.0"),
        *("cc-by-nc-2.0", "cc-by-nc-3.0", "cc-by-nc-4.0", "cc-by-nc-sa-3.0", "cc-by-nc-sa-4.0"),
        *("cc-by-nc-nd-3.0", "cc-by-nc-nd-4.0", "gpl-3.0", "lgpl-3.0", "agpl-3.0"),
    ]
)
"""Licences that the hub knows by these names, of those that corpora have."""


@dataclass(frozen=True)
class Result:
    """The figures of one `anadil evaluate --json`."""

    manifests: tuple[str, ...]
    rates: tuple[tuple[str, dict[str, Any]], ...]  # decoding in words, and its figures

    @property
    def name(self) -> str:
        return ", ".join(Path(one).name for one in self.manifests)


@dataclass(frozen=True)
class Card:
    """All that a card is written from."""

    model_card: str  # of the model folder, or ""
    settings: ExportedSettings
    difference: float
    batch_difference: float
    speed: float  # seconds of audio per second of processor time
    choice: Choice | None
    results: tuple[Result, ...] = ()
    training: tuple[str, ...] = ()  # manifests that the model was trained on
    layout: str = "anadil"
    has_lm: bool = False


def read_results(paths: Sequence[Path]) -> tuple[Result, ...]:
    """Files of `anadil evaluate --json`. Raises AnadilError that names a file which is none."""
    results = []
    for path in paths:
        try:
            data = json.loads(path.read_text(encoding="utf-8"))
            lm = data.get("lm")
            rates = [("greedy", data["greedy"])] if "greedy" in data else []
            rates.append(("with LM" if lm else "greedy", data))
            for _, figures in rates:
                if not all(isinstance(figures[name], int | float) for name in ("cer", "wer", "n_utterances")):
                    raise ValueError("cer, wer and n_utterances must be numbers")
            results.append(Result(tuple(map(str, data["manifests"])), tuple(rates)))
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise AnadilError(
                f"{path} holds no figures of anadil evaluate: {type(error).__name__}: {shortened(str(error))}\n"
                "  next: write them with anadil evaluate MODEL MANIFEST --json FILE"
            ) from error
    return tuple(results)


def write_card(card: Card, folder: Path) -> str:
    """The card as Markdown with YAML front matter; sizes are those of the files in `folder`."""
    body = FRONT_MATTER.sub("", card.model_card) or f"# {card.settings.name}\n"
    size = (folder / MODEL).stat().st_size / 1e6
    sections = [
        front_matter(card),
        body.rstrip() + "\n",
        _error_rates(card),
        _exported(card, size),
        _table(card.choice) if card.choice else "",
        _use(card),
        _limits(card),
    ]
    return "\n".join(section for section in sections if section)


def front_matter(card: Card) -> str:
    """The metadata that the hub of Hugging Face reads, as YAML between two lines of ---."""
    settings = card.settings
    data: dict[str, Any] = {} if settings.language == "und" else {"language": [settings.language.split("-")[0]]}
    data |= _licence(card.model_card)
    data |= {
        "library_name": "anadil" if card.layout == "anadil" else card.layout,
        "pipeline_tag": "automatic-speech-recognition",
        "tags": ["automatic-speech-recognition", "ctc", "onnx", "anadil"],
        "metrics": ["cer", "wer"],
    }
    found = [
        {
            "task": {"type": "automatic-speech-recognition"},
            "dataset": {"type": "manifest", "name": result.name},
            "metrics": [
                {"type": name, "value": round(100 * figures[name], 2), "name": f"{name.upper()}, {decoding}, %"}
                for decoding, figures in result.rates
                for name in ("cer", "wer")
            ],
        }
        for result in card.results
    ]
    if found:
        data["model-index"] = [{"name": settings.name, "results": found}]
    return f"---\n{yaml.safe_dump(data, allow_unicode=True, sort_keys=False)}---\n"


def _licence(model_card: str) -> dict[str, str]:
    """The licence of the training speech, if it has one that the hub knows. The model's own is for its owner to choose."""
    found = _LICENCES.search(model_card)
    names = sorted({name.strip() for name in _LICENCE.findall(found[1])}) if found else []
    if len(names) == 1 and names[0].lower() in _HUB_LICENCES:
        return {"license": names[0].lower()}
    if not names or names == ["not given"]:
        return {"license": "unknown"}
    return {"license": "other", "license_name": ", ".join(names)}


def _error_rates(card: Card) -> str:
    if not card.results:
        return (
            "## Error rates\n\nNo test results were given with this export. "
            "`anadil evaluate MODEL test.jsonl --json test.json`,\n"
            "then `anadil export ... --results test.json` writes them here.\n"
        )
    rows = []
    for result in card.results:
        speakers = shared_speakers(card.training, result.manifests)
        for decoding, figures in result.rates:
            hours = (
                f"{figures['hours']:.2f} h" if isinstance(figures.get("hours"), int | float) else "duration not known"
            )
            cer, wer = (
                rate_with_interval(figures[name], _pair(figures.get(f"{name}_interval"))) for name in ("cer", "wer")
            )
            rows.append(
                [f"{result.name} ({figures['n_utterances']:,} utterances, {hours})", speakers, decoding, cer, wer]
            )
    columns = ("test set", "speakers", "decoding", "CER (95 % interval)", "WER (95 % interval)")
    return f"## Error rates\n\n{_markdown(columns, rows)}"


def _pair(interval: Any) -> tuple[float, float] | None:
    return (interval[0], interval[1]) if isinstance(interval, list) and len(interval) == 2 else None


def shared_speakers(training: Sequence[str], tests: Sequence[str]) -> str:
    """Whether the speakers of the test manifests are in the training manifests, in words."""
    try:
        known = {one.speaker for path in training for one in read_manifest(path)}
        tested = {one.speaker for path in tests for one in read_manifest(path)}
    except AnadilError:
        return "not known: the manifests are not here"
    if not training or None in known or None in tested:
        return "not known: not all are named"
    shared = known & tested
    return f"{len(shared)} of {len(tested)} are in the training data" if shared else "none is in the training data"


def _exported(card: Card, size: float) -> str:
    settings = card.settings
    precision = {"float32": "", "int8": ", int8", "float16": ", float16"}[settings.precision]
    width = len(settings.labels) + 1
    interface = {
        "anadil": f"`{MODEL}` computes, from waveforms (float32, batch x samples, {settings.sample_rate} Hz, mono, "
        "[-1, 1]) and sample\ncounts (int64, batch), natural log-probs "
        f"(float32, batch x frames x {width}, the blank last, a frame\n"
        f"every {1000 * settings.frame_s:g} ms) and frame counts (int64, batch).",
        "sherpa-onnx": f"`{MODEL}` is for sherpa-onnx's loader of Omnilingual models: one waveform of "
        f"{settings.sample_rate} Hz in, log-probs out.\n"
        "sherpa-onnx sets its variance to 1; the graph scales it to an RMS of 0.1, so a text may differ from Anadil's by a few\n"
        "characters if the recording has another level. Its timestamps are right only if a frame is what sherpa-onnx\n"
        f"assumes; here it is {1000 * settings.frame_s:g} ms.",
        "onnx-asr": f"`{MODEL}` is for onnx-asr's type `nemo-conformer-ctc`: features in, log-probs out.",
    }[card.layout]
    return f"""## Exported

{interface}
In float its log-probs differ from PyTorch's by at most {card.difference:.1e}, and between a padded batch and each
utterance alone by at most {card.batch_difference:.1e}.

{size:.1f} MB{precision}; {card.speed:,.0f} times real time on one core of {processor()}.
"""


def processor() -> str:
    """The name of this machine's processor."""
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def _table(choice: Choice) -> str:
    increase = f"{100 * choice.max_increase:g} points"
    calibration = f" Another {choice.n_calibration} utterances calibrated int8." if choice.n_calibration else ""
    reasons = "".join(f"\n- {reason}" for reason in choice.reasons)
    return (
        f"## Versions that were measured\n\n{_markdown(COLUMNS, choice.rows())}\n"
        f"CER of greedy decoding on {len(choice.kept.evaluation.scored):,} utterances of {Path(choice.manifest).name} with 95 % "
        f"intervals; the increase is paired. Allowed is {increase}.{calibration}\n{reasons}\n"
    ).rstrip() + "\n"


def _markdown(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [columns, ["---"] * len(columns), *rows]
    return "".join(f"| {' | '.join(cell.replace('|', '/') for cell in line)} |\n" for line in lines)


def _limits(card: Card) -> str:
    text = f"""## Limits

- It writes what its training texts hold: {len(card.settings.labels)} labels, in the spelling of those texts.
- Speech of other speakers, microphones, dialects or topics than those of the training data has more errors than any
  figure above. Measure on your own before relying on it.
- Recordings of more than about 20 s should be cut at pauses, as `anadil transcribe` does.
"""
    if "synthetic" in card.model_card.lower():
        text += (
            "- It was trained on synthetic speech. Its error rates on people's speech are not known, and much higher.\n"
        )
    if card.settings.precision == "int8":
        text += (
            "- int8 was measured on this processor. Processors without VNNI may clip products: measure there again.\n"
        )
    return text


def _use(card: Card) -> str:
    if card.layout == "anadil":
        lm = " It uses the language model in this folder; what follows does not." if card.has_lm else ""
        return f"""## Use

    anadil transcribe . recording.wav

`pip install anadil` brings the command.{lm} Without Anadil, for one recording of at most 20 s:

```python
{PYTHON}```

```javascript
{JAVASCRIPT}```
""".replace("SAMPLE_RATE", str(card.settings.sample_rate))
    example = SHERPA_ONNX if card.layout == "sherpa-onnx" else ONNX_ASR
    return f"## Use\n\n`pip install {card.layout}`\n\n```python\n{example}```\n"


PYTHON = """\
import sys

import numpy as np
import onnxruntime
import soundfile

samples, rate = soundfile.read(sys.argv[1], dtype="float32")
assert rate == SAMPLE_RATE and samples.ndim == 1
lines = open("vocab.txt", encoding="utf-8").read().splitlines()
labels = [line.rsplit(" ", 1)[0].replace("▁", " ") for line in lines]
session = onnxruntime.InferenceSession("model.onnx")
inputs = {"waveforms": samples[None], "sample_counts": np.array([len(samples)])}
log_probs, frame_counts = session.run(["log_probs", "frame_counts"], inputs)
best = log_probs[0, : frame_counts[0]].argmax(axis=1)
best = [label for i, label in enumerate(best) if i == 0 or label != best[i - 1]]
print("".join(labels[i] for i in best if labels[i] != "<blk>").strip())
"""

JAVASCRIPT = """\
// npm install onnxruntime-web; node transcribe.mjs recording.wav (16 bits, mono, SAMPLE_RATE Hz)
import { readFileSync } from "node:fs";
import * as ort from "onnxruntime-web";

const wav = readFileSync(process.argv[2]);
const pcm = new Int16Array(wav.buffer.slice(wav.byteOffset + wav.indexOf("data") + 8, wav.byteOffset + wav.length));
const samples = Float32Array.from(pcm, (value) => value / 32768);
const lines = readFileSync("vocab.txt", "utf8").trimEnd().split("\\n");
const labels = lines.map((line) => line.slice(0, line.lastIndexOf(" ")).replaceAll("▁", " "));
const session = await ort.InferenceSession.create(readFileSync("model.onnx"));
const waveforms = new ort.Tensor("float32", samples, [1, samples.length]);
const sample_counts = new ort.Tensor("int64", BigInt64Array.of(BigInt(samples.length)), [1]);
const { log_probs, frame_counts } = await session.run({ waveforms, sample_counts });
const width = labels.length;
let text = "", before = -1;
for (let frame = 0; frame < Number(frame_counts.data[0]); frame++) {
  const row = log_probs.data.subarray(frame * width, (frame + 1) * width);
  const best = row.indexOf(Math.max(...row));
  if (best !== before && labels[best] !== "<blk>") text += labels[best];
  before = best;
}
console.log(text.trim());
"""

SHERPA_ONNX = """\
import sys

import sherpa_onnx
import soundfile

recognizer = sherpa_onnx.OfflineRecognizer.from_omnilingual_asr_ctc(model="model.onnx", tokens="tokens.txt")
samples, rate = soundfile.read(sys.argv[1], dtype="float32")
stream = recognizer.create_stream()
stream.accept_waveform(rate, samples)
recognizer.decode_stream(stream)
print(stream.result.text.strip())
"""

ONNX_ASR = """\
import sys

import onnx_asr

model = onnx_asr.load_model("nemo-conformer-ctc", ".")
print(model.recognize(sys.argv[1]))
"""
