"""POST /v1/audio/transcriptions, as OpenAI's API has it, against a running server."""

from __future__ import annotations

import io
import json
import threading
from pathlib import Path
from typing import Any

import numpy as np
import openai
import pytest

import anadil
from anadil.corpora.reader import Options
from anadil.corpora.subtitles import utterances
from tests.support.micro import speak
from tests.support.server import Running, encoded, sound

TEXT = "abc cab"


@pytest.fixture(scope="module")
def client(server: Running) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{server.url}/v1", api_key="none is needed", max_retries=0)


def test_the_default_answer(server: Running) -> None:
    answer = server.transcribe(sound(TEXT))
    assert answer.status_code == 200
    assert answer.json() == {"text": TEXT, "usage": {"type": "duration", "seconds": 2}}


@pytest.mark.parametrize("form", ["FLAC", "OGG", "MP3"])
def test_other_files(server: Running, form: str) -> None:
    assert server.transcribe(sound(TEXT, 44100, form), f"a.{form.lower()}").json()["text"] == TEXT


def test_text(server: Running) -> None:
    answer = server.transcribe(sound(TEXT), response_format="text")
    assert answer.text == TEXT + "\n" and answer.headers["content-type"].startswith("text/plain")


@pytest.mark.parametrize("form", ["srt", "vtt"])
def test_subtitles(server: Running, form: str, tmp_path: Path) -> None:
    (tmp_path / f"a.{form}").write_text(server.transcribe(sound(TEXT), response_format=form).text, encoding="utf-8")
    (tmp_path / "a.wav").write_bytes(sound(TEXT))
    (cue,) = utterances(tmp_path / f"a.{form}", Options(), lambda problem: pytest.fail(str(problem)))
    assert cue.text == TEXT


def test_words_and_segments_are_those_of_the_recogniser(server: Running, exported: Path) -> None:
    expected = anadil.load(exported).transcribe(speak(TEXT))
    answer = server.transcribe(
        sound(TEXT), response_format="verbose_json", **{"timestamp_granularities[]": ["word", "segment"]}
    ).json()
    assert answer["text"] == expected.text and answer["language"] == "en" and answer["task"] == "transcribe"
    assert answer["duration"] == pytest.approx(expected.duration, abs=1e-3)
    found = [(word["word"], word["start"], word["end"]) for word in answer["words"]]
    assert found == [
        (word.text, pytest.approx(word.start, abs=1e-3), pytest.approx(word.end, abs=1e-3)) for word in expected.words
    ]
    assert all(0 < word["confidence"] <= 1 for word in answer["words"])
    (segment,) = answer["segments"]
    assert segment["text"] == TEXT and segment["end"] > segment["start"] and segment["avg_logprob"] <= 0


def test_segments_alone_by_default(server: Running) -> None:
    answer = server.transcribe(sound(TEXT), response_format="verbose_json").json()
    assert "segments" in answer and "words" not in answer


def test_a_long_recording_gives_the_words_of_the_recogniser(server: Running, exported: Path) -> None:
    samples = np.concatenate([speak(TEXT, seed=i) for i in range(45)])
    assert len(samples) > 60 * 16000  # so the other queue takes it
    rounded = np.round(samples * 32767) / 32768
    expected = anadil.load(exported).transcribe(rounded.astype(np.float32))
    assert server.transcribe(encoded(samples)).json()["text"] == expected.text


def test_one_channel(server: Running) -> None:
    both = np.stack([speak("abc"), speak("cba")], axis=1)
    assert server.transcribe(encoded(both), channel="2").json()["text"] == "cba"
    assert "no channel 3" in server.transcribe(encoded(both), channel="3").json()["error"]["message"]


def test_the_client_of_openai(client: openai.OpenAI) -> None:
    found = client.audio.transcriptions.create(model="micro", file=("a.wav", sound(TEXT)))
    assert found.text == TEXT
    verbose = client.audio.transcriptions.create(
        model="micro",
        file=("a.wav", sound(TEXT)),
        response_format="verbose_json",
        timestamp_granularities=["word", "segment"],
    )
    assert [word.word for word in verbose.words or []] == TEXT.split()
    assert verbose.segments is not None and verbose.segments[0].text == TEXT
    plain: Any = client.audio.transcriptions.create(model="micro", file=("a.wav", sound(TEXT)), response_format="text")
    assert plain == TEXT + "\n"
    assert [model.id for model in client.models.list()] == ["micro", "other"]
    assert client.models.retrieve("other").id == "other"


def test_the_client_of_openai_streams(client: openai.OpenAI) -> None:
    samples = np.concatenate([part for i in range(3) for part in (speak(TEXT, seed=i), np.zeros(48_000, np.float32))])
    events = list(client.audio.transcriptions.create(model="micro", file=("a.wav", encoded(samples)), stream=True))
    deltas = [event.delta for event in events if event.type == "transcript.text.delta"]
    assert len(deltas) == 3 and events[-1].type == "transcript.text.done"
    assert "".join(deltas) == events[-1].text


def test_the_client_of_openai_gets_its_own_errors(client: openai.OpenAI) -> None:
    with pytest.raises(openai.NotFoundError, match="there is no model 'whisper-1'; there are: micro, other"):
        client.audio.transcriptions.create(model="whisper-1", file=("a.wav", sound(TEXT)))
    with pytest.raises(openai.UnprocessableEntityError, match="not readable as audio: a.wav"):
        client.audio.transcriptions.create(model="micro", file=("a.wav", b"nothing"))


@pytest.mark.parametrize(
    ("fields", "status", "message"),
    [
        ({"prompt": "names"}, 400, "'prompt' has no effect"),
        ({"temperature": "0.5"}, 400, "temperature has no effect"),
        ({"temperature": "0"}, 200, ""),
        ({"prompt": ""}, 200, ""),
        ({"response_format": "docx"}, 400, "is not one of json, text, srt, vtt, verbose_json"),
        ({"responseformat": "text"}, 400, "unknown field 'responseformat'"),
        ({"stream": "perhaps"}, 400, "stream is true or false"),
        ({"stream": "true", "response_format": "srt"}, 400, "a stream has the response_format"),
        ({"timestamp_granularities[]": "word"}, 400, "need the response_format verbose_json"),
        ({"timestamp_granularities[]": "phone", "response_format": "verbose_json"}, 400, "are word and segment"),
        ({"chunking_strategy": "auto"}, 200, ""),
        ({"chunking_strategy": "server_vad"}, 400, "chunking_strategy can only be auto"),
        ({"language": "en"}, 200, ""),
        ({"language": "tr"}, 400, "the language of this model is 'en'"),
        ({"channel": "middle"}, 400, "channel: expected mix"),
        ({"model": "other"}, 200, ""),
        ({"model": ["micro", "other"]}, 400, "'model' is there 2 times"),
    ],
)
def test_fields(server: Running, fields: dict[str, Any], status: int, message: str) -> None:
    answer = server.transcribe(sound("abc"), **fields)
    assert answer.status_code == status
    if message:
        assert message in answer.json()["error"]["message"]


def test_a_body_that_is_no_form(server: Running) -> None:
    answer = server.client.post("/v1/audio/transcriptions", content=b"RIFF", headers={"Content-Type": "audio/wav"})
    assert answer.status_code == 415
    answer = server.client.post("/v1/audio/transcriptions", data={"model": "micro"}, files={"file": (None, "no file")})
    assert answer.status_code == 400 and "the form has no file" in answer.json()["error"]["message"]


def test_no_path_of_the_server_is_in_an_answer(server: Running) -> None:
    for name in ("../../etc/passwd", "C:\\Windows\\a.wav", "/etc/shadow.wav"):
        message = server.transcribe(b"nothing at all", name).json()["error"]["message"]
        assert str(server.data) not in message and "upload" not in message and "/" not in message


def test_short_recordings_at_the_same_time(server: Running) -> None:
    texts = ["abc", "cab ba", "b ac", "acb a", "ca bc", "bac", "a b c", "cba"] * 2
    found: dict[int, str] = {}

    def ask(index: int) -> None:
        found[index] = server.transcribe(sound(texts[index], seed=index)).json()["text"]

    threads = [threading.Thread(target=ask, args=(index,)) for index in range(len(texts))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [found[index] for index in range(len(texts))] == texts


def test_silence_has_no_words(server: Running) -> None:
    answer = server.transcribe(encoded(np.zeros(32_000, np.float32)), response_format="verbose_json")
    assert answer.json()["text"] == "" and answer.json()["segments"] == []


def test_nothing_is_left_behind(server: Running) -> None:
    server.transcribe(sound("abc"))
    server.transcribe(b"nothing")
    assert list((server.data / ".spool").iterdir()) == []


def test_supervision(server: Running) -> None:
    assert server.get("/health").json()["status"] == "ok"
    assert server.get("/ready").json() == {"status": "ready"}
    before = server.metric('anadil_audio_seconds_total{model="micro"}')
    server.transcribe(sound("abc"))
    assert server.metric('anadil_audio_seconds_total{model="micro"}') > before
    assert server.metric('anadil_requests_total{route="/v1/audio/transcriptions",status="200"}') >= 1


def test_the_page_of_the_api_is_whole_without_a_network(server: Running) -> None:
    schema = server.get("/openapi.json").json()
    assert "multipart/form-data" in json.dumps(schema["paths"]["/v1/audio/transcriptions"])
    page = server.get("/docs").text
    assert "//" not in page.replace("<!DOCTYPE html>", "")
    for name in ("/page/vendor/swagger-ui.css", "/page/vendor/swagger-ui-bundle.js", "/page/docs.js"):
        assert name in page and server.get(name).status_code == 200


def test_the_log_has_nothing_of_the_audio_or_the_text(server: Running) -> None:
    server.transcribe(sound("cab ba"), "secret interview.wav")
    server.transcribe(b"nothing", "secret interview.wav")
    assert server.has_logged("POST /v1/audio/transcriptions 422")
    assert "secret" not in server.log and "cab ba" not in server.log


def test_a_file_of_the_openai_client_from_a_stream(client: openai.OpenAI) -> None:
    file = io.BytesIO(sound("abc"))
    file.name = "a.wav"
    assert client.audio.transcriptions.create(model="micro", file=file).text == "abc"
