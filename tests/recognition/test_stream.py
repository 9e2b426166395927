from __future__ import annotations

import itertools
import math
import threading
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soxr
from hypothesis import given
from hypothesis import strategies as st

import anadil
from anadil.data.pauses import PauseLimits
from anadil.errors import AnadilError
from anadil.recognition.recognizer import Recognizer
from anadil.recognition.stream import LOOK_AHEAD_S, Latency, Result, Stream
from anadil.text.rules import TextSettings, text_rules
from tests.support.loudness import FRAME, RATE, bursts, loud_is_a, loudness_recognizer
from tests.support.micro import TEXTS, speak

FLOOR = 0.001
SETTINGS: tuple[Latency, ...] = ("low", "medium", "high")


def run(stream: Stream, samples: np.ndarray, chunk: int = 1600) -> list[Result]:
    found = [one for start in range(0, len(samples), chunk) for one in stream.feed(samples[start : start + chunk])]
    return found + stream.finish()


def final_text(results: list[Result]) -> str:
    return " ".join(one.text for one in results if one.final)


def starts(results: list[Result]) -> list[float]:
    return [word.start for one in results if one.final for word in one.words]


SPOKEN_S = [0.5, 1.1, 1.9, 2.5, 5.0, 5.5, 9.0, 9.4, 9.8, 10.6]


@pytest.mark.parametrize("latency", [*SETTINGS, 0.3, 5.0])
def test_no_word_is_lost_or_doubled(latency: Latency | float) -> None:
    samples = bursts(SPOKEN_S, 12.0, floor=FLOOR)
    found = run(loudness_recognizer().stream(latency=latency), samples)
    assert final_text(found) == loudness_recognizer().transcribe(samples).text == " ".join("a" * len(SPOKEN_S))
    assert starts(found) == pytest.approx(SPOKEN_S, abs=FRAME / RATE)
    assert all(one.start == one.words[0].start and one.end == one.words[-1].end for one in found if one.final)


@pytest.mark.parametrize("latency", SETTINGS)
def test_speech_without_pauses_is_cut_and_nothing_is_lost(latency: Latency) -> None:
    spoken_s = [0.5 * i + 0.1 for i in range(100)]
    found = run(loudness_recognizer(longest_s=8.0).stream(latency=latency), bursts(spoken_s, 50.2, floor=FLOOR))
    assert final_text(found) == " ".join("a" * 100)
    assert starts(found) == pytest.approx(spoken_s, abs=2 * FRAME / RATE)


@given(st.data(), st.sampled_from(SETTINGS))
def test_chunks_of_any_size_give_the_same_final_results(data: st.DataObject, latency: Latency) -> None:
    samples = bursts(SPOKEN_S, 12.0, floor=FLOOR)
    cuts = data.draw(st.lists(st.integers(0, len(samples)), max_size=6).map(sorted))
    stream, found = loudness_recognizer().stream(latency=latency), []
    for first, last in itertools.pairwise([0, *cuts, len(samples)]):
        found += stream.feed(samples[first:last])
    found += stream.finish()
    assert [one for one in found if one.final] == [
        one for one in run(loudness_recognizer().stream(latency=latency), samples) if one.final
    ]


def test_high_latency_is_what_transcribe_gives(exported: Path) -> None:
    recognizer = anadil.load(exported)
    samples = np.concatenate(
        [speak(text + "    ", seed=i) for i, text in enumerate(TEXTS)]
    )  # a second of noise after each
    recognizer = replace(recognizer, pauses=PauseLimits(0.5, 0.2))
    found = run(recognizer.stream(latency="high"), samples)
    assert len([one for one in found if one.final]) == len(TEXTS)
    assert final_text(found) == recognizer.transcribe(samples).text


@pytest.mark.parametrize("latency", ["low", "medium", 0.4])
def test_a_final_word_waits_no_longer_than_the_look_ahead(latency: Latency | float) -> None:
    samples, stream = bursts([0.3 * i + 0.2 for i in range(60)], 18.5, burst_s=0.1, floor=FLOOR), None
    stream = loudness_recognizer().stream(latency=latency)
    waits = []
    for first in range(0, len(samples), 320):
        for one in stream.feed(samples[first : first + 320]):
            waits += [(first + 320) / RATE - word.end for word in one.words if one.final]
    assert len(waits) > 50 and stream.look_ahead_s < math.inf
    assert max(waits) <= stream.look_ahead_s + stream.hop_s + 0.3 + 0.2  # the next word begins after 0.3 s


def test_partial_results_go_before_the_final_ones() -> None:
    found = run(loudness_recognizer().stream(latency="high"), bursts([0.5, 1.2, 1.9], 4.0, floor=FLOOR))
    assert [(one.text, one.final) for one in found] == [("a a", False), ("a a a", False), ("a a a", True)]
    found = run(loudness_recognizer().stream(latency="high", partial=False), bursts([0.5, 1.2], 4.0, floor=FLOOR))
    assert [one.final for one in found] == [True]


def test_nothing_is_heard_in_silence_and_noise() -> None:
    def always_a(waveforms: np.ndarray, counts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return loud_is_a(np.ones_like(waveforms), counts)

    recognizer = replace(loudness_recognizer(), forward=always_a)
    for samples in (np.zeros(10 * RATE, np.float32), bursts([], 10.0, floor=0.05)):
        for latency in SETTINGS:
            assert run(recognizer.stream(latency=latency), samples) == []


def test_a_partial_result_of_what_is_no_speech_is_taken_back() -> None:
    click = bursts([1.0], 6.0, burst_s=0.15, floor=FLOOR)
    stream = replace(loudness_recognizer(), pauses=PauseLimits(0.5, 0.2)).stream(latency="high")
    found = run(stream, click)
    assert found[-1].final or found[-1].text == ""
    settled = [one for one in found if not one.final]
    assert not settled or settled[-1].text == "" or found[-1].final


def test_another_sample_rate_is_converted(exported: Path) -> None:
    recognizer = anadil.load(exported)
    samples = np.concatenate([speak("cab ba"), 0.003 * np.ones(16000, np.float32)])
    other = soxr.resample(samples, 16000, 44100).astype(np.float64)
    found = run(recognizer.stream(44100, latency="high"), other, chunk=1000)
    assert final_text(found) == "cab ba"
    assert starts(found)[0] == pytest.approx(0.06, abs=0.1)


def test_a_language_without_spaces_gets_its_tokens_as_they_come() -> None:
    rules = text_rules("en", TextSettings(), ["a", "b"])

    def forward(waveforms: np.ndarray, counts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        log_probs, frame_counts = loud_is_a(waveforms, counts)
        return log_probs[:, :, [1, 2, 0]], frame_counts  # the blank where it is quiet

    recognizer = Recognizer("thai", rules, RATE, FRAME / RATE, 320, forward)
    spoken_s = [0.3 * i + 0.2 for i in range(30)]
    samples = bursts(spoken_s, 9.5, burst_s=0.1, floor=FLOOR)
    found = run(recognizer.stream(latency="low"), samples)
    final = [one for one in found if one.final]
    assert len(final) > 10 and "".join(one.text for one in final) == "a" * 30 == recognizer.transcribe(samples).text
    assert all(len(one.words) == 1 and one.words[0].text == one.text for one in final)


# --- what can be given


def test_what_cannot_be_fed_is_refused_and_the_stream_goes_on() -> None:
    samples = bursts([0.5, 1.2], 4.0, floor=FLOOR)
    stream = loudness_recognizer().stream(latency="high")
    stream.feed(samples[:16000])
    broken = samples.copy()
    broken[7] = np.nan
    for wrong, message in (
        (broken, r"not numbers \(NaN or infinity\)"),
        (np.full(10, np.inf), "NaN or infinity"),
        (np.zeros(10, np.int16), r"found int16 \(10,\)\n.*divide 16-bit integers by 32768"),
        (np.zeros((10, 2), np.float32), "average the channels"),
        ([0.0, 1.0], "found list"),
    ):
        with pytest.raises(AnadilError, match=message):
            stream.feed(wrong)  # type: ignore[arg-type]
    with pytest.raises(AnadilError, match=r"has 16,000 samples per second, and these have 8,000\n.*make a new one"):
        stream.feed(samples, sample_rate=8000)
    found = stream.feed(samples[16000:].astype(np.float64), sample_rate=16000) + stream.finish()
    assert final_text(found) == "a a"
    assert stream.finish() == []
    with pytest.raises(AnadilError, match="the stream has ended"):
        stream.feed(samples)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"latency": "lowest"}, "latency must be low, medium, high or seconds, found 'lowest'"),
        ({"latency": 0}, "from 0.1 to 60"),
        ({"latency": math.nan}, "from 0.1 to 60"),
        ({"latency": True}, "from 0.1 to 60"),
        ({"hop_s": 0.0}, "hop_s must be seconds from 0.05 to 60"),
        ({"hop_s": math.nan}, "hop_s must be"),
        ({"sample_rate": 100}, "sample rate must be from 4,000 to 384,000"),
        ({"sample_rate": True}, "sample rate must be"),
    ],
)
def test_settings_out_of_range(options: dict[str, object], message: str) -> None:
    with pytest.raises(AnadilError, match=message):
        loudness_recognizer().stream(**options)  # type: ignore[arg-type]


def test_a_look_ahead_as_long_as_a_piece_is_the_whole_piece() -> None:
    assert loudness_recognizer().stream(latency=20).look_ahead_s == LOOK_AHEAD_S["high"] == math.inf
    assert loudness_recognizer().stream(latency=1.5).look_ahead_s == 1.5


def test_nothing_fed_is_no_result() -> None:
    assert loudness_recognizer().stream().finish() == []
    stream = loudness_recognizer().stream()
    assert stream.feed(np.zeros(0, np.float32)) == [] and stream.duration == 0
    stream.feed(bursts([0.1], 0.5))
    assert final_text(stream.finish()) == "a" and stream.duration == 0.5


def test_results_as_json() -> None:
    (found,) = run(loudness_recognizer().stream(latency="high", partial=False), bursts([0.5], 3.0, floor=FLOOR))
    data = found.to_dict()
    assert list(data) == ["text", "final", "start", "end", "words"]
    assert (data["text"], data["final"], data["start"]) == ("a", True, pytest.approx(0.5, abs=0.04))
    assert data["words"][0]["text"] == "a" and data["words"][0]["start"] == data["start"]


def test_streams_of_one_recogniser_run_beside_each_other() -> None:
    recognizer = loudness_recognizer()
    samples = bursts(SPOKEN_S, 12.0, floor=FLOOR)
    texts: list[str] = []
    threads = [
        threading.Thread(target=lambda: texts.append(final_text(run(recognizer.stream(latency="low"), samples))))
        for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert texts == [" ".join("a" * len(SPOKEN_S))] * 4


def test_memory_does_not_grow() -> None:
    stream = loudness_recognizer(longest_s=4.0).stream(latency="low")
    samples = bursts([0.5 * i + 0.1 for i in range(60)], 30.0, floor=FLOOR)
    for _ in range(5):
        stream.feed(samples)
        assert len(stream._waiting) < stream._hop and len(stream._piece.log_probs) <= 6 * RATE / FRAME
        assert len(stream._earlier) <= 4 * RATE
