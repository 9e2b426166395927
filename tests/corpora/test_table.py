"""Tables as spreadsheets and corpora write them."""

from __future__ import annotations

import zipfile
from collections.abc import Callable
from pathlib import Path

import openpyxl
import pytest

from anadil.corpora import table
from anadil.corpora.reader import Options
from anadil.errors import AnadilError, Problem
from anadil.manifest import Utterance

ROWS = [
    ["Path", "Sentence", "Speaker", "Age", ""],
    ["a", 'He said "ağ, ω"; once\nagain', "ana", "30", ""],
    ["sub\\b.wav", "two", "", "", ""],
    ["", "nameless", "", "", ""],
    ["a.wav", "  ", "", "", ""],
    ["", "", "", "", ""],
    ["gone.mp3", "three", "ben", "", ""],
]


@pytest.fixture
def folder(tmp_path: Path, write_wav: Callable[..., Path]) -> Path:
    (tmp_path / "sub").mkdir()
    write_wav("a.wav", 0.05)
    write_wav("sub/b.wav", 0.05)
    return tmp_path


def read(source: Path, **options: object) -> tuple[list[Utterance], list[tuple[str, str]]]:
    rejected: list[Problem] = []
    found = list(table.utterances(source, Options(**options), rejected.append))  # type: ignore[arg-type]
    return found, [(problem.where.removeprefix(str(source)), problem.what) for problem in rejected]


def quoted(rows: list[list[str]], delimiter: str) -> str:
    def cell(text: str) -> str:
        return '"' + text.replace('"', '""') + '"' if set(text) & set('"\n' + delimiter) else text

    return "".join(delimiter.join(map(cell, row)) + "\n" for row in rows)


def expected(folder: Path) -> list[Utterance]:
    return [
        Utterance(str(folder / "a.wav"), None, 'He said "ağ, ω"; once again', speaker="ana", extra={"Age": "30"}),
        Utterance(str(folder / "sub/b.wav"), None, "two"),
        Utterance(str(folder / "gone.mp3"), None, "three", speaker="ben"),
    ]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
@pytest.mark.parametrize("delimiter", [",", ";", "|"])
def test_csv_with_each_delimiter_encoding_and_line_end(folder: Path, delimiter: str, end: str, encoding: str) -> None:
    (folder / "t.csv").write_bytes(quoted(ROWS, delimiter).replace("\n", end).encode(encoding))
    found, rejected = read(folder / "t.csv")
    assert found == expected(folder)
    assert rejected == [(":5", "no audio file"), (":6", "no text")]


def test_excels_declaration_of_the_delimiter(folder: Path) -> None:
    (folder / "t.csv").write_text("sep=;\nfile,name;text\na;x, y\n")
    with pytest.raises(AnadilError, match=r"none of the columns has a known name: 'file,name', 'text'"):
        read(folder / "t.csv")
    (one,), _ = read(folder / "t.csv", audio_column="file,name")
    assert one.text == "x, y"


@pytest.mark.parametrize("delimiter", ["", "sep=;\n"])
def test_of_two_delimiters_the_one_that_separates_the_columns_is_used(folder: Path, delimiter: str) -> None:
    (folder / "t.csv").write_text(delimiter + "path;text (raw, unchecked);text\na;b;x\n")
    assert [one.text for one in read(folder / "t.csv")[0]] == ["x"]


def test_tabs_with_quotes_as_excel_and_as_corpora_write_them(folder: Path) -> None:
    (folder / "t.tsv").write_text('path\ttext\na\t"""Evet,"" dedi"\nsub/b.wav\t"one, two"\n', encoding="utf-8")
    assert [one.text for one in read(folder / "t.tsv")[0]] == ['"Evet," dedi', "one, two"]
    (folder / "t.tsv").write_text('path\ttext\na\t"Evet," dedi\nsub/b.wav\t"whole"\na\t5" nail\n', encoding="utf-8")
    assert [one.text for one in read(folder / "t.tsv")[0]] == ['"Evet," dedi', '"whole"', '5" nail']


def test_a_workbook(folder: Path) -> None:
    book = openpyxl.Workbook()
    book.active.title = "notes"
    book.active.append(["made by ana"])
    sheet = book.create_sheet("clips")
    for row in ROWS:
        sheet.append([cell.strip() or None for cell in row])
    sheet["D2"] = 30.0
    sheet.append(["a", 1990])
    book.create_sheet("empty")
    book.save(folder / "t.xlsx")
    found, rejected = read(folder / "t.xlsx")
    assert found == [*expected(folder), Utterance(str(folder / "a.wav"), None, "1990")]
    assert rejected == [(": row 4", "no audio file"), (": row 5", "no text")]
    with pytest.raises(AnadilError, match="sheet 'clips': no column 'Satz'; the columns are: 'Path', 'Sentence'"):
        read(folder / "t.xlsx", text_column="Satz")


def test_a_zip_bomb_or_an_invalid_workbook_is_an_error(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(table, "_MAX_UNPACKED_BYTES", 1000)
    with zipfile.ZipFile(folder / "t.xlsx", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("xl/workbook.xml", "x" * 1001)
    with pytest.raises(AnadilError, match="unpacks to 1,001 bytes"):
        read(folder / "t.xlsx")
    for content in (b"", b"PK\3\4 cut", b"\xd0\xcf\x11\xe0"):
        (folder / "t.xlsx").write_bytes(content)
        with pytest.raises(AnadilError, match="not readable as an Excel workbook"):
            read(folder / "t.xlsx")
    with pytest.raises(AnadilError, match="does not read this kind of workbook"):
        read(folder / "t.xls")


def test_rows_may_be_parts_of_a_recording(folder: Path) -> None:
    (folder / "t.csv").write_text("file,text,start,end\na,x,1.5,2.25\na,y,2,1\na,z,nan,3\na,w,0:01,0:02\n")
    found, rejected = read(folder / "t.csv", language="tr")
    assert found == [Utterance(str(folder / "a.wav"), 0.75, "x", 1.5, language="tr")]
    assert rejected == [
        (":3", "lasts -1 s (2 to 1 s)"),
        (":4", "'nan' is not a number of seconds"),
        (":5", "could not convert string to float: '0:01'"),
    ]


def test_the_audio_folder_and_the_columns_can_be_chosen(folder: Path) -> None:
    (folder / "sub/t.csv").write_text("id,who,text,path\na,ana,x,nowhere\n")
    (one,), _ = read(folder / "sub/t.csv", audio=folder, audio_column="id", speaker_column="who")
    assert one == Utterance(str(folder / "a.wav"), None, "x", speaker="ana", extra={"path": "nowhere"})


@pytest.mark.parametrize(
    ("content", "options", "what"),
    [
        ("path,sentence\n", {"text_column": "sentense"}, r"no column 'sentense'; did you mean 'sentence'\? the columns are"),
        ("path,text,sentence\n", {}, r"several columns match: 'text', 'sentence'\n  next: choose one with --text-column"),
        ("path,text,text\n", {}, "two columns are called text"),
        ("path,text\n", {"text_column": "path"}, "cannot be both audio and text"),
        ("path text\na x\n", {}, "its first row contains no delimiter"),
        ("a;b,c\n1;2,3\n", {}, "its first row contains ',' and ';'"),
        ("", {}, "the table is empty"),
        ('path,text\na,"x\nb,y\n', {}, r"t.csv:3: error in a quoted cell"),
        ('path,text\na,"x" y\n', {}, r"t.csv:2: error in a quoted cell"),
        ("path;text\na;ağ\n".encode("cp1254"), {}, r"not UTF-8 at line 2, byte 13.*\n.*CSV UTF-8"),
        ("path;text\na;x\n".encode("utf-16-le"), {}, "zero bytes"),
    ],
)  # fmt: skip
def test_what_cannot_be_read_is_an_error(
    folder: Path, content: str | bytes, options: dict[str, str], what: str
) -> None:
    (folder / "t.csv").write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(AnadilError, match=what):
        read(folder / "t.csv", **options)


def test_a_row_with_too_many_cells_is_rejected(folder: Path) -> None:
    (folder / "t.csv").write_text("path,text\na,one, two\na,three\n")
    found, rejected = read(folder / "t.csv")
    assert [one.text for one in found] == ["three"]
    assert rejected == [(":2", "3 cells, but 2 columns: is there a delimiter in a cell that is not quoted?")]


def test_real_tables_of_common_voice(shared: Path) -> None:
    source = shared / "speech/common_voice/tr/validated.tsv"
    found, rejected = read(source, audio=source.parent / "clips")
    assert (len(found), rejected) == (100, [])
    assert len({one.speaker for one in found}) == 67
    assert all(Path(one.audio_filepath).is_file() for one in found)
