"""Frames a second of greedy decoding and of the beam search, against pyctcdecode on the same log-probs.

    python benchmarks/decode.py LOG_PROBS.npz [--model FOLDER] [--beam 16] [--peer PYTHON]
    python benchmarks/decode.py LOG_PROBS.npz --model FOLDER --manifest valid.jsonl     # writes LOG_PROBS.npz first

The file holds "labels" and one array (frames, labels + blank) float32 per utterance. FOLDER is a model folder or exported
folder; with a language model it is decoded with that as well. All run on one core, with one thread; processor time is what
is compared, so that other work on the machine counts for little. Word times are included, except where "text" stands. All
utterances are given at once, as when a manifest is recognised, except in "one by one"; "cold" is the first time.
PYTHON is an interpreter with pyctcdecode, which needs NumPy below 2: python -m venv peer && peer/bin/pip install pyctcdecode.
It has language models of words only, so what is compared with it is the beam search without one, at two widths.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

PEER = """
import json, sys, time, logging, numpy as np
logging.disable(logging.CRITICAL)
from pyctcdecode import build_ctcdecoder
arrays = np.load(sys.argv[1])
labels = [str(label) for label in arrays["labels"]]
log_probs = [arrays[name] for name in sorted(arrays.files) if name.isdigit()]
decoder = build_ctcdecoder([*labels, ""])
for width in map(int, sys.argv[2:]):
    started = time.process_time()
    texts = [decoder.decode(one, beam_width=width) for one in log_probs]
    print(json.dumps([width, sum(map(len, log_probs)) / (time.process_time() - started), texts]))
"""


def cache(model: Path, manifest: Path, out: Path) -> None:
    """Write the log-probs, labels and normalised references of a manifest."""
    import numpy as np

    from anadil.manifest import read_manifests
    from anadil.recognition.load import load

    recognizer, utterances = load(model, lm=False), read_manifests([manifest])
    found: dict[int, Any] = {}
    for index, one in recognizer.log_probs_of_utterances(utterances, lambda index, error: sys.exit(str(error))):
        found[index] = one.copy()
    np.savez(
        out,
        labels=np.array(recognizer.rules.labels),
        texts=np.array([recognizer.rules.normalize(one.text) for one in utterances]),
        **{f"{index:05d}": found[index] for index in sorted(found)},
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("log_probs", type=Path)
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--manifest", type=Path)
    parser.add_argument("--beam", type=int, default=16)
    parser.add_argument("--peer")
    given = parser.parse_args()
    if given.manifest:
        cache(given.model, given.manifest, given.log_probs)
    import numpy as np

    from anadil.decoding.decoder import Decoder
    from anadil.decoding.language_model import LanguageModel, read_language_model
    from anadil.evaluation.errors import character_errors, total, word_errors
    from anadil.recognition.load import load

    recognizer = load(given.model, lm=False)
    rules, frame_s = recognizer.rules, recognizer.frame_s
    with np.load(given.log_probs) as arrays:
        log_probs = [arrays[name] for name in sorted(arrays.files) if name.isdigit()]
        references = [str(text) for text in arrays["texts"]] if "texts" in arrays.files else []
    n_frames = sum(map(len, log_probs))

    def show(name: str, rate: float, texts: list[str]) -> None:
        rates = ""
        if references:
            cer = total(map(character_errors, references, texts)).rate
            rates = f"CER {cer:7.2%}  WER {total(map(word_errors, references, texts)).rate:7.2%}"
        print(f"{name:42} {rate:12,.0f} frames/s  {rate * frame_s:10,.0f} x real time  {rates}", flush=True)

    def measure(name: str, decode: Callable[[], list[str]]) -> None:
        started = time.process_time()
        texts = decode()
        show(name, n_frames / (time.process_time() - started), texts)

    greedy = Decoder(rules, frame_s)
    print(f"{len(log_probs):,} utterances, {n_frames:,} frames of {1000 * frame_s:g} ms, {len(rules.labels)} labels")
    measure("greedy", lambda: [one.text for one in greedy.decode_many(log_probs)])
    for width in (given.beam, 100):
        search = Decoder(rules, frame_s, n_best=width)
        measure(f"beam {width}, no LM, text", lambda search=search: search.texts(log_probs))  # type: ignore[misc]
    started = time.process_time()
    lm = read_language_model(given.model, rules.labels)
    if lm is not None:
        print(f"loading the language model: {time.process_time() - started:.3f} s")
        for width in (given.beam, 50):
            model = LanguageModel(lm.alphabet, lm.weights.model_copy(update={"beam": width}), lm.labels, lm.words)
            decoder = Decoder(rules, frame_s, model)
            name = f"beam {width}, {'LM of labels' if lm.labels else ''}{' and words' if lm.words else ''}"
            for warmth in ("cold", "warm"):
                measure(f"{name}, {warmth}", lambda: [one.text for one in decoder.decode_many(log_probs)])  # noqa: B023
            measure(f"{name}, text", lambda: decoder.texts(log_probs))  # noqa: B023
            measure(f"{name}, one by one", lambda: [decoder.decode(one).text for one in log_probs])  # noqa: B023
    if given.peer:
        command = [given.peer, "-c", PEER, str(given.log_probs), str(given.beam), "100"]
        done = subprocess.run(command, capture_output=True, text=True, check=False, env={"OMP_NUM_THREADS": "1"})
        if done.returncode:
            sys.exit(done.stderr)
        for line in done.stdout.splitlines():
            width, rate, texts = json.loads(line)
            show(f"pyctcdecode, beam {width}, no LM, text", rate, texts)


if __name__ == "__main__":
    main()
