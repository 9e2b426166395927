from __future__ import annotations

import importlib.util
import inspect
import re
from dataclasses import fields

import pytest
from typer.main import get_command

from anadil.cli.main import app
from anadil.corpora.catalog import KINDS, CorpusKind, find_kind
from anadil.corpora.importing import option_flag
from anadil.corpora.reader import Options
from anadil.errors import AnadilError

by_name = pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)


@by_name
def test_each_kind_has_a_module_with_a_reader(kind: CorpusKind) -> None:
    if importlib.util.find_spec(f"anadil.corpora.{kind.module}") is None:
        pytest.skip(f"{kind.module}.py is not there yet")
    assert list(inspect.signature(kind.reader()).parameters) == ["source", "options", "reject"]
    if kind.fetched:
        assert list(inspect.signature(kind.downloader()).parameters) == ["language", "parts", "out", "progress"]
        return
    with pytest.raises(AnadilError, match=f"{kind.name} cannot be downloaded\n  these can: common-voice, voxforge"):
        kind.downloader()


@by_name
def test_each_kind_has_all_facts(kind: CorpusKind) -> None:
    assert kind.title and kind.source and kind.terms
    assert set(kind.takes) <= {field.name for field in fields(Options)} and kind.takes[0] == "language"
    assert (kind.license != "" and kind.get != "") == (kind.sort == "corpus") == kind.fetched
    assert re.fullmatch(r"anadil import [a-z-]+ \S+ .*--out \S+", kind.example)
    assert kind.example.split()[2] == kind.name


@by_name
def test_the_commands_in_the_catalogue_have_only_known_options(kind: CorpusKind) -> None:
    commands = get_command(app).commands  # type: ignore[attr-defined]
    known = {
        verb: {name for option in commands[verb].params for name in option.opts} for verb in ("import", "download")
    }
    assert set(re.findall(r"--[\w-]+", kind.example)) <= known["import"]
    assert set(re.findall(r"--[\w-]+", kind.example)) <= {*map(option_flag, kind.takes), "--out"}
    assert set(re.findall(r"--[\w-]+", kind.get)) <= known["download"]


def test_a_kind_is_found_in_any_spelling() -> None:
    assert find_kind("Common_Voice") is find_kind("common-voice") is KINDS[0]
    assert len({kind.name for kind in KINDS}) == len(KINDS)
    with pytest.raises(AnadilError, match=r"unknown kind of source 'commonvoice'; did you mean 'common-voice'\?"):
        find_kind("commonvoice")
    with pytest.raises(AnadilError, match="known kinds: common-voice, voxforge, .*ctm\n  next: anadil corpora"):
        find_kind("xyz")
