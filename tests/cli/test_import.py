"""`anadil corpora`, `download` and `import`, as a user runs them."""

from __future__ import annotations

import hashlib
import io
import json
import os
import re
import signal
import sys
import tarfile
import time
from pathlib import Path

import numpy as np
import pytest
import soundfile

from anadil.audio import Channel
from anadil.corpora import importing, librispeech
from anadil.corpora.catalog import KINDS, find_kind
from anadil.corpora.reader import Options
from anadil.manifest import read_manifest
from tests.support.archives import make_tar
from tests.support.command_line import anadil, fails, files
from tests.support.common_voice import COLUMNS, ROW, write_tsv
from tests.support.download_server import Server, server, waits

__all__ = ["server", "waits"]


def flac(seconds: float = 1.0) -> bytes:
    content = io.BytesIO()
    soundfile.write(content, [0.1, -0.1] * round(8000 * seconds), 16000, format="FLAC")
    return content.getvalue()


@pytest.fixture
def release(tmp_path: Path) -> Path:
    """A release of Common Voice with a good clip, a missing one and an empty sentence."""
    folder = tmp_path / "cv/tr"
    names = ["common_voice_tr_1.mp3", "common_voice_tr_2.mp3", "common_voice_tr_3.mp3"]
    rows = [ROW | {"path": name} for name in names]
    write_tsv(folder / "train.tsv", COLUMNS["17"], [*rows, rows[0] | {"sentence": ""}])
    write_tsv(folder / "test.tsv", COLUMNS["17"], rows[:1])
    (folder / "clips").mkdir()
    for name in names[:2]:
        soundfile.write(str(folder / "clips" / name), [0.1, -0.1] * 24000, 48000, format="MP3")
    return folder


def test_all_kinds_are_listed_with_language_size_licence_and_how_to_get_them() -> None:
    text = anadil("corpora").stdout
    for kind in KINDS:
        assert re.search(rf"^ *{kind.name} ", text, re.MULTILINE)
    assert "CC0-1.0" in text and "anadil download" in text and "41,792" in text and "--tier-type" in text
    listed = json.loads(anadil("corpora", "--json").stdout)
    assert [one["name"] for one in listed] == [kind.name for kind in KINDS]


def test_the_details_of_one_kind() -> None:
    text = anadil("corpora", "common_voice").stdout
    for words in (
        "Mozilla Common Voice",
        "CC0-1.0",
        "not to re-host",
        "MDC_API_KEY",
        "anadil import common-voice",
        "--lang",
    ):
        assert words in text
    assert "anadil split" in anadil("corpora", "voxforge").stdout
    assert json.loads(anadil("corpora", "fleurs", "--json").stdout)["license"] == "CC-BY-4.0"
    assert "did you mean 'voxforge'" in fails("corpora", "voxfroge")


def test_import_reports_the_splits_and_the_rejected_entries(release: Path, tmp_path: Path) -> None:
    result = anadil("import", "common-voice", release, "--out", tmp_path / "out")
    assert result.exit_code == 0
    assert re.search(r"train\.jsonl +2 +0\.0006 +1 ", result.stdout) and re.search(r"test\.jsonl +1 ", result.stdout)
    assert f"rejected: 2, listed in {tmp_path / 'out/rejected.jsonl'}" in result.stdout
    assert "1 x audio file not found\n" in result.stdout and "1 x empty text\n" in result.stdout
    assert f"{release / 'train.tsv'}:4: audio file not found" in result.stdout
    assert f"next: anadil check {tmp_path / 'out/train.jsonl'} {tmp_path / 'out/test.jsonl'}" in result.stderr
    assert "add --force" in fails("import", "common-voice", release, "--out", tmp_path / "out")
    figures = json.loads(
        anadil("import", "common_voice", release, "--out", tmp_path / "out", "--force", "--json").stdout
    )
    assert figures["splits"]["train"] == {
        "manifest": str(tmp_path / "out/train.jsonl"),
        "utterances": 2,
        "hours": pytest.approx(2 / 3600, rel=0.1),
        "speakers": 1,
    }
    assert figures["rejected"]["count"] == 2
    assert [reason["count"] for reason in figures["rejected"]["reasons"]] == [1, 1]


def test_if_nothing_can_be_used_the_reasons_are_reported(release: Path, tmp_path: Path) -> None:
    for clip in (release / "clips").iterdir():
        clip.unlink()
    error = fails("import", "common-voice", release, "--out", tmp_path / "out", "--json")
    assert "nothing in " in error and "all 5 entries were rejected:\n  audio file not found (4), for example " in error
    assert (tmp_path / "out/rejected.jsonl").read_text().count("\n") == 5
    soundfile.write(release / "clips/common_voice_tr_1.mp3", [0.1, -0.1] * 24000, 48000, format="MP3")
    assert anadil("import", "common-voice", release, "--out", tmp_path / "out").exit_code == 0  # without --force


def test_wrong_kinds_options_and_sources_are_errors(release: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert "did you mean 'common-voice'" in fails("import", "comon-voice", release, "--out", out)
    assert "it supports: --lang\n" in fails("import", "voxforge", release, "--out", out, "--tier", "x")
    assert "is not there" in fails("import", "fleurs", tmp_path / "none", "--out", out)
    assert "is damaged" in fails("import", "fleurs", make_broken(tmp_path), "--out", out)
    assert not out.exists()
    assert anadil("import", "fleurs", release).exit_code == 2


def make_broken(folder: Path) -> Path:
    (folder / "a.tar.gz").write_bytes(b"no archive")
    return folder / "a.tar.gz"


def test_an_archive_is_unpacked_below_out_and_a_malicious_one_refused(release: Path, tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "tr.tar.gz", "w:gz") as tar:
        tar.add(release, "cv-corpus-17.0/tr")
    out = tmp_path / "out"
    result = anadil("import", "common-voice", tmp_path / "tr.tar.gz", "--out", out, "--wav")
    assert result.exit_code == 0
    (test,) = read_manifest(out / "test.jsonl")
    assert (
        test.audio_filepath == str(out / "wav/common_voice_tr_1.wav")
        and soundfile.info(test.audio_filepath).samplerate == 16000
    )
    assert sorted(path.name for path in out.iterdir()) == [
        "rejected.jsonl",
        "test.jsonl",
        "train.jsonl",
        "unpacked",
        "wav",
    ]
    evil = make_tar(tmp_path / "evil.tar.gz", {"../evil.txt": b"x"})
    assert "leads out of the folder" in fails("import", "common-voice", evil, "--out", tmp_path / "new")
    assert not (tmp_path / "new/unpacked/evil").exists() and not (tmp_path / "new/unpacked/evil.txt").exists()


def test_a_corpus_is_downloaded_unpacked_and_imported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, server: Server, waits: list[float]
) -> None:
    chapter = "LibriSpeech/dev-clean/84/1/84-1"
    files = {f"{chapter}.trans.txt": b"84-1-0000 GO\n84-1-0001 ON\n"} | {
        f"{chapter}-000{n}.flac": flac() for n in (0, 1)
    }
    server.content = make_tar(tmp_path / "dev-clean.tar.gz", files).read_bytes()
    server.cuts = [100]
    monkeypatch.setattr(librispeech, "ROOT", server.url.removesuffix("/a.bin"))
    out = tmp_path / "fetched"
    wrong = fails("download", "librispeech", "--part", "dev-clean", "--out", out)
    assert "its md5 checksum is" in wrong and list(out.iterdir()) == []
    monkeypatch.setitem(librispeech.MD5, "dev-clean", hashlib.md5(server.content).hexdigest())
    for _ in range(2):
        result = anadil("download", "LibriSpeech", "--part", "dev-clean", "--out", out)
        assert (result.exit_code, result.stdout) == (0, f"{out / 'dev-clean.tar.gz'}\n")
        assert f"next: anadil import librispeech {out} --out DIR" in result.stderr
    assert server.asked == [None, "bytes=100-", None, None]  # cut, resumed, once more as a whole; then the right sum
    assert anadil("import", "librispeech", out, "--out", tmp_path / "data").exit_code == 0
    assert [one.text for one in read_manifest(tmp_path / "data/dev-clean.jsonl")] == ["GO", "ON"]


def test_a_kind_that_cannot_be_downloaded_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "table cannot be downloaded" in fails("download", "table", "--out", tmp_path)
    assert "fleurs has no parts" in fails("download", "fleurs", "--lang", "tr", "--part", "x", "--out", tmp_path)
    assert "VoxForge has no language None" in fails("download", "voxforge", "--out", tmp_path)


def test_a_damaged_archive_does_not_stop_the_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    good = make_tar(tmp_path / "a-20080318-x.tgz", {"a/wav/1.wav": b""})
    bad = tmp_path / "b-20080318-x.tgz"
    bad.write_bytes(b"cut")
    monkeypatch.setattr("anadil.corpora.voxforge.download", lambda *arguments: [bad, good])
    result = anadil("download", "voxforge", "--lang", "de", "--out", tmp_path)
    assert result.exit_code == 1 and "1 of 2 archives could not be unpacked" in result.stderr
    assert (tmp_path / "a-20080318-x/a/wav/1.wav").is_file()


def test_two_speakers_on_two_channels(tmp_path: Path) -> None:
    sides = np.random.default_rng(0).uniform(-0.5, 0.5, (32000, 2)) * np.repeat([[1, 0.1], [0.1, 1]], 16000, axis=0)
    soundfile.write(str(tmp_path / "talk.wav"), sides, 16000)
    (tmp_path / "talk.txt").write_text("0.1\t0.9\tbir\n1.1\t1.9\tiki\n0.1\t1.9\tüç\n", encoding="utf-8")
    result = anadil("import", "audacity", tmp_path / "talk.txt", "--channel", "split", "--out", tmp_path / "out")
    assert result.exit_code == 0 and "channels: 1 utterances of channel 1, 1 utterances of channel 2" in result.stdout
    assert "1 x not clear which channel it is on" in result.stdout
    assert [(one.text, one.channel) for one in read_manifest(tmp_path / "out/all.jsonl")] == [("bir", 1), ("iki", 2)]
    arguments = ("import", "audacity", tmp_path / "talk.txt", "--out", tmp_path / "b")
    counts = json.loads(anadil(*arguments, "--channel", "right", "--json").stdout)
    assert counts["channels"] == {"2": 3}
    wrong = anadil(*arguments, "--channel", "middle")
    assert wrong.exit_code == 2 and "expected mix, split, left, right or a number from 1" in wrong.stderr


@pytest.mark.skipif(sys.platform == "win32", reason="signals of POSIX")
@pytest.mark.parametrize("stop", [signal.SIGTERM, signal.SIGINT, None])
def test_an_import_that_is_interrupted_or_fails_leaves_nothing_and_deletes_nothing_else(
    release: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stop: signal.Signals | None
) -> None:
    convert, out = importing._convert_to_wav, tmp_path / "new/out"
    there: list[bool] = []

    def convert_and_stop(source: Path, target: Path, channel: Channel) -> None:
        convert(source, target, channel)
        there.append(target.exists())
        if stop is None:
            raise OSError("the disk is gone")
        os.kill(os.getpid(), stop)
        time.sleep(0.1)  # the main thread gets the signal

    monkeypatch.setattr(importing, "_convert_to_wav", convert_and_stop)
    arguments = ["import", "common-voice", release, "--out", out, "--wav", "--force"]

    def run() -> None:
        if stop is None:
            with pytest.raises(OSError, match="the disk is gone"):
                importing.import_speech(find_kind("common-voice"), release, Options(), out, wav=True, force=True)
        else:
            result = anadil(*arguments)
            assert result.exit_code == 130 and "interrupted" in result.stderr

    before = signal.getsignal(signal.SIGTERM)
    try:
        run()
        assert any(there) and not (tmp_path / "new").exists()
        for name in ("all.jsonl", "notes.txt", "wav/mine.wav", "wav/common_voice_tr_1.wav", "unpacked/a/b"):
            (out / name).parent.mkdir(parents=True, exist_ok=True)
            (out / name).write_bytes(b"mine")
        kept = set(files(out))
        run()
        assert set(files(out)) == kept and (out / "all.jsonl").read_bytes() == b"mine"
    finally:
        signal.signal(signal.SIGTERM, before)
