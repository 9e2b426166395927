from __future__ import annotations

import itertools
import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import anadil
from anadil import audio
from anadil.data.pauses import PauseLimits, cut_at_pauses
from anadil.decoding.transcript import Alternative, Transcript, best_of_parts
from anadil.errors import AnadilError
from anadil.files import whole_folder
from anadil.manifest import Utterance, read_manifest
from anadil.recognition import recognizer as module
from anadil.recognition.recognizer import Recognizer
from tests.support.loudness import FRAME, RATE, bursts, loud_is_a, loudness_recognizer
from tests.support.micro import TEXTS, speak

EMPTY = Transcript("", (), 0.0, "en")


@pytest.fixture(scope="session")
def recognizer(exported: Path) -> Recognizer:
    return anadil.load(exported)


def clips(micro: Path) -> list[Path]:
    return [micro / f"clips/{i}.wav" for i in range(len(TEXTS))]


def assert_times_are_in_order(transcript: Transcript) -> None:
    times = [time for word in transcript.words for time in (word.start, word.end)]
    assert all(a <= b for a, b in itertools.pairwise(times))
    assert all(0 <= word.start < word.end <= transcript.duration for word in transcript.words)
    assert transcript.text == " ".join(word.text for word in transcript.words)


# --- one recording


def test_what_was_said_is_heard(recognizer: Recognizer, micro: Path) -> None:
    assert [transcript.text for transcript in recognizer.transcribe(clips(micro))] == list(TEXTS)


def test_an_exported_folder_and_its_model_folder_give_the_same_transcripts(recognizer: Recognizer, micro: Path) -> None:
    other = anadil.load(micro / "run/best")
    assert (other.name, other.sample_rate, other.min_samples, other.rules) == (
        recognizer.name,
        recognizer.sample_rate,
        recognizer.min_samples,
        recognizer.rules,
    )
    assert other.frame_s == pytest.approx(recognizer.frame_s)
    for clip in clips(micro):
        wanted, found = (one.transcribe(clip).to_dict() for one in (recognizer, other))
        for word in [*wanted["words"], *found["words"]]:
            word["confidence"] = pytest.approx(word["confidence"], abs=1e-3)
        assert found == wanted


def test_word_times_lie_inside_the_audio_and_near_the_sounds(recognizer: Recognizer, micro: Path) -> None:
    for clip in clips(micro):
        assert_times_are_in_order(recognizer.transcribe(clip))
    transcript = recognizer.transcribe(micro / "clips/1.wav")  # "cab ba"
    assert transcript.duration == pytest.approx(0.06 + 6 * 0.2)
    starts, ends = [0.06, 0.86], [0.60, 1.20]  # when the tones sound
    assert [word.start for word in transcript.words] == pytest.approx(starts, abs=0.1)
    assert [word.end for word in transcript.words] == pytest.approx(ends, abs=0.1)
    assert all(0.5 < word.confidence <= 1 for word in transcript.words)


def test_times_are_frames_of_40_ms() -> None:
    transcript = loudness_recognizer().transcribe(bursts([0.4, 1.2], 2.0))
    assert [word.start for word in transcript.words] == pytest.approx([0.4, 1.2])
    assert [word.end for word in transcript.words] == pytest.approx([0.6, 1.4])
    assert transcript.text == "a a" and transcript.duration == 2.0 and transcript.language == "en"


def test_a_word_at_the_end_ends_with_the_audio() -> None:
    samples = bursts([1.0], 1.01)  # 25 frames and a quarter
    assert_times_are_in_order(loudness_recognizer().transcribe(samples))


# --- what can be given


@pytest.mark.parametrize("rate", [16000, 22050, 48000])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_an_array_at_any_sample_rate_is_heard(recognizer: Recognizer, rate: int, dtype: type) -> None:
    samples: np.ndarray = speak("cab ba", rate).astype(dtype)
    before = samples.copy()
    transcript = recognizer.transcribe(samples, None if rate == 16000 else rate)
    assert transcript.text == "cab ba"
    assert transcript.duration == pytest.approx(1.26, abs=1e-3)
    assert np.array_equal(samples, before)


@pytest.mark.parametrize(
    "name, options", [("a.flac", {}), ("a.ogg", {}), ("a.mp3", {}), ("noname", {"format": "WAV", "subtype": "FLOAT"})]
)
def test_files_of_other_formats_rates_and_channels_are_heard(
    recognizer: Recognizer, write_wav: Callable[..., Path], name: str, options: dict[str, str]
) -> None:
    samples = speak("cab ba", 44100)
    path = write_wav(name, np.stack([samples, samples], axis=1), 44100, **options)
    assert recognizer.transcribe(path).text == recognizer.transcribe(str(path)).text == "cab ba"


def test_a_list_gives_a_list_in_its_order(recognizer: Recognizer, micro: Path) -> None:
    found = recognizer.transcribe([clips(micro)[3], speak("bac"), str(clips(micro)[0])])
    assert [transcript.text for transcript in found] == ["acb a", "bac", "abc"]
    assert recognizer.transcribe([]) == []


@pytest.mark.parametrize(
    "array", [np.zeros(16000, np.int16), np.zeros((16000, 2), np.float32), np.zeros((1, 16000)), np.array(0.5)]
)
def test_an_array_that_is_not_mono_floats_is_refused(recognizer: Recognizer, array: np.ndarray) -> None:
    with pytest.raises(AnadilError, match=r"expected mono floats \(samples,\).*\n.*divide 16-bit integers by 32768"):
        recognizer.transcribe(array)


@pytest.mark.parametrize(("name", "content"), [("none.wav", None), ("text.wav", b"no audio"), ("empty.wav", b"")])
def test_a_file_that_is_no_audio_is_named(
    recognizer: Recognizer, tmp_path: Path, name: str, content: bytes | None
) -> None:
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(AnadilError, match=name):
        recognizer.transcribe(tmp_path / name)


# --- hardly any audio


@pytest.mark.parametrize("n_samples", [0, 1, 159, 320])
def test_hardly_any_audio_gives_an_empty_transcript(recognizer: Recognizer, micro: Path, n_samples: int) -> None:
    for one in (recognizer, anadil.load(micro / "run/best")):
        assert one.transcribe(np.zeros(n_samples, np.float32)) == replace(EMPTY, duration=n_samples / RATE)


def test_a_file_without_samples_gives_an_empty_transcript(
    recognizer: Recognizer, write_wav: Callable[..., Path]
) -> None:
    assert recognizer.transcribe(write_wav("empty.wav", 0.0)) == EMPTY


def test_nothing_is_heard_where_there_is_no_audio() -> None:
    def always_a(waveforms: np.ndarray, counts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return loud_is_a(np.ones_like(waveforms), counts)

    assert replace(loudness_recognizer(), forward=always_a).transcribe(np.zeros(0, np.float32)) == EMPTY


# --- long recordings


def test_long_audio_is_cut_and_later_words_keep_their_times() -> None:
    starts = [0.5 * i + 0.1 for i in range(20)]
    samples = bursts(starts, 10.1)
    whole, pieces = loudness_recognizer(), loudness_recognizer(longest_s=1.7)
    heard: list[int] = []

    def spy(waveforms: np.ndarray, counts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        heard.extend(counts.tolist())
        return loud_is_a(waveforms, counts)

    transcript = replace(pieces, forward=spy).transcribe(samples)
    assert len(heard) > 5 and max(heard) <= 1.7 * RATE and sum(heard) == len(samples)
    assert_times_are_in_order(transcript)
    assert [word.start for word in transcript.words] == pytest.approx(starts, abs=FRAME / RATE)
    assert transcript.text == whole.transcribe(samples).text == " ".join(["a"] * 20)
    assert transcript.duration == pytest.approx(10.1)


def test_a_long_recording_is_heard_as_its_pieces_are(recognizer: Recognizer) -> None:
    samples = speak(" ".join(TEXTS))
    recognizer = replace(recognizer, pauses=PauseLimits(1.5, 1.5))  # the ends of a piece are not cut
    transcript = replace(recognizer, longest_s=3.0).transcribe(samples)
    expected = [
        (word.text, start / RATE + word.start, start / RATE + word.end)
        for start, end in cut_at_pauses(samples, RATE, 3.0)
        for word in recognizer.transcribe(samples[start:end]).words
    ]
    texts, starts, ends = zip(*expected, strict=True)
    assert len(texts) > 5 and transcript.text == " ".join(texts)
    assert [word.start for word in transcript.words] == pytest.approx(starts)
    assert [word.end for word in transcript.words] == pytest.approx(ends)


# --- manifests


def test_a_batch_of_utterances_gives_what_single_files_give(
    recognizer: Recognizer, micro: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes: list[int] = []

    def spy(waveforms: np.ndarray, counts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        sizes.append(len(waveforms))
        return recognizer.forward(waveforms, counts)

    utterances = [
        replace(one, duration=audio.probe(one.audio_filepath).duration) for one in read_manifest(micro / "train.jsonl")
    ]
    singles = [recognizer.transcribe(one.audio_filepath) for one in utterances]
    for batch_seconds, n_batches in ((60.0, 1), (3.0, 4)):
        sizes.clear()
        monkeypatch.setattr(module, "BATCH_SECONDS", batch_seconds)
        found = dict(replace(recognizer, forward=spy).transcribe_utterances(utterances))
        assert sum(sizes) == 8 and (len(sizes) == 1 if n_batches == 1 else len(sizes) >= n_batches)
        for i, single in enumerate(singles):
            assert (found[i].text, found[i].duration) == (single.text, single.duration)
            assert [(word.start, word.end) for word in found[i].words] == [
                (word.start, word.end) for word in single.words
            ]


def test_utterances_are_stretches_and_a_long_one_is_cut(write_wav: Callable[..., Path]) -> None:
    path = str(write_wav("long.wav", bursts([0.1, 1.1, 2.1, 3.1], 4.0), subtype="FLOAT"))
    utterances = [
        Utterance(path, duration=4.0),
        Utterance(path, duration=1.0, offset=2.0),
        Utterance(path, duration=0.5, offset=0.5),
        Utterance(path, duration=2.0, offset=1.0),
    ]
    found = dict(loudness_recognizer(longest_s=2.5).transcribe_utterances(utterances))
    assert [found[i].text for i in range(4)] == ["a a a a", "a", "", "a a"]
    assert [word.start for word in found[1].words] == pytest.approx([0.1], abs=FRAME / RATE)  # of the stretch
    assert dict(loudness_recognizer().transcribe_utterances([])) == {}


def test_an_utterance_that_cannot_be_read_is_named(recognizer: Recognizer, tmp_path: Path) -> None:
    utterance = Utterance(str(tmp_path / "none.wav"), duration=1.0, source="m.jsonl:4")
    with pytest.raises(AnadilError, match=r"m.jsonl:4: audio file not found: .*none.wav"):
        list(recognizer.transcribe_utterances([utterance]))


# --- load


def test_a_run_is_no_model_and_its_best_is_named(micro: Path, tmp_path: Path) -> None:
    with pytest.raises(AnadilError, match=rf"is a run, not a model\n  next: use {micro / 'run/best'}$"):
        anadil.load(micro / "run")
    shutil.copytree(micro / "run/last", tmp_path / "run/last")
    with pytest.raises(AnadilError, match=rf"next: use {tmp_path / 'run/last'}$"):
        anadil.load(str(tmp_path / "run"))


@pytest.mark.parametrize("missing", ["model.onnx", "config.json", "model.safetensors", "config.yaml"])
def test_a_folder_that_is_no_model_says_what_was_looked_for(
    micro: Path, exported: Path, tmp_path: Path, missing: str
) -> None:
    source = exported if (exported / missing).exists() else micro / "run/best"
    shutil.copytree(source, tmp_path / "model")
    anadil.load(tmp_path / "model")
    (tmp_path / "model" / missing).unlink()
    with pytest.raises(AnadilError) as caught:
        anadil.load(tmp_path / "model")
    assert f"{tmp_path / 'model'} is no model" in str(caught.value)
    assert all(name in str(caught.value) for name in ("model.onnx", "config.json", "model.safetensors", "config.yaml"))


def test_a_path_that_is_not_there_is_said_to_be_missing(tmp_path: Path) -> None:
    with pytest.raises(AnadilError, match=r"model not found: .*none\n.*anadil train"):
        anadil.load(tmp_path / "none")


@pytest.mark.parametrize("kind", ["model", "exported"])
def test_a_model_whose_replacement_was_cut_off_is_put_back(
    micro: Path, exported: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    source: dict[str, Path] = {"model": micro / "run/best", "exported": exported}
    shutil.copytree(source[kind], tmp_path / "model")
    rename = os.rename

    def cut_off(old: Path, new: Path) -> None:
        if Path(new) == tmp_path / "model":
            raise KeyboardInterrupt
        rename(old, new)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt), whole_folder(tmp_path / "model"):
        patch.setattr(os, "rename", cut_off)
    assert not (tmp_path / "model").exists()
    assert anadil.load(tmp_path / "model").transcribe(speak("abc")).text == "abc"
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


def test_a_model_folder_with_labels_that_repeat_is_refused(micro: Path, tmp_path: Path) -> None:
    shutil.copytree(micro / "run/best", tmp_path / "model")
    config = tmp_path / "model/config.yaml"
    text = config.read_text(encoding="utf-8")
    assert "[' ', a, b, c]" in text
    config.write_text(text.replace("[' ', a, b, c]", "[' ', a, b, b]"), encoding="utf-8")
    with pytest.raises(AnadilError, match="labels that repeat: 'b'"):
        anadil.load(tmp_path / "model")


@pytest.mark.parametrize(("value", "message"), [(np.nan, "log-probs hold NaN"), (3.5, r"log-probs hold 3\.5, above 0")])
@pytest.mark.parametrize("n_best", [0, 3])
def test_what_is_no_log_prob_is_one_clear_error(value: float, message: str, n_best: int) -> None:
    def broken(waveforms: np.ndarray, counts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        log_probs, frame_counts = loud_is_a(waveforms, counts)
        log_probs[:, 1, 1] = value
        return log_probs, frame_counts

    one = replace(loudness_recognizer(), forward=broken)
    with pytest.raises(AnadilError, match=rf"model loudness: its {message}(?s:.*)next: "):
        one.transcribe(bursts([0.5], 2.0), n_best=n_best)


def test_alternatives_of_the_pieces_are_combined() -> None:
    """Two pieces: the best texts of the whole are the best sums of scores."""
    samples = bursts([0.5, 3.0], 5.0)  # digital silence separates them
    one = loudness_recognizer()
    found = one.transcribe(samples, n_best=4)
    assert found.text == one.transcribe(samples).text == found.alternatives[0].text
    assert len({each.text for each in found.alternatives}) == len(found.alternatives) >= 2
    scores = [each.score for each in found.alternatives]
    assert scores == sorted(scores, reverse=True)
    assert found.to_dict()["alternatives"][0] == {"text": found.text, "score": round(scores[0], 4)}
    assert "alternatives" not in one.transcribe(samples).to_dict()


def test_the_best_sums_of_two_parts() -> None:
    first = [Alternative("a", -1.0), Alternative("b", -3.0)]
    second = [Alternative("c", -1.0), Alternative("", -1.5), Alternative("e", -9.0)]
    found = [(one.text, one.score) for one in best_of_parts([first, second], " ")]
    assert found == [("a c", -2.0), ("a", -2.5), ("b c", -4.0)]
    assert best_of_parts([first, ()], " ") == best_of_parts([], " ") == ()


def test_short_recordings_are_recognised_together_and_in_order(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "BATCH_SECONDS", 5.0)
    many = [bursts([0.5 + 0.1 * i], 2.0 + 0.3 * i) for i in range(7)]
    one = loudness_recognizer()
    alone = [one.transcribe(samples) for samples in many]
    assert one.transcribe(many) == alone and one.transcribe([]) == []
