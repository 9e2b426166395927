"""ARPA files: what is written is read, and what is damaged is named."""

from __future__ import annotations

import gzip
import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from anadil.errors import AnadilError
from anadil.lm import arpa
from anadil.lm.arpa import NGrams, read_arpa, write_arpa
from anadil.lm.model import NGramModel, read_model

ARPA = """\\data\\
ngram 1=4
ngram 2=3

\\1-grams:
-1	<unk>	0
0	<s>	-0.3
-0.5	</s>	0
-0.25	ká	-0.125

\\2-grams:
-0.2	<s> ká
-0.1	ká ká
-0.4	ká </s>

\\end\\
"""


def write(path: Path, text: str) -> Path:
    path.write_bytes(text.encode())
    return path


@pytest.mark.parametrize("name", ["lm.arpa", "lm.arpa.gz"])
def test_what_is_written_is_read(tmp_path: Path, name: str) -> None:
    first = (
        np.array([[0], [1], [2], [4]], np.uint32),
        np.array([-1.5, 0, -12.25, -0.0000004]),
        np.array([0, -0.3, 0, -10.5]),
    )
    second = np.array([[1, 4], [4, 2]], np.uint32), np.array([-98.999999, -0.123457]), np.zeros(2)
    words = ["<unk>", "<s>", "</s>", "left out", "ká"]
    for _ in range(2):
        write_arpa(tmp_path / name, words, [4, 2], [lambda: [first], lambda: [second]])
    found = read_arpa(tmp_path / name)
    assert found.words == ("<unk>", "<s>", "</s>", "ká")
    assert found.orders[0][1].tolist() == [-1.5, 0, -12.25, 0] and found.orders[0][2].tolist() == [0, -0.3, 0, -10.5]
    assert found.orders[1][0].tolist() == [[1, 3], [3, 2]] and found.orders[1][1].tolist() == [-98.999999, -0.123457]
    content = (tmp_path / name).read_bytes()
    text = (gzip.decompress(content) if name.endswith(".gz") else content).decode()
    assert text.startswith("\\data\\\nngram 1=4\nngram 2=2\n\n\\1-grams:\n-1.500000\t<unk>\t0\n0\t<s>\t-0.300000\n")
    assert text.endswith("-0.123457\tká </s>\n\n\\end\\\n")


def test_a_model_of_another_program_is_read(tmp_path: Path) -> None:
    """SRILM: text before the data, -99 for <s>, no back-off where there is none, spaces for tabs, Windows line ends."""
    text = ARPA.replace("0\t<s>", "-99\t<s>").replace("</s>\t0", "</s>").replace("\t", "  ").replace("\n", "\r\n")
    model = read_model(write(tmp_path / "srilm.arpa", "made by hand\n\n" + text))
    ours = read_model(write(tmp_path / "ours.arpa", ARPA))
    states = np.arange(model.n_states)
    words = [i for i, word in enumerate(model.words) if word != "<s>"]
    assert (model.log_probs(states)[:, words] == ours.log_probs(states)[:, words]).all()


def test_a_model_without_unk_gives_it_next_to_nothing(tmp_path: Path) -> None:
    text = ARPA.replace("ngram 1=4", "ngram 1=3").replace("-1\t<unk>\t0\n", "")
    model = read_model(write(tmp_path / "lm.arpa", text))
    assert model.advance(np.array([model.empty]), np.array([model.unk]))[0] / math.log(10) == pytest.approx([-99])


def cut(share: float) -> Callable[[str], str]:
    return lambda text: text[: round(len(text) * share)]


def swap(old: str, new: str) -> Callable[[str], str]:
    def change(text: str) -> str:
        assert old in text
        return text.replace(old, new, 1)

    return change


DAMAGES: dict[str, tuple[Callable[[str], str], str]] = {
    "empty": (cut(0), "no ARPA file"),
    "another file": (lambda text: "RIFF" * 10000, "no ARPA file"),
    "cut in the header": (cut(0.1), "expected lines such as ngram 1=5000"),
    "cut in the 1-grams": (cut(0.4), r"lm.arpa:\d+: .*truncated"),
    "cut between the sections": (lambda text: text.split("\\2-grams")[0], "truncated"),
    "cut in the 2-grams": (lambda text: text.split("ká </s>")[0], "expected a probability, 2 words.*found '-0.4'"),
    "without its end": (swap("\\end\\\n", ""), "should end with .*truncated"),
    "too few": (swap("ngram 2=3", "ngram 2=4"), "lm.arpa:15: the 2-grams end here.*truncated"),
    "too many": (swap("ngram 2=3", "ngram 2=2"), "expected .end. after 2 2-grams, found '-0.4"),
    "no words": (swap("-0.1\tká ká", "-0.1"), r"lm.arpa:13: expected a probability, 2 words"),
    "a word too many": (swap("-0.1\tká ká", "-0.1\tká ká ká ká"), "lm.arpa:13: expected"),
    "an unknown word": (swap("-0.1\tká ká", "-0.1\tká mó"), "lm.arpa:13: the word 'mó' is not among the 1-grams"),
    "no number": (swap("-0.1\tká", "x\tká"), "lm.arpa:13: 'x' is no log10 probability"),
    "nan": (swap("-0.1\tká", "nan\tká"), "lm.arpa:13: 'nan' is no log10 probability"),
    "a probability above 1": (swap("-0.1\tká", "0.1\tká"), "lm.arpa:13: '0.1' is no log10 probability"),
    "an endless back-off": (swap("-0.125", "inf"), "lm.arpa:9: 'inf' is no log10 probability"),
    "a 1-gram twice": (swap("-1\t<unk>", "-1\tká"), "the 1-gram 'ká' is there twice"),
    "a 2-gram twice": (swap("ká </s>", "ká ká"), "'ká ká' twice"),
    "no </s>": (swap("-0.5\t</s>", "-0.5\tend"), "the word '</s>' is not among the 1-grams"),
    "no <s>": (lambda text: text.replace("<s>", "start"), "no 1-gram <s>"),
    "orders that do not rise": (swap("ngram 2=3", "ngram 3=3"), "orders must rise"),
    "order 11": (
        lambda text: text.replace("ngram 2=3", "\n".join(f"ngram {k}=3" for k in range(2, 12))),
        "at most 10",
    ),
    "an impossible number": (swap("ngram 2=3", "ngram 2=999999999999"), "at most 268,435,456"),
    "no header": (swap("ngram 1=4\nngram 2=3\n", ""), "expected lines such as ngram 1=5000"),
}


@pytest.mark.parametrize("name", list(DAMAGES))
def test_a_damaged_file_is_named(tmp_path: Path, name: str) -> None:
    change, message = DAMAGES[name]
    with pytest.raises(AnadilError, match=message) as error:
        read_model(write(tmp_path / "lm.arpa", change(ARPA)))
    assert "lm.arpa" in str(error.value) and "next: " in str(error.value)


def test_a_missing_context_is_named(tmp_path: Path) -> None:
    text = ARPA.replace("ngram 2=3", "ngram 2=3\nngram 3=1").replace("\\end\\", "\\3-grams:\n-1\tká <s> ká\n\n\\end\\")
    with pytest.raises(AnadilError, match="lacks the context of 'ká <s> ká'"):
        read_model(write(tmp_path / "lm.arpa", text))


def test_a_cut_off_archive_is_named(tmp_path: Path) -> None:
    path = tmp_path / "lm.arpa.gz"
    path.write_bytes(gzip.compress(ARPA.encode())[:-20])
    with pytest.raises(AnadilError, match="cannot be read to its end"):
        read_model(path)
    with pytest.raises(AnadilError, match="language model not found"):
        read_model(tmp_path / "none.arpa")


def test_words_that_are_not_utf8_are_refused(tmp_path: Path) -> None:
    (tmp_path / "lm.arpa").write_bytes(ARPA.encode("latin-1"))
    with pytest.raises(AnadilError, match="not UTF-8"):
        read_model(tmp_path / "lm.arpa")


def test_a_line_without_end_does_not_fill_the_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(arpa, "MAX_LINE_BYTES", 1 << 10)
    with pytest.raises(AnadilError, match="line is longer than 1,024 bytes"):
        read_model(write(tmp_path / "lm.arpa", ARPA.replace("ká ká", "k" * (1 << 21))))


def test_a_pruned_model_may_lack_shorter_ngrams() -> None:
    """SRILM keeps the context "a b" of a 3-gram, but not always its end "b c"; its states then go to a shorter context."""
    ids = [np.array(rows, np.uint32) for rows in ([[0], [1], [2], [3], [4], [5]], [[3, 4]], [[3, 4, 5]])]
    zero = [np.zeros(len(one)) for one in ids]
    probabilities = [np.full(6, -1.0), np.array([-0.5]), np.array([-0.25])]
    backoffs = [np.array([0, 0, 0, 0, -0.125, -2]), np.array([-4.0]), zero[2]]
    words = ("<unk>", "<s>", "</s>", "a", "b", "c")
    model = NGramModel(NGrams(words, tuple(zip(ids, probabilities, backoffs, strict=True))))
    state, total = np.array([model.empty]), []
    for word in (3, 4, 5, 3):
        score, state = model.advance(state, np.array([word]))
        total.append(float(score[0]) / math.log(10))
    assert total == pytest.approx([-1, -0.5, -0.25, -2 - 1])
