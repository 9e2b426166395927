"""The project's folder: nothing that was answered is lost, nobody overwrites anybody."""

from __future__ import annotations

import json
import shlex
import signal
from pathlib import Path

import pytest

from anadil import audio
from anadil.corpora import elan, textgrid
from anadil.corpora.reader import Options
from anadil.decoding.transcript import Transcript, Word
from anadil.errors import AnadilError
from anadil.manifest import read_manifest
from anadil.serving.archive import Archive, ConflictError, Recording
from anadil.serving.downloads import SUFFIXES, download

WORDS = (Word("bir", 1.0, 1.4, 0.9), Word("iki", 1.5, 1.9, 0.5), Word("üç", 4.0, 4.6, 0.99))
TRANSCRIPT = Transcript("bir iki üç", WORDS, 6.0, "tr")


def add(archive: Archive, name: str = "köy.wav") -> Recording:
    upload = archive.folder / "upload.wav"
    upload.write_bytes(b"sound")
    one = archive.add(upload, name, "model")
    return archive.recognized(one.id, TRANSCRIPT, " ", [0.1, 0.5], [])


def change(
    archive: Archive, one: Recording, segment: str, base: int, text: str, state: str = "confirmed", **times: float
) -> None:
    now = one.segments.get(segment)
    start, end = times.get("start", now.start if now else 0.0), times.get("end", now.end if now else 0.0)
    archive.change(one.id, segment, base, "ayşe", start=start, end=end, text=text, state=state)  # type: ignore[arg-type]


@pytest.fixture
def archive(tmp_path: Path) -> Archive:
    return Archive(tmp_path / "project")


def reopened(archive: Archive) -> Archive:
    archive._lock.close()  # as if its process had been killed
    return Archive(archive.folder)


def test_segments_have_margins_only_where_there_is_a_pause(archive: Archive) -> None:
    first, second = add(archive).ordered
    assert (first.text, first.start, first.end) == ("bir iki", 0.85, 2.2)
    assert (second.text, second.start, second.end) == ("üç", 3.85, 4.9)
    assert [word[0] for word in first.words] == ["bir", "iki"]


def test_a_confirmed_segment_is_a_line_of_a_manifest_beside_the_audio(archive: Archive) -> None:
    one = add(archive)
    change(archive, one, "s0", 0, "  bir   İki ")
    change(archive, one, "s1", 0, "üç", "draft")
    archive.write_manifests()
    for path in (archive.folder / "corrections.jsonl", one.folder / "confirmed.jsonl"):
        (line,) = read_manifest(path)
        assert (line.text, line.offset, line.duration, line.language) == ("bir İki", 0.85, 1.35, "tr")
        assert Path(line.audio_filepath).read_bytes() == b"sound"
        assert line.extra["confirmed_by"] == "ayşe" and line.extra["hypothesis"] == "bir iki"
        assert line.extra["confirmed_at"].endswith("+00:00")
    assert archive.corrections()["n_segments"] == 1 and archive.corrections()["seconds"] == 1.4


def test_everything_is_there_after_a_kill(archive: Archive) -> None:
    one = add(archive)
    change(archive, one, "s0", 0, "bir")
    change(archive, one, "s0", 1, "bir iki üç")
    change(archive, one, "n-1", 0, "dört", start=2.5, end=3.0)
    again = reopened(archive)
    found = again.get(one.id)
    assert found.ordered == one.ordered and found.version >= 3
    assert [line.text for line in read_manifest(archive.folder / "corrections.jsonl")] == ["bir iki üç", "dört"]


@pytest.mark.parametrize("torn", [b'{"id": "s1", "te', b'{"id": "s1"}', b"\0\0\0\0", b"\xff\xfe"])
def test_a_line_that_a_loss_of_power_cut_off(archive: Archive, torn: bytes) -> None:
    one = add(archive)
    change(archive, one, "s0", 0, "bir")
    with open(one.folder / "edits.jsonl", "ab") as file:
        file.write(torn)
    again = reopened(archive)
    found = again.get(one.id)
    assert found.segments["s0"].text == "bir" and found.n_torn == 1
    change(again, found, "s1", 0, "üç dört")
    last = reopened(again).get(one.id)
    assert (last.segments["s0"].text, last.segments["s1"].text) == ("bir", "üç dört")


def test_a_full_disk_changes_nothing(archive: Archive) -> None:
    one = add(archive)
    change(archive, one, "s0", 0, "bir")
    before = (one.folder / "edits.jsonl").read_bytes()
    resource = pytest.importorskip("resource", reason="limits of Unix")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(before) + 20, hard))
    try:
        with pytest.raises(OSError):
            change(archive, one, "s0", 1, "iki")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, handler)
    assert (one.folder / "edits.jsonl").read_bytes() == before
    assert one.segments["s0"].text == "bir"
    change(archive, one, "s0", 1, "iki")


def test_a_change_of_an_older_revision_is_refused(archive: Archive) -> None:
    one = add(archive)
    change(archive, one, "s0", 0, "mine")
    with pytest.raises(ConflictError) as conflict:
        change(archive, one, "s0", 0, "theirs")
    assert conflict.value.current.text == "mine" and one.segments["s0"].text == "mine"
    change(archive, one, "s0", 1, "theirs")


@pytest.mark.parametrize(
    ("segment", "start", "end", "text", "message"),
    [
        ("../x", 0, 1, "a", "a segment's id"),
        ("n-1", -1, 1, "a", "outside of the recording"),
        ("n-1", 5, 7, "a", "outside of the recording"),
        ("n-1", float("nan"), 7, "a", "outside of the recording"),
        ("n-1", 0.1, 0.12, "a", "between 0.05 and 120 s"),
        ("n-1", 0.0, 1.0, "a", "overlaps the one from 0.85"),
        ("n-1", 0.0, 0.5, "a\x00b", "control characters"),
        ("n-1", 0.0, 0.5, "\ud800", "control characters"),
        ("n-1", 0.0, 0.5, "a" * 5001, "at most 5,000"),
    ],
)
def test_a_segment_that_cannot_be(
    archive: Archive, segment: str, start: float, end: float, text: str, message: str
) -> None:
    one = add(archive)
    with pytest.raises(AnadilError, match=message):
        change(archive, one, segment, 0, text, start=start, end=end)
    assert (one.folder / "edits.jsonl").read_bytes() == b""


@pytest.mark.slow
def test_the_commands_that_are_shown_train_on_the_corrections(archive: Archive, micro: Path) -> None:
    """The button's commands, as they are, but for MODEL and a dry run."""
    from tests.support.command_line import succeeds
    from tests.support.micro import TEXTS, speak

    for number, text in enumerate(TEXTS * 3):
        upload = archive.folder / "upload.wav"
        samples = speak(text, seed=number)
        audio.write(upload, samples, 16000)
        one = archive.add(upload, f"{number}.wav", "micro")
        archive.recognized(one.id, Transcript("", (), len(samples) / 16000, "en"), " ", [], [])
        change(archive, one, "n-1", 0, text, start=0.0, end=len(samples) / 16000 - 0.001)
    archive.write_manifests()
    found = archive.corrections()
    assert found["n_segments"] == 24
    split, train = (shlex.split(command)[1:] for command in found["commands"])
    succeeds(*split)
    succeeds(*(part.replace("MODEL", str(micro / "run/best")) for part in train), "--dry-run")


def test_two_servers_cannot_have_a_project_open(archive: Archive) -> None:
    with pytest.raises(AnadilError, match="another server uses it"):
        Archive(archive.folder)
    archive.close()
    Archive(archive.folder)


def test_a_recording_that_was_not_recognised_waits_for_the_next_start(archive: Archive) -> None:
    upload = archive.folder / "upload.wav"
    upload.write_bytes(b"sound")
    one = archive.add(upload, "a.wav", "model")
    assert reopened(archive).waiting() == [one.id]


def test_a_deleted_recording_is_moved_aside(archive: Archive) -> None:
    one = add(archive)
    change(archive, one, "s0", 0, "bir")
    archive.delete(one.id)
    archive.write_manifests()
    assert archive.summaries() == [] and (archive.folder / "corrections.jsonl").read_text() == ""
    assert (archive.folder / "deleted" / one.id / "edits.jsonl").is_file()


def test_a_damaged_recording_does_not_stop_the_others(archive: Archive) -> None:
    one, other = add(archive), add(archive, "b.wav")
    (one.folder / "recording.json").write_text("{")
    again = reopened(archive)
    assert [summary["id"] for summary in again.summaries()] == [other.id] and again.unreadable == [one.id]


def test_a_recording_that_names_another_file_is_not_read(archive: Archive) -> None:
    one = add(archive)
    path = one.folder / "recording.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"audio": "../../../etc/passwd"}))
    assert reopened(archive).unreadable == [one.id]


def test_half_a_recording_is_swept_away(archive: Archive) -> None:
    (archive.folder / "recordings/.x.partial").mkdir()
    again = reopened(archive)
    assert again.summaries() == [] and again.unreadable == []


def test_memory_holds_few_recordings(archive: Archive) -> None:
    for number in range(20):
        add(archive, f"{number}.wav")
    assert len(archive._open) <= 21
    again = reopened(archive)
    for summary in again.summaries():
        again.get(summary["id"])
    assert len(again._open) == 16


@pytest.mark.parametrize("form", sorted(SUFFIXES))
def test_downloads_hold_the_present_text(archive: Archive, form: str, tmp_path: Path) -> None:
    one = add(archive)
    change(archive, one, "s0", 0, "bir 2")
    (tmp_path / "köy.wav").write_bytes(b"")
    content = download(one, form)
    assert "bir 2" in content and "üç" in content and str(tmp_path) not in content
    readers = {"eaf": elan, "textgrid": textgrid}
    if form in readers:
        path = tmp_path / f"köy{SUFFIXES[form]}"
        path.write_text(content, encoding="utf-8")
        found = {}
        for tier in ("utterances", "words"):
            found[tier] = [
                one.text for one in readers[form].utterances(path, Options(tier=[tier]), lambda problem: None)
            ]
        assert found == {"utterances": ["bir 2", "üç"], "words": ["üç"]}  # corrected words have no times
