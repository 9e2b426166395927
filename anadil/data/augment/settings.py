"""Section `augment` of a config: a probability and ranges for each transform; a transform that is not named is off.

Transforms are applied in the order of the fields: first what stands around and between the utterances (silence), then the
speaker (speed, tempo, pitch), the room (reverb, background), the microphone (white_noise, gain, clipping) and the line
(telephone, codec); then the features (time_warp, spec_augment, spec_cutout).
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, Field, model_validator

from anadil.settings import SECTION, Paths, Real, Whole

_Probability = Annotated[Real, Field(ge=0, le=1)]


def _two_ends(value: object) -> object:
    """A number as a range of one value."""
    return (value, value) if isinstance(value, int | float) and not isinstance(value, bool) else value


def _between(lowest: float, highest: float) -> AfterValidator:
    def check(ends: tuple[float, float]) -> tuple[float, float]:
        if not lowest <= ends[0] <= ends[1] <= highest:
            raise ValueError(f"a range is [low, high] within {lowest:g} and {highest:g}, found {list(ends)}")
        return ends

    return AfterValidator(check)


_Factors = Annotated[tuple[Real, Real], BeforeValidator(_two_ends), _between(0.5, 2)]
_Semitones = Annotated[tuple[Real, Real], BeforeValidator(_two_ends), _between(-12, 12)]
_Decibels = Annotated[tuple[Real, Real], BeforeValidator(_two_ends), _between(-60, 100)]
_Overloads = Annotated[tuple[Real, Real], BeforeValidator(_two_ends), _between(0, 40)]
_Seconds = Annotated[tuple[Real, Real], BeforeValidator(_two_ends), _between(0.02, 5)]
_Pauses = Annotated[tuple[Real, Real], BeforeValidator(_two_ends), _between(0, 10)]
_BitRates = Annotated[tuple[Real, Real], BeforeValidator(_two_ends), _between(6, 64)]


class SilenceSettings(BaseModel):
    """Silence, room tone and noise around and between utterances, in training only.

    Each utterance of an epoch is replaced by sounds without text (share `non_speech`), or followed by another utterance of
    its speaker after a pause (`joined`), or gets a pause before it, after it, or both (`probability`).
    """

    model_config = SECTION

    probability: _Probability = 0.25
    joined: _Probability = 0.08
    non_speech: _Probability = 0.02
    seconds: _Pauses = (0.1, 2.0)  # of each pause
    snr_db: _Decibels = (15.0, 50.0)  # of steady noise in the pauses, relative to active speech

    @model_validator(mode="after")
    def _is_a_share(self) -> SilenceSettings:
        if self.probability + self.joined + self.non_speech > 1:
            raise ValueError("probability, joined and non_speech are shares of the utterances: at most 1 together")
        return self


class SpeedSettings(BaseModel):
    """Change speed and pitch together, as with a tape: a rate of 0.9 is slower, lower and longer."""

    model_config = SECTION

    probability: _Probability = 0.5
    rate: _Factors = (0.9, 1.1)


class TempoSettings(BaseModel):
    """Change the speed and keep the pitch: a rate of 0.9 is slower and longer."""

    model_config = SECTION

    probability: _Probability = 0.1
    rate: _Factors = (0.9, 1.1)


class PitchSettings(BaseModel):
    """Change the pitch, and the timbre with it, and keep the speed."""

    model_config = SECTION

    probability: _Probability = 0.1
    semitones: _Semitones = (-2.0, 2.0)


class ReverbSettings(BaseModel):
    """Reverberation, with impulse responses of your own or generated ones."""

    model_config = SECTION

    probability: _Probability = 0.1
    manifest: Paths = []  # of impulse responses; none: decaying noise with the two parameters below
    rt60: _Seconds = (0.1, 0.6)  # seconds until the reverberation has decayed by 60 dB
    direct_db: _Decibels = (0.0, 12.0)  # energy of the direct sound relative to the reverberation


class BackgroundSettings(BaseModel):
    """Noise, music or other speech from recordings of your own, looped, or cut at random."""

    model_config = SECTION

    manifest: Paths = Field(min_length=1)
    probability: _Probability = 0.3
    snr_db: _Decibels = (5.0, 25.0)


class WhiteNoiseSettings(BaseModel):
    """White Gaussian noise."""

    model_config = SECTION

    probability: _Probability = 0.2
    snr_db: _Decibels = (10.0, 40.0)


class GainSettings(BaseModel):
    """Change the level."""

    model_config = SECTION

    probability: _Probability = 0.3
    db: _Decibels = (-15.0, 6.0)


class ClippingSettings(BaseModel):
    """Clip peaks at `overload_db` below the highest one."""

    model_config = SECTION

    probability: _Probability = 0.05
    overload_db: _Overloads = (1.0, 12.0)


class TelephoneSettings(BaseModel):
    """300 to 3400 Hz at 8 kHz; `mu_law` is the share of utterances that are coded in 8 bits as in ITU-T G.711."""

    model_config = SECTION

    probability: _Probability = 0.05
    mu_law: _Probability = 0.5


class CodecSettings(BaseModel):
    """Encode at a low bit rate, and decode."""

    model_config = SECTION

    probability: _Probability = 0.005  # by far the slowest: 8 ms of one core for a second of audio (docs/LOG.md)
    formats: Annotated[list[Literal["mp3", "opus"]], Field(min_length=1)] = ["mp3", "opus"]
    kbps: _BitRates = (8.0, 24.0)


class TimeWarpSettings(BaseModel):
    """Move a point of the utterance by up to `shift` of its length, and stretch the rest (Park et al. 2019, 3.1)."""

    model_config = SECTION

    probability: _Probability = 0.3
    shift: Real = Field(0.05, ge=0, lt=0.5)


BAND_SHARE, N_TIME_MASKS = 0.25, 2
"""Defaults of SpecAugment."""


class SpecAugmentSettings(BaseModel):
    """Mask bands of frequency and spans of time with the mean."""

    model_config = SECTION

    probability: _Probability = 1.0
    freq_masks: Whole = Field(2, ge=0, le=100)
    # widest mask, as a share of the mel bands; auto: by the epochs that training expects (training/regularization.py)
    freq_width: Annotated[Real, Field(ge=0, le=1)] | Literal["auto"] = BAND_SHARE
    time_masks: Annotated[Whole, Field(ge=0, le=1000)] | Literal["auto"] = N_TIME_MASKS  # auto: as freq_width
    time_width: Real = Field(0.05, ge=0, le=1)  # widest mask, as a share of the utterance

    @property
    def band_share(self) -> float:
        """`freq_width` as a number; its default while it is `auto`."""
        return BAND_SHARE if self.freq_width == "auto" else self.freq_width

    @property
    def n_time_masks(self) -> int:
        """`time_masks` as a number; its default while it is `auto`."""
        return N_TIME_MASKS if self.time_masks == "auto" else self.time_masks


class SpecCutoutSettings(BaseModel):
    """Mask rectangles of the features with the mean."""

    model_config = SECTION

    probability: _Probability = 0.5
    rectangles: Whole = Field(5, ge=0, le=1000)
    freq_width: Real = Field(0.3, ge=0, le=1)  # widest rectangle, as a share of the mel bands
    time_width: Real = Field(0.05, ge=0, le=1)  # widest rectangle, as a share of the utterance


class AugmentSettings(BaseModel):
    """Section `augment`. What is on by default was measured to help; the rest is optional."""

    model_config = SECTION

    silence: SilenceSettings | None = SilenceSettings()
    speed: SpeedSettings | None = None
    tempo: TempoSettings | None = None
    pitch: PitchSettings | None = None
    reverb: ReverbSettings | None = None
    background: BackgroundSettings | None = None
    white_noise: WhiteNoiseSettings | None = None
    gain: GainSettings | None = None
    clipping: ClippingSettings | None = None
    telephone: TelephoneSettings | None = None
    codec: CodecSettings | None = None
    time_warp: TimeWarpSettings | None = None
    spec_augment: SpecAugmentSettings | None = SpecAugmentSettings()
    spec_cutout: SpecCutoutSettings | None = None
