"""The examples that train on shared speech, on a little of it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

from anadil.manifest import read_manifest
from anadil.models.acoustic import load_model
from tests.support.lines import write_lines

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "examples"))


def few_of(shared: Path, folder: Path) -> Path:
    """The shared speech in a folder, with few of the recordings."""
    speech = folder / "speech"
    for manifest, every in (("mboshi/train", 60), ("mboshi/valid", 40), ("english/train", 10)):
        lines = [
            {"audio_filepath": one.audio_filepath, "text": one.text, "duration": one.duration, "speaker": one.speaker}
            for one in read_manifest(shared / f"speech/{manifest}.jsonl")[::every]
        ]
        (speech / manifest).parent.mkdir(parents=True, exist_ok=True)
        write_lines(speech / f"{manifest}.jsonl", lines)
    shutil.copytree(shared / "speech/common_voice", speech / "common_voice", ignore=shutil.ignore_patterns("clips"))
    return folder


def run_example(script: str, out: Path, shared: Path, **environment: str) -> None:
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    done = subprocess.run(
        ["bash", f"examples/{script}", str(out)],
        cwd=ROOT, env=os.environ | environment | {"PATH": path, "ANADIL_SHARED": str(shared)}, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr


@pytest.mark.slow
def test_scratch_against_transfer(tmp_path: Path, shared: Path) -> None:
    run_example(
        "scratch_vs_transfer.sh", tmp_path / "out", few_of(shared, tmp_path / "shared"),
        SOURCE_HOURS="0.003", SOURCE_MINUTES="0.05", EPOCHS="1", FRACTIONS="50", SEEDS="0 1", WAYS="scratch frozen",
    )  # fmt: skip
    table = (tmp_path / "out/table.md").read_text(encoding="utf-8")
    assert table.startswith("| valid CER | 0.03 h (50 %) |\n|---|---|\n| from scratch | ") and table.count("(2)") == 2
    assert "encoder frozen for a quarter" in (tmp_path / "out/plot.svg").read_text(encoding="utf-8")
    start = (tmp_path / "out/frozen-50-0/init.json").read_text(encoding="utf-8")
    assert '"label": "á", "kind": "relative"' in start.replace("\n", "").replace("  ", "")
    spoken = {one.language for name in ("lg", "tr", "en") for one in
              read_manifest(tmp_path / f"out/source-speech/{name}/train.jsonl")}  # fmt: skip
    assert spoken == {"lg", "tr", "en"}


@pytest.mark.slow
def test_source_model(tmp_path: Path, shared: Path) -> None:
    out = tmp_path / "out"
    run_example(
        "source_model.sh", out, few_of(shared, tmp_path / "shared"), MINUTES="0.1", HOURS="0.01", ONLY="rw,zh-CN"
    )
    spoken = read_manifest(out / "speech/train.jsonl")
    assert {one.language for one in spoken} == {"und-fonipa"}
    assert {one.speaker.split("-")[0] for one in spoken if one.speaker} == {"english", "rw", "zh"}
    with tarfile.open(out / "source-model.tar.gz") as archive:
        archive.extractall(tmp_path, filter="data")
    model = load_model(tmp_path / "best")
    assert model.rules.language == "und-fonipa" and {"ʃ", "ŋ", "ə"} < set(model.rules.labels)


@pytest.mark.parametrize(
    ("phonemes", "text"),
    [
        ("həlˈoʊ wˈɜːld", "həloʊ wɜld"),
        ("wˈeekænd (en)wˈiːkɛnd(tr) ʃɑ̃sˈɔ̃", "weekænd wikɛnd ʃɑsɔ"),
        ("ni2χˈɑu2 s.ˈi.5 ɡʰᵻ", "niχɑu si gɨ"),
    ],
)
def test_transcripts_have_letters_alone(phonemes: str, text: str) -> None:
    from phonetic_speech import letters

    assert letters(phonemes) == text


def test_mixed_sentences_have_the_words_of_the_language() -> None:
    from phonetic_speech import MIXED, with_mixed

    texts = ["bir iki üç dört", "beş altı yedi sekiz"]
    mixed = with_mixed(texts, seed=0)
    assert (
        mixed[:2] == texts
        and len(mixed) == 2 + MIXED
        and mixed == with_mixed(texts, seed=0) != with_mixed(texts, seed=1)
    )
    assert {word for text in mixed for word in text.split()} == set(" ".join(texts).split())
    assert with_mixed(["你好世界"], seed=0) == ["你好世界"]


def test_the_interval_is_students() -> None:
    from scratch_vs_transfer import interval

    assert interval([0.4]) == 0
    assert interval([1.0, 2.0, 3.0]) == pytest.approx(4.30 / 3**0.5, rel=1e-3)
