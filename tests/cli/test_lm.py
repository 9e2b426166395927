"""`anadil lm build` as a user types it."""

from __future__ import annotations

import bz2
import gzip
import json
import lzma
import re
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner

from anadil.cli import lm
from anadil.cli.main import app
from anadil.lm.model import read_model
from tests.support.command_line import anadil, fails, files, succeeds

TEXT = "ká la mó\nká la\nla ká mó ká\n\nmó\n"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working directory, with text.txt."""
    monkeypatch.chdir(tmp_path)
    Path("text.txt").write_text(TEXT, encoding="utf-8")
    return tmp_path


def arpa(*arguments: object, out: str = "lm.arpa") -> str:
    succeeds("lm", "build", *arguments, "--out", out, "--force")
    return Path(out).read_text(encoding="utf-8")


def warnings(*arguments: object) -> list[str]:
    result = succeeds("lm", "build", *arguments, "--out", "lm.arpa", "--force")
    return re.findall(r"^warning: (.*(?:\n  .*)*)", result.stderr, re.MULTILINE)


# --- what it reads


def as_manifest(text: str) -> bytes:
    lines = [{"audio_filepath": f"{i}.wav", "duration": 1, "text": line} for i, line in enumerate(text.split("\n"))]
    return "".join(json.dumps(line) + "\n" for line in lines if line["text"]).encode()


FORMS: dict[str, Callable[[str], bytes]] = {
    "gzip": lambda text: gzip.compress(text.encode()),
    "bzip2": lambda text: bz2.compress(text.encode()),
    "xz": lambda text: lzma.compress(text.encode()),
    "manifest": as_manifest,
    "zipped manifest": lambda text: gzip.compress(as_manifest(text)),
    "only text in JSON": lambda text: b"".join(json.dumps({"text": t}).encode() + b"\n" for t in text.split("\n") if t),
    "byte-order mark": lambda text: b"\xef\xbb\xbf" + text.encode(),
    "UTF-16": lambda text: text.encode("utf-16"),
    "Windows line ends": lambda text: text.replace("\n", "\r\n").encode(),
    "no last line end": lambda text: text.rstrip("\n").encode(),
}


@pytest.mark.parametrize("form", list(FORMS))
def test_text_of_every_form_gives_the_same_model(folder: Path, form: str) -> None:
    expected = arpa("text.txt")
    Path("other").write_bytes(FORMS[form](TEXT))  # the name says nothing
    assert arpa("other", out="other.arpa") == expected


@pytest.mark.parametrize("form", ["plain", "gzip", "manifest"])
def test_standard_input_is_read(folder: Path, form: str) -> None:
    content = TEXT.encode() if form == "plain" else FORMS[form](TEXT)
    result = CliRunner().invoke(app, ["lm", "build", "-", "--out", "stdin.arpa"], input=content)
    assert result.exit_code == 0, result.stderr
    assert Path("stdin.arpa").read_text(encoding="utf-8") == arpa("text.txt")


def test_several_texts_are_one(folder: Path) -> None:
    first, second = TEXT[:9], TEXT[9:]
    Path("first").write_text(first, encoding="utf-8")
    Path("second").write_bytes(FORMS["manifest"](second))
    assert arpa("first", "second") == arpa("text.txt", out="whole.arpa")


def test_an_arpa_file_may_be_gzipped(folder: Path) -> None:
    expected = arpa("text.txt")
    succeeds("lm", "build", "text.txt", "--out", "lm.arpa.gz")
    assert gzip.decompress(Path("lm.arpa.gz").read_bytes()).decode() == expected


# --- units and rules


def unigrams(text: str) -> set[str]:
    return set(re.findall(r"^-?[\d.]+\t(\S+)(?:\t\S+)?$", text.split("\\2-grams")[0], re.MULTILINE))


def test_characters_are_code_points_and_the_space(folder: Path) -> None:
    assert unigrams(arpa("text.txt", "--unit", "char")) == {"<unk>", "<s>", "</s>", "▁", *"kálamó"}


def test_characters_of_a_tokenizer_are_its_labels(folder: Path) -> None:
    Path("sw.txt").write_text("Ng'ombe wangu, ngoma!\nnyumba ya mama\nmbwa wa nyanya\n" * 3, encoding="utf-8")
    Path("sw.jsonl").write_bytes(as_manifest(Path("sw.txt").read_text(encoding="utf-8")))
    succeeds("tokenizer", "sw.jsonl", "--lang", "sw", "--kind", "units", "--out", "units")
    found = unigrams(arpa("sw.txt", "--unit", "char", "--lang", "sw", "--tokenizer", "units"))
    assert {"ng'", "ny", "▁"} <= found and not {"!", ",", "N", "Ng"} & found


def test_subwords_of_a_tokenizer(folder: Path) -> None:
    lines = "kalamu ya mwalimu\nmwalimu wa kalamu\nkalamu na mwalimu\n" * 5
    Path("sw.jsonl").write_bytes(as_manifest(lines))
    succeeds("tokenizer", "sw.jsonl", "--lang", "sw", "--kind", "bpe", "--size", "30", "--out", "bpe")
    found = unigrams(arpa("sw.jsonl", "--unit", "subword", "--lang", "sw", "--tokenizer", "bpe"))
    assert "▁mwalimu" in found and "▁kalamu" in found
    characters = unigrams(arpa("sw.jsonl", "--unit", "char", "--lang", "sw", "--tokenizer", "bpe"))
    assert {len(token) for token in characters - {"<unk>", "<s>", "</s>"}} == {1}


def test_a_language_brings_its_rules_and_they_are_reported(folder: Path) -> None:
    Path("tr.txt").write_text("İyi günler, 3 IŞIK!\nIşık; iyi.\n", encoding="utf-8")
    result = succeeds("lm", "build", "tr.txt", "--lang", "tr", "--out", "tr.arpa", "--json", "tr.json")
    assert "text rules: Turkish" in result.stderr
    assert unigrams(Path("tr.arpa").read_text(encoding="utf-8")) == {
        *("<unk>", "<s>", "</s>", "iyi", "günler", "üç", "ışık"),
    }
    assert re.search(r"3\s+üç\s+1", result.stdout) and re.search(r",\s+\(removed\)\s+1", result.stdout)
    assert json.loads(Path("tr.json").read_text(encoding="utf-8"))["rules"]["removed"] == {
        **{",": 1, "!": 1, ";": 1, ".": 1},
    }


def test_a_model_brings_its_rules_and_labels(folder: Path, exported: Path) -> None:
    """The micro model writes a, b, c and the space."""
    Path("abc.txt").write_text("A b, Cab!\nab ba\ncab\nbad dab\n", encoding="utf-8")
    message, too_little = warnings("abc.txt", "--model", exported)
    assert too_little.startswith("too little text")
    assert message.startswith("1 of 4 lines of the text cannot be used and are left out\n")
    assert "'d' (U+0064 LATIN SMALL LETTER D) x 1" in message and "abc.txt:4: without a label: 'd'" in message
    assert unigrams(Path("lm.arpa").read_text()) == {"<unk>", "<s>", "</s>", "a", "b", "cab", "ab", "ba"}


def test_without_rules_it_is_said(folder: Path) -> None:
    result = succeeds("lm", "build", "text.txt", "--out", "lm.arpa")
    assert "the text is taken as it is" in result.stderr


# --- order, pruning, vocabulary, held-out text


def test_pruning_and_vocabulary(folder: Path) -> None:
    text = arpa("text.txt", "--prune", "0 1")
    assert "ngram 1=6\n" in text and "ngram 2=3\n" in text  # <s> ká, ká la, mó </s>
    assert unigrams(arpa("text.txt", "--vocabulary", "1")) == {"<unk>", "<s>", "</s>", "ká"}
    Path("words").write_text("la\nmó\nxx\n", encoding="utf-8")
    assert "1 of 3 words of --words are not in the text" in warnings("text.txt", "--words", "words", "--order", "1")[0]
    assert unigrams(Path("lm.arpa").read_text(encoding="utf-8")) == {"<unk>", "<s>", "</s>", "la", "mó"}


def test_held_out_text_is_reported(folder: Path, shared: Path) -> None:
    reference = shared / "reference/lm"
    result = succeeds(
        *("lm", "build", reference / "text.txt", "--valid", reference / "valid.txt"),
        *("--out", "lm.arpa", "--json", "lm.json"),
    )
    for figure in (r"3-grams\s+20,331", r"with OOV\s+291\.36", r"without OOV\s+123\.52", r"OOV\s+297 \(17\.5%\)"):
        assert re.search(figure, result.stdout), figure
    assert re.search(r"worst predicted.*</s>\s+277 .*ngá\s+67 ", result.stdout, re.DOTALL)
    figures = json.loads(Path("lm.json").read_text(encoding="utf-8"))
    assert figures["held_out"]["perplexity_with_oov"] == pytest.approx(291.360373, abs=1e-3)
    assert figures["ngrams"] == [5911, 16896, 20331] and len(figures["held_out"]["worst"]) == 10


def test_auto_takes_the_order_with_the_lowest_entropy(folder: Path) -> None:
    Path("rounds").write_text("\n".join(["a b c d a b c d"] * 20 + ["b c d a"] * 10 + ["c d"] * 5), encoding="utf-8")
    result = succeeds(
        *("lm", "build", "rounds", "--order", "auto", "--valid", "rounds", "--out", "lm.arpa", "--json", "lm.json")
    )
    figures = json.loads(Path("lm.json").read_text())
    by_order = {int(order): bits for order, bits in figures["bits_per_token_by_order"].items()}
    assert figures["order"] == min(by_order, key=by_order.__getitem__) == read_model(Path("lm.arpa")).order > 1
    assert f"order {figures['order']}: bits per token" in result.stdout


def test_little_memory_gives_the_same_file(folder: Path, shared: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = shared / "reference/lm/text.txt"
    expected = arpa(source)
    monkeypatch.setattr(lm, "_MIN_MEMORY", 1)
    assert arpa(source, "--memory", "2M", out="small.arpa") == expected
    assert sorted(path.name for path in folder.iterdir()) == ["lm.arpa", "small.arpa", "text.txt"]


# --- bad input


def test_a_tiny_text_gets_fallback_discounts_and_one_warning(folder: Path) -> None:
    (message,) = warnings("text.txt", "--order", "2")
    assert message.startswith(
        "too little text to compute all discounts, so 0.5, 1, 1.5 replace them where no 1-gram has"
    )


def test_an_order_higher_than_the_text_supports_is_lowered(folder: Path) -> None:
    Path("short").write_text("a b\n" * 3 + "c\n", encoding="utf-8")
    result = succeeds("lm", "build", "short", "--order", "9", "--out", "lm.arpa")
    assert (
        "warning: order 9 is higher than the text supports: its longest sentence has 2 tokens; the model has order 4\n"
        in result.stderr
    )
    assert read_model(Path("lm.arpa")).order == 4


BAD: dict[str, tuple[bytes, str, str]] = {
    "empty": (b"", "text", "there is no text to count"),
    "blank": (b"\n \n\t\n", "text", "there is no text to count"),
    "zipped and cut off": (gzip.compress(TEXT.encode() * 100)[:-30], "text", "text: cannot be read to its end"),
    "Latin-1": ("ká la\nká\n".encode("latin-1"), "text", "text:1: not UTF-8 at byte 1"),
    "no text": (bytes(range(256)) * 20, "text", "text:1: "),
    "a manifest without text": (b'{"audio_filepath": "a.wav", "duration": 1}\n', "text", 'text:1: no "text"'),
    "a table": (
        b"client_id\tpath\tsentence\n1\ta.mp3\ta b\n",
        "text",
        "text:1: a table, whose first line has 3 columns",
    ),
    "a special token": (b"a b\na <s> b\n", "text", "the text contains the token <s>"),
    "Cyrillic for Turkish": (
        "привет мир\nкак дела\nbir\n".encode(),
        "text --lang tr",
        "2 of 3 lines of the text cannot be used",
    ),
    "not in the labels": (b"dog\ndig\n", "text --model EXPORTED", "2 of 2 lines of the text cannot be used"),
    "Japanese words": (
        "今日は晴れです\n明日は雨です\n".encode(),
        "text --lang ja",
        "Japanese has no spaces between words",
    ),
    "missing": (b"", "none.txt", "text not found: none.txt is not there"),
    "a folder": (b"", ".", "text not found: . is a folder"),
    "no held-out text": (b"a b\n", "text --valid empty", "there is no held-out text"),
    "auto without held-out text": (b"a b\n", "text --order auto", "--order auto needs text to choose by"),
    "standard input twice": (b"a b\n", "- --valid -", "standard input (-) is given more than once"),
    "decreasing thresholds": (b"a b\n", "text --prune 1,0", "must not be negative or decrease"),
    "subwords of nothing": (b"a b\n", "text --unit subword", "--unit subword: no subwords are given"),
    "subwords of letters": (b"a b\n", "text --unit subword --model EXPORTED", "the model's labels are characters"),
    "no such words": (b"a b\n", "text --words other", "none of the words of --words is in the text"),
}


@pytest.mark.parametrize("name", list(BAD))
def test_bad_input_is_one_clear_error(folder: Path, exported: Path, name: str) -> None:
    content, arguments, message = BAD[name]
    Path("text").write_bytes(content)
    Path("empty").touch()
    Path("other").write_text("zzz")
    before = files(folder)
    error = fails("lm", "build", *arguments.replace("EXPORTED", str(exported)).split(), "--out", "lm.arpa")
    assert message in error and "next: " in error
    assert files(folder) == before


@pytest.mark.parametrize(
    ("text", "script"),
    [
        ("今天天气很好我们去公园散步吧\n他昨天买了一本关于历史的书\n", "Han"),
        ("วันนี้อากาศดีมากเราไปเดินเล่นกันเถอะ\nเมื่อวานเขาซื้อหนังสือประวัติศาสตร์\n", "Thai"),
        ("好\n去\n", "Han"),
    ],
)
def test_words_that_are_not_cut_give_a_warning(folder: Path, text: str, script: str) -> None:
    Path("text").write_text(text * 5, encoding="utf-8")
    result = succeeds("lm", "build", "text", "--out", "lm.arpa")
    assert f"the text seems not to be cut into words: it is in the script {script}" in result.stderr
    assert "not to be cut" not in succeeds("lm", "build", "text", "--unit", "char", "--out", "c.arpa").stderr


def test_words_that_are_cut_give_none(folder: Path) -> None:
    Path("text").write_text("今天 天气 很 好 我们 去 公园\nวันนี้ อากาศ ดี มาก\nbir iki\n", encoding="utf-8")
    assert "not to be cut" not in succeeds("lm", "build", "text", "--out", "lm.arpa").stderr


def test_nothing_is_overwritten_without_force(folder: Path) -> None:
    for name in ("lm.arpa", "lm.json"):
        Path(name).write_text("earlier")
    before = files(folder)
    assert "lm.arpa exists already" in fails("lm", "build", "text.txt", "--out", "lm.arpa")
    assert "lm.json exists already" in fails("lm", "build", "text.txt", "--out", "new.arpa", "--json", "lm.json")
    assert files(folder) == before


@pytest.mark.parametrize(
    "options",
    [
        "--order 11",
        "--order 0",
        "--order three",
        "--memory little",
        "--memory 1M",
        "--unit syllable",
        "--prune some",
        "--vocabulary 0",
        "--model m --lang tr",
        "--tokenizer t",
        "--rules r",
    ],
)
def test_wrong_usage_has_status_2(folder: Path, options: str) -> None:
    assert anadil("lm", "build", "text.txt", "--out", "lm.arpa", *options.split()).exit_code == 2
    assert not Path("lm.arpa").exists()
