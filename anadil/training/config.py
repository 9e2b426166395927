"""The config of training. Each default is the value measured to be best for a few hours of speech (docs/LOG.md)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, Field, model_validator

from anadil.data.augment.settings import AugmentSettings
from anadil.data.examples import MAX_WEIGHT
from anadil.decoding.beam import BEAM
from anadil.manifest import MAX_DURATION_S, MIN_DURATION_S
from anadil.models.acoustic import ModelSettings
from anadil.models.features import FeatureSettings
from anadil.models.hugging_face.network import W2vBertSettings, Wav2Vec2Settings
from anadil.models.quartznet import QuartzNetSettings
from anadil.settings import SECTION, Paths, Real, Seed, Whole, override, parse, read_yaml
from anadil.text.rules import TextRules, TextSettings, TokenizerSettings
from anadil.training.transfer.settings import InitSettings

_Beta = Annotated[Real, Field(ge=0, lt=1)]

EPOCHS, UNLIMITED = 60, 1_000_000
"""The default of `training.epochs`: without a time budget, and with one."""


class DataSettings(BaseModel):
    """Section `data`: manifests, relative to the working directory, and which utterances to exclude."""

    model_config = SECTION

    train: Paths = Field(min_length=1)
    valid: Paths = []
    min_duration: Real = Field(MIN_DURATION_S, ge=0, le=3600)  # seconds
    max_duration: Real = Field(MAX_DURATION_S, gt=0, le=86_400)  # seconds
    longest_pause: Real | None = Field(None, ge=0, le=60)  # seconds; recognition cuts longer ones out; None: measured
    pause_margin: Real | None = Field(None, ge=0, le=60)  # seconds of them that it keeps at each side; None: measured
    skip_bad: bool = False  # train without the utterances that cannot be used, instead of stopping
    pseudo_label_weight: Real | None = Field(
        None, ge=0, le=MAX_WEIGHT
    )  # in the loss; None: the key "weight" of each line, or 1
    language_temperature: Real | None = Field(
        None, ge=1, le=1000
    )  # several languages: above 1, small ones are sampled more often
    cache_mb: Real = Field(2048, ge=0, le=2**24)  # decoded audio kept in memory (an hour at 16 kHz: 110 MB)
    cache: str | None = None  # folder for decoded audio; several runs may share it
    cache_gb: Real = Field(10, gt=0, le=1e6)  # the largest size of that folder


class TrainingSettings(BaseModel):
    """Section `training`."""

    model_config = SECTION

    epochs: Whole | None = Field(None, ge=1, le=UNLIMITED)  # None: 60; with `max_minutes`, no limit
    max_minutes: Real | None = Field(None, gt=0, le=1e6)  # the schedule ends then, even if epochs are left
    flat_start_steps: Whole = Field(600, ge=0, le=10**7)  # of cross-entropy against an even segmentation, before CTC
    # weight of the consistency loss between two views of each utterance under different masks; 0: one view (arXiv:2410.05101)
    consistency: Real = Field(0.0, ge=0, le=100)
    # weight of the mean loss of the intermediate heads of model.self_conditioned, against 1 minus it of the output's
    intermediate_weight: Real = Field(0.3, ge=0, lt=1)
    # audio per step, of all devices, with padding; auto: from the hours of speech and the memory
    batch_seconds: Annotated[Real, Field(gt=0, le=1e6)] | Literal["auto"] = 30.0
    optimizer: Literal["adamw", "novograd"] = "adamw"
    lr: Real = Field(0.003, gt=0, le=10)
    min_lr: Real = Field(1e-5, ge=0, le=10)
    betas: tuple[_Beta, _Beta] | None = None  # None: (0.9, 0.98) for adamw, (0.95, 0.98) for novograd
    weight_decay: Real = Field(0.01, ge=0, le=10)
    warmup_steps: Whole = Field(200, ge=0, le=10**7)
    clip_norm: Real = Field(1.0, gt=0, le=1e9)
    ema_decay: Real | None = Field(None, gt=0, lt=1)  # also validate a moving average of the weights; 0.999 is usual
    average_last: Whole = Field(
        0, ge=0, le=10_000
    )  # also validate the mean of the weights of so many epochs; 0, 1: off
    patience: Whole | None = Field(
        None, ge=1, le=UNLIMITED
    )  # stop after so many epochs without a better validation CER
    stop_on_collapse: bool = True  # stop a run that emits blanks alone and no longer learns
    loggers: list[Literal["wandb", "mlflow"]] = []  # of 0.1.0, in saved configs; training refuses all but []
    checkpoint_minutes: Real = Field(5.0, gt=0, le=1e9)  # between two checkpoints, from which --resume goes on
    validate_every: Whole = Field(1, ge=1, le=UNLIMITED)  # epochs
    seed: Seed = 0
    devices: Whole = Field(1, ge=1, le=1024)  # of this machine; omit it with torchrun
    strategy: Literal["ddp", "fsdp"] = "ddp"  # fsdp: weights, gradients and moments are sharded
    accumulate: Whole = Field(1, ge=1, le=10_000)  # micro-batches per device and step: less memory, the same step
    accelerator: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    # bf16-activations: as bf16-mixed, and on a CPU quartznet's activations stay in bfloat16 between its layers
    precision: Literal["auto", "32-true", "bf16-mixed", "bf16-activations", "16-mixed"] = "auto"

    @property
    def epoch_limit(self) -> int:
        """`epochs`, or its default."""
        if self.epochs is not None:
            return self.epochs
        return EPOCHS if self.max_minutes is None else UNLIMITED

    @property
    def views(self) -> int:
        """How many times an utterance is in a step."""
        return 2 if self.consistency else 1

    @property
    def batch_limit(self) -> float:
        """`batch_seconds` as a number; `auto` must be resolved before."""
        assert self.batch_seconds != "auto", "resolve_batch_seconds comes first"
        return self.batch_seconds

    @model_validator(mode="after")
    def _rates_agree(self) -> TrainingSettings:
        if self.min_lr > self.lr:
            raise ValueError(f"min_lr {self.min_lr} is above lr {self.lr}")
        return self


class LmSettings(BaseModel):
    """Section `lm`: the n-gram of the training texts that is added to `best` if it helps; `lm: null` makes none."""

    model_config = SECTION

    # auto: the lowest within half a percent of the best entropy on the validation texts
    order: Annotated[Whole, Field(ge=1, le=10)] | Literal["auto"] = "auto"
    beam: Whole = Field(BEAM, ge=1, le=1024)  # prefixes that decoding keeps


class Config(BaseModel):
    """The config that `anadil train` reads, and saves with the weights."""

    model_config = SECTION

    name: str = "model"
    language: str
    data: DataSettings
    text: TextSettings = TextSettings()
    tokenizer: TokenizerSettings = TokenizerSettings()
    features: FeatureSettings = FeatureSettings()
    augment: AugmentSettings = AugmentSettings()
    model: ModelSettings = QuartzNetSettings()
    init: InitSettings | None = None
    training: TrainingSettings = TrainingSettings()
    lm: LmSettings | None = LmSettings()

    @model_validator(mode="after")
    def _can_be_patient(self) -> Config:
        if self.training.patience is not None and not self.data.valid:
            raise ValueError("training.patience needs data.valid: without validation there is no best epoch")
        return self

    @model_validator(mode="after")
    def _activations_can_be_bf16(self) -> Config:
        if self.training.precision == "bf16-activations" and not isinstance(self.model, QuartzNetSettings):
            raise ValueError(
                f"training.precision: bf16-activations is not for models of kind {self.model.kind}: use bf16-mixed"
            )
        return self

    @model_validator(mode="after")
    def _features_are_used(self) -> Config:
        own = isinstance(self.model, Wav2Vec2Settings | W2vBertSettings)
        if own and self.features != FeatureSettings():
            raise ValueError(f"features: a model of kind {self.model.kind} has its own features: omit the section")
        return self

    def with_rules(self, rules: TextRules) -> Config:
        """Return a copy that holds the complete text rules, so that a saved config needs no other file."""
        return self.model_copy(update={"text": TextSettings(unknown=rules.unknown, saved=rules.to_dict())})

    def with_labels(self, labels: Sequence[str], kind: str | None = None) -> Config:
        """Return a copy with explicit `tokenizer.labels`."""
        update = {"labels": list(labels), "path": None, "kind": kind or self.tokenizer.kind}
        return self.model_copy(update={"tokenizer": self.tokenizer.model_copy(update=update)})


def load_config(path: Path, overrides: Sequence[str] = ()) -> Config:
    """Read a YAML config and apply `KEY=VALUE` overrides. Raises AnadilError naming every mistake."""
    return parse(Config, override(read_yaml(path), overrides), str(path))
