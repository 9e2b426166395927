"""For any file content, a reader yields utterances, rejects entries, or raises AnadilError; it has no other errors."""

from __future__ import annotations

import dataclasses
import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from anadil.corpora import (
    audacity,
    chat,
    ctm,
    elan,
    exmaralda,
    flextext,
    kaldi,
    lhotse,
    ljspeech,
    nemo,
    subtitles,
    table,
    textgrid,
    toolbox,
    transcriber,
)
from anadil.corpora.reader import Options
from anadil.corpora.segments import Segment
from anadil.errors import AnadilError, Problem

SEGMENTS = [Segment(0.5, 1.25, 'ağ "ω" a,b', "ana"), Segment(2, 3, "x|y", "ben")]
CUT = {
    "id": "c", "start": 0.5, "duration": 2, "channel": 0, "type": "MonoCut", "custom": {"a": [1]},
    "supervisions": [{"id": "s", "recording_id": "r", "start": 0, "duration": 1, "text": "x", "speaker": "ana"}],
    "recording": {"id": "r", "sources": [{"type": "file", "channels": [0], "source": "talk.wav"}], "transforms": None},
}  # fmt: skip
MANIFEST = {"audio_filepath": "talk.wav", "duration": 1.5, "text": "ağ", "offset": 0.5, "shard_id": 0}
FLEXTEXT = (
    '<?xml version="1.0" encoding="utf-8"?><document><interlinear-text><phrase begin-time-offset="0" end-time-offset="900">'
    '<item type="txt" lang="x">ağ</item><word><item type="txt" lang="x">ağ</item></word></phrase><phrase '
    'begin-time-offset="900" end-time-offset="1900"><word><item type="txt" lang="x">b</item></word></phrase>'
    "</interlinear-text></document>"
)
EXMARALDA = (
    '<basic-transcription><basic-body><common-timeline><tli id="T0" time="0"/><tli id="T1" time="1.5"/><tli id="T2"/>'
    '<tli id="T3" time="4"/></common-timeline><tier id="a" category="v" type="t" speaker="S"><event start="T0" end="T1">ağ '
    '</event><event start="T1" end="T2">((x)) b </event><event start="T2" end="T3">c</event></tier></basic-body>'
    "</basic-transcription>"
)
TRANSCRIBER = (
    '<!DOCTYPE Trans SYSTEM "trans-14.dtd"><Trans><Episode><Section><Turn startTime="0" endTime="4" speaker="a b">'
    '<Sync time="0"/>ağ<Event desc="r" type="noise"/><Sync time="1"/><Who nb="1"/>b<Who nb="2"/>c</Turn></Section></Episode>'
    "</Trans>"
)
TOOLBOX = (
    "\\_sh v3.0 x\n\n\\ref 1\n\\ELANBegin 0\n\\ELANEnd 1.5\n\\tx ağ\n\\ge b\n\n\\ref 2\n\\aud talk.wav 1 2\n\\tx c\n"
)
CHAT = "@Begin\n@Media:\ttalk, audio\n*CHI:\tağ <b c> [x 2] . \x150_900\x15\n%mor:\tx\n*MOT:\t&-uh d (.) e . \x15900_1900\x15\n"

GOOD: dict[str, tuple[Any, str, str]] = {
    "elan": (elan, "talk.eaf", elan.format_eaf({"tx": SEGMENTS}, Path("talk.wav"))),
    "textgrid": (textgrid, "talk.TextGrid", textgrid.format_textgrid({"tx": SEGMENTS}, 4.0)),
    "srt": (subtitles, "talk.srt", subtitles.format_srt(SEGMENTS)),
    "vtt": (subtitles, "talk.vtt", subtitles.format_vtt(SEGMENTS)),
    "audacity": (audacity, "talk.txt", audacity.format_audacity(SEGMENTS)),
    "ctm": (ctm, "talk.ctm", "talk 1 0.5 0.5 ağ 0.9 lex ana\ntalk 1 1.2 0.5 x\n"),
    "flextext": (flextext, "talk.flextext", FLEXTEXT),
    "exmaralda": (exmaralda, "talk.exb", EXMARALDA),
    "transcriber": (transcriber, "talk.trs", TRANSCRIBER),
    "toolbox": (toolbox, "talk.txt", TOOLBOX),
    "chat": (chat, "talk.cha", CHAT),
    "aup": (
        audacity,
        "talk.aup",
        '<project><labeltrack name="a"><label t="0" t1="1" title="ağ"/></labeltrack></project>',
    ),
    "csv": (table, "talk.csv", 'path,text,start,end\ntalk,"a ""b""",0.5,1.5\ntalk,x,2,3\n'),
    "tsv": (table, "talk.tsv", 'path\ttext\tspeaker\ntalk\t"a ""b"""\tana\n'),
    "ljspeech": (ljspeech, "metadata.csv", "talk|7 ağ|yedi ağ\n"),
    "nemo": (nemo, "m.json", json.dumps(MANIFEST) + "\n" + json.dumps(MANIFEST)),
    "lhotse": (lhotse, "cuts.jsonl", json.dumps(CUT) + "\n" + json.dumps(CUT)),
    "segments": (kaldi, "segments", "u1 talk 0.5 1.25\nu2 talk 1 -1\n"),
    "scp": (kaldi, "wav.scp", "talk talk.wav\n"),
}
NASTY = [
    "",
    "\0",
    '"',
    "<",
    ">",
    "&",
    "\t",
    "\n",
    "\r",
    "-",
    "nan",
    "1e999",
    "-1",
    "9" * 400,
    "\ufeff",
    "\ud800",
    "[",
    "{",
    "|",
    "null",
    "\u2028",
]


def damaged(content: str, rng: random.Random) -> bytes:
    pieces = list(content)
    for _ in range(rng.randint(1, 4)):
        start = rng.randrange(len(pieces) + 1)
        pieces[start : start + rng.randint(0, 6)] = rng.choice(NASTY)
    text = "".join(pieces)[: rng.choice([None, None, rng.randrange(len(content))])]
    encoding, errors = rng.choice(
        [("utf-8", "surrogatepass"), ("utf-8", "ignore"), ("utf-16", "ignore"), ("cp1254", "replace")]
    )
    return text.encode(encoding, errors)


@pytest.mark.parametrize("name", GOOD)
def test_a_damaged_file_never_causes_a_traceback(tmp_path: Path, write_wav: Callable[..., Path], name: str) -> None:
    write_wav("talk.wav", 0.1)
    reader, file, content = GOOD[name]
    for other, text in {"text": "u1 bir\nu2 iki\ntalk üç\n", "wav.scp": "talk talk.wav\n"}.items():
        if reader is kaldi:
            (tmp_path / other).write_text(text, encoding="utf-8")
    source = tmp_path if reader is kaldi else tmp_path / file
    rng = random.Random(name)
    rejected: list[Problem] = []
    n_found = 0
    for turn in range(60):
        (tmp_path / file).write_bytes(content.encode() if turn == 0 else damaged(content, rng))
        try:
            found = list(reader.utterances(source, Options(), rejected.append))
        except AnadilError:
            continue
        n_found += len(found)
        for one in found:
            json.dumps(dataclasses.asdict(one), ensure_ascii=False, allow_nan=False).encode()  # it can be written
            assert one.text and one.offset >= 0 and (one.duration is None or one.duration > 0 or reader is nemo)
    assert n_found > 1
