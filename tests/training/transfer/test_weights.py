"""`init`: what is copied from the source, what is refused, and which files a run writes."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import SafetensorError
from torch import Tensor

from anadil.cli.main import main
from anadil.errors import AnadilError
from anadil.models.acoustic import load_model
from anadil.models.conformer import ConformerSettings
from anadil.models.nemo.read import read_nemo
from anadil.text.relatives import label_inits
from anadil.training.config import Config, load_config
from anadil.training.train import train
from anadil.training.transfer import weights as module
from anadil.training.transfer.weights import NOISE, map_rows
from tests.support.micro import BLOCKS, micro_data, write_config
from tests.support.runs import Told
from tests.support.transfer import data_of, log_probs, prepared, spoken, weights_of

HEAD = "decoder.decoder_layers.0."
LABELS = [" ", "a", "b", "c"]  # of the source


# --- the head


@pytest.mark.parametrize("head", ["map", "keep", None])
def test_onto_the_same_alphabet_the_output_is_bit_identical(tmp_path: Path, micro: Path, head: str | None) -> None:
    data = data_of(spoken(tmp_path, micro), micro, init={"head": head})
    mapped = prepared(data | {"tokenizer": {"labels": LABELS}}, tmp_path).acoustic
    assert torch.equal(log_probs(mapped), log_probs(load_model(micro / "run/best").acoustic))


def test_onto_a_permuted_alphabet_the_output_is_permuted(tmp_path: Path, micro: Path) -> None:
    labels = ["c", " ", "b", "a"]
    data = data_of(spoken(tmp_path, micro), micro) | {"tokenizer": {"labels": labels}}
    mapped, source = prepared(data, tmp_path).acoustic, load_model(micro / "run/best").acoustic
    order = [*(LABELS.index(label) for label in labels), 4]
    for name in (HEAD + "weight", HEAD + "bias"):
        assert torch.equal(mapped.network.state_dict()[name], source.network.state_dict()[name][order])
    torch.testing.assert_close(log_probs(mapped), log_probs(source)[:, :, order])


def test_other_labels_of_the_same_number_are_not_the_same_labels(tmp_path: Path, micro: Path) -> None:
    """The classic silent error: shapes agree, but rows belong to other letters."""
    start = prepared(data_of(spoken(tmp_path, micro, "bçx"), micro), tmp_path)
    assert start.rules.labels == (" ", "b", "x", "ç")
    head, source = (
        one[HEAD + "weight"] for one in (start.acoustic.network.state_dict(), weights_of(micro / "run/best"))
    )
    assert torch.equal(head[1], source[2])  # b
    assert not torch.equal(head[3], source[3])  # ç, from c
    torch.testing.assert_close(head[3], source[3], atol=5 * NOISE * float(source.std()), rtol=0)
    assert float((head[2][:, 0] - source[3][:, 0]).norm()) > 2 * float((head[3] - source[3]).norm())  # x: new


OLD = torch.tensor([[1.0, 2.0], [3.0, 5.0], [-4.0, 0.0], [9.0, 9.0]])  # a, b, c, blank


def rows(labels: Sequence[str], seed: int = 0) -> Tensor:
    new = torch.full((len(labels) + 1, 2), 7.0)
    return map_rows(
        new, OLD, label_inits(labels, ["a", "b", "c"]), ["a", "b", "c"], torch.Generator().manual_seed(seed)
    )


def test_rows_of_a_head() -> None:
    near = 5 * NOISE * 3
    found = rows(["c", "á", "à", "bc", "x"])
    assert torch.equal(found[[0, 4, 5]], torch.tensor([[-4.0, 0.0], [7.0, 7.0], [9.0, 9.0]]))  # c, the new x, the blank
    for row, expected in ((1, [1.0, 2.0]), (2, [1.0, 2.0]), (3, [-0.5, 2.5])):  # bc: the mean of b and c
        assert 0 < float((found[row] - torch.tensor(expected)).abs().max()) < near
    assert not torch.equal(found[1], found[2])  # letters from one relative can part
    assert torch.equal(found, rows(["c", "á", "à", "bc", "x"]))
    assert not torch.equal(found, rows(["c", "á", "à", "bc", "x"], seed=1))


def test_a_new_head_is_random(tmp_path: Path, micro: Path) -> None:
    start = prepared(data_of(spoken(tmp_path, micro), micro, init={"head": "new"}), tmp_path)
    source, own = weights_of(micro / "run/best"), start.acoustic.network.state_dict()
    assert all(torch.equal(own[name], source[name]) != name.startswith(HEAD) for name in own)
    assert start.start is not None and start.start.new == start.start.unused == [HEAD + "weight", HEAD + "bias"]


# --- the config


def test_missing_sections_come_from_the_source(tmp_path: Path, micro: Path) -> None:
    told = Told()
    start = prepared(data_of(spoken(tmp_path, micro, "açb"), micro), tmp_path, told)
    config, source = start.config, load_config(micro / "run/best/config.yaml")
    assert (config.features, config.model) == (source.features, source.model)
    assert config.init is not None and config.init.head == "map"
    assert config.tokenizer.labels == [" ", "a", "b", "ç"]
    said = "\n".join(told.said)
    assert "copied: ' ', 'a', 'b'\n  from a relative: 'ç' <- c" in said and "not used" not in said
    assert told.tables == [f"Start from {micro / 'run/best'}"]


def test_the_same_language_keeps_head_labels_and_text_rules(tmp_path: Path, micro: Path) -> None:
    manifest = micro / "train.jsonl"
    data = micro_data(manifest, epochs=1) | {"text": {"lowercase": False, "map": {"x": "c"}}}
    train(Config.model_validate(data), tmp_path / "source")
    few = spoken(tmp_path, micro, "aab")  # no c, which the model must not forget
    data = data_of(few, micro, "en", {"from": str(tmp_path / "source/last")}) | {"tokenizer": {"labels": "auto"}}
    start = prepared(data, tmp_path)
    assert start.config.init is not None and start.config.init.head == "keep"
    assert start.rules.labels == (" ", "a", "b", "c")
    assert start.rules.normalize("Abx") == "Abc"
    again = prepared(data | {"text": start.config.text.model_dump(), "tokenizer": {"labels": LABELS}}, tmp_path)
    assert again.rules == start.rules  # written out, and the same: nothing to refuse


@pytest.mark.parametrize(
    ("init", "written", "steps"),
    [
        ({}, None, 0),
        ({"freeze": "encoder"}, None, 0),
        ({"head": "new"}, None, 0),
        ({"head": "new", "freeze": "encoder"}, None, 100),
        ({"head": "new", "freeze": "encoder"}, 0, 0),
        ({}, 7, 7),
    ],
)
def test_the_flat_start_is_for_a_new_head_on_a_frozen_encoder(
    tmp_path: Path, micro: Path, init: dict[str, Any], written: int | None, steps: int
) -> None:
    data = data_of(spoken(tmp_path, micro), micro, init=init)
    if written is not None:
        data["training"]["flat_start_steps"] = written
    assert prepared(data, tmp_path).config.training.flat_start_steps == steps


def test_a_single_key_changes_the_sources_model(tmp_path: Path, micro: Path) -> None:
    data = micro_data(micro / "train.jsonl", epochs=1) | {"model": {"preset": "small", "dropout": 0.1}, "features": {}}
    train(Config.model_validate(data), tmp_path / "source")
    data = data_of(spoken(tmp_path, micro), micro, init={"from": str(tmp_path / "source/last")})
    model = prepared(data | {"model": {"dropout": 0.3}}, tmp_path).config.model
    assert (model.preset, model.dropout) == ("small", 0.3)

    source = tmp_path / "conformer"
    small = {"kind": "conformer", "n_layers": 1, "d_model": 16, "dropout": 0.1}
    conformer = micro_data(micro / "train.jsonl", epochs=1) | {"model": small}
    train(Config.model_validate(conformer), source)
    again = data_of(spoken(tmp_path, micro), micro, init={"from": str(source / "last")})
    changed = prepared(again | {"model": {"kind": "conformer", "dropout": 0.3}}, tmp_path).config.model
    assert isinstance(changed, ConformerSettings) and (changed.d_model, changed.dropout) == (16, 0.3)
    assert prepared(again, tmp_path).config.model.kind == "conformer"
    assert prepared(again | {"model": {"dropout": 0.2}}, tmp_path).config.model == changed.model_copy(
        update={"dropout": 0.2}
    )  # whatever keys both families have


def test_a_nemo_archive_is_a_source(tmp_path: Path, micro: Path, shared: Path) -> None:
    archive = shared / "reference/nemo/quartznet_char/model.nemo"
    start = prepared(data_of(spoken(tmp_path, micro), micro, init={"from": str(archive)}), tmp_path)
    source = read_nemo(archive).loaded
    encoder = [name for name in source.acoustic.network.state_dict() if name.startswith("encoder.")]
    assert start.start is not None and start.start.loaded == encoder
    ours, theirs = start.acoustic.network.state_dict(), source.acoustic.network.state_dict()
    assert torch.equal(
        ours[HEAD + "weight"][start.rules.labels.index("b")], theirs[HEAD + "weight"][source.rules.labels.index("b")]
    )


def test_subwords_are_kept_with_their_tokenizer(tmp_path: Path, micro: Path) -> None:
    data = micro_data(micro / "train.jsonl", epochs=1) | {"tokenizer": {"kind": "unigram", "size": 8}}
    train(Config.model_validate(data), tmp_path / "source")
    rules = load_model(tmp_path / "source/last").rules
    again = data_of(spoken(tmp_path, micro), micro, "en", {"from": str(tmp_path / "source/last")})
    kept = prepared(again, tmp_path)
    assert kept.rules == rules and kept.rules.subwords
    train(kept.config.model_copy(update={"text": Config.model_validate(again).text}), tmp_path / "run")
    assert load_model(tmp_path / "run/last").rules == rules
    with pytest.raises(AnadilError, match=r"tokenizer.kind is char, in .*last unigram"):
        prepared(again | {"tokenizer": {"kind": "char"}}, tmp_path)
    mapped = prepared(again | {"tokenizer": {"kind": "char"}, "init": again["init"] | {"head": "map"}}, tmp_path)
    assert mapped.rules.labels == (" ", "a", "b", "c") and not mapped.rules.subwords


THINNER = [{**BLOCKS[0], "filters": 8}, *BLOCKS[1:]]


@pytest.mark.parametrize(
    ("language", "changes", "message"),
    [
        ("en", {"tokenizer": {"labels": [" ", "a", "b", "d"]}}, r"has 'd', which the source lacks\n.*lacks 'c' of the source"),
        ("en", {"text": {"lowercase": False}}, r"text.lowercase is False, in .*best True\n  next: .*init.head=map"),
        ("EN", {"text": {"drop": "a"}}, r"text.drop is 'a'"),
        ("und", {"tokenizer": {"labels": ["a"]}, "head": "keep"}, r"init.head=keep.*\n  tokenizer.labels lacks ' ', 'b'"),
        ("und", {"features": {"mels": 40}}, r"features.mels is 40, in .*best 20\n  next: .*init.other_features=true"),
        ("und", {"features": {"normalize": "none", "window_size": 0.025}}, r"(?s)window_size is 0.025.*normalize is none"),
        ("und", {"model": {"blocks": THINNER}}, r"(?s)\d+ tensors do not fit, \d+ do\n  encoder.encoder.0.*: 8 x .*partial"),
        ("und", {"model": {"blocks": BLOCKS[:2]}}, r"encoder.encoder.2.*: missing here, 16 x .* in the source"),  # shorter
        ("und", {"from": "nowhere"}, r"model not found: nowhere"),
    ],
)  # fmt: skip
def test_what_contradicts_the_source_is_refused(
    tmp_path: Path, micro: Path, language: str, changes: dict[str, Any], message: str
) -> None:
    init = {key: changes.pop(key) for key in ("head", "from") if key in changes}
    data = data_of(spoken(tmp_path, micro), micro, language, init) | changes
    with pytest.raises(AnadilError, match=message):
        prepared(data, tmp_path)


def test_equivalent_features_are_not_refused(tmp_path: Path, micro: Path) -> None:
    data = data_of(spoken(tmp_path, micro), micro)
    start = prepared(data | {"features": {"n_fft": 512, "high_hz": 8000, "dither": 0.1}}, tmp_path)
    assert (start.config.features.mels, start.config.features.dither) == (20, 0.1)


def test_a_part_of_the_encoder_and_other_features_are_allowed_on_request(tmp_path: Path, micro: Path) -> None:
    data = data_of(spoken(tmp_path, micro), micro, init={"partial": True, "other_features": True})
    told = Told()
    data |= {"model": {"blocks": [*BLOCKS, BLOCKS[-1]]}, "features": {"window": "hamming"}}
    start = prepared(data, tmp_path, told)
    assert start.config.features.window == "hamming" and start.config.features.mels == 20
    assert start.start is not None and {name.split(".")[2] for name in start.start.new} == {"3"}
    assert torch.equal(start.acoustic.network.state_dict()["encoder.encoder.1.mconv.1.conv.weight"],
                       weights_of(micro / "run/best")["encoder.encoder.1.mconv.1.conv.weight"])  # fmt: skip


@pytest.mark.parametrize(
    ("inside", "message"), [("run", r"it is a run\n  next: init.from=.*run/best"), ("", "no model folder")]
)
def test_a_folder_that_is_no_model_is_refused(tmp_path: Path, micro: Path, inside: str, message: str) -> None:
    with pytest.raises(AnadilError, match=message):
        prepared(data_of(spoken(tmp_path, micro), micro, init={"from": str(micro / inside)}), tmp_path)


def test_a_run_does_not_replace_its_own_source(tmp_path: Path, micro: Path) -> None:
    shutil.copytree(micro / "run/best", tmp_path / "run/best")
    data = data_of(spoken(tmp_path, micro), micro, init={"from": str(tmp_path / "run/best")})
    with pytest.raises(AnadilError, match=r"is in .*run, which this run replaces"):
        train(Config.model_validate(data), tmp_path / "run", force=True)
    assert load_model(tmp_path / "run/best").name == "micro"


def test_an_exported_folder_cannot_be_trained(tmp_path: Path, micro: Path, exported: Path) -> None:
    with pytest.raises(AnadilError, match="exported folder, which cannot be trained"):
        prepared(data_of(spoken(tmp_path, micro), micro, init={"from": str(exported)}), tmp_path)


# --- a run


def test_a_resumed_run_from_the_command_line_does_not_need_its_source(
    tmp_path: Path, micro: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(micro / "run/best", tmp_path / "source")
    manifest = spoken(tmp_path, micro, "áçb")
    data = data_of(manifest, micro)
    del data["init"]
    config = write_config(tmp_path / "config.yaml", data)
    out = tmp_path / "run"
    told = [f"init.from={tmp_path / 'source'}", "language=tr", "init.freeze=encoder", "--out", str(out)]
    monkeypatch.setattr("sys.argv", ["anadil", "train", str(config), *told])
    with pytest.raises(SystemExit) as end:
        main()
    assert end.value.code in (0, None)
    shutil.rmtree(tmp_path / "source")
    model = load_model(out / "best")
    assert model.rules.labels == (" ", "b", "á", "ç")
    saved = load_config(out / "best/config.yaml").init
    assert saved is not None and saved.from_ == str(tmp_path / "source") and saved.head == "map"
    assert f"| started from | {tmp_path / 'source'} (head: map) |" in (out / "best/README.md").read_text(
        encoding="utf-8"
    )
    account = json.loads((out / "init.json").read_text(encoding="utf-8"))
    assert account["labels"][2] == {"label": "á", "kind": "relative", "sources": ["a"]}
    assert account["mapped"] == [HEAD + "weight", HEAD + "bias"] and account["new"] == account["unused"] == []
    assert account["source"]["labels"] == LABELS
    assert set(account["loaded"]) == {name for name in model.acoustic.network.state_dict() if not name.startswith(HEAD)}


def test_a_source_trained_on_the_same_recordings_saves_steps(tmp_path: Path, micro: Path) -> None:
    """The same recordings with other letters: mapped letters are recognised; a new head on a frozen encoder learns them."""
    manifest = spoken(tmp_path, micro, "áćb")  # b is spoken c
    run = train(Config.model_validate(data_of(manifest, micro)), tmp_path / "mapped")
    data = data_of(manifest, micro)
    del data["init"]
    scratch = data | {"features": {"mels": 20}, "model": {"blocks": BLOCKS}}
    from_scratch = train(Config.model_validate(scratch), tmp_path / "scratch")
    assert run.best is not None and from_scratch.best is not None
    assert run.best.cer < 0.6 < from_scratch.best.cer


def test_a_run_from_scratch_leaves_nothing_of_an_earlier_transfer(tmp_path: Path, micro: Path) -> None:
    data = data_of(spoken(tmp_path, micro), micro, init={"l2_sp": 0.1})
    train(Config.model_validate(data), tmp_path / "run")
    of_transfer = {"init.json", "start.safetensors"}
    assert of_transfer <= {path.name for path in (tmp_path / "run").iterdir()}
    train(Config.model_validate(micro_data(micro / "train.jsonl", epochs=1)), tmp_path / "run", force=True)
    assert not of_transfer & {path.name for path in (tmp_path / "run").iterdir()}


def test_a_full_disk_at_the_start_is_a_plain_message(
    tmp_path: Path, micro: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*arguments: object) -> None:
        raise SafetensorError("No space left on device")

    monkeypatch.setattr(module, "save_file", full)
    data = data_of(spoken(tmp_path, micro), micro, init={"l2_sp": 0.1})
    with pytest.raises(AnadilError, match=r"could not write .*start.safetensors.*No space left"):
        train(Config.model_validate(data), tmp_path / "run")
