from __future__ import annotations

import io
import tarfile
from pathlib import Path

import pytest
import torch
import yaml

from anadil.errors import AnadilError
from anadil.models.acoustic import AcousticModel, load_model, save_model
from anadil.models.features import FeatureSettings
from anadil.models.nemo.archive import read_archive
from anadil.models.nemo.read import read_nemo
from anadil.models.nemo.write import write_nemo
from anadil.models.quartznet import QuartzNetSettings
from anadil.training.monitoring.report import Silent
from anadil.training.transfer.convert import convert
from tests.support.nemo_models import REFERENCE, audio, golden, write_case

HYBRID = "hybrid"


@pytest.mark.parametrize("name", list(golden()[0]))
def test_a_round_trip_loses_nothing(name: str, tmp_path: Path) -> None:
    source = write_case(tmp_path / "m.nemo", name)
    convert(source, tmp_path / "m", Silent())
    write_nemo(tmp_path / "m", tmp_path / "back.nemo")
    there, back = read_archive(source), read_archive(tmp_path / "back.nemo")
    heads = ("decoder.", "joint.") if name == HYBRID else ("-",)
    expected = {one.removeprefix("ctc_"): value for one, value in there.weights.items() if not one.startswith(heads)}
    features = {one for one in back.weights if one.startswith("preprocessor.featurizer.")}
    assert features == {"preprocessor.featurizer.window", "preprocessor.featurizer.fb"}
    assert set(back.weights) - features == set(expected)
    tied = "pos_bias" if "shared positions" in name else "-"  # one for all layers, whatever the archive holds
    assert all(torch.equal(back.weights[one], value) for one, value in expected.items() if tied not in one)
    waveforms, counts = audio()
    with torch.no_grad():
        wanted = read_nemo(source).loaded.acoustic(waveforms, counts)
        for again in (read_nemo(tmp_path / "back.nemo").loaded, load_model(tmp_path / "m")):
            assert torch.equal(again.acoustic(waveforms, counts)[0], wanted[0])
    assert "aux_ctc" not in back.config and "joint" not in back.config


@pytest.mark.parametrize("family", REFERENCE)
def test_an_archive_keeps_its_tokenizer_and_its_other_sections(family: str, shared: Path, tmp_path: Path) -> None:
    source = shared / "reference/nemo" / family / "model.nemo"
    convert(source, tmp_path / "m", Silent())
    write_nemo(tmp_path / "m", tmp_path / "back.nemo")
    there, back = read_archive(source), read_archive(tmp_path / "back.nemo")
    assert sorted(back.artifacts.values()) == sorted(there.artifacts.values())
    for key in ("target", "optim", "decoding", "spec_augment", "labels", "sample_rate"):
        assert back.config.get(key) == there.config.get(key)
    assert back.config["decoder"]["vocabulary"] == there.config["decoder"]["vocabulary"]
    if "tokenizer" in there.config:
        for option in ("model_path", "vocab_path", "spe_tokenizer_vocab"):
            assert back.config["tokenizer"][option].removeprefix("nemo:") in back.artifacts
    assert set(there.weights) == set(back.weights)
    with tarfile.open(tmp_path / "back.nemo", "r:") as tar:  # plain, as NeMo reads fastest
        assert tar.getnames()[0] == "./model_config.yaml"
        written = tar.extractfile("./model_config.yaml")
        assert written is not None and yaml.safe_load(io.BytesIO(written.read()))["encoder"]["feat_in"] > 0


def test_blocks_without_counterpart_in_nemo_are_an_error(tmp_path: Path) -> None:
    acoustic = AcousticModel(FeatureSettings(), QuartzNetSettings(preset="small-2d"), 2)
    config = {"language": "und", "model": {"preset": "small-2d"}, "tokenizer": {"labels": [" ", "a"]}}
    save_model(tmp_path / "m", acoustic, yaml.safe_dump(config), "")
    with pytest.raises(AnadilError, match=r"m: a stem, .* no counterpart in NeMo\n  next: .*preset=small"):
        write_nemo(tmp_path / "m", tmp_path / "m.nemo")


def test_models_without_counterpart_in_nemo_are_an_error(shared: Path, tmp_path: Path) -> None:
    convert(shared / "reference/nemo/citrinet_bpe/model.nemo", tmp_path / "m", Silent())
    config = tmp_path / "m/config.yaml"
    before = config.read_text(encoding="utf-8")
    (tmp_path / "m/tokenizer.model").rename(tmp_path / "tokenizer.model")
    with pytest.raises(AnadilError, match=r"tokenizer\.model is missing"):
        write_nemo(tmp_path / "m", tmp_path / "back.nemo")
    (tmp_path / "tokenizer.model").rename(tmp_path / "m/tokenizer.model")
    config.write_text(before.replace("' m'", "' q'"), encoding="utf-8")
    with pytest.raises(AnadilError, match="its subwords are not the labels"):
        write_nemo(tmp_path / "m", tmp_path / "back.nemo")
    config.write_text(before.replace("window: hann", "window: ones"), encoding="utf-8")
    with pytest.raises(AnadilError, match="window: ones"):
        write_nemo(tmp_path / "m", tmp_path / "back.nemo")
    assert not (tmp_path / "back.nemo").exists()
    config.write_text(before, encoding="utf-8")
    write_nemo(tmp_path / "m", tmp_path / "back.nemo")
    with pytest.raises(AnadilError, match="exists already"):
        write_nemo(tmp_path / "m", tmp_path / "back.nemo")
    assert read_nemo(tmp_path / "back.nemo").files == read_nemo(shared / "reference/nemo/citrinet_bpe/model.nemo").files
