"""What streaming costs: error rates, the wait for final words and processor time at each latency, against offline recognition.

    python benchmarks/stream.py MODEL MANIFEST [--clips 60] [--pause 1.0] [--latency low medium high] [--context 4] [--no-lm]
    python benchmarks/stream.py MODEL MANIFEST --normalisation    # a model folder (PyTorch)

Clips, sorted by speaker, are glued to one recording with pauses of --pause seconds of faint noise, and fed in chunks of 0.1 s.
"offline" is `Recognizer.transcribe` of the same recording. The wait of a word is from its end to the chunk that made it final.
--context is the seconds to which a window is filled up with earlier speech; 0 leaves the per-utterance normalisation of features
to the few words of the window.

--normalisation looks at the start of each clip alone: the first seconds, recognised with the mean and deviation of these seconds,
with earlier speech before them, with running estimates of mean and deviation, and with those of the whole clip. Shown is the
difference, in characters, from what the whole clip gives for the same frames.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from anadil.decoding.ctc import best_path
from anadil.evaluation.errors import character_errors, total, word_errors
from anadil.manifest import Utterance, read_audio, read_manifest
from anadil.recognition import stream as module
from anadil.recognition.load import load

CHUNK_S, MARGIN_S, EARLIER_S = 0.1, 0.3, 4.0
STARTS_S = (0.5, 1.0, 2.0, 3.0)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("manifest", type=Path)
    parser.add_argument("--clips", type=int, default=60)
    parser.add_argument("--pause", type=float, default=1.0)
    parser.add_argument("--latency", nargs="+", default=["low", "medium", "high"])
    parser.add_argument("--context", type=float, nargs="+", default=[module.CONTEXT_S])
    parser.add_argument(
        "--window", type=float, default=module.WINDOW_S, help="seconds that are recognised again at each hop"
    )
    parser.add_argument("--no-lm", action="store_true")
    parser.add_argument("--normalisation", action="store_true")
    given = parser.parse_args()
    every = read_manifest(given.manifest)
    order = np.random.default_rng(0).permutation(len(every))[: given.clips]
    clips = sorted((every[i] for i in order), key=lambda one: one.speaker or "")
    if given.normalisation:
        normalisation(given.model, clips)
    else:
        streams(given, clips)


def streams(given: argparse.Namespace, clips: Sequence[Utterance]) -> None:
    recognizer = load(given.model, lm=not given.no_lm)
    module.WINDOW_S = given.window
    rate, rng = recognizer.sample_rate, np.random.default_rng(0)
    pause = np.zeros(round(given.pause * rate))
    parts = [part for one in clips for part in (read_audio(one, rate), pause)]
    samples = np.concatenate(parts)
    samples = (samples + 3e-4 * rng.standard_normal(len(samples))).astype(np.float32)
    reference = " ".join(recognizer.rules.normalize(one.text) for one in clips)
    started = time.process_time()
    offline = recognizer.transcribe(samples).text
    print(f"{len(clips)} clips, pauses of {given.pause:g} s, {len(samples) / rate:,.0f} s")
    print(f"{'':18} {'CER':>6} {'WER':>6} {'from offline':>13} {'wait: mean':>11} {'95 %':>6} {'processor':>10}")
    show("offline", reference, offline, offline, [], (time.process_time() - started) * rate / len(samples))
    for latency in given.latency:
        for context in given.context:
            module.CONTEXT_S = context
            setting = latency if latency in module.LOOK_AHEAD_S else float(latency)
            stream, texts, waits = recognizer.stream(rate, latency=setting), [], []
            started = time.process_time()
            for first in range(0, len(samples), round(CHUNK_S * rate)):
                for one in stream.feed(samples[first : first + round(CHUNK_S * rate)]):
                    if one.final:
                        texts.append(one.text)
                        waits += [(first + CHUNK_S * rate) / rate - word.end for word in one.words]
            texts += [one.text for one in stream.finish()]
            used = (time.process_time() - started) * rate / len(samples)
            name = latency if len(given.context) == 1 else f"{latency}, context {context:g}"
            show(name, reference, " ".join(texts), offline, waits, used)


def show(name: str, reference: str, text: str, offline: str, waits: list[float], used: float) -> None:
    errors = [100 * measure(reference, text).rate for measure in (character_errors, word_errors)]
    other = 100 * character_errors(offline, text).rate
    wait = f"{np.mean(waits):9.2f} s {np.percentile(waits, 95):4.1f} s" if waits else f"{'':18}"
    print(f"{name:18} {errors[0]:6.2f} {errors[1]:6.2f} {other:13.2f} {wait} {used:10.3f}", flush=True)


def normalisation(model: Path, clips: Sequence[Utterance]) -> None:
    import torch

    from anadil.models.pretrained import read_model

    found = read_model(model)
    assert found is not None
    acoustic, rules = found.loaded.acoustic.eval(), found.loaded.rules
    features, rate, frame_s = acoustic.features, acoustic.sample_rate, acoustic.frame_s
    per_utterance = features._normalize
    known: dict[str, torch.Tensor] = {}

    def with_known(values: torch.Tensor, counts: torch.Tensor) -> torch.Tensor:
        return (values - known["mean"]) / (known["std"] + 1e-5)

    def log_mel(samples: np.ndarray) -> torch.Tensor:
        features._normalize = lambda values, counts: values
        values, counts = features(torch.from_numpy(samples)[None], torch.tensor([len(samples)]))
        return values[0, :, : int(counts[0])]

    def labels(samples: np.ndarray, normalize: object, first_s: float, last_s: float) -> str:
        features._normalize = normalize
        log_probs, _ = acoustic(torch.from_numpy(samples)[None], torch.tensor([len(samples)]))
        frames = log_probs[0, round(first_s / frame_s) : round(last_s / frame_s)].numpy()
        return "".join(rules.labels[token.id] for token in best_path(frames, rules.blank_id))

    names = ["own", "earlier speech", "running", "whole clip"]
    counts: dict[tuple[float, str], list] = {(start, name): [] for start in STARTS_S for name in names}  # type: ignore[type-arg]
    earlier = np.zeros(0, dtype=np.float32)
    with torch.inference_mode():
        for one in clips:
            samples = read_audio(one, rate)
            values = log_mel(samples)
            if len(earlier) >= EARLIER_S * rate:
                before = earlier[-round(EARLIER_S * rate) :]
                past = log_mel(earlier[-round(30 * rate) :])
                for start in STARTS_S:
                    if start >= len(samples) / rate:
                        continue
                    some, last = samples[: round(start * rate)], start - MARGIN_S
                    wanted = labels(samples, per_utterance, 0.0, last)
                    texts = {"own": labels(some, per_utterance, 0.0, last)}
                    joined = np.concatenate([before, some])
                    texts["earlier speech"] = labels(joined, per_utterance, EARLIER_S, EARLIER_S + last)
                    present = torch.cat([past, log_mel(some)], 1)  # the last 30 s and what there is of the clip
                    known.update(mean=present.mean(1)[None, :, None], std=present.std(1)[None, :, None])
                    texts["running"] = labels(some, with_known, 0.0, last)
                    known.update(mean=values.mean(1)[None, :, None], std=values.std(1)[None, :, None])
                    texts["whole clip"] = labels(some, with_known, 0.0, last)
                    for name in names:
                        counts[start, name].append(character_errors(wanted, texts[name]))
            earlier = np.concatenate([earlier, samples])[-round(40 * rate) :]
    print("difference from the whole clip, % of characters")
    print(f"{'first':>8} {'clips':>6} " + " ".join(f"{name:>15}" for name in names))
    for start in STARTS_S:
        rates = [100 * total(counts[start, name]).rate for name in names]
        print(f"{start:6.1f} s {len(counts[start, 'own']):6} " + " ".join(f"{rate:15.1f}" for rate in rates))


if __name__ == "__main__":
    main()
