from __future__ import annotations

import csv
import sys
import tarfile
from collections.abc import Callable
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from anadil.corpora import common_voice
from anadil.corpora.common_voice import utterances
from anadil.corpora.reader import Options
from anadil.errors import AnadilError, Problem
from anadil.manifest import Utterance
from tests.support.common_voice import COLUMNS, ROW, write_tsv


def read(source: Path, **options: Any) -> tuple[list[Utterance], list[Problem]]:
    rejected: list[Problem] = []
    return list(utterances(source, Options(**options), rejected.append)), rejected


@pytest.mark.parametrize("release", list(COLUMNS))
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_columns_are_read_by_name_and_the_first_row_is_kept(tmp_path: Path, release: str, end: str) -> None:
    rows = [ROW, ROW | {"path": "common_voice_tr_2.mp3", "sentence": "Nasılsın?", "up_votes": "1", "age": ""}]
    folder = tmp_path / "tr"
    write_tsv(folder / "train.tsv", COLUMNS[release], rows, end)
    write_tsv(folder / "invalidated.tsv", COLUMNS[release], rows[1:], end)
    found, rejected = read(folder)
    assert rejected == []
    assert [(one.extra["split"], Path(one.audio_filepath).name, one.text) for one in found] == [
        ("train", "common_voice_tr_1.mp3", "Merhaba."),
        ("train", "common_voice_tr_2.mp3", "Nasılsın?"),
        ("invalidated", "common_voice_tr_2.mp3", "Nasılsın?"),
    ]
    first = found[0]
    assert (first.speaker, first.language, first.duration) == ("abc", "tr", None)
    assert first.audio_filepath == str(folder / "clips/common_voice_tr_1.mp3")
    extra = {"split": "train", "license": "CC0-1.0", "up_votes": 2, "down_votes": 0, "age": "twenties"}
    assert first.extra == extra | ({"sentence_id": "s1"} if release == "17" else {})
    assert "age" not in found[1].extra
    assert found[2].source == f"{folder / 'invalidated.tsv'}:2"


def test_side_tables_give_durations_sources_and_reports(tmp_path: Path) -> None:
    write_tsv(tmp_path / "dev.tsv", COLUMNS["17"], [ROW, ROW | {"path": "common_voice_tr_2.mp3", "sentence_id": "s2"}])
    write_tsv(tmp_path / "clip_durations.tsv", "clip duration[ms]", [{"clip": ROW["path"], "duration[ms]": "4716"}])
    write_tsv(
        tmp_path / "validated_sentences.tsv",
        "sentence_id sentence sentence_domain source is_used clips_count",
        [{"sentence_id": "s2", "sentence": "Merhaba.", "source": "Wikipedia"}],
    )
    reports = [
        {"sentence_id": "s1", "sentence": "x", "locale": "tr", "reason": reason} for reason in ("typo", "odd", "odd")
    ]
    reports_tsv = write_tsv(tmp_path / "reported.tsv", "sentence_id sentence locale reason", reports)
    reports_tsv.write_text(reports_tsv.read_text() + "what users write\nover lines\n")
    (one, two), rejected = read(tmp_path)
    assert rejected == []
    assert (one.duration, two.duration) == (4.716, None)
    assert one.extra["reported"] == ["typo", "odd"] and "reported" not in two.extra
    write_tsv(tmp_path / "reported.tsv", "sentence locale", reports)  # of another release
    assert "reported" not in read(tmp_path)[0][0].extra
    assert two.extra["sentence_source"] == "Wikipedia" and "sentence_source" not in one.extra


SENTENCES = [
    '"',
    '"Evet"',
    'Dedi ki: "gel".',
    '"Gel" dedi.',
    'on "inç',
    '""Git"" dedi ""',
    "L'été",
    "a\u2028b\x85c",
    '"O ""gel"" dedi"',
]


def test_quotation_marks_are_ordinary_characters(tmp_path: Path) -> None:
    write_tsv(tmp_path / "other.tsv", COLUMNS["17"], [ROW | {"sentence": sentence} for sentence in SENTENCES])
    found, rejected = read(tmp_path)
    assert [one.text for one in found] == SENTENCES and rejected == []


def test_a_file_from_a_csv_writer_is_unquoted(tmp_path: Path) -> None:
    names = COLUMNS["6.1"].split(" ")
    with open(tmp_path / "test.tsv", "w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, names, dialect="excel-tab", restval="", extrasaction="ignore")
        writer.writeheader()
        writer.writerows(ROW | {"sentence": sentence} for sentence in SENTENCES)
    found, rejected = read(tmp_path)
    assert [one.text for one in found] == SENTENCES and rejected == []


def test_real_rows_of_forty_languages(shared: Path) -> None:
    n_marks = 0
    for folder in sorted((shared / "speech/common_voice").iterdir()):
        found, rejected = read(folder)
        with open(folder / "validated.tsv", encoding="utf-8", newline="") as file:
            rows = list(csv.DictReader(file, dialect="excel-tab"))
        assert rejected == [] and len(rows) == len(found) >= 31
        for row, one in zip(rows, found, strict=True):
            assert (one.text, one.speaker, one.language) == (row["sentence"], row["client_id"], row["locale"])
            assert one.extra["up_votes"] == int(row["up_votes"]) and one.extra.get("accent", "") == row["accent"]
            n_marks += '"' in one.text
    assert n_marks > 20


def test_broken_rows_are_rejected_with_their_place(tmp_path: Path) -> None:
    path = write_tsv(
        tmp_path / "train.tsv", COLUMNS["6.1"], [ROW, ROW | {"path": "../../etc/passwd"}, ROW | {"path": ""}]
    )
    path.write_bytes(path.read_bytes() + b"abc\tshort.mp3\tx\n" + b"\n" + b"a\t\xff\n")
    found, rejected = read(tmp_path)
    assert len(found) == 1
    assert [str(problem) for problem in sorted(rejected, key=lambda problem: problem.where)] == [
        f"{path}:3: the clip's path is empty or leads out of the corpus: '../../etc/passwd'",
        f"{path}:4: the clip's path is empty or leads out of the corpus: ''",
        f"{path}:5: 3 columns, but the header has 10",
        f"{path}:7: not UTF-8 at byte 2 of the line",
    ]


def test_the_language_comes_from_locale_then_clip_then_folder(tmp_path: Path) -> None:
    hashed = ROW | {"path": "8d59b8879856"}  # as in releases before 4
    for clip, expected in ((ROW | {"path": "common_voice_fy-NL_1.mp3"}, "fy-NL"), (hashed, "tt")):
        folder = tmp_path / expected / "cv-corpus-3/tt"
        write_tsv(folder / "train.tsv", COLUMNS["4"], [clip])
        ((one,), _) = read(tmp_path / expected)
        assert one.language == expected and one.audio_filepath.endswith(".mp3")
    write_tsv(tmp_path / "cv-corpus-4-2019-12-10_rm-sursilv/train.tsv", COLUMNS["4"], [hashed])
    assert read(tmp_path / "cv-corpus-4-2019-12-10_rm-sursilv")[0][0].language == "rm-sursilv"
    write_tsv(tmp_path / "x/train.tsv", COLUMNS["4"], [hashed])
    assert read(tmp_path / "x", language="sw")[0][0].language == "sw"


def test_an_archive_is_read_as_downloaded(tmp_path: Path) -> None:
    write_tsv(tmp_path / "in/cv-corpus-17.0/tr/train.tsv", COLUMNS["17"], [ROW])
    with tarfile.open(tmp_path / "cv-tr.tar.gz", "w:gz") as tar:
        tar.add(tmp_path / "in/cv-corpus-17.0", "cv-corpus-17.0")
    (tmp_path / "downloads").mkdir()
    (tmp_path / "cv-tr.tar.gz").rename(tmp_path / "downloads/cv-tr.tar.gz")
    assert len(read(tmp_path / "downloads", unpack_to=tmp_path / "other")[0]) == 1
    ((one,), _) = read(tmp_path / "downloads/cv-tr.tar.gz", unpack_to=tmp_path / "out")
    assert one.audio_filepath == str(tmp_path / "out/cv-tr/cv-corpus-17.0/tr/clips/common_voice_tr_1.mp3")


def test_one_tsv_alone_and_one_language_of_several(tmp_path: Path) -> None:
    for language in ("tr", "de"):
        write_tsv(tmp_path / language / "train.tsv", COLUMNS["6.1"], [ROW | {"locale": language}])
        write_tsv(tmp_path / language / "dev.tsv", COLUMNS["6.1"], [ROW | {"locale": language}])
    assert [one.extra["split"] for one in read(tmp_path / "tr/dev.tsv")[0]] == ["dev"]
    assert {one.language for one in read(tmp_path, language="de")[0]} == {"de"}
    with pytest.raises(AnadilError, match=r"several languages: de, tr\n  next: choose one with --lang"):
        read(tmp_path)


def test_a_source_that_is_not_common_voice_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(AnadilError, match=r"no train.tsv, dev.tsv, .*\n  next: give the folder"):
        read(tmp_path)
    write_tsv(tmp_path / "train.tsv", "id audio_file transcription", [])
    with pytest.raises(AnadilError, match="no column client_id, path, sentence; its columns are: id, audio_file"):
        read(tmp_path)


# --- download


class AuthenticationError(RuntimeError):
    pass


@pytest.fixture
def client(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """A fake of Mozilla's client, with the part of its interface that Anadil uses."""

    def dataset(name: str, number: str) -> Any:
        values = {"name": name, "id": number, "checksum": None, "sizeBytes": 3, "datasetUrl": f"https://x/{number}"}
        return SimpleNamespace(**values, get=lambda key: values[key])

    titles = ["Common Voice Scripted Speech 9.0 - Turkish", "Common Voice Scripted Speech 26.0 - Turkish"]
    titles += ["Common Voice Scripted Speech 27.0, women only", "Common Voice Spontaneous Speech 30.0 - Turkish"]
    module = ModuleType("datacollective")
    module.list_datasets = lambda query, **filters: (  # type: ignore[attr-defined]
        [dataset(title, str(n)) for n, title in enumerate(titles)] if filters["locale"] == "tr" else []
    )

    def download_dataset(number: str, folder: str, show_progress: bool) -> Path:
        print("noise of the client")
        Path(folder, f"{number}.tar.gz").write_bytes(b"abc")
        return Path(folder, f"{number}.tar.gz")

    module.download_dataset = download_dataset  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "datacollective", module)
    monkeypatch.setenv("MDC_API_KEY", "secret")
    return module


def fetch(out: Path, language: str | None = "tr") -> list[Path]:
    return common_voice.download(language, [], out, lambda *step: None)


def test_the_newest_release_is_downloaded(
    client: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert fetch(tmp_path / "out") == [tmp_path / "out/1.tar.gz"]
    assert capsys.readouterr() == ("", "noise of the client\n")


def raising(error: Exception) -> Callable[..., Path]:
    def fail(*arguments: object, **named: object) -> Path:
        raise error

    return fail


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (PermissionError("not agreed"), r"terms of Common Voice .* 26.0 .*not agreed\n  next: sign in at https://x/1"),
        (AuthenticationError("bad"), "does not accept the key in MDC_API_KEY"),
        (OSError("no network"), r"Mozilla's client failed: no network\n  next: run the same command again"),
        (KeyError("new API"), "Mozilla's client failed"),
    ],
)
def test_errors_of_the_client_name_the_next_step(
    client: ModuleType, tmp_path: Path, error: Exception, message: str
) -> None:
    client.download_dataset = raising(error)  # type: ignore[attr-defined]
    with pytest.raises(AnadilError, match=message):
        fetch(tmp_path)


def test_without_key_client_or_language_the_error_names_the_next_step(
    client: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(AnadilError, match="add --lang"):
        fetch(tmp_path, None)
    with pytest.raises(AnadilError, match="lists no Common Voice scripted speech for 'xx'"):
        fetch(tmp_path, "xx")
    monkeypatch.setenv("MDC_API_KEY", " ")
    with pytest.raises(AnadilError, match=r"no MDC_API_KEY\n  next: sign up at https://mozilladatacollective.com"):
        fetch(tmp_path)
    monkeypatch.setitem(sys.modules, "datacollective", None)
    with pytest.raises(AnadilError, match=r"pip install 'anadil\[common-voice\]'"):
        fetch(tmp_path)


def test_an_archive_that_is_not_as_published_is_an_error(client: ModuleType, tmp_path: Path) -> None:
    (tmp_path / "1.tar.gz").write_bytes(b"abcd")
    client.download_dataset = lambda *arguments, **named: tmp_path / "1.tar.gz"  # type: ignore[attr-defined]
    with pytest.raises(AnadilError, match="is not as published: it has 4 bytes, but 3 are published"):
        fetch(tmp_path)
