"""Seconds of audio transcribed per second, and the peak of memory, for a folder of clips and for one long recording.

    python benchmarks/recognise.py MODEL MANIFEST [--clips 200] [--no-lm] [--provider openvino] [--wav]
    python benchmarks/recognise.py MODEL MANIFEST --long 10800 [--no-lm]    # one recording of three hours, glued of the clips

MODEL is an exported folder. Each row is measured in a process of its own, on the same clips, from files to text:

- transcribe(list): `Recognizer.transcribe` of the list of files
- one by one: `Recognizer.transcribe` of each file
- the graph alone: ONNX Runtime on waveforms that are in memory already, in batches of like length; no text comes out

NeMo, a peer that reads and batches too, is measured in the same way if it is installed (its own model of the same family, given
with --nemo FILE); without it the row says so. Other work on the machine lengthens the clock's time, hardly the processor's.
--wav decodes the clips to 16-bit WAV files first: an Opus file takes longer to decode than a small network takes.
With --long, the text is compared with that of the single clips and with the references.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("manifest", type=Path)
    parser.add_argument("--clips", type=int, default=200)
    parser.add_argument("--long", type=float, help="seconds of one recording")
    parser.add_argument("--pause", type=float, default=1.0, help="seconds between the clips of --long")
    parser.add_argument(
        "--between", default="silence", help="what is there: silence, zeros, applause, music, or several"
    )
    parser.add_argument("--no-lm", action="store_true")
    parser.add_argument("--provider", default="cpu")
    parser.add_argument("--wav", action="store_true")
    parser.add_argument("--nemo", type=Path)
    parser.add_argument("--way", choices=sorted(WAYS), help=argparse.SUPPRESS)
    parser.add_argument("--files", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.way:
        print(json.dumps(WAYS[given.way](given)))
        return
    with tempfile.TemporaryDirectory() as folder:
        if given.wav:
            from anadil import audio

            for n, one in enumerate(chosen(given)):
                audio.write(Path(folder) / f"{n}.wav", audio.read(one.audio_filepath, 16000), 16000)
        ways = ["long"] if given.long else ["list", "single", "graph"]
        print(f"{'':20} {'audio, s':>10} {'clock, s':>10} {'processor, s':>13} {'x real time':>12} {'peak, MB':>9}")
        for way in ways:
            command = [sys.executable, *sys.argv, "--way", way, "--files", folder]
            found = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout.splitlines()[-1])
            speed = found["audio_s"] / found["clock_s"]
            print(
                f"{NAMES[way]:20} {found['audio_s']:10,.0f} {found['clock_s']:10.1f} {found['processor_s']:13.1f} "
                f"{speed:12,.0f} {found['peak_mb']:9,.0f}"
            )
            if "wer" in found:
                print(f"words that differ from those of the single clips: {100 * found['wer']:.2f} %")
                print(
                    f"WER against the references: {100 * found['long_wer']:.2f} % in one recording, "
                    f"{100 * found['single_wer']:.2f} % clip by clip"
                )
    if not given.long:
        print("NeMo: " + nemo(given))


def nemo(given: argparse.Namespace) -> str:
    if importlib.util.find_spec("nemo") is None:
        return "not installed, so not measured"
    if given.nemo is None:
        return "no model given (--nemo FILE), so not measured"
    import nemo.collections.asr as nemo_asr

    model = nemo_asr.models.ASRModel.restore_from(str(given.nemo), map_location="cpu")
    files = audio_files(given)
    started = time.perf_counter()
    model.transcribe(files, batch_size=16, num_workers=2)
    return f"{time.perf_counter() - started:.1f} s"


def chosen(given: argparse.Namespace) -> list:  # type: ignore[type-arg]
    from anadil.manifest import read_manifest

    every = read_manifest(given.manifest)
    order = np.random.default_rng(0).permutation(len(every))
    return [every[i] for i in order[: given.clips]]


def audio_files(given: argparse.Namespace) -> list[Path]:
    """The files of the chosen utterances; with --wav those that `main` decoded."""
    if given.wav:
        return [Path(given.files) / f"{n}.wav" for n in range(len(chosen(given)))]
    return [one.audio_filepath for one in chosen(given)]


def loaded(given: argparse.Namespace) -> Any:
    from anadil.recognition.load import load

    return load(given.model, lm=not given.no_lm, provider=given.provider)


def of_list(given: argparse.Namespace) -> dict[str, float]:
    recognizer, files = loaded(given), audio_files(given)
    return measured(lambda: sum(one.duration for one in recognizer.transcribe(files)))


def one_by_one(given: argparse.Namespace) -> dict[str, float]:
    recognizer, files = loaded(given), audio_files(given)
    return measured(lambda: sum(recognizer.transcribe(file).duration for file in files))


def graph_alone(given: argparse.Namespace) -> dict[str, float]:
    from anadil.manifest import read_audio

    recognizer = loaded(given)
    clips = sorted((read_audio(one, recognizer.sample_rate) for one in chosen(given)), key=len)

    def run() -> float:
        batch: list[np.ndarray] = []
        for clip in [*clips, None]:
            if batch and (clip is None or len(clip) * (len(batch) + 1) > 30 * recognizer.sample_rate):
                recognizer.log_probs(batch)
                batch = []
            if clip is not None:
                batch.append(clip)
        return sum(map(len, clips)) / recognizer.sample_rate

    return measured(run)


def long(given: argparse.Namespace) -> dict[str, float]:
    """One long recording: written first, by another process, so that its memory does not count."""
    path, expected, reference = (Path(given.files) / name for name in ("long.flac", "expected.txt", "reference.txt"))
    if not path.exists():
        command = [sys.executable, "-c", GLUE, str(given.model), str(given.manifest), str(path), str(expected)]
        command += [str(reference), str(given.long), str(given.pause), given.between, str(int(given.no_lm))]
        subprocess.run(command, check=True)
    from anadil.evaluation.errors import word_errors

    recognizer, texts = loaded(given), []

    def run() -> float:
        transcript = recognizer.transcribe(path)
        texts.append(transcript.text)
        return transcript.duration

    found = measured(run)
    single, wanted = (file.read_text(encoding="utf-8") for file in (expected, reference))
    rates = {"long_wer": word_errors(wanted, texts[0]).rate, "single_wer": word_errors(wanted, single).rate}
    return found | rates | {"wer": word_errors(single, texts[0]).rate}


GLUE = """
import sys
import numpy as np, soundfile
from anadil.manifest import read_audio, read_manifest
from anadil.recognition.load import load
model, manifest, path, expected, reference, seconds, pause_s, between, no_lm = sys.argv[1:]
every = read_manifest(manifest)
recognizer = load(model, lm=no_lm == "0")
rate, rng, texts, references = recognizer.sample_rate, np.random.default_rng(0), [], []
clips = {}
n_pause = round(float(pause_s) * rate)
time = np.arange(n_pause) / rate
noise = rng.standard_normal(n_pause)
notes = 220 * 2 ** (np.repeat(rng.integers(0, 24, n_pause // 4000 + 1), 4000)[:n_pause] / 12)
envelope = np.exp(-(np.arange(n_pause) % 4000) / 3000)
sounds = {
    "silence": 1e-3 * noise,
    "zeros": 0 * noise,
    "applause": 0.1 * noise * (1 + 0.3 * np.sin(2 * np.pi * 0.5 * time)),
    "music": 0.1 * envelope * sum(np.sin(2 * np.pi * k * np.cumsum(notes) / rate) / k for k in (1, 2, 3)),
}
pauses = [sounds[name].astype(np.float32) for name in between.split(",")]
with soundfile.SoundFile(path, "w", rate, 1) as file:
    n = 0
    while n < float(seconds) * rate:
        for i in rng.permutation(len(every)):
            if i not in clips:
                samples = read_audio(every[i], rate)
                clips[i] = samples, recognizer.transcribe(samples).text
            file.write(clips[i][0])
            file.write(pauses[len(texts) % len(pauses)])
            texts.append(clips[i][1])
            references.append(recognizer.rules.normalize(every[i].text))
            n += len(clips[i][0]) + n_pause
            if n >= float(seconds) * rate:
                break
open(expected, "w", encoding="utf-8").write(" ".join(filter(None, texts)))
open(reference, "w", encoding="utf-8").write(" ".join(references))
"""


def measured(run) -> dict[str, float]:  # type: ignore[no-untyped-def]
    clock, processor = time.perf_counter(), time.process_time()
    audio_s = run()
    return {
        "audio_s": audio_s,
        "clock_s": time.perf_counter() - clock,
        "processor_s": time.process_time() - processor,
        "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }


WAYS = {"list": of_list, "single": one_by_one, "graph": graph_alone, "long": long}
NAMES = {"list": "transcribe(list)", "single": "one by one", "graph": "the graph alone", "long": "one long recording"}

if __name__ == "__main__":
    main()
