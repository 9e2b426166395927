"""From a corpus as it is found to a model: import, check, split, train, each as a user runs it."""

from __future__ import annotations

import json
from pathlib import Path

from anadil.manifest import read_manifest
from anadil.models.acoustic import load_model
from tests.support.command_line import succeeds

ROOT = Path(__file__).parents[1]
LABELS = [" ", *"abcçdefgğhıijklmnoöpqrsştuüvwxyz'"]


def test_common_voice_is_imported_checked_split_and_trained_on(shared: Path, tmp_path: Path) -> None:
    """Real clips, of which three were spoiled on the way: one is lost, one is no audio, one lost its text."""
    turkish = shared / "speech/common_voice/tr"
    corpus = tmp_path / "cv-corpus-6.1-2020-12-11/tr"
    (corpus / "clips").mkdir(parents=True)
    clips = sorted((turkish / "clips").iterdir())
    for clip in clips[1:]:
        (corpus / "clips" / clip.name).symlink_to(clip)
    (corpus / "clips" / clips[1].name).unlink()
    (corpus / "clips" / clips[1].name).write_bytes(b"<html>503 Service Unavailable</html>")
    header, *rows = (turkish / "validated.tsv").read_text(encoding="utf-8").splitlines()
    cells = next(row for row in rows if clips[2].name in row).split("\t")
    cells[header.split("\t").index("sentence")] = ""
    rows = ["\t".join(cells) if clips[2].name in row else row for row in rows]
    (corpus / "validated.tsv").write_text("\n".join([header, *rows]) + "\n", encoding="utf-8")

    imported = succeeds("import", "common-voice", corpus.parent, "--out", tmp_path / "in")
    validated = tmp_path / "in/validated.jsonl"
    for reason in ("audio file not found", "not readable as audio", "empty text"):
        assert reason in imported.stdout
    utterances = read_manifest(validated)
    assert len(utterances) == 97 and all(one.duration and one.speaker and one.language == "tr" for one in utterances)
    assert {one.extra["license"] for one in utterances} == {"CC0-1.0"}
    assert len((tmp_path / "in/rejected.jsonl").read_text(encoding="utf-8").splitlines()) == 3

    succeeds("split", validated, "--out", tmp_path / "split")
    splits = {name: tmp_path / f"split/{name}.jsonl" for name in ("train", "valid", "test")}
    told = json.loads(succeeds("check", *splits.values(), "--lang", "tr", "--json").stdout)
    assert {finding["kind"] for finding in told["findings"]} >= {"clipped-audio", "near-silent-audio"}
    assert "shared-speaker" not in json.dumps(told)

    config = ["configs/few-hours.yaml", "language=tr", f"tokenizer.labels={json.dumps(LABELS, ensure_ascii=False)}"]
    files = [f"data.{name}={splits[name]}" for name in ("train", "valid")]
    quick = ["training.epochs=1", "training.batch_seconds=20", "training.accelerator=cpu"]
    succeeds("train", ROOT / config[0], *config[1:], *files, *quick, "--out", tmp_path / "run")
    assert load_model(tmp_path / "run/best").rules.labels == tuple(LABELS)
    assert "CC0-1.0" in (tmp_path / "run/best/README.md").read_text(encoding="utf-8")
