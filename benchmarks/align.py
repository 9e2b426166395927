"""Alignment of a glued recording against alignment clip by clip, on Mboshi; time and memory of an hour.

    python benchmarks/align.py EXPORTED [--hour]

Clips of the validation sentences, then as many training sentences as it takes, are glued to 30 minutes and their texts
joined. A boundary is the start or the end of a word. Without recordings whose word times people measured, clip by clip is the
reference: there a word can be wrong by a sentence at most. The rows with deleted and inserted sentences are means of three
seeds; a deleted sentence is found if 80 % of its time is reported as speech that is not in the text, an inserted one if 80 %
of its words are reported as not spoken.
"""

from __future__ import annotations

import argparse
import os
import resource
import sys
import tempfile
import time
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from anadil import audio
from anadil.manifest import Utterance, measured, probe_all, read_audio, read_manifest
from anadil.recognition import segment
from anadil.recognition.align import AlignedWord, SpeechFrames, align_manifest
from anadil.recognition.load import load
from anadil.recognition.recognizer import Recognizer

SHARE, SEEDS, NEAR_S = 0.05, (0, 1, 2), 0.1
MOST_COVERED = 0.8


@dataclass(frozen=True)
class Glued:
    """Clips in one recording."""

    path: Path
    clips: list[Utterance]
    starts: list[float]  # seconds, of each clip
    end: float


def glue(clips: list[Utterance], path: Path, rate: int) -> Glued:
    samples = [read_audio(clip, rate) for clip in clips]
    starts = np.cumsum([0, *map(len, samples)]) / rate
    audio.write(path, np.concatenate(samples), rate)
    return Glued(path, clips, starts[:-1].tolist(), float(starts[-1]))


def choose(shared: Path, seconds: float) -> list[Utterance]:
    """Validation sentences, then training sentences, in a random order."""
    manifests = [read_manifest(shared / f"speech/mboshi/{name}.jsonl") for name in ("valid", "train")]
    rng = np.random.default_rng(0)
    pool = manifests[0] + [manifests[1][i] for i in rng.permutation(len(manifests[1])).tolist()]
    infos = probe_all(pool)
    chosen: list[Utterance] = []
    for one in (measured(one, infos[one.audio_filepath]) for one in pool):
        if sum(clip.duration or 0.0 for clip in chosen) >= seconds:
            break
        chosen.append(one)
    return [chosen[i] for i in rng.permutation(len(chosen)).tolist()]


def near(words: list[AlignedWord | None], reference: list[AlignedWord], shift: float) -> list[bool]:
    """For each boundary of the reference whether it is within NEAR_S; a word that is omitted has none near."""
    found: list[bool] = []
    for word, other in zip(words, reference, strict=True):
        if word is None:
            found += [False, False]
        else:
            found += [
                abs(word.start - other.start - shift) <= NEAR_S,
                abs(word.end - other.end - shift) <= NEAR_S,
            ]
    return found


def edited(
    recognizer: Recognizer,
    glued: Glued,
    speech: tuple[Utterance, SpeechFrames],
    reference: dict[int, list[AlignedWord]],
    seed: int,
    share: float,
) -> tuple[list[bool], list[bool], list[bool]]:
    """Delete and insert sentences; which boundaries are near, which deleted and which inserted sentences are found."""
    rng = np.random.default_rng(seed)
    n = len(glued.clips)
    some = rng.permutation(n)[: round(2 * share * n)].tolist()
    deleted, before = set(some[: len(some) // 2]), set(some[len(some) // 2 :])
    texts, owners = [], []
    for i, clip in enumerate(glued.clips):
        if i in before:
            texts.append(glued.clips[int(rng.integers(n))].text)
            owners.append(-1)
        if i not in deleted:
            texts.append(clip.text)
            owners.append(i)
    found = segment.find_words(recognizer, *speech, " ".join(texts))
    boundaries: list[bool] = []
    inserted: list[bool] = []
    position = 0
    for text, owner in zip(texts, owners, strict=True):
        n_words = len(text.split())
        words = found.words[position : position + n_words]
        position += n_words
        if owner < 0:
            inserted.append(sum(word is None for word in words) >= MOST_COVERED * n_words)
        elif owner in reference:
            boundaries += near(words, reference[owner], glued.starts[owner])
    covered = [
        sum(max(0.0, min(end, w[-1].end + start) - max(begin, w[0].start + start)) for _, begin, end in found.foreign)
        >= MOST_COVERED * (w[-1].end - w[0].start)
        for i in sorted(deleted & set(reference))
        for w, start in [(reference[i], glued.starts[i])]
    ]
    return boundaries, covered, inserted


def an_hour(model: Path, shared: Path, folder: Path) -> None:
    """Align an hour in this process, and print its time and the memory it took."""
    recognizer = load(model, lm=False)
    glued = glue(choose(shared, 3600), folder / "hour.wav", recognizer.sample_rate)
    text = " ".join(clip.text for clip in glued.clips)
    before_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    started = time.process_time()
    whole, frames = segment.read_speech(recognizer, glued.path)
    network_s = time.process_time() - started
    found = segment.find_words(recognizer, whole, frames, text)
    alignment_s = time.process_time() - started - network_s
    peak_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(
        f"| an hour ({len(found.placed.text.labels):,} labels, {len(found.log_probs):,} frames) | "
        f"network {network_s:.0f} s, alignment {alignment_s:.0f} s of "
        f"processor time | peak memory {peak_mb:.0f} MB ({before_mb:.0f} MB before, gluing included) |"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("--minutes", type=float, default=30.0)
    parser.add_argument("--hour", action="store_true", help="only time and memory of an hour")
    arguments = parser.parse_args()
    shared = Path(os.environ.get("ANADIL_SHARED", "../shared"))
    with tempfile.TemporaryDirectory() as name:
        if arguments.hour:
            an_hour(arguments.model, shared, Path(name))
            return
        recognizer = load(arguments.model, lm=False)
        glued = glue(choose(shared, 60 * arguments.minutes), Path(name) / "glued.wav", recognizer.sample_rate)
        each = align_manifest(recognizer, [replace(clip, source=str(i)) for i, clip in enumerate(glued.clips)])
        reference = {
            int(utterance.source): [
                replace(word, start=word.start - utterance.offset, end=word.end - utterance.offset) for word in words
            ]
            for utterance, words in zip(each.utterances, each.words, strict=True)
        }
        print(
            f"{len(glued.clips)} clips, {glued.end / 60:.1f} min, {len(each.problems)} of them cannot be aligned alone"
        )
        print("| text | boundaries within 100 ms | deleted found | inserted found |\n|---|---|---|---|")
        whole = Utterance(str(glued.path), glued.end, " ".join(clip.text for clip in glued.clips))
        strict = align_manifest(recognizer, [whole])
        for problem in strict.problems:
            print(problem, file=sys.stderr)
        flat = [word for words in strict.words for word in words]
        rows, position = [], 0
        for i, clip in enumerate(glued.clips):
            own = flat[position : position + len(clip.text.split())]
            position += len(own)
            if i in reference:
                rows += near(list(own), reference[i], glued.starts[i])
        print(f"| joined, as one utterance | {np.mean(rows):.2%} | | |", flush=True)
        speech = segment.read_speech(recognizer, glued.path)
        for share, seeds in ((0.0, (0,)), (SHARE, SEEDS)):
            results = [edited(recognizer, glued, speech, reference, seed, share) for seed in seeds]
            boundaries, deleted, inserted = ([x for result in results for x in result[k]] for k in range(3))
            name_ = (
                f"joined, {share:.0%} of the sentences deleted and {share:.0%} inserted"
                if share
                else "joined, --segment"
            )
            print(
                f"| {name_} | {np.mean(boundaries):.2%} | {sum(deleted)} of {len(deleted)} | "
                f"{sum(inserted)} of {len(inserted)} |",
                flush=True,
            )


if __name__ == "__main__":
    main()
