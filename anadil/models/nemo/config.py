"""Read the config of a NeMo model: features, network and labels, for any configuration and not only for known models.

Each option is read, known to change no result, or reported as a problem.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, TypeVar

from pydantic import BaseModel

from anadil.errors import AnadilError
from anadil.models.conformer import ConformerSettings
from anadil.models.features import FeatureSettings
from anadil.models.quartznet import QuartzNetSettings
from anadil.settings import parse

_Section = TypeVar("_Section", bound=BaseModel)


@dataclass
class Findings:
    """What cannot be converted: `problems` are errors, `left_out` is reported to the user."""

    problems: list[str] = field(default_factory=list)
    left_out: list[str] = field(default_factory=list)

    def stop(self, where: str) -> None:
        """Raise AnadilError that lists all problems, if there are any."""
        if self.problems:
            listed = "\n".join(f"  {problem}" for problem in self.problems)
            raise AnadilError(
                f"{where}: not supported by Anadil:\n{listed}\n  next: convert a model without these options"
            )


class _Options:
    """The options of one section. `close` reports every option that was neither read nor ignored."""

    def __init__(self, section: object, name: str, findings: Findings) -> None:
        self.name, self.findings = name, findings
        self.section: dict[str, Any] = section if isinstance(section, dict) else {}
        self.known: set[str] = {"_target_"}
        self.unsupported = False  # the section's class is not supported: its options need no report
        if not isinstance(section, dict):
            findings.problems.append(f"{name}: expected a section, found {section!r}")

    def get(self, key: str, default: Any = None) -> Any:
        """The option's value, or `default` if it is absent."""
        self.known.add(key)
        value = self.section.get(key, default)
        if isinstance(value, str) and ("${" in value or value == "???"):
            self.problem(key, value, "it cannot be resolved")
            return default
        return value

    def ignore(self, *keys: str) -> None:
        """Mark options as known that change no result, or that later versions of NeMo ignore too."""
        self.known.update(keys)

    def require(self, key: str, *allowed: Any) -> None:
        """Report a problem unless the option has one of the allowed values; the first is NeMo's default."""
        value = self.get(key, allowed[0])
        if value not in allowed:
            self.problem(key, value, f"supported is {' or '.join(map(_show, allowed))}")

    def single(self, key: str, default: Any = None) -> Any:
        """The value of an option that NeMo may write as a list of one value."""
        value = self.get(key, default)
        if isinstance(value, list):
            if len(value) == 1:
                return value[0]
            self.problem(key, value, "supported is one value")
            return default
        return value

    def problem(self, key: str, value: Any, why: str) -> None:
        self.findings.problems.append(f"{self.name}.{key}: {_show(value)} ({why})")

    def target(self, *names: str) -> str:
        """The section's class, without its module; a problem is reported unless it is one of `names`."""
        full = str(self.section.get("_target_", ""))
        name = full.rpartition(".")[2]
        if name not in names:
            self.unsupported = True
            self.problem("_target_", full, f"supported is {' or '.join(names)}")
        return name

    def close(self) -> None:
        """Report options that were neither read nor ignored."""
        for key, value in self.section.items():
            if key not in self.known and value is not None and not self.unsupported:
                self.problem(key, value, "unknown option")

    def parse(self, kind: type[_Section], data: dict[str, Any]) -> _Section | None:
        """`data` as settings; invalid values become problems."""
        if self.unsupported:
            return None
        try:
            return parse(kind, data, self.name)
        except AnadilError as error:
            self.findings.problems += [line for line in str(error).split("\n") if not line.startswith("  next:")]
            return None


def _show(value: Any) -> str:
    text = (
        {True: "true", False: "false", None: "null"}[value] if value is None or isinstance(value, bool) else str(value)
    )
    return text if len(text) < 80 else text[:77] + "..."


@dataclass(frozen=True)
class NemoSettings:
    """Settings from the sections `preprocessor`, `encoder` and `decoder`."""

    features: FeatureSettings
    model: QuartzNetSettings | ConformerSettings
    vocabulary: list[str] | None  # as NeMo writes it; None if the config has none
    hybrid: bool  # the CTC head is the auxiliary one, beside an RNNT or TDT decoder


def read_config(config: dict[str, Any], where: str, findings: Findings) -> NemoSettings:
    """The model's settings, from the section `model` of a config without interpolations.

    Raises AnadilError that lists every unsupported option with its value.
    """
    config = _modernise(config)
    missing = [name for name in ("preprocessor", "encoder", "decoder") if name not in config]
    findings.problems += [f"{name}: the section is missing" for name in missing]
    findings.stop(where)
    auxiliary = config.get("aux_ctc")
    hybrid = isinstance(auxiliary, dict)
    if isinstance(auxiliary, dict):
        head = _Options(auxiliary.get("decoder"), "aux_ctc.decoder", findings)
        findings.left_out.append("the RNNT or TDT decoder of the hybrid model: decoder, joint, loss")
    else:
        head = _Options(config["decoder"], "decoder", findings)
    vocabulary = _vocabulary(head, config)
    features = _features(_Options(config["preprocessor"], "preprocessor", findings))
    encoder = _Options(config["encoder"], "encoder", findings)
    name = encoder.target(
        "ConvASREncoder",
        "ConformerEncoder",
        "ConvASREncoderAdapter",
        "ConformerEncoderAdapter",
        "ParallelConvASREncoder",
    )
    model = _conformer(encoder) if name.startswith("Conformer") else _convolutions(encoder)
    splicing = 1 if name.startswith("Conformer") else encoder.get("frame_splicing", 1)
    if features is not None and encoder.section.get("feat_in") is not None:
        width = encoder.get("feat_in")
        if not isinstance(width, int) or width * splicing != features.width:
            encoder.problem("feat_in", width, f"the preprocessor gives {features.width} features")
    encoder.ignore("feat_in", "adapter_metadata_cfg")
    encoder.close()
    findings.stop(where)
    assert features is not None and model is not None
    if isinstance(model, QuartzNetSettings) and not model.conv_mask and model.stride > 1:
        findings.left_out.append(
            "encoder.conv_mask: false: NeMo ignores the stride when it counts frames; Anadil does not"
        )
    return NemoSettings(features, model, vocabulary, hybrid)


def _modernise(value: Any) -> Any:
    """The config as NeMo writes it since 1.0: `_target_` and the options instead of `cls` and `params`."""
    if isinstance(value, list):
        return [_modernise(item) for item in value]
    if not isinstance(value, dict):
        return value
    result = {key: _modernise(item) for key, item in value.items()}
    if isinstance(result.get("cls"), str) and "_target_" not in result:
        result["_target_"] = result.pop("cls")
    if "_target_" in result and isinstance(result.get("params"), dict):
        result |= result.pop("params")
    return result


def _vocabulary(head: _Options, config: dict[str, Any]) -> list[str] | None:
    head.target("ConvASRDecoder")
    head.require("add_blank", True)
    head.ignore("init_mode", "feat_in", "params")
    n_classes = head.get("num_classes", -1)
    for vocabulary in (head.get("vocabulary"), None if "tokenizer" in config else config.get("labels")):
        if isinstance(vocabulary, list) and vocabulary:
            if isinstance(n_classes, int) and n_classes > 0 and n_classes != len(vocabulary):
                head.problem("num_classes", n_classes, f"the vocabulary has {len(vocabulary)} labels")
            head.close()
            return [str(label) for label in vocabulary]
    head.close()
    return None


_GUARDS = {"tiny": 2.0**-126, "eps": 2.0**-23}
"""NeMo's names for the smallest normal float32 and the float32 machine epsilon."""


def _features(options: _Options) -> FeatureSettings | None:
    options.target("AudioToMelSpectrogramPreprocessor")
    rate = options.get("sample_rate", 16000)
    preemphasis, guard = options.get("preemph", 0.97), options.get("log_zero_guard_value", 2.0**-24)
    normalize, mel_norm = options.get("normalize", "per_feature"), options.get("mel_norm", "slaney")
    if isinstance(normalize, dict):
        options.problem("normalize", normalize, "fixed means and standard deviations are not supported")
    if mel_norm not in ("slaney", None):
        options.problem("mel_norm", mel_norm, "supported is slaney or null")
    if preemphasis is None and options.get("exact_pad", False):
        options.problem("preemph", None, "exact_pad needs a number")
    if options.get("nb_augmentation_prob", 0.0):
        options.findings.left_out.append("preprocessor.nb_augmentation_prob: training on narrow-band copies")
    options.require("window", "hann", "hamming", "blackman", "bartlett")
    options.ignore("rng", "nb_max_freq", "use_torchaudio", "stft_conv", "stft_exact_pad", "max_duration", "use_grads")
    data = {
        "sample_rate": rate,
        "window_size": _seconds(options, "window_size", "n_window_size", rate, 0.02),
        "window_stride": _seconds(options, "window_stride", "n_window_stride", rate, 0.01),
        "window": options.get("window", "hann"),
        "n_fft": options.get("n_fft"),
        "mels": options.get("features", 64),
        "low_hz": options.get("lowfreq", 0) or 0.0,
        "high_hz": options.get("highfreq") or None,
        "preemphasis": 0.0 if preemphasis is None else preemphasis,
        "dither": options.get("dither", 1e-5),
        "normalize": normalize if normalize in ("per_feature", "all_features") else "none",
        "mel_norm": mel_norm or "none",
        "magnitude_power": options.get("mag_power", 2.0),
        "log": options.get("log", True),
        "log_guard": _GUARDS.get(guard, guard) if isinstance(guard, str) else guard,
        "log_guard_type": options.get("log_zero_guard_type", "add"),
        "frame_splicing": options.get("frame_splicing", 1),
        "exact_pad": options.get("exact_pad", False),
        "pad_to": options.get("pad_to", 16),
        "pad_value": options.get("pad_value", 0.0),
    }
    options.close()
    return options.parse(FeatureSettings, data)


def _seconds(options: _Options, key: str, in_samples: str, rate: Any, default: float) -> Any:
    """A size in seconds. If NeMo's config has it in samples, the seconds truncate to exactly that number of samples."""
    n = options.get(in_samples)
    seconds = options.get(key, None if n else default)
    if not n or not isinstance(rate, int) or not isinstance(n, int):
        return seconds
    if seconds:
        options.problem(in_samples, n, f"{key} is given too")
    return n / rate if int(n / rate * rate) == n else (n + 0.25) / rate


def _convolutions(options: _Options) -> QuartzNetSettings | None:
    blocks = options.get("jasper") or []
    mode = options.get("residual_mode", "add")
    data = []
    for i, section in enumerate(blocks if isinstance(blocks, list) else []):
        block = _Options(section, f"{options.name}.jasper.{i}", options.findings)
        mode = block.get("residual_mode", mode)  # as in NeMo, it also becomes the default of the following blocks
        data.append(_block(block, mode))
    groups, activation = options.get("norm_groups", -1), options.get("activation")
    options.require("quantize", False)
    options.ignore("init_mode")
    separable = any(block["separable"] for block in data)
    kind = "citrinet" if any(block["squeeze_excite"] for block in data) else "quartznet" if separable else "jasper"
    settings = {
        "kind": kind,
        "blocks": data,
        "activation": "swish" if activation == "silu" else activation,
        "norm": options.get("normalization_mode", "batch"),
        "norm_groups": None if groups == -1 else groups,
        "conv_mask": options.get("conv_mask", True),
    }
    return options.parse(QuartzNetSettings, settings)


def _block(block: _Options, mode: Any) -> dict[str, Any]:
    kernel, factor = block.single("kernel"), block.get("kernel_size_factor", 1.0)
    if isinstance(kernel, int) and isinstance(factor, int | float):
        kernel = max(int(kernel * float(factor)), 1)
        kernel += 1 - kernel % 2
    heads, ahead, context = block.get("heads", -1), block.get("future_context", -1), block.get("se_context_size", -1)
    if mode not in ("add", "stride_add", "max"):
        block.problem("residual_mode", mode, "supported is add, stride_add or max")
    gate = {"reduction": block.get("se_reduction_ratio", 8), "context": None if context == -1 else context}
    data = {
        "filters": block.get("filters"),
        "kernel": kernel,
        "repeat": block.get("repeat", 1),
        "stride": block.single("stride", 1),
        "stride_last": block.get("stride_last", False),
        "dilation": block.single("dilation", 1),
        "residual": block.get("residual", False),
        "residual_dense": block.get("residual_dense", False),
        "residual_mode": "max" if mode == "max" else "add",
        "separable": block.get("separable", False),
        "groups": block.get("groups", 1),
        "heads": None if heads == -1 else heads,
        "future_context": None if isinstance(ahead, int) and ahead < 0 else ahead,
        "squeeze_excite": gate if block.get("se", False) else None,
        "dropout": block.get("dropout", 0.0),
    }
    block.ignore("se_interpolation_mode")  # later versions of NeMo ignore it too
    block.close()
    return data


_CONFORMER_SPECIAL = {
    *("kind", "feat_out", "att_context_size", "subsampling", "subsampling_factor"),
    *("reduction", "reduction_factor", "reduction_position"),
}
"""Settings that are not copied from the option of the same name: NeMo's null, 0 or 1 means "none" there."""


def _conformer(options: _Options) -> ConformerSettings | None:
    options.require("global_tokens", 0)
    options.require("global_attn_separate", False)
    options.require("att_chunk_context_size", None)
    options.require("conv_context_style", "regular", None)
    options.require("conv_dual_mode", False)
    options.ignore("pos_emb_max_len", "subsampling_conv_chunking_factor", "use_pytorch_sdpa", "sync_max_audio_length")
    options.ignore("use_pytorch_sdpa_backends", "global_tokens_spacing", "residual_mode")
    data: dict[str, Any] = {"dropout_emb": 0.1, "dropout_att": 0.0}  # NeMo's defaults where Anadil's differ
    copied = [name for name in ConformerSettings.model_fields if name not in _CONFORMER_SPECIAL]
    data |= {name: options.get(name) for name in copied if name in options.section}
    for name in ("n_layers", "d_model"):
        if name not in data:
            options.problem(name, None, "required")
    feat_out = options.get("feat_out", -1)
    data["feat_out"] = feat_out if isinstance(feat_out, int) and feat_out > 0 else -1
    if options.get("att_context_size"):
        data["att_context_size"] = options.get("att_context_size")
    method, factor = options.get("subsampling", "striding"), options.get("subsampling_factor", 4)
    if method and factor != 1:
        data |= {"subsampling": method, "subsampling_factor": factor}
    else:
        data["subsampling_factor"] = 1
    reduction, reduction_factor = options.get("reduction"), options.get("reduction_factor", 1)
    position = options.get("reduction_position")
    if reduction and reduction_factor != 1:
        data |= {"reduction": reduction, "reduction_factor": reduction_factor, "reduction_position": position}
    if data.get("self_attention_model") == "rel_pos_local_attn" and "dropout" in data:
        data["dropout_pre_encoder"] = data["dropout"]  # as NeMo does with local attention
    data = {name: value for name, value in data.items() if value is not None}
    fast = method == "dw_striding" and isinstance(factor, int) and factor >= 8
    defaults = {"subsampling_conv_channels": -1, "conv_kernel_size": 31}
    return options.parse(ConformerSettings, {"kind": "fastconformer" if fast else "conformer", **defaults, **data})
