"""A recogniser without a network: it recognises the tones of `micro.speak`, each in one frame, as sharply as CTC models do."""

from __future__ import annotations

import numpy as np

from anadil.data.pauses import PauseLimits
from anadil.recognition.recognizer import Recognizer
from anadil.text.rules import TextSettings, text_rules

RATE, FRAME = 16000, 320
LABELS = [" ", "a", "b", "c"]
TONES = (400.0, 1000.0, 2500.0)
SURE = 0.9995
LATE_FRAMES = 3  # after a tone's start its label has its frame
SPACE_FRAMES = 8  # of silence


def forward(waveforms: np.ndarray, counts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    n_frames, frame_counts = -(-waveforms.shape[1] // FRAME), -(-counts // FRAME)
    padded = np.pad(waveforms, ((0, 0), (0, n_frames * FRAME - waveforms.shape[1])))
    frames = padded.reshape(len(waveforms), n_frames, FRAME)
    probes = np.exp(2j * np.pi * np.outer(np.arange(FRAME) / RATE, TONES))
    powers = np.abs(frames @ probes) / FRAME  # (batch, frames, tones)
    tones = np.where(powers.max(axis=2) > 0.05, powers.argmax(axis=2) + 1, 0)  # 0: silence
    best = np.full(tones.shape, len(LABELS))
    for row, own in zip(best, tones, strict=True):
        run = 0
        for i, tone in enumerate(own):
            run = run + 1 if i and tone == own[i - 1] else 0
            if run == (LATE_FRAMES if tone else SPACE_FRAMES) and (tone or i > run):
                row[i] = tone
    log_probs = np.full((*best.shape, len(LABELS) + 1), np.log((1 - SURE) / len(LABELS)), dtype=np.float32)
    np.put_along_axis(log_probs, best[..., None], np.float32(np.log(SURE)), axis=2)
    return log_probs, frame_counts


def tone_recognizer() -> Recognizer:
    rules = text_rules("en", TextSettings(), LABELS)
    return Recognizer("tones", rules, RATE, FRAME / RATE, FRAME, forward, pauses=PauseLimits(1.5, 0.4))
