"""FLEURS, Multilingual LibriSpeech, LibriSpeech and OpenSLR, in their original layouts."""

from __future__ import annotations

import json
import tarfile
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from anadil.corpora import fleurs, librispeech, mls, openslr
from anadil.corpora.download import RemoteFile
from anadil.corpora.reader import Options, Reader
from anadil.errors import AnadilError, Problem
from anadil.manifest import Utterance


def read(reader: Reader, source: Path, **options: Any) -> tuple[list[Utterance], list[str]]:
    rejected: list[Problem] = []
    return list(reader(source, Options(**options), rejected.append)), [str(problem) for problem in rejected]


def write(path: Path, content: str = "") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content, encoding="utf-8", newline="")
    return path


Asked = Callable[[Any], list[RemoteFile]]


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[RemoteFile]]:
    """The files that would be downloaded."""
    files: list[RemoteFile] = []
    for module in (fleurs, librispeech, mls, openslr):
        monkeypatch.setattr(module, "fetch_all", lambda found, out, progress: files.extend(found) or [])
    yield files


def pages(monkeypatch: pytest.MonkeyPatch, module: Any, known: dict[str, str]) -> None:
    monkeypatch.setattr(module, "read_page", lambda url: known[url].encode())


def quiet(*step: object) -> None:
    pass


# --- FLEURS

FLEURS_ROW = '7\t{name}.wav\t"Bu, bir." dedi.\tbu bir dedi\tb u | b i r | d e d i |\t16000\tFEMALE\n'


def make_fleurs(folder: Path) -> Path:
    for split, name in (("train", "1"), ("dev", "2"), ("test", "3")):
        write(folder / f"{split}.tsv", FLEURS_ROW.format(name=name))
        write(folder / f"audio/{split}/{name}.wav")
    return folder


def test_fleurs(tmp_path: Path) -> None:
    folder = make_fleurs(tmp_path / "tr_tr")
    with open(folder / "dev.tsv", "a") as file:
        file.write("8\tshort.wav\n" + FLEURS_ROW.format(name="../../x"))
    found, rejected = read(fleurs.utterances, tmp_path)
    assert [(one.extra["split"], one.audio_filepath) for one in found] == [
        (split, str(folder / f"audio/{split}/{n}.wav")) for n, split in enumerate(("train", "dev", "test"), start=1)
    ]
    one = found[0]
    assert (one.text, one.duration, one.language, one.speaker) == ("bu bir dedi", 1.0, "tr", None)
    about = {"split": "train", "license": "CC-BY-4.0", "sentence_id": "7", "gender": "female", "locale": "tr_tr"}
    assert one.extra == about | {"raw_text": '"Bu, bir." dedi.'}
    assert [problem.removeprefix(str(folder)) for problem in rejected] == [
        "/dev.tsv:2: 2 columns, but a row of FLEURS has 7",
        "/dev.tsv:3: the file name is empty or leads out of the corpus: '../../x.wav'",
    ]


@pytest.mark.parametrize("below", [True, False])
def test_fleurs_with_its_audio_still_packed(tmp_path: Path, below: bool) -> None:
    folder = make_fleurs(tmp_path / "in/cmn_hans_cn")
    for split in fleurs.SPLITS:
        with tarfile.open(folder / f"audio/{split}.tar.gz", "w:gz") as tar:
            tar.add(folder / f"audio/{split}", split)
        next((folder / f"audio/{split}").iterdir()).unlink()
        (folder / f"audio/{split}").rmdir()
    options = {"unpack_to": tmp_path / "out"} if below else {}
    for _ in range(2):
        found, rejected = read(fleurs.utterances, folder, **options)
        assert [Path(one.audio_filepath).is_file() for one in found] == [True] * 3 and rejected == []
        assert found[0].language == "cmn"
    assert (tmp_path / "out/cmn_hans_cn").exists() == below


def test_several_languages_of_fleurs_are_an_error_unless_one_is_chosen(tmp_path: Path) -> None:
    for locale in ("tr_tr", "sw_ke"):
        make_fleurs(tmp_path / locale)
    with pytest.raises(AnadilError, match="several languages: sw_ke, tr_tr"):
        read(fleurs.utterances, tmp_path)
    for language in ("sw", "sw_ke"):
        assert {one.language for one in read(fleurs.utterances, tmp_path, language=language)[0]} == {"sw"}
    with pytest.raises(AnadilError, match="no train.tsv, dev.tsv or test.tsv of FLEURS for --lang xx"):
        read(fleurs.utterances, tmp_path, language="xx")


def test_fleurs_is_downloaded_with_the_checksums_of_its_repository(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, asked: list[RemoteFile]
) -> None:
    listing = [{"type": "directory", "path": "data/tr_tr/audio"}]
    for split in fleurs.SPLITS:
        listing.append({"type": "file", "path": f"data/tr_tr/{split}.tsv", "size": 5, "oid": "f" * 40})  # type: ignore[dict-item]
        lfs = {"oid": split[0] * 64, "size": 9}
        listing.append({"type": "file", "path": f"data/tr_tr/audio/{split}.tar.gz", "size": 9, "lfs": lfs})  # type: ignore[dict-item]
    url = "https://huggingface.co/api/datasets/google/fleurs/tree/main/data/tr_tr?recursive=true"
    pages(monkeypatch, fleurs, {url: json.dumps(listing)})
    fleurs.download("tr", [], tmp_path, quiet)
    assert len(asked) == 6
    base = "https://huggingface.co/datasets/google/fleurs/resolve/main/data/tr_tr/"
    assert asked[0] == RemoteFile(f"{base}train.tsv", "tr_tr/train.tsv", 5, None)
    assert asked[1] == RemoteFile(f"{base}audio/train.tar.gz", "tr_tr/audio/train.tar.gz", 9, "sha256:" + "t" * 64)
    for wrong in ("xx", None, ""):
        with pytest.raises(AnadilError, match="FLEURS has no language"):
            fleurs.download(wrong, [], tmp_path, quiet)
    pages(monkeypatch, fleurs, {url: "<html>"})
    with pytest.raises(AnadilError, match="not a listing of files any more"):
        fleurs.download("tr_tr", [], tmp_path, quiet)


def test_fleurs_has_its_102_languages() -> None:
    assert len(fleurs.LOCALES) == len(set(fleurs.LOCALES)) == 102


# --- Multilingual LibriSpeech


def make_mls(folder: Path, suffix: str = "flac") -> Path:
    for split, speaker in (("train", "10"), ("dev", "11"), ("test", "12")):
        lines = [f"{speaker}_99_00000{n}\ttekst {n}\n" for n in range(3)]
        write(folder / split / "transcripts.txt", "".join(lines))
        for n in range(2):
            write(folder / split / f"audio/{speaker}/99/{speaker}_99_00000{n}.{suffix}")
    for name, handles in (("9hr", "10_99_000000\n10_99_000001\n"), ("1hr/3", "10_99_000001\n")):
        write(folder / "train/limited_supervision" / name / "handles.txt", handles)
    write(folder / "metainfo.txt", " SPEAKER   |   GENDER   | PARTITION\n 10 | F | train | 1.0\n 11 | M | dev | 1\n")
    return folder


@pytest.mark.parametrize("suffix", ["flac", "opus"])
def test_mls(tmp_path: Path, suffix: str) -> None:
    folder = make_mls(tmp_path / ("mls_polish" + ("_opus" if suffix == "opus" else "")), suffix)
    write(folder / "dev/transcripts.txt", "11_99_000000\ttekst\n../../x\ty\n11_99_000001\n")
    for source in (folder, tmp_path):
        found, rejected = read(mls.utterances, source)
        assert len(found) == 7 and len(rejected) == 2
        assert all("expected SPEAKER_BOOK_NUMBER, a tab and the text" in problem for problem in rejected)
    one, two = found[:2]
    assert one.audio_filepath == str(folder / f"train/audio/10/99/10_99_000000.{suffix}")
    assert (one.text, one.speaker, one.language) == ("tekst 0", "10", "pl")
    about = {"split": "train", "license": "CC-BY-4.0", "book": "99", "gender": "female"}
    assert one.extra == about | {"limited_supervision": ["9hr"]}
    assert two.extra["limited_supervision"] == ["1hr/3", "9hr"] and "limited_supervision" not in found[2].extra


def test_mls_is_downloaded_with_its_published_checksum(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, asked: list[RemoteFile]
) -> None:
    sums = f"{'a' * 32}  mls_polish.tar.gz\n{'b' * 32}  mls_polish_opus.tar.gz\n"
    pages(monkeypatch, mls, {f"{mls.ROOT}/md5sum.txt": sums})
    mls.download("pl", [], tmp_path, quiet)
    url = "https://dl.fbaipublicfiles.com/mls/mls_polish_opus.tar.gz"
    assert asked == [RemoteFile(url, "mls_polish_opus.tar.gz", None, "md5:" + "b" * 32)]
    with pytest.raises(AnadilError, match="no language 'tr'; it has: de, en, es"):
        mls.download("tr", [], tmp_path, quiet)


# --- LibriSpeech


def make_librispeech(root: Path, subset: str = "dev-clean") -> Path:
    folder = root / "LibriSpeech" / subset / "84/121123"
    write(folder / "84-121123.trans.txt", "84-121123-0000 GO DO YOU HEAR\n84-121123-0001 BUT\n84-121123-0002\n")
    for n in (0, 1, 2, 3):
        write(folder / f"84-121123-000{n}.flac")
    write(
        root / "LibriSpeech/SPEAKERS.TXT", ";ID |SEX| SUBSET |MINUTES| NAME\n84 | F | dev-clean | 8.02 | Christie | N\n"
    )
    return folder


def test_librispeech(tmp_path: Path) -> None:
    folder = make_librispeech(tmp_path)
    for source in (tmp_path, tmp_path / "LibriSpeech", tmp_path / "LibriSpeech/dev-clean"):
        found, rejected = read(librispeech.utterances, source, language="xx")
        assert [one.text for one in found] == ["GO DO YOU HEAR", "BUT", ""]  # import rejects the empty one
        one = found[0]
        assert (one.speaker, one.language, one.audio_filepath) == ("84", "en", str(folder / "84-121123-0000.flac"))
        about = {"split": "dev-clean", "chapter": "121123", "gender": "female", "license": "CC-BY-4.0"}
        assert one.extra == about
        assert rejected == [f"{folder}/84-121123-0003.flac: recording without a line in 84-121123.trans.txt"]


def test_a_corpus_with_librispeechs_layout_has_its_own_language_and_licence(tmp_path: Path) -> None:
    folder = make_librispeech(tmp_path, "train")
    (folder / "84-121123-0000.flac").rename(folder / "84-121123-0000.wav")
    one = read(librispeech.utterances, tmp_path, language="mn")[0][0]
    assert (one.language, one.extra.get("license"), Path(one.audio_filepath).suffix) == ("mn", None, ".wav")
    with pytest.raises(AnadilError, match="no transcripts in LibriSpeech's layout"):
        read(librispeech.utterances, folder.parent.parent.parent.parent / "none")


def test_librispeech_is_downloaded_by_parts(tmp_path: Path, asked: list[RemoteFile]) -> None:
    librispeech.download(None, ["dev-clean"], tmp_path, quiet)
    url = "https://www.openslr.org/resources/12/dev-clean.tar.gz"
    assert asked == [RemoteFile(url, "dev-clean.tar.gz", None, "md5:42e2234ba48799c1f50f24a7926300a1")]
    librispeech.download("en", [], tmp_path, quiet)
    assert len(asked) == 1 + 7
    with pytest.raises(AnadilError, match="no part 'dev'; it has: dev-clean"):
        librispeech.download(None, ["dev"], tmp_path, quiet)
    with pytest.raises(AnadilError, match="is English, not 'tr'"):
        librispeech.download("tr", [], tmp_path, quiet)


# --- OpenSLR


def test_openslr_line_index(tmp_path: Path) -> None:
    index = write(
        tmp_path / "af_za/za/afr/line_index.tsv",
        "afr_0184_0012345678\t Goeie môre  \nafr_0184_0000000001\t\tmet leë kolom\nafr_7130_0000000002\tno recording\n"
        "../afr\tx\nafr_0184_0000000003\nother.wav\tnie volgens die vorm\nafr_1_9\tspk9\tdrie kolomme\n"
        "afr_1_8\ttwee woorde\tteks\nafr_0184_0012345678\tander teks\nafr_0184_0000000001\tmet leë kolom\n",
    )
    for name in ("afr_0184_0012345678", "afr_0184_0000000001", "other", "afr_1_9", "afr_1_8", "afr_0184_0000000003"):
        write(index.parent / f"wavs/{name}.wav")
    write(tmp_path / "LICENSE.txt", "Creative Commons Attribution-ShareAlike 4.0 International")
    found, rejected = read(openslr.utterances, tmp_path)
    assert [(one.text, one.speaker) for one in found] == [
        ("Goeie môre", "afr_0184"),
        ("met leë kolom", "afr_0184"),
        ("nie volgens die vorm", None),
        ("drie kolomme", "spk9"),
        ("teks", None),
    ]
    assert found[0].audio_filepath == str(index.parent / "wavs/afr_0184_0012345678.wav")
    assert (found[0].language, found[0].extra) == ("af", {"license": "CC-BY-SA-4.0"})
    assert found[4].extra["column_2"] == "twee woorde"
    assert [problem.removeprefix(f"{index}:").split(" ", 1)[0] for problem in rejected] == ["3:", "4:", "5:", "9:"]
    assert "no recording named afr_7130_0000000002" in rejected[0]
    assert "another line gives afr_0184_0012345678.wav the text 'Goeie môre'" in rejected[3]
    assert len(read(openslr.utterances, index)[0]) == 5


def test_openslr_with_speakers_and_recordings_still_packed(tmp_path: Path) -> None:
    lines = "000020a9df\t9f4a3\tsugeng enjing\n0100000000\t11111\tmatur nuwun\n0200000000\tno speaker\n"
    write(tmp_path / "in/utt_spk_text.tsv", lines)
    for part, name in ((0, "00/000020a9df"), (1, "01/0100000000")):
        with zipfile.ZipFile(tmp_path / f"in/asr_javanese_{part}.zip", "w") as packed:
            packed.writestr(f"asr_javanese/data/{name}.flac", b"")
    write(tmp_path / "in/openslr.json", json.dumps({"set": "SLR35", "language": "jv", "license": "CC-BY-SA-4.0"}))
    found, rejected = read(openslr.utterances, tmp_path / "in", unpack_to=tmp_path / "out")
    assert [(one.text, one.speaker, one.language) for one in found] == [
        ("sugeng enjing", "9f4a3", "jv"),
        ("matur nuwun", "11111", "jv"),
    ]
    assert found[0].audio_filepath == str(tmp_path / "out/asr_javanese_0/asr_javanese/data/00/000020a9df.flac")
    assert len(rejected) == 1 and "expected file, speaker and text" in rejected[0]
    assert not (tmp_path / "in/asr_javanese_0").exists()


def test_openslr_of_two_genders(tmp_path: Path) -> None:
    for gender, letter in (("female", "f"), ("male", "m")):
        write(tmp_path / f"line_index_{gender}.tsv", f"ta{letter}_00008_00013653251\tவணக்கம்\n")
        write(tmp_path / f"ta_in_{gender}/ta{letter}_00008_00013653251.wav")
    found, rejected = read(openslr.utterances, tmp_path)
    assert rejected == [] and [(one.extra["gender"], one.speaker, one.language) for one in found] == [
        ("female", "taf_00008", "ta"),
        ("male", "tam_00008", "ta"),
    ]
    with pytest.raises(AnadilError, match="no index file of OpenSLR"):
        read(openslr.utterances, tmp_path / "ta_in_male")


def test_openslr_is_downloaded_by_set(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, asked: list[RemoteFile]) -> None:
    def fetched(language: str | None, *parts: str) -> list[str]:
        asked.clear()
        openslr.download(language, parts, tmp_path, quiet)
        return [file.url.removeprefix("https://www.openslr.org/resources/") for file in asked]

    assert fetched("af") == ["32/af_za.tar.gz"]
    told = {"set": "SLR32", "language": "af", "license": "CC-BY-SA-4.0"}
    assert json.loads((tmp_path / "openslr.json").read_text()) == told
    names = ["LICENSE", "line_index_female.tsv", "line_index_male.tsv", "gu_in_female.zip", "gu_in_male.zip"]
    assert fetched(None, "slr78") == [f"78/{name}" for name in names]
    assert fetched("mr") == ["64/LICENSE", "64/line_index.tsv", "64/mr_in_female.zip"]
    assert fetched("jv", "41") == ["41/LICENSE", "41/jv_id_female.zip", "41/jv_id_male.zip"]
    sums = f"{'a' * 64}  asr_javanese_0.zip\n{'b' * 64} *asr_javanese_f.zip\n"
    pages(monkeypatch, openslr, {"https://www.openslr.org/resources/35/asr_javanese.sha256": sums})
    assert len(fetched("jv", "SLR35")) == 18
    assert [file.checksum for file in asked if file.checksum] == ["sha256:" + "a" * 64, "sha256:" + "b" * 64]
    for arguments, message in (
        (("jv",), r"several sets match: SLR35 \(jv\), SLR41 \(jv\)"),
        ((None, "SLR32"), r"several sets match: SLR32 \(af, st, tn, xh\)"),
        (("tr",), "'tr' matches none of the sets"),
        (("af", "SLR41"), "'SLR41 af' matches none"),
        (("af", "SLR32", "SLR41"), "only one set of OpenSLR can be downloaded at a time"),
    ):
        with pytest.raises(AnadilError, match=message):
            fetched(*arguments)
