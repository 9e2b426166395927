"""wav2vec 2.0, HuBERT and w2v-BERT compared with transformers; vocabularies; refusals."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from anadil.errors import AnadilError
from anadil.export.onnx import trace, verify
from anadil.models.acoustic import AcousticModel
from anadil.models.features import FeatureSettings
from anadil.models.hugging_face.network import FilterBank, HuggingFace, W2vBertSettings, Wav2Vec2Settings, Waveform
from anadil.models.hugging_face.read import read_hugging_face
from anadil.models.hugging_face.vocabulary import is_hub_id, is_hugging_face, read_vocabulary
from anadil.models.summary import count_parameters, layer_table
from tests.support.hugging_face import (
    CASES,
    CONVOLUTIONS,
    SIZE,
    VOCAB,
    build,
    extractor,
    log_probs,
    speech,
    write,
    write_mms,
)
from tests.support.labels import decoded

LENGTHS = (16000, 9003)
ORDER = [1, 2, 3, 4, 5, 6, 7, 0]  # the blank goes last


def batch(*lengths: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Runs a batch whose padding is noise, not zeros."""
    waveforms = torch.full((len(lengths), max(lengths)), 0.3)
    for i, n in enumerate(lengths):
        waveforms[i, :n] = torch.from_numpy(speech(n, seed=i))
    return waveforms, torch.tensor(lengths)


def run_model(acoustic: AcousticModel, *lengths: int) -> tuple[torch.Tensor, list[int]]:
    with torch.no_grad():
        found, counts = acoustic(*batch(*lengths))
    return found, counts.tolist()


# --- agreement with transformers


@pytest.mark.parametrize("case", CASES)
def test_log_probs_equal_those_of_transformers_alone_and_in_a_batch(case: str, tmp_path: Path) -> None:
    theirs = write(tmp_path, case)
    acoustic = read_hugging_face(str(tmp_path)).loaded.acoustic
    found, counts = run_model(acoustic, *LENGTHS)
    assert counts == [acoustic.frame_count(n) for n in LENGTHS]
    for i, (n, count) in enumerate(zip(LENGTHS, counts, strict=True)):
        expected = log_probs(theirs, case, speech(n, seed=i))
        assert abs(len(expected) - count) <= (1 if "bert" in case else 0)  # it counts half a pair of frames
        torch.testing.assert_close(found[i, :count], expected[:count, ORDER], atol=1e-4, rtol=0)
    columns, rows = layer_table(acoustic)
    assert {len(row) for row in rows} == {len(columns)}
    *parts, total = [int(row[-1].replace(",", "")) for row in rows]
    assert sum(parts) == total == count_parameters(theirs)


@pytest.mark.parametrize("case", ["wav2vec2", "mms", "hubert", "w2v-bert", "w2v-bert rotary", "w2v-bert adapter"])
def test_one_graph_from_waveform_to_log_probs(case: str, tmp_path: Path) -> None:
    write(tmp_path, case)
    acoustic = read_hugging_face(str(tmp_path)).loaded.acoustic
    run_model(acoustic, 16000, 11200)  # of the traced length: nothing of it may be kept in the graph
    trace(acoustic, tmp_path / "model.onnx")
    assert (
        verify(acoustic.eval(), tmp_path / "model.onnx") < 3e-4
    )  # batches, and lengths up to 60 s, that were not traced


@pytest.mark.parametrize("n", [560, 8000, 16123])
def test_features_of_w2v_bert_are_those_of_its_extractor(n: int) -> None:
    samples = speech(n) + np.float32(0.2)  # a recording with an offset
    front = FilterBank(W2vBertSettings())
    features, counts = front(torch.from_numpy(samples)[None], torch.tensor([n]))
    assert counts.tolist() == [front.frame_count(n)]
    theirs = extractor("w2v-bert")(samples, sampling_rate=16000, return_tensors="np")["input_features"][0]
    np.testing.assert_allclose(features[0].T.numpy(), theirs[: counts[0]], atol=1e-3)
    assert features.shape[1] == 160 and bool(torch.isfinite(features).all())


def test_frame_counts_match_the_output() -> None:
    for case in ("wav2vec2", "w2v-bert adapter"):
        theirs = build(case)
        kind = {"wav2vec2": Wav2Vec2Settings, "w2v-bert adapter": W2vBertSettings}[case]
        keys = {key: getattr(theirs.config, key) for key in kind.model_fields if hasattr(theirs.config, key)}
        acoustic = AcousticModel(FeatureSettings(), kind.model_validate(keys), 3).eval()
        lengths = [acoustic.min_samples, *range(2000, 9000, 701)]
        found, counts = run_model(acoustic, *lengths)
        assert counts == [acoustic.frame_count(n) for n in lengths] and min(counts) == 1
        assert acoustic.frame_count(acoustic.min_samples - acoustic.features.hop) < 1 and found.shape[1] == max(counts)
        assert acoustic.frame_s == pytest.approx(0.02 if case == "wav2vec2" else 0.08)


def test_a_waveform_is_normalised_by_itself() -> None:
    waveforms, counts = batch(*LENGTHS)
    features, _ = Waveform(Wav2Vec2Settings())(waveforms, counts)
    for row, n in zip(features[:, 0], LENGTHS, strict=True):
        assert float(row[:n].mean()) == pytest.approx(0, abs=1e-5) and float(row[:n].std()) == pytest.approx(
            1, abs=1e-3
        )
        assert not row[n:].any()
    plain, _ = Waveform(Wav2Vec2Settings(do_normalize=False))(waveforms, counts)
    assert torch.equal(plain[1, 0, :9003], waveforms[1, :9003])


def test_spec_augment_follows_the_projection_and_masked_frames_are_the_learned_vector(tmp_path: Path) -> None:
    write(tmp_path, "xls-r")
    acoustic = read_hugging_face(str(tmp_path)).loaded.acoustic
    seen: list[Any] = []

    def hide(features: torch.Tensor, counts: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        seen.append((tuple(features.shape), counts.tolist()))
        hidden = features.index_fill(2, torch.tensor([3, 4]), 0.0).index_fill(1, torch.tensor([1]), 0.0)
        return torch.cat([hidden, features]), counts.repeat(2)

    network = acoustic.network
    assert isinstance(network, HuggingFace)
    layers: list[torch.Tensor] = []
    network.encoder.encoder.register_forward_pre_hook(lambda module, args: layers.append(args[0].clone()))
    log_probs, frame_counts = acoustic(*batch(8000, 4000), hide)
    assert seen == [((2, 16, acoustic.frame_count(8000)), [acoustic.frame_count(n) for n in (8000, 4000)])]
    first, again = layers[0].chunk(2)
    assert torch.equal(first[:, 3:5], network.encoder.masked_spec_embed.expand(2, 2, 16))
    assert not first[:, 5:, 1].any() and first[:, 5:, 2].all() and again.all()
    # a batch that augmentation returns twice gives two outputs
    assert len(log_probs) == 4 and frame_counts.tolist() == 2 * [acoustic.frame_count(n) for n in (8000, 4000)]
    torch.testing.assert_close(log_probs[2:], acoustic(*batch(8000, 4000))[0])


# --- MMS


def test_mms_takes_the_adapter_and_the_head_of_a_language(tmp_path: Path) -> None:
    theirs = write_mms(tmp_path)
    model = read_hugging_face(str(tmp_path), "tr", "tur")
    assert model.loaded.rules.labels == ("<s>", "</s>", "<unk>", " ", "a", "b", "c", "ş")
    again = type(theirs).from_pretrained(tmp_path)
    again.load_adapter("tur")
    found, (count,) = run_model(model.loaded.acoustic, 16000)
    expected = log_probs(again.eval(), "mms", speech(16000))
    torch.testing.assert_close(found[0], expected[:, [1, 2, 3, 4, 5, 6, 7, 8, 0]], atol=1e-4, rtol=0)
    other, _ = run_model(read_hugging_face(str(tmp_path), "en", "eng").loaded.acoustic, 16000)
    assert other.shape[2] == 8 and count == other.shape[1]


@pytest.mark.parametrize(
    ("adapter", "message"),
    [
        (None, r"2 languages, each with its own adapter; there are eng, tur\n  next: .*--adapter CODE"),
        ("tuk", r"no language 'tuk'; there are tur\n"),
        ("../eng", "no language code"),
        ("eng", "cannot load it"),
    ],
)
def test_an_unknown_language_of_mms_is_refused(tmp_path: Path, adapter: str | None, message: str) -> None:
    write_mms(tmp_path)
    (tmp_path / "adapter.eng.safetensors").write_bytes(b"cut off")
    with pytest.raises(AnadilError, match=message):
        read_hugging_face(str(tmp_path), adapter=adapter)


# --- folders


def test_a_pickled_checkpoint_with_old_names_is_read_and_code_in_it_is_not_run(tmp_path: Path) -> None:
    theirs = write(tmp_path, "xls-r")
    weights = load_file(tmp_path / "model.safetensors")
    (tmp_path / "model.safetensors").unlink()
    old = {"parametrizations.weight.original0": "weight_g", "parametrizations.weight.original1": "weight_v"}
    for new, name in old.items():
        weights = {key.replace(new, name): tensor for key, tensor in weights.items()}
    torch.save(weights, tmp_path / "pytorch_model.bin")
    found, _ = run_model(read_hugging_face(str(tmp_path)).loaded.acoustic, 16000)
    torch.testing.assert_close(found[0], log_probs(theirs, "xls-r", speech(16000))[:, ORDER], atol=1e-4, rtol=0)

    class Evil:
        def __reduce__(self) -> Any:
            return Path.touch, (tmp_path / "ran",)

    torch.save({"lm_head.weight": Evil()}, tmp_path / "pytorch_model.bin")
    with pytest.raises(AnadilError, match="cannot load it"):
        read_hugging_face(str(tmp_path))
    assert not (tmp_path / "ran").exists()


def test_a_base_model_has_no_head_and_unused_weights_are_reported(tmp_path: Path) -> None:
    write(
        tmp_path, "xls-r", head="ForPreTraining", num_codevectors_per_group=4, codevector_dim=8, proj_codevector_dim=8
    )
    model = read_hugging_face(str(tmp_path))
    assert not model.has_head and model.loaded.rules.labels == ()
    assert model.left_out == ["project_hid", "project_q", "quantizer"]


def damage(folder: Path, name: str, **changes: Any) -> None:
    data = json.loads((folder / name).read_text(encoding="utf-8"))
    (folder / name).write_text(json.dumps(data | changes), encoding="utf-8")


@pytest.mark.parametrize(
    ("case", "file", "changes", "message"),
    [
        ("wav2vec2", "config.json", {"model_type": "whisper"}, r"model_type 'whisper' is not supported; .*wav2vec2-bert"),
        ("wav2vec2", "config.json", {"add_adapter": True}, "add_adapter: True is not supported"),
        ("hubert", "config.json", {"conv_pos_batch_norm": True}, "conv_pos_batch_norm: True"),
        ("wav2vec2", "config.json", {"num_hidden_layers": 0}, "num_hidden_layers"),
        ("wav2vec2", "config.json", {"num_hidden_layers": 3}, r"(?s)weights do not fit.*layers\.2.* is missing"),
        ("wav2vec2", "config.json", {"conv_kernel": [10]}, "one number for each convolution"),
        ("wav2vec2", "config.json", {"hidden_act": "os.system"}, "'os.system' is no activation"),
        ("wav2vec2", "config.json", {"hidden_size": 32}, "cannot load it"),
        ("wav2vec2", "config.json", {"pad_token_id": 4}, r"row 0 \(<pad>\) in the tokenizer, but row 4 in config.json"),
        ("w2v-bert", "config.json", {"feature_projection_input_dim": 80}, "not stride 2 x num_mel_bins 80"),
        ("w2v-bert", "config.json", {"position_embeddings_type": "alibi"}, "position_embeddings_type"),
        ("wav2vec2", "vocab.json", {"d": 8}, "the head has 8 rows, and vocab.json has more: 'd'"),
        ("wav2vec2", "vocab.json", {"d": 7}, "more than one token for row 7"),
        ("wav2vec2", "vocab.json", {"a": "x"}, "the number of its row"),
        ("wav2vec2", "tokenizer_config.json", {"word_delimiter_token": "a"}, None),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_named(
    tmp_path: Path, case: str, file: str, changes: dict[str, Any], message: str | None
) -> None:
    write(tmp_path, case)
    damage(tmp_path, file, **changes)
    if message is None:
        assert read_hugging_face(str(tmp_path)).loaded.rules.labels[3:5] == ("|", " ")
        return
    with pytest.raises(AnadilError, match=message):
        read_hugging_face(str(tmp_path))


def test_weights_that_are_not_numbers_or_are_cut_off(tmp_path: Path) -> None:
    write(tmp_path, "wav2vec2")
    weights = load_file(tmp_path / "model.safetensors")
    weights["lm_head.bias"][2] = torch.nan
    save_file(weights, tmp_path / "model.safetensors", {"format": "pt"})
    with pytest.raises(AnadilError, match=r"decoder\.bias holds NaN"):
        read_hugging_face(str(tmp_path))
    for content in (b"", (tmp_path / "model.safetensors").read_bytes()[:-50]):
        (tmp_path / "model.safetensors").write_bytes(content)
        with pytest.raises(AnadilError, match="cannot load it"):
            read_hugging_face(str(tmp_path))


def test_folders_and_ids(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert not is_hugging_face(tmp_path)
    (tmp_path / "config.json").write_text('{"format": "anadil-ctc"}')
    assert not is_hugging_face(tmp_path)
    (tmp_path / "config.json").write_text('{"model_type": "wav2vec2"}')
    assert is_hugging_face(tmp_path)
    (tmp_path / "owner/model").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    assert is_hub_id("facebook/mms-1b-all") and not is_hub_id("owner/model")
    assert not any(map(is_hub_id, ("runs/a/b", "model", "../x/y", "/abs/path", "a/", "a b/c")))


def test_without_the_extra_and_without_a_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(AnadilError, match=r"no such folder, and it could not be downloaded as a model of Hugging Face"):
        read_hugging_face("nobody/no-such-model")
    write(tmp_path, "wav2vec2")
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(AnadilError, match=r"need transformers .*\n  next: pip install 'anadil\[train,hf\]'"):
        read_hugging_face(str(tmp_path))


# --- vocabularies


def vocabulary(folder: Path, n_rows: int, vocab: dict[str, Any], language: str = "und", **files: Any) -> Any:
    for name, content in {"vocab": vocab, **files}.items():
        (folder / f"{name}.json").write_text(json.dumps(content), encoding="utf-8")
    return read_vocabulary(
        lambda name: folder / name if (folder / name).is_file() else None, "m", None, n_rows, None, language
    )


def test_the_vocabulary_of_a_fine_tuned_model_with_added_tokens(tmp_path: Path) -> None:
    """As XLS-R's users write it: [UNK] and [PAD] behind the letters, <s> and </s> added, one of them without a row."""
    vocab = {"a": 1, "ş": 2, "|": 0, "[UNK]": 3, "[PAD]": 4}
    found = vocabulary(tmp_path, 6, vocab, added_tokens={"<s>": 5, "</s>": 6}, tokenizer_config={"pad_token": "[PAD]",
                       "unk_token": {"content": "[UNK]"}, "word_delimiter_token": "|"})  # fmt: skip
    assert found.labels == [" ", "a", "ş", "<unk>", "<s>"] and found.rows == [0, 1, 2, 3, 5, 4]
    assert "tokens without a row in the head: </s>" in found.notes
    decoder = {"added_tokens_decoder": {"5": {"content": "<s>"}}}
    assert vocabulary(tmp_path, 6, vocab, tokenizer_config=decoder, added_tokens={}).labels == found.labels


def test_a_vocabulary_of_capitals_is_lower_cased_by_the_language(tmp_path: Path) -> None:
    vocab = {"<pad>": 0, "|": 1, "I": 2, "İ": 3, "'": 4}
    assert vocabulary(tmp_path, 6, vocab, "tr").labels == [" ", "ı", "i", "'", "<row_5>"]
    mixed = {"<pad>": 0, "|": 1, "I": 2, "x": 3}
    assert vocabulary(tmp_path, 4, mixed, "tr").labels == [" ", "I", "x"]


def test_wrong_vocabularies_are_refused(tmp_path: Path) -> None:
    for vocab, message in (
        ({"a": 0, "b": 1}, "the blank is not known"),
        ({"<pad>": 0, "[PAD]": 1}, "the blank is not known"),
        ({"<pad>": 0, "|": 1, " ": 2}, "repeated labels: ' '"),
        ({}, "no vocab.json"),
    ):
        with pytest.raises(AnadilError, match=message):
            vocabulary(tmp_path, 3, vocab)


def test_special_tokens_are_labels_that_occur_in_no_text(tmp_path: Path) -> None:
    write(tmp_path, "wav2vec2")
    rules = read_hugging_face(str(tmp_path)).loaded.rules
    assert rules.labels == ("<s>", "</s>", "<unk>", " ", "a", "b", "c")
    assert rules.encode("ab c") == [4, 5, 3, 6] and decoded(rules, [4, 3, 6]) == "a c"
    assert rules.unknown_characters("<s>") == "<s>"
    assert list(VOCAB.values()) == list(range(8))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"hidden_size": 17}, "not a multiple"),
        ({"num_conv_pos_embedding_groups": 3}, "num_conv_pos_embedding_groups"),
        ({"adapter_attn_dim": 2}, "adapter_attn_dim needs do_stable_layer_norm"),
        ({"feat_proj_layer_norm": False}, "only possible for kind hubert"),
        ({"conv_stride": [0, 1, 1]}, "greater than or equal to 1"),
    ],
)
def test_impossible_networks_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Wav2Vec2Settings.model_validate({**SIZE, **CONVOLUTIONS, **settings})


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"conv_depthwise_kernel_size": 4}, "is even"),
        ({"add_adapter": True, "adapter_kernel_size": 8}, "their halves must agree"),
        ({"output_hidden_size": 8}, "need add_adapter"),
        ({"position_embeddings_type": "rotary", "num_attention_heads": 16}, "rotary needs an even"),
    ],
)
def test_impossible_conformers_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        W2vBertSettings.model_validate({**SIZE, **settings})
