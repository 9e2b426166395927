"""NeMo's side of train_speed.py: runs in an environment that has NeMo, and none of Anadil.

Reads one line of JSON (blocks, threads, sizes), then does a training step for every line "step", and answers with its
seconds. The model is NeMo's EncDecCTCModel: its preprocessor, ConvASREncoder, ConvASRDecoder and CTC loss.
"""

from __future__ import annotations

import json
import sys
import time

import torch
from nemo.collections.asr.models import EncDecCTCModel
from omegaconf import OmegaConf

RATE = 16000


def layer(block: dict) -> dict:
    """A block of ours in NeMo's words."""
    squeeze = block["squeeze_excite"]
    return {
        "filters": block["filters"],
        "kernel": [block["kernel"]],
        "repeat": block["repeat"],
        "stride": [block["stride"]],
        "stride_last": block["stride_last"],
        "dilation": [block["dilation"]],
        "dropout": block["dropout"],
        "residual": block["residual"],
        "separable": block["separable"],
        "se": squeeze is not None,
        "se_context_size": -1,
        "se_reduction_ratio": squeeze["reduction"] if squeeze else 8,
    }


def main() -> None:
    given = json.loads(sys.stdin.readline())
    torch.set_num_threads(given["threads"])
    labels = [chr(0x100 + i) for i in range(given["labels"])]
    blocks = [layer(block) for block in given["blocks"]]
    config = {
        "sample_rate": RATE,
        "labels": labels,
        "preprocessor": {
            "_target_": "nemo.collections.asr.modules.AudioToMelSpectrogramPreprocessor",
            "sample_rate": RATE, "normalize": "per_feature", "window_size": 0.02, "window_stride": 0.01, "window": "hann",
            "features": 64, "n_fft": 512, "dither": 1e-5, "pad_to": 0,
        },
        "encoder": {
            "_target_": "nemo.collections.asr.modules.ConvASREncoder",
            "feat_in": 64, "activation": "relu", "conv_mask": True, "jasper": blocks,
        },
        "decoder": {
            "_target_": "nemo.collections.asr.modules.ConvASRDecoder",
            "feat_in": blocks[-1]["filters"], "num_classes": len(labels), "vocabulary": labels,
        },
    }  # fmt: skip
    model = EncDecCTCModel(cfg=OmegaConf.create(config)).train()
    torch.manual_seed(0)
    batch, longest_s = given["batch"], given["longest_s"]
    counts = (torch.linspace(0.9, 1.0, batch) * longest_s * RATE).long()
    waveforms = 0.1 * torch.randn(batch, int(counts.max()))
    target_counts = torch.full((batch,), int(longest_s * 10))
    targets = torch.randint(0, len(labels), (batch, 50))

    clock = time.process_time if given["cpu_time"] else time.perf_counter

    def step() -> float:
        started = clock()
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=given["bf16"]):
            log_probs, frame_counts, _ = model(input_signal=waveforms, input_signal_length=counts)
        loss = model.loss(
            log_probs=log_probs.float(), targets=targets, input_lengths=frame_counts, target_lengths=target_counts
        )
        model.zero_grad()
        loss.backward()
        return clock() - started

    step()
    print("answer ready", flush=True)
    for _ in sys.stdin:
        print(f"answer {step()}", flush=True)


if __name__ == "__main__":
    main()
