"""A small valid corpus or annotation file of every kind that `anadil import` reads, for the fuzz tests to damage."""

from __future__ import annotations

import gzip
import io
import json
import sqlite3
import struct
import tarfile
import zipfile
from pathlib import Path

from tests.support.common_voice import COLUMNS, ROW, write_tsv

CUT = {
    "id": "c", "start": 0.1, "duration": 0.8, "channel": 0, "type": "MonoCut", "custom": {"a": [1]},
    "supervisions": [{"id": "s", "recording_id": "r", "start": 0, "duration": 0.5, "text": "x", "speaker": "ana"}],
    "recording": {"id": "r", "sources": [{"type": "file", "channels": [0], "source": "talk.wav"}], "transforms": None},
}  # fmt: skip

FLEX = (
    '<?xml version="1.0" encoding="utf-8"?>\n<document version="2"><interlinear-text guid="t"><paragraphs><paragraph><phrases>'
    '<phrase begin-time-offset="100" end-time-offset="800" speaker="ana" media-file="m1"><words><word><item type="txt" '
    'lang="mdw">mwána</item><morphemes><morph type="stem"><item type="txt" lang="mdw">ána</item></morph></morphemes><item '
    'type="gls" lang="en">child</item></word><word><item type="punct" lang="mdw">.</item></word></words><item type="gls" '
    'lang="en">The child.</item></phrase></phrases></paragraph></paragraphs><media-files><media guid="m1" '
    'location="talk.wav"/></media-files></interlinear-text></document>'
)
EXMARALDA = (
    '<?xml version="1.0" encoding="UTF-8"?>\n<basic-transcription><head><meta-information><referenced-file url="talk.wav"/>'
    '</meta-information><speakertable><speaker id="S0"><abbreviation>ANA</abbreviation></speaker></speakertable></head>'
    '<basic-body><common-timeline><tli id="T0" time="0.1"/><tli id="T1"/><tli id="T2" time="1.1"/></common-timeline>'
    '<tier id="v" category="v" display-name="ANA [v]" type="t" speaker="S0"><event start="T0" end="T1">bir </event>'
    '<event start="T1" end="T2">iki ((güler))</event></tier></basic-body></basic-transcription>'
)
TRANSCRIBER = (
    '<?xml version="1.0" encoding="UTF-8"?>\n<Trans audio_filename="talk" version="1"><Speakers><Speaker id="s1" name="Ana"/>'
    '<Speaker id="s2" name="Ben"/></Speakers><Episode><Section type="report" startTime="0" endTime="1.2"><Turn startTime="0" '
    'endTime="1.2" speaker="s1 s2"><Sync time="0"/><Who nb="1"/>\nbir <Event desc="r" type="noise"/>\n<Who nb="2"/>\niki\n'
    '<Sync time="0.6"/>üç\n</Turn></Section></Episode></Trans>'
)
CHAT = (
    "@UTF8\n@Begin\n@Languages:\ttur\n@Participants:\tCHI Eve Target_Child\n@Media:\ttalk, audio\n*CHI:\tbir iki . "
    "\x15100_600\x15\n%mor:\tqn|bir\n*CHI:\tüç <dört beş> [//]\n\taltı . \x15700_1100\x15\n@End\n"
)
TOOLBOX = (
    "\\_sh v3.0  400  Text\n\n\\ref talk.001\n\\ELANBegin 0.100\n\\ELANEnd 00:00:00.800\n\\ELANParticipant Ana\n\\tx mwána abé\n"
    "\\ge child be.here\n\\ft The child is here.\n\\ELANMediaURL file:///C:/rec/talk.wav\n"
)
AUDACITY = (
    '<?xml version="1.0"?>\n<project projname="talk_data"><wavetrack name="talk" rate="16000"/><labeltrack name="ana" '
    'numlabels="2"><label t="0.1" t1="0.5" title="bir"/><label t="0.6" t1="1,1" title="iki"/></labeltrack></project>\n'
)

FILES = {
    "talk.ctm": "talk 1 0.1 0.5 ağ 0.9 lex ana\ntalk 1 0.7 0.5 x\n",
    "talk.csv": "path,text,start,end\ntalk,a b,0.1,0.5\ntalk,x,0.5,0.9\n",
    "talk.tsv": "path\ttext\tspeaker\ntalk\tab\tana\n",
    "nemo.json": json.dumps({"audio_filepath": "talk.wav", "duration": 1.0, "text": "ağ", "offset": 0.1}) + "\n",
    "cuts.jsonl": json.dumps(CUT) + "\n" + json.dumps(CUT) + "\n",
    "kaldi/text": "u1 bir\nu2 iki\n",
    "kaldi/wav.scp": "talk ../talk.wav\n",
    "kaldi/segments": "u1 talk 0.1 0.6\nu2 talk 0.7 -1\n",
    "kaldi/utt2spk": "u1 ana\nu2 ben\n",
    "lj/metadata.csv": "talk|7 ağ|yedi ağ\n",
    "talk.flextext": FLEX,
    "talk.exb": EXMARALDA,
    "talk.trs": TRANSCRIBER,
    "talk.cha": CHAT,
    "talk.sfm": TOOLBOX,
    "talk.aup": AUDACITY,
    "fleurs/tr_tr/train.tsv": '7\ttalk.wav\t"Bu, bir." dedi.\tbu bir dedi\tb u | b i r | d e d i |\t16000\tFEMALE\n',
    "mls/mls_polish/train/transcripts.txt": "10_20_000000\tno tak\n10_20_000001\tdobrze\n",
    "mls/mls_polish/metainfo.txt": " SPEAKER   |   GENDER   | PARTITION  | MINUTES\n  10   |  F  |  train  |  1.0\n",
    "libri/dev-clean/84/121123/84-121123.trans.txt": "84-121123-0000 GO DO YOU HEAR\n84-121123-0001 BUT\n",
    "libri/SPEAKERS.TXT": ";ID |SEX| SUBSET |MINUTES| NAME\n84 | F | dev-clean | 8.02 | Christie | N\n",
    "openslr/line_index.tsv": "talk\tbir iki\nother\tüç\n",
    "voxforge/ralf-20080318-kdl/etc/prompts-original": "de-01 Guten Tag, wie geht's?\nde-02  Schöne Grüße.\n",
    "voxforge/ralf-20080318-kdl/etc/PROMPTS": "ralf-20080318-kdl/mfc/de-01 GUTEN TAG\nralf-20080318-kdl/mfc/de-02 GRUESSE\n",
    "voxforge/ralf-20080318-kdl/etc/README": "Language: DE\nGender: männlich\n",
}
RECORDINGS = (
    "lj/wavs/talk.wav", "fleurs/tr_tr/audio/train/talk.wav", "openslr/talk.wav", "cv/clips/common_voice_tr_1.wav",
    "mls/mls_polish/train/audio/10/20/10_20_000000.wav", "libri/dev-clean/84/121123/84-121123-0000.wav",
    "voxforge/ralf-20080318-kdl/wav/de-01.wav",
)  # fmt: skip
"""Copies of one recording; not all that the texts name, as in corpora that were downloaded in parts."""


def write_corpora(folder: Path, wav: bytes) -> None:
    """Write them all below `folder`; `wav` is the recording that they share."""
    for name, text in FILES.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text, encoding="utf-8")
    for name in RECORDINGS:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(wav)
    row = ROW | {"path": "common_voice_tr_1.wav"}
    write_tsv(folder / "cv/validated.tsv", COLUMNS["17"], [row, row | {"path": "gone.mp3"}])
    with gzip.open(folder / "cuts.jsonl.gz", "wt") as file:
        file.write(json.dumps(CUT) + "\n")
    _write_workbook(folder / "table.xlsx")
    _write_archives(folder, wav)
    write_aup3(folder / "talk.aup3")


def _write_workbook(path: Path) -> None:
    import openpyxl

    book = openpyxl.Workbook()
    for row in (("path", "text"), ("talk", "a b"), ("talk", 5)):
        book.active.append(row)
    book.save(path)


def _write_archives(folder: Path, wav: bytes) -> None:
    """A corpus of audio and texts with the same names, as tar and as zip."""
    with tarfile.open(folder / "corpus.tar.gz", "w:gz") as tar, zipfile.ZipFile(folder / "corpus.zip", "w") as zipped:
        for name, content in (("corpus/a.wav", wav), ("corpus/a.txt", b"a b c\n")):
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
            zipped.writestr(name, content)


def write_aup3(path: Path, width: int = 4, table: str = "project") -> None:
    """A project of Audacity 3: names and document in the binary form of its ProjectSerializer."""
    encoding = {1: "utf-8", 2: "utf-16-le", 4: "utf-32-le"}[width]
    numbers: dict[str, bytes] = {}
    names, document = bytearray([0, width]), bytearray()

    def put(kind: int, name: str, value: bytes = b"") -> None:
        if name not in numbers:
            numbers[name] = struct.pack("<H", len(numbers))
            text = name.encode(encoding)
            names.extend(bytes([15]) + numbers[name] + struct.pack("<H", len(text)) + text)
        document.extend(bytes([kind]) + numbers[name] + value)

    def string(text: str) -> bytes:
        return struct.pack("<i", len(text.encode(encoding))) + text.encode(encoding)

    document.extend(bytes([12]) + string("<?xml?>"))
    put(1, "project")
    for kind, value in {4: b"\0" * 4, 5: b"\1", 6: b"\0" * 4, 7: b"\0" * 8, 8: b"\0" * 4, 9: b"\0" * 8}.items():
        put(kind, f"attribute{kind}", value)
    for track, labels in {"ana": [(0.5, 1.25, "evet & ağ"), (2.0, 2.0, "click")], "ben": [(3.0, 4.5, "hayır")]}.items():
        put(1, "labeltrack")
        put(3, "name", string(track))
        for start, end, title in labels:
            put(1, "label")
            put(10, "t", struct.pack("<di", start, 10))
            put(10, "t1", struct.pack("<di", end, 10))
            put(3, "title", string(title))
            put(2, "label")
        put(2, "labeltrack")
    put(2, "project")
    with sqlite3.connect(path) as database:
        for name in ("project", "autosave"):
            database.execute(f"CREATE TABLE {name} (id INTEGER PRIMARY KEY, dict BLOB, doc BLOB)")
        database.execute(f"INSERT INTO {table} VALUES (1, ?, ?)", (bytes(names), bytes(document)))
    database.close()
