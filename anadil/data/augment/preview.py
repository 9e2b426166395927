"""Preview of the transforms as one HTML file: example utterances, original and transformed, as audio and spectrograms."""

from __future__ import annotations

import base64
import html
import io
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import soundfile

from anadil.data.augment.chain import STREAMS, apply, stream
from anadil.data.augment.copies import Chains, load, sample_rates_of
from anadil.data.augment.settings import AugmentSettings
from anadil.data.augment.spectrogram import N_BANDS, log_spectrogram, png
from anadil.data.augment.steps import Record, within_range
from anadil.files import refuse_overwrite, whole_file
from anadil.manifest import Utterance, read_manifest

_LONGEST_S, _MOST_HZ = 10.0, 16000
"""Limits of an example, for a small file; the sample rate of most models is at most 16 kHz."""

_STYLE = """
body { font: 15px/1.4 system-ui, sans-serif; margin: 2em auto; max-width: 72em; padding: 0 1em; color: #222 }
h2 { margin: 2em 0 .2em; font-size: 1.1em }
.grid { display: grid; gap: 1em; grid-template-columns: repeat(auto-fill, minmax(20em, 1fr)) }
figure { margin: 0; border: 1px solid #ccc; border-radius: 6px; padding: .6em }
img { width: 100%; height: 9em; display: block }
audio { width: 100%; height: 2.2em; margin-top: .4em }
.drawn { color: #666; font-size: .85em; min-height: 2.8em }
"""


def write_preview(
    manifest: Path,
    target: Path,
    settings: AugmentSettings,
    n_examples: int = 3,
    seed: int = 0,
    force: bool = False,
    on_progress: Callable[[int, int], None] = lambda done, total: None,
) -> list[str]:
    """Write `n_examples` utterances, spread over the manifest, to `target`; returns the names of the figures of each.

    Each utterance is shown unchanged, with each transform of audio, with all that are applied in the first copy, and with
    each transform of features (as a spectrogram only). The file needs no other files.
    Raises AnadilError if `target` exists or a recording cannot be used.
    """
    refuse_overwrite(target, force)
    chains = Chains(settings)
    utterances = read_manifest(manifest)
    positions = sorted({int((i + 0.5) * len(utterances) / n_examples) for i in range(n_examples)})
    chosen = [utterances[position] for position in positions]
    rates = sample_rates_of(chosen)
    sections, names = [], []
    for done, (position, utterance, rate) in enumerate(zip(positions, chosen, rates, strict=True), start=1):
        figures = _figures(utterance, min(rate, _MOST_HZ), chains, seed, position)
        names = [name for name, _ in figures]
        sections.append(_section(utterance, [markup for _, markup in figures]))
        on_progress(done, len(chosen))
    title = html.escape(f"Augmentation of {manifest.name}, seed {seed}")
    page = (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{title}</title><style>{_STYLE}</style>'
        f"<h1>{title}</h1><p>Spectrograms from 0 Hz (bottom) to half the sample rate, 80 dB from dark to bright.</p>"
        + "".join(sections)
    )
    with whole_file(target) as beside:
        beside.write_text(page, encoding="utf-8")
    return names


def _figures(utterance: Utterance, rate: int, chains: Chains, seed: int, position: int) -> list[tuple[str, str]]:
    """Name and markup of each figure of one utterance."""
    samples = load(utterance, rate)[: round(_LONGEST_S * rate)]
    shown = [("original", _figure("original", "", log_spectrogram(samples, rate), samples, rate))]
    for step in chains.at(rate):
        record: Record = {}
        changed = step.change(samples, rate, stream(seed, 1, position, STREAMS[step.name]), record)
        changed = within_range(changed, record)
        picture = log_spectrogram(changed, rate)
        shown.append((step.name, _figure(step.name, _parameters(record), picture, changed, rate)))
    changed, history = apply(chains.at(rate), samples, rate, seed, 1, position)
    note = "; ".join(f"{record['transform']}: {_parameters(record)}" for record in history) or "no transform was drawn"
    shown.append(("all", _figure("all, as in copy 1", note, log_spectrogram(changed, rate), changed, rate)))
    for name, picture in _feature_pictures(samples, rate, chains.settings, seed):
        shown.append((name, _figure(name, "of the features, only in training", picture, None, rate)))
    return shown


def _feature_pictures(
    samples: np.ndarray, rate: int, settings: AugmentSettings, seed: int
) -> list[tuple[str, np.ndarray]]:
    """The transforms of features, applied to a spectrogram of `N_BANDS` bands; none without PyTorch."""
    try:
        import torch

        from anadil.data.augment.spec_augment import feature_augmentation
    except ImportError:
        return []
    picture = log_spectrogram(samples, rate, N_BANDS)
    mean, deviation = picture.mean(), picture.std() + 1e-5
    features = torch.from_numpy((picture - mean) / deviation).unsqueeze(0)
    counts = torch.tensor([features.shape[2]])
    off = dict.fromkeys(type(settings).model_fields)
    pictures = []
    for name in ("time_warp", "spec_augment", "spec_cutout"):
        section = getattr(settings, name)
        if section is not None and section.probability > 0:
            always = section.model_copy(update={"probability": 1.0})
            alone = feature_augmentation(
                settings.model_copy(update=off | {name: always}), torch.Generator().manual_seed(seed)
            )
            assert alone is not None
            changed, _ = alone(features.clone(), counts)
            pictures.append((name, changed[0].numpy() * deviation + mean))
    return pictures


def _section(utterance: Utterance, pictures: Sequence[str]) -> str:
    text = html.escape(utterance.text or "(no text)")
    return f'<h2>{text}</h2><p>{html.escape(utterance.audio_filepath)}</p><div class="grid">{"".join(pictures)}</div>'


def _parameters(record: Record) -> str:
    return ", ".join(f"{key} {value}" for key, value in record.items() if key != "transform")


def _figure(name: str, note: str, picture: np.ndarray, samples: np.ndarray | None, rate: int) -> str:
    image = base64.b64encode(png(picture)).decode()
    sound = "" if samples is None else f'<audio controls preload="none" src="{_sound(samples, rate)}"></audio>'
    length = "" if samples is None else f" ({len(samples) / rate:.2f} s)"
    return (
        f'<figure><figcaption><b>{html.escape(name)}</b>{length}<div class="drawn">{html.escape(note)}</div></figcaption>'
        f'<img alt="spectrogram: {html.escape(name)}" src="data:image/png;base64,{image}">{sound}</figure>'
    )


def _sound(samples: np.ndarray, rate: int) -> str:
    """FLAC as a data URI: browsers play it, and it is lossless, so it adds no codec of its own."""
    file = io.BytesIO()
    soundfile.write(file, samples, rate, format="FLAC", subtype="PCM_16")
    return "data:audio/flac;base64," + base64.b64encode(file.getvalue()).decode()
