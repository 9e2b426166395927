"""Writes golden.npz: the outputs of NeMo for small models of many configurations, with weights derived from their names.

Needs NeMo (made with nemo_toolkit[asr] 3.0.0, PyTorch 2.13.0 on a CPU), which the project itself does not need:

    python tests/models/nemo/make_golden.py

`audio` and `weight` are copies of those in tests/support/nemo_models.py: this file must run where only NeMo is installed.
"""

from __future__ import annotations

import json
import zlib
from pathlib import Path

import nemo.collections.asr as asr
import numpy as np
import torch
from omegaconf import OmegaConf

LABELS = [" ", "a", "b", "ş"]


def audio():
    t = np.arange(14000) / 16000
    x = np.stack(
        [
            np.sin(2 * np.pi * (300 + 200 * np.sin(9 * t)) * t) * (0.3 + 0.2 * np.sin(31 * t)),
            np.sin(2 * np.pi * (1500 - 700 * t) * t) * 0.4 * np.sin(17 * t) ** 2,
        ]
    )
    x = x + np.random.default_rng(0).normal(0, 0.01, x.shape)
    counts = np.array([14000, 9100])
    x[1, 9100:] = 0
    return torch.from_numpy(x.astype(np.float32)), torch.from_numpy(counts)


def weight(name, shape):
    rng = np.random.default_rng(zlib.crc32(name.encode()))
    if name.endswith("running_var"):
        return rng.uniform(0.5, 2, shape)
    fan = int(np.prod(shape[1:])) or 1
    scale = 1 / np.sqrt(fan) if len(shape) > 1 else 0.3
    base = 1.0 if len(shape) == 1 and name.endswith(".weight") else 0.0
    return base + rng.normal(0, scale, shape)


cases = {}
arrays = {}


def make(name, c, cls=asr.models.EncDecCTCModel, prefix="decoder"):
    m = cls(OmegaConf.create(c)).eval()
    m.preprocessor.featurizer.dither = 0
    sd = m.state_dict()
    names = {}
    for k, v in sd.items():
        if k.startswith("preprocessor"):
            continue
        names[k] = list(v.shape)
        if v.is_floating_point():
            sd[k] = torch.from_numpy(np.asarray(weight(k, tuple(v.shape)))).float()
    m.load_state_dict(sd)
    a, n = audio()
    with torch.no_grad():
        f, fl = m.preprocessor(input_signal=a.clone(), length=n)
        e = m.encoder(audio_signal=f, length=fl)
        lp = (m.ctc_decoder if prefix == "ctc_decoder" else m.decoder)(encoder_output=e[0])
    cases[name] = {"config": c, "weights": names}
    arrays[name + ".log_probs"] = lp.numpy()
    arrays[name + ".encoded_lengths"] = e[1].numpy()
    arrays[name + ".feature_lengths"] = fl.numpy()
    if name.startswith("f_"):
        arrays[name + ".features"] = f.numpy().astype(np.float32)
    print("OK", name, tuple(lp.shape), e[1].tolist(), sum(int(np.prod(s)) for s in names.values()), flush=True)


PRE = {
    "_target_": "nemo.collections.asr.modules.AudioToMelSpectrogramPreprocessor",
    "sample_rate": 16000,
    "window_size": 0.025,
    "window_stride": 0.01,
    "window": "hann",
    "features": 16,
    "n_fft": 512,
    "dither": 1e-5,
    "pad_to": 0,
    "normalize": "per_feature",
    "log": True,
}
DEC = {"_target_": "nemo.collections.asr.modules.ConvASRDecoder", "num_classes": 4, "vocabulary": LABELS}


def conf(name, pre=None, top=None, cls=asr.models.EncDecCTCModel, prefix="decoder", **enc):
    if top is None:
        top = {}
    if pre is None:
        pre = {}
    p = PRE | pre
    e = {
        "_target_": "nemo.collections.asr.modules.ConformerEncoder",
        "feat_in": p["features"] * p.get("frame_splicing", 1),
        "feat_out": -1,
        "n_layers": 2,
        "d_model": 8,
        "n_heads": 2,
        "subsampling": "striding",
        "subsampling_factor": 4,
        "subsampling_conv_channels": 4,
        "ff_expansion_factor": 2,
        "conv_kernel_size": 7,
        "dropout_att": 0.1,
    } | enc
    make(
        name,
        {
            "sample_rate": 16000,
            "preprocessor": p,
            "encoder": e,
            "decoder": DEC | {"feat_in": e["feat_out"] if e["feat_out"] > 0 else e["d_model"]},
            "labels": LABELS,
        }
        | top,
        cls,
        prefix,
    )


conf("striding")
conf("dw_striding, factor 2", subsampling="dw_striding", subsampling_factor=2, subsampling_conv_channels=-1)
conf("stacking", subsampling="stacking")
conf("stacking_norm of 3, padded", subsampling="stacking_norm", subsampling_factor=3, pre={"pad_to": 16})
conf(
    "causal, chunks",
    subsampling="dw_striding",
    subsampling_factor=8,
    causal_downsampling=True,
    conv_context_size="causal",
    conv_norm_type="layer_norm",
    att_context_size=[4, 1],
    att_context_style="chunked_limited",
)
conf(
    "chunks of several sizes",
    subsampling_factor=2,
    causal_downsampling=True,
    conv_context_size=[5, 1],
    att_context_size=[[12, 2], [6, 0]],
    att_context_style="chunked_limited",
)
conf(
    "limited context, no biases, shared positions",
    att_context_size=[5, 2],
    use_bias=False,
    xscaling=False,
    untie_biases=False,
)
conf(
    "one side limited, instance norm",
    att_context_size=[[5, -1], [-1, 3]],
    att_context_probs=[0.3, 0.7],
    conv_norm_type="instance_norm",
    pre={"pad_to": 16},
)
conf("local attention", self_attention_model="rel_pos_local_attn", att_context_size=[3, 3])
conf("absolute positions, group norm", self_attention_model="abs_pos", conv_norm_type="group_norm4")
conf("reduction by pooling", reduction="pooling", reduction_position=0, reduction_factor=2)
conf("reduction by striding, behind all", reduction="striding", reduction_position=-1, reduction_factor=2)
conf("projection, fused norm", feat_out=12, conv_norm_type="fused_batch_norm")
conf("no subsampling", subsampling_factor=1, n_layers=1)
conf(
    "f_all_features, hamming",
    n_layers=1,
    pre={"normalize": "all_features", "window": "hamming", "n_fft": 1024, "highfreq": 7000, "lowfreq": 60},
)
conf(
    "f_clamp, magnitude, heights",
    n_layers=1,
    pre={
        "normalize": "NA",
        "log_zero_guard_type": "clamp",
        "log_zero_guard_value": 1e-5,
        "mag_power": 1.0,
        "mel_norm": None,
        "preemph": None,
    },
)
conf("f_exact_pad", n_layers=1, pre={"exact_pad": True})
conf(
    "f_splicing, eps, blackman",
    n_layers=1,
    pre={"frame_splicing": 2, "log_zero_guard_value": "eps", "window": "blackman"},
)
conf(
    "f_sizes in samples",
    n_layers=1,
    pre={
        "window_size": None,
        "window_stride": None,
        "n_window_size": 401,
        "n_window_stride": 161,
        "window": "bartlett",
        "pad_to": 16,
    },
)
HY = {
    "aux_ctc": {
        "ctc_loss_weight": 0.3,
        "use_cer": False,
        "decoder": DEC | {"feat_in": None},
        "decoding": {"strategy": "greedy"},
    },
    "model_defaults": {"enc_hidden": 8, "pred_hidden": 4, "joint_hidden": 4},
    "decoder": {
        "_target_": "nemo.collections.asr.modules.RNNTDecoder",
        "normalization_mode": None,
        "random_state_sampling": False,
        "blank_as_pad": True,
        "vocab_size": 4,
        "prednet": {"pred_hidden": 4, "pred_rnn_layers": 1, "t_max": None, "dropout": 0.1},
    },
    "joint": {
        "_target_": "nemo.collections.asr.modules.RNNTJoint",
        "log_softmax": None,
        "preserve_memory": False,
        "fuse_loss_wer": False,
        "num_classes": 4,
        "vocabulary": LABELS,
        "jointnet": {"joint_hidden": 4, "activation": "relu", "dropout": 0.1, "encoder_hidden": 8, "pred_hidden": 4},
    },
    "decoding": {"strategy": "greedy_batch", "greedy": {"max_symbols": 10}},
    "loss": {"loss_name": "default"},
}
conf("hybrid", top=HY, cls=asr.models.EncDecHybridRNNTCTCModel, prefix="ctc_decoder", n_layers=1)


def jas(name, blocks, pre=None, **enc):
    if pre is None:
        pre = {}
    p = PRE | {"pad_to": 16} | pre
    d = {
        "filters": 12,
        "repeat": 1,
        "kernel": [11],
        "stride": [1],
        "dilation": [1],
        "dropout": 0.0,
        "residual": False,
        "separable": True,
    }
    e = {
        "_target_": "nemo.collections.asr.modules.ConvASREncoder",
        "feat_in": p["features"],
        "activation": "relu",
        "conv_mask": True,
    } | enc
    e["jasper"] = [d | b for b in blocks]
    make(
        name,
        {
            "sample_rate": 16000,
            "preprocessor": p,
            "encoder": e,
            "decoder": DEC | {"feat_in": e["jasper"][-1]["filters"]},
            "labels": LABELS,
        },
    )


R = {"residual": True}
ONE = {"kernel": [1], "separable": False}
jas(
    "dense residuals",
    [
        {"separable": False, "stride": [2]},
        R | {"separable": False, "repeat": 2, "residual_dense": True},
        R | {"separable": False, "filters": 16, "residual_dense": True},
        R | {"separable": False, "residual_dense": True},
        {"separable": False, "kernel": [29], "dilation": [2]},
        ONE,
    ],
)
jas("no mask", [{}, R | {"repeat": 2, "kernel": [13]}, ONE], conv_mask=False)
jas(
    "instance norm, swish",
    [{"stride": [2]}, R | {"repeat": 2}, ONE],
    normalization_mode="instance",
    activation="swish",
)
jas(
    "group norm, hardtanh",
    [{"stride": [2]}, R | {"repeat": 2}, ONE],
    normalization_mode="group",
    norm_groups=4,
    activation="hardtanh",
)
jas("layer norm, selu", [{"stride": [2]}, R | {"repeat": 2}, ONE], normalization_mode="layer", activation="selu")
jas(
    "heads and groups",
    [{"stride": [2], "heads": 8}, R | {"repeat": 2, "heads": 4}, R | {"repeat": 2, "groups": 3}, ONE],
)
jas("max residual", [{"stride": [2]}, R | {"residual_mode": "max"}, R, ONE])
jas(
    "future context",
    [{"stride": [2], "future_context": 2}, R | {"future_context": 0}, {"kernel": [3], "future_context": 5}, ONE],
)
SE = {"se": True, "se_context_size": -1}
jas(
    "citrinet",
    [
        SE | {"kernel": [5]},
        SE
        | R
        | {
            "repeat": 3,
            "kernel": [11],
            "kernel_size_factor": 0.25,
            "stride": [2],
            "stride_last": True,
            "residual_mode": "stride_add",
            "se_reduction_ratio": 4,
        },
        SE | R | {"repeat": 2, "kernel": [14], "kernel_size_factor": 0.5, "se_context_size": 8},
        SE | R | {"repeat": 2, "stride": [2], "stride_last": True},
        SE | R | {"stride": [2]},
        SE | {"kernel": [41]},
    ],
)
jas(
    "repeated stride, spliced",
    [{"stride": [2], "repeat": 2}, ONE],
    pre={"frame_splicing": 3, "pad_to": 0},
    frame_splicing=3,
)
np.savez_compressed(
    Path(__file__).with_name("golden.npz"), cases=np.array(json.dumps(cases, ensure_ascii=False)), **arrays
)
