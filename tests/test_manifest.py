from __future__ import annotations

import gzip
import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from anadil.audio import AudioInfo
from anadil.errors import AnadilError
from anadil.manifest import (
    Utterance,
    duration_error_s,
    measured,
    probe_all,
    read_manifest,
    read_manifests,
    write_manifest,
)

GOOD = b'{"audio_filepath": "a.wav"}'
KNOWN = {"audio_filepath", "duration", "text", "offset", "speaker", "language"}

seconds = st.floats(0, 1e6)
json_values = st.none() | st.booleans() | st.integers(-(2**60), 2**60) | st.text() | st.lists(st.text(), max_size=3)
utterances = st.builds(
    Utterance,
    st.sampled_from(["clips/ağ.wav", "/elsewhere/a b.wav", "Σ.opus"]),
    duration=st.none() | seconds,
    text=st.text(),
    offset=seconds,
    speaker=st.none() | st.text(),
    language=st.none() | st.text(),
    extra=st.dictionaries(st.text().filter(lambda key: key not in KNOWN), json_values, max_size=3),
)


def manifest_of(folder: Path, *lines: bytes, end: bytes = b"\n") -> Path:
    path = folder / "m.jsonl"
    path.write_bytes(end.join(lines) + end)
    return path


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("manifest")


@given(written=st.lists(utterances, min_size=1, max_size=4))
def test_what_is_written_is_read(folder: Path, written: list[Utterance]) -> None:
    written = [replace(one, audio_filepath=str(folder / one.audio_filepath)) for one in written]
    write_manifest(folder / "m.jsonl", written)
    assert read_manifest(folder / "m.jsonl") == written


def test_keys_of_nemo_and_unknown_keys_are_kept_as_they_were(tmp_path: Path) -> None:
    record = {"audio_filepath": "a.wav", "duration": 1.5, "text": "ağ ω\u0301", "offset": 2.5, "pnc": [1, {"é": None}]}
    path = manifest_of(tmp_path, json.dumps(record).encode())
    (utterance,) = read_manifest(path)
    assert (utterance.duration, utterance.offset, utterance.extra) == (1.5, 2.5, {"pnc": [1, {"é": None}]})
    write_manifest(path, [utterance])
    text = path.read_text(encoding="utf-8")
    assert json.loads(text) == record
    assert "ağ ω\u0301" in text  # readable, not \u011f


def test_a_relative_path_is_relative_to_the_manifest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data").mkdir()
    path = manifest_of(tmp_path / "data", b'{"audio_filepath": "clips/1.wav"}', b'{"audio_filepath": "/far/2.wav"}')
    for one in (path, Path("data/m.jsonl")):
        inside, far = read_manifest(one)
        assert Path(inside.audio_filepath).resolve() == tmp_path / "data/clips/1.wav"
        assert far.audio_filepath == "/far/2.wav"


def test_audio_inside_the_folder_is_written_relative_and_outside_absolute(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    write_manifest(Path("data/m.jsonl"), [Utterance("data/clips/1.wav"), Utterance("other/2.wav")])
    lines = (tmp_path / "data/m.jsonl").read_text().splitlines()
    assert [json.loads(line)["audio_filepath"] for line in lines] == ["clips/1.wav", str(tmp_path / "other/2.wav")]


def test_absent_keys_have_their_defaults(tmp_path: Path) -> None:
    (utterance,) = read_manifest(manifest_of(tmp_path, GOOD))
    assert utterance == Utterance(str(tmp_path / "a.wav"), None, "", 0.0, None, None, {})
    assert utterance.source == f"{tmp_path / 'm.jsonl'}:1"


@pytest.mark.parametrize(
    ("line", "what"),
    [
        (b'{"audio_filepath": "a.wav", "text" "x"}', "not valid JSON: Expecting ':' delimiter at column 36"),
        (b"[" * 100_000, "nested too deeply"),
        (b'["a.wav"]', "expected a JSON object {...}, found list"),
        (b'{"text": "x"}', 'no "audio_filepath"'),
        (b'{"audio_filepath": 3}', 'no "audio_filepath"'),
        (b'{"audio_filepath": ""}', 'no "audio_filepath"'),
        (b'{"audio_filepath": "a.wav", "duration": "3"}', '"duration" must be a number of seconds, found "3": a number has no'),
        (b'{"audio_filepath": "a.wav", "duration": "1,5"}', '"duration" must be a number of seconds, found "1,5": a number'),
        (b'{"path": "a.wav", "sentence": "x"}', 'no "audio_filepath"; the other keys are "path", "sentence"'),
        (b'{"audio_filepath": "a.wav", "text": "a", "text": "b"}', 'the key "text" is there 2 times; keep one'),
        (b'{"audio_filepath": "a.wav", "x": {"y": 1, "y": 1, "y": 2}}', 'the key "y" is there 3 times'),
        (b'{"audio_filepath": "a.wav", "score": NaN}', '"score" holds NaN or Infinity, which is no JSON; write null'),
        (b'{"audio_filepath": "a.wav", "scores": [1, -Infinity]}', '"scores" holds NaN or Infinity'),
        (b'{"audio_filepath": "a.wav"} {"audio_filepath": "b.wav"}', "more than one JSON object on the line, at column 29"),
        (b'{"audio_filepath": "a\0.wav"}', "contains a zero byte at byte 21"),
        (b'{"audio_filepath": "a.wav", "duration": NaN}', "found NaN"),
        (b'{"audio_filepath": "a.wav", "duration": -1}', "found -1"),
        (b'{"audio_filepath": "a.wav", "duration": true}', "found true"),
        (b'{"audio_filepath": "a.wav", "duration": 1e999}', "found Infinity"),
        pytest.param(b'{"audio_filepath": "a.wav", "duration": 1%s}' % (b"0" * 400), '"duration"', id="no float is so large"),
        (b'{"audio_filepath": "a.wav", "offset": "0"}', '"offset" must be a number of seconds, found "0"'),
        (b'{"audio_filepath": "a.wav", "text": 7}', '"text" must be a string, found 7'),
        (b'{"audio_filepath": "a.wav", "text": "ab\\ud800"}', '"text" holds half a surrogate pair at character 3'),
        (b'{"audio_filepath": "\\ud800.wav"}', "surrogate"),
        (b'{"audio_filepath": "a.wav", "note": "\\ud800"}', "surrogate"),
        ("{'audio_filepath': 'ağ'}".encode("cp1254"), "not UTF-8 at byte 21"),
    ],
)  # fmt: skip
def test_a_broken_line_is_reported(tmp_path: Path, line: bytes, what: str) -> None:
    path = manifest_of(tmp_path, GOOD, line)
    with pytest.raises(AnadilError) as caught:
        read_manifest(path)
    assert str(caught.value).startswith(f"{path}:2: ")
    assert what in str(caught.value)


def test_all_broken_lines_are_collected(tmp_path: Path) -> None:
    path = manifest_of(tmp_path, b"{", GOOD, b"", b"[]", GOOD)
    with pytest.raises(AnadilError, match="2 of 4 lines") as caught:
        read_manifest(path)
    assert f"{path}:1:" in str(caught.value) and f"{path}:4:" in str(caught.value)


RECORDS = [{"audio_filepath": "a.wav", "text": "bir"}, {"audio_filepath": "b.wav", "text": "iki"}]
LINES = "".join(json.dumps(record) + "\n" for record in RECORDS)


@pytest.mark.parametrize(
    ("content", "what", "step"),
    [
        (LINES.encode("utf-16"), "this is UTF-16 (it has its byte-order mark); a manifest is UTF-8", "iconv -f UTF-16 -t UTF-8"),
        ("\ufeff".encode("utf-16-be") + LINES.encode("utf-16-be"), "this is UTF-16 (it has its byte", "iconv -f UTF-16 "),
        (LINES.encode("utf-32"), "this is UTF-32 (it has its byte-order mark)", "iconv -f UTF-32 -t UTF-8"),
        (LINES.encode("utf-16-le"), "contains zero bytes: this is UTF-16 without a byte-order mark", "iconv -f UTF-16LE "),
        ('{"audio_filepath": "a", "text": "бир эки үч төрт беш алты"}\n'.encode("utf-16-be"),
         "contains zero bytes: this is UTF-16 without a byte-order mark", "iconv -f UTF-16BE "),
        (LINES.encode("utf-32-be"), "contains zero bytes: this is UTF-32 without a byte-order mark", "iconv -f UTF-32BE "),
        (LINES.replace("\n", "\r").encode(), "its lines end with a carriage return alone", "tr '\\r' '\\n' < "),
        (LINES.encode("utf-16-be"), "contains zero bytes: this is UTF-16 without a byte-order mark", "iconv -f UTF-16BE "),
        (bytes(range(1, 50)) + bytes(9), "contains zero bytes: this is not a text file", "check the path"),
        (gzip.compress(LINES.encode(), mtime=0), "this is a gzip file", "unpack it"),
        (b"RIFF\x24\0\0\0WAVEfmt ", "this is an audio file", "anadil transcribe"),
        (json.dumps(RECORDS).encode(), "this is a JSON array; a manifest is JSONL, one JSON object per line", "jq -c '.[]'"),
        (json.dumps(RECORDS, indent=2).encode(), "this is a JSON array", "jq -c '.[]'"),
        (("[\n" + LINES.replace("}\n", "},\n") + "]").encode(), "this is a JSON array", "jq -c '.[]'"),  # no JSON, but an array
        (json.dumps(RECORDS * 40_000).encode(), "this is a JSON array", "jq -c '.[]'"),  # more than is looked at
        (b"[]", "this is a JSON array", "jq"),
        (json.dumps(RECORDS[0], indent=2).encode(), "this is JSON whose objects go over several lines", "jq -c ."),
        (b'{"utterances":\n[' + json.dumps(RECORDS[0]).encode() + b"]}", "this is JSON whose objects go over", "jq -c ."),
        (b"path,sentence\na.wav,bir\n", "this is a table", "anadil import table"),
        (b"path\tsentence\na.wav\tbir\n", "this is a table", "anadil import table"),
        (b"name: tr\nlanguage: tr\n", "this is something else: its first line is 'name: tr'", "check the path"),
    ],
)  # fmt: skip
def test_a_file_that_is_no_manifest_is_named_as_what_it_is(
    tmp_path: Path, content: bytes, what: str, step: str
) -> None:
    path = tmp_path / "m.jsonl"
    path.write_bytes(content)
    with pytest.raises(AnadilError) as caught:
        read_manifest(path)
    message = str(caught.value)
    assert message.startswith(f"{path}: {what}") and step in message.split("\n  next: ")[1]


@pytest.mark.parametrize("first", [b"x", b"[]", b"[1, 2]", b'[{"a": 1}]', b"{", b"a,b", b'{"audio_filepath": "a'])
def test_one_bad_line_before_good_ones_is_a_bad_line(tmp_path: Path, first: bytes) -> None:
    path = manifest_of(tmp_path, first, GOOD, GOOD)
    with pytest.raises(AnadilError, match="1 of 3 lines cannot be used"):
        read_manifest(path)


def test_texts_in_another_encoding_are_said_to_be_so(tmp_path: Path) -> None:
    path = manifest_of(tmp_path, GOOD, '{"audio_filepath": "a.wav", "text": "çağ"}'.encode("cp1254"))
    with pytest.raises(
        AnadilError, match=r"(?s):2: not UTF-8 at byte 37.*next: save .*: iconv -f WINDOWS-1252 -t UTF-8"
    ):
        read_manifest(path)


def test_a_folder_is_answered_with_the_manifests_in_it(tmp_path: Path) -> None:
    with pytest.raises(AnadilError, match="is a folder and empty\n"):
        read_manifest(tmp_path)
    (tmp_path / "a.txt").touch()
    with pytest.raises(AnadilError, match="is a folder without .jsonl files\n"):
        read_manifest(tmp_path)
    (tmp_path / "train.jsonl").touch()
    with pytest.raises(AnadilError, match="is a folder; it holds train.jsonl\n"):
        read_manifest(tmp_path)


@pytest.mark.parametrize("content", [b"", b"\n \r\n", b"\xef\xbb\xbf"])
def test_an_empty_manifest_is_an_error(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "m.jsonl").write_bytes(content)
    with pytest.raises(AnadilError, match="manifest is empty"):
        read_manifest(tmp_path / "m.jsonl")


def test_a_missing_manifest_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(AnadilError, match="is a folder"):
        read_manifest(tmp_path)
    with pytest.raises(AnadilError, match="is not there"):
        read_manifest(tmp_path / "m.jsonl")


@pytest.mark.parametrize("end", [b"\n", b"\r\n"])
@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"])
def test_windows_line_ends_and_marks_change_nothing(tmp_path: Path, end: bytes, mark: bytes) -> None:
    path = manifest_of(tmp_path, mark + b'{"audio_filepath": "a.wav", "text": "x"}', b"", GOOD, end=end)
    first, second = read_manifest(path)
    assert (first.text, second.source) == ("x", f"{path}:3")


def test_only_a_line_feed_ends_a_line(tmp_path: Path) -> None:
    text = "one\u2028two\u0085three"
    write_manifest(tmp_path / "m.jsonl", [Utterance("a.wav", text=text)])
    assert [utterance.text for utterance in read_manifest(tmp_path / "m.jsonl")] == [text]


def test_several_manifests_are_read_in_order(tmp_path: Path) -> None:
    for name in "ba":
        write_manifest(tmp_path / name, [Utterance("x.wav", text=name)])
    assert [one.text for one in read_manifests([tmp_path / "b", tmp_path / "a"])] == ["b", "a"]


def test_a_manifest_appears_whole_or_not_at_all(tmp_path: Path) -> None:
    path = manifest_of(tmp_path, GOOD)

    def fails() -> Iterator[Utterance]:
        yield Utterance("b.wav")
        raise RuntimeError("half way")

    with pytest.raises(RuntimeError, match="half way"):
        write_manifest(path, fails())
    assert path.read_bytes() == GOOD + b"\n"
    assert [one.name for one in tmp_path.iterdir()] == ["m.jsonl"]


MEASURED = [  # offset, duration of the manifest; the true duration in a recording of 2 s, or the error
    (0.0, None, 2.0),
    (0.5, None, 1.5),
    (0.5, 1.0, 1.0),
    (0.5, 9.0, 1.5),
    (1.9, 0.1, 0.1),
    (2.0, None, r"offset 2 s is outside of a.wav \(2.00 s\)"),
    (-0.5, 1.0, "offset -0.5 s is outside of a.wav"),
    (0.0, 0.0, "duration is 0 s: expected more than 0"),
    (0.0, -1.0, "duration is -1 s"),
]


@pytest.mark.parametrize(("offset", "duration", "expected"), MEASURED)
def test_an_utterance_is_as_long_as_its_audio(offset: float, duration: float | None, expected: float | str) -> None:
    info, utterance = AudioInfo(2.0, 16000, 1, 2.0), Utterance("a.wav", duration, "a", offset)
    if isinstance(expected, str):
        with pytest.raises(AnadilError, match=expected):
            measured(utterance, info)
    else:
        result = measured(utterance, info)
        assert result.duration == pytest.approx(expected)
        assert replace(result, duration=duration) == utterance


def test_an_utterance_of_an_empty_or_unreadable_recording_has_no_duration() -> None:
    with pytest.raises(AnadilError, match=r"audio has no samples: a.wav"):
        measured(Utterance("a.wav"), AudioInfo(0.0, 16000, 1, 0.0))
    with pytest.raises(AnadilError, match="no audio at all"):
        measured(Utterance("a.wav"), AnadilError("no audio at all"))


@pytest.mark.parametrize(
    ("offset", "duration", "promised_s", "error_s"),
    [
        (0.0, None, 2.0, 0.0),
        (0.0, 2.04, 2.0, 0.0),
        (0.0, 2.06, 2.0, 0.06),
        (1.0, 1.06, 2.0, 0.06),
        (0.0, 1.96, 2.0, 0.0),
        (0.0, 1.94, 2.0, -0.06),
        (1.0, 0.5, 2.0, 0.0),  # a segment
        (0.0, 3.0, 3.0, 0.0),  # cut off: the manifest says what the header says
        (0.0, 4.0, 3.0, 2.0),
    ],
)
def test_a_wrong_duration_is_measured(offset: float, duration: float | None, promised_s: float, error_s: float) -> None:
    info = AudioInfo(2.0, 16000, 1, promised_s)
    assert duration_error_s(Utterance("a.wav", duration, offset=offset), info) == pytest.approx(error_s)


def test_each_recording_is_probed_once(tmp_path: Path, write_wav: Callable[..., Path]) -> None:
    paths = [str(write_wav("a.wav", 1.5)), str(tmp_path / "b.wav")]
    progress: list[tuple[int, int]] = []
    infos = probe_all([Utterance(paths[i]) for i in (0, 1, 0)], lambda done, total: progress.append((done, total)))
    assert list(infos) == paths and progress == [(1, 2), (2, 2)]
    assert infos[paths[0]] == AudioInfo(1.5, 16000, 1, 1.5)
    with pytest.raises(AnadilError, match="audio file not found"):
        measured(Utterance(paths[1]), infos[paths[1]])
