"""The catalogue of corpora, layouts and annotation formats: facts for `anadil corpora`, and which module reads what."""

from __future__ import annotations

import difflib
import importlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from anadil.corpora.reader import Reader
from anadil.errors import AnadilError

Sort = Literal["corpus", "layout", "annotation"]
Download = Callable[[str | None, Sequence[str], Path, Callable[[str, float, float], None]], list[Path]]


@dataclass(frozen=True, slots=True)
class CorpusKind:
    """One kind of source. `anadil corpora --json` prints the fields under these names."""

    name: str  # on the command line
    title: str
    sort: Sort  # a public corpus, a layout of files, or an annotation format
    module: str  # in anadil.corpora; its `utterances` reads the kind
    source: str  # what to give as SOURCE
    example: str  # a command to import it
    languages: str = "any"
    size: str = "-"
    license: str = ""  # SPDX; empty if the recordings are the user's own
    terms: str = ""
    get: str = ""  # how to get it
    takes: tuple[str, ...] = ("language",)  # the fields of Options that it supports
    fetched: bool = False  # whether `anadil download` can fetch it: the module has `download`
    parts: str = ""  # the values of --part
    is_file: bool = True  # whether SOURCE must be a path
    splits: bool = False  # whether it has splits that can be used as they are

    def reader(self) -> Reader:
        """Import the module and return its `utterances`."""
        read: Reader = importlib.import_module(f"anadil.corpora.{self.module}").utterances
        return read

    def downloader(self) -> Download:
        """Import the module and return its `download`. Raises AnadilError if Anadil cannot download this kind."""
        if not self.fetched:
            known = ", ".join(kind.name for kind in KINDS if kind.fetched)
            raise AnadilError(f"{self.name} cannot be downloaded\n  these can: {known}\n  next: choose one of them")
        download: Download = importlib.import_module(f"anadil.corpora.{self.module}").download
        return download


_LANGUAGE_AND_AUDIO = ("language", "audio")
_COLUMNS = ("audio_column", "text_column", "speaker_column")
_OWN_TERMS = 'yours: write them into the manifest\'s key "license", and the model card will state them'

CORPORA = (
    CorpusKind(
        "common-voice", "Mozilla Common Voice, scripted speech", "corpus", "common_voice",
        source="the archive as downloaded (.tar.gz), its folder, or one of its .tsv files",
        example="anadil import common-voice cv-corpus-25.0-2026-03-09-tr.tar.gz --out data/tr",
        languages="289 in release 24, read by volunteers", size="41,792 h in release 25 (28,377 h validated)",
        license="CC0-1.0",
        terms="CC0; whoever downloads it agrees not to re-host it and not to identify the speakers",
        get="anadil download common-voice --lang tr --out DIR, with a key of your own in MDC_API_KEY (free, from\n"
        "https://mozilladatacollective.com, where you also accept the terms of each dataset); or download it there in a browser",
        fetched=True, splits=True,
    ),
    CorpusKind(
        "voxforge", "VoxForge", "corpus", "voxforge",
        source="a folder of uploads, .tgz as downloaded or unpacked",
        example="anadil import voxforge voxforge-de --lang de --out data/de",
        languages="bg ca de el en es fa fr he hr it nl pt ru sq tr uk zh",
        size="English 130 h; others from 60 h to minutes",
        license="GPL-3.0-or-later",
        terms="GPL: works derived from it that are passed on must be GPL too; ask a lawyer about models",
        get="anadil download voxforge --lang de --out DIR",
        fetched=True,
    ),
    CorpusKind(
        "fleurs", "Google FLEURS", "corpus", "fleurs",
        source="the folder of one language: train.tsv, dev.tsv, test.tsv and audio/",
        example="anadil import fleurs fleurs/tr_tr --out data/tr",
        languages="102, such as tr_tr, sw_ke, cmn_hans_cn", size="about 12 h for each language",
        license="CC-BY-4.0", terms="attribution", get="anadil download fleurs --lang tr --out DIR",
        fetched=True, splits=True,
    ),
    CorpusKind(
        "mls", "Multilingual LibriSpeech", "corpus", "mls",
        source="mls_polish or mls_polish_opus, folder or archive",
        example="anadil import mls mls_polish_opus --out data/pl",
        languages="de en es fr it nl pl pt", size="44,500 h English, 6,000 h others (Polish 104 h, Portuguese 161 h)",
        license="CC-BY-4.0", terms="attribution",
        get="anadil download mls --lang pl --out DIR (the Opus edition; the FLAC one, ten times as large, is at\n"
        "https://www.openslr.org/94)",
        fetched=True, splits=True,
    ),
    CorpusKind(
        "librispeech", "LibriSpeech, and corpora with the same layout", "corpus", "librispeech",
        source="LibriSpeech/ or a subset, folder or archive",
        example="anadil import librispeech LibriSpeech --out data/en",
        languages="en; other corpora with this layout: any (--lang)", size="982 h",
        license="CC-BY-4.0", terms="attribution",
        get="anadil download librispeech --part train-clean-100 --part dev-clean --out DIR",
        fetched=True, splits=True,
        parts="dev-clean dev-other test-clean test-other train-clean-100 train-clean-360 train-other-500",
    ),
    CorpusKind(
        "openslr", "OpenSLR: an index file (.tsv) and recordings", "corpus", "openslr",
        source="the folder with the index and the recordings or their archives",
        example="anadil import openslr slr32-af --lang af --out data/af",
        languages="af bn ca en-NG es eu gl gu jv km kn ml mr my ne si st su ta te tn xh yo", size="2 to 250 h each",
        license="CC-BY-SA-4.0", terms="attribution, share alike",
        get="anadil download openslr --part SLR32 --lang af --out DIR",
        fetched=True, parts="SLR32 SLR35 SLR36 SLR41 to 44 SLR52 to 54 SLR61 SLR63 to 66 SLR69 to 80 SLR86",
    ),
)  # fmt: skip

LAYOUTS = (
    CorpusKind(
        "kaldi", "Kaldi data folder", "layout", "kaldi",
        source="the folder with text, wav.scp and, if there, segments and utt2spk",
        example="anadil import kaldi data/train --lang sw --out data/sw", takes=_LANGUAGE_AND_AUDIO, terms=_OWN_TERMS,
    ),
    CorpusKind(
        "lhotse", "Lhotse cut set", "layout", "lhotse", source="cuts.jsonl or cuts.jsonl.gz",
        example="anadil import lhotse cuts.jsonl.gz --lang sw --out data/sw", takes=_LANGUAGE_AND_AUDIO, terms=_OWN_TERMS,
    ),
    CorpusKind(
        "hf", "Hugging Face dataset", "layout", "huggingface",
        source="a dataset saved on disk, or its name on the Hub",
        example="anadil import hf OWNER/DATASET --lang sw --out data/sw", is_file=False,
        takes=(*_LANGUAGE_AND_AUDIO, *_COLUMNS), terms="as the dataset's card says", get="pip install 'anadil[hf]'",
    ),
    CorpusKind(
        "nemo", "NeMo manifest", "layout", "nemo", source="manifest.json or .jsonl",
        example="anadil import nemo manifest.json --lang sw --out data/sw", takes=_LANGUAGE_AND_AUDIO, terms=_OWN_TERMS,
    ),
    CorpusKind(
        "ljspeech", "LJSpeech's layout: metadata.csv and wavs/", "layout", "ljspeech",
        source="the folder with metadata.csv", example="anadil import ljspeech LJSpeech-1.1 --lang en --out data/en",
        takes=_LANGUAGE_AND_AUDIO, terms=_OWN_TERMS,
    ),
    CorpusKind(
        "folder", "Folder of audio with texts of the same name (a.wav, a.txt)", "layout", "folder",
        source="the folder", example="anadil import folder recordings --lang mdw --out data/mdw",
        takes=_LANGUAGE_AND_AUDIO, terms=_OWN_TERMS,
    ),
    CorpusKind(
        "table", "Any table: CSV, TSV, XLSX", "layout", "table", source="the file",
        example="anadil import table sheet.xlsx --audio-column file --text-column sentence --lang mdw --out data/mdw",
        takes=(*_LANGUAGE_AND_AUDIO, *_COLUMNS), terms=_OWN_TERMS,
    ),
)  # fmt: skip

ANNOTATIONS = (
    CorpusKind(
        "elan", "ELAN .eaf, SayMore included", "annotation", "elan",
        source="an .eaf file, or a folder of them, such as a SayMore project",
        example="anadil import elan interviews --tier-type utterance --lang mdw --out data/mdw",
        takes=(*_LANGUAGE_AND_AUDIO, "tier", "tier_type"), terms=_OWN_TERMS,
    ),
    CorpusKind(
        "textgrid", "Praat TextGrid", "annotation", "textgrid", source="a .TextGrid file, or a folder of them",
        example="anadil import textgrid interviews --tier words --lang mdw --out data/mdw",
        takes=(*_LANGUAGE_AND_AUDIO, "tier", "tier_type"), terms=_OWN_TERMS,
    ),
    CorpusKind(
        "flextext", "FLEx interlinear texts with times", "annotation", "flextext",
        source="a .flextext file, or a folder of them",
        example="anadil import flextext texts --tier phrase-txt-mdw --lang mdw --out data/mdw",
        takes=(*_LANGUAGE_AND_AUDIO, "tier", "tier_type"), terms=_OWN_TERMS,
    ),
    CorpusKind(
        "toolbox", "Toolbox (Shoebox) texts with times", "annotation", "toolbox",
        source="a .txt, .tbt or .sfm file in standard format, or a folder of them",
        example="anadil import toolbox texts --tier tx --encoding cp1252 --lang mdw --out data/mdw",
        takes=(*_LANGUAGE_AND_AUDIO, "tier", "encoding"), terms=_OWN_TERMS,
    ),
    CorpusKind(
        "exmaralda", "EXMARaLDA basic transcription", "annotation", "exmaralda",
        source="an .exb file, or a folder of them",
        example="anadil import exmaralda interviews --tier-type v --lang mdw --out data/mdw",
        takes=(*_LANGUAGE_AND_AUDIO, "tier", "tier_type"), terms=_OWN_TERMS,
    ),
    CorpusKind(
        "chat", "CHAT (CLAN, TalkBank, CHILDES)", "annotation", "chat", source="a .cha file, or a folder of them",
        example="anadil import chat transcripts --tier CHI --lang mdw --out data/mdw",
        takes=(*_LANGUAGE_AND_AUDIO, "tier", "encoding"), terms=_OWN_TERMS,
    ),
    CorpusKind(
        "audacity", "Audacity labels, exported or in a project", "annotation", "audacity",
        source="a .txt file of labels, an .aup or .aup3 project, or a folder of them",
        example="anadil import audacity talk.txt --audio talk.mp3 --lang mdw --out data/mdw",
        takes=(*_LANGUAGE_AND_AUDIO, "tier"), terms=_OWN_TERMS,
    ),
    *(
        CorpusKind(
            name, title, "annotation", module, source=f"a {suffix} file, or a folder of them",
            example=f"anadil import {name} talk{suffix} --audio talk.mp3 --lang mdw --out data/mdw",
            takes=_LANGUAGE_AND_AUDIO, terms=_OWN_TERMS,
        )
        for name, title, module, suffix in (
            ("transcriber", "Transcriber", "transcriber", ".trs"),
            ("srt", "SubRip subtitles", "subtitles", ".srt"),
            ("vtt", "WebVTT subtitles", "subtitles", ".vtt"),
            ("ctm", "CTM word times", "ctm", ".ctm"),
        )
    ),
)  # fmt: skip

KINDS = CORPORA + LAYOUTS + ANNOTATIONS


def find_kind(name: str) -> CorpusKind:
    """The kind with this name; case is ignored, and "_" equals "-". Raises AnadilError with the nearest name."""
    wanted = name.lower().replace("_", "-")
    known = {kind.name: kind for kind in KINDS}
    if wanted in known:
        return known[wanted]
    near = difflib.get_close_matches(wanted, known, n=1, cutoff=0.5)
    hint = f"did you mean {near[0]!r}?" if near else f"known kinds: {', '.join(known)}"
    raise AnadilError(f"unknown kind of source {name!r}; {hint}\n  next: anadil corpora lists them")
