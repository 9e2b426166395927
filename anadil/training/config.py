"""The whole config: its sections are the road. Each default is the value measured best for a few hours (docs/LOG.md)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, Field, model_validator

from anadil.data.augment.settings import AugmentSettings
from anadil.data.examples import LARGEST, MAX_DURATION_S, MIN_DURATION_S
from anadil.models.acoustic import ModelSettings
from anadil.models.features import FeatureSettings
from anadil.models.hugging_face.network import W2vBertSettings, Wav2Vec2Settings
from anadil.models.quartznet import QuartzNetSettings
from anadil.settings import SECTION, Paths, override, parse, read_yaml
from anadil.text.rules import TextRules, TextSettings, TokenizerSettings
from anadil.training.transfer.settings import InitSettings

EPOCHS, UNLIMITED = 60, 1_000_000
"""What `training.epochs` is when it is left out: without a time budget, and with one."""


class DataSettings(BaseModel):
    """Section `data`: manifests, relative to the working directory, and what to leave out."""

    model_config = SECTION

    train: Paths = Field(min_length=1)
    valid: Paths = []
    min_duration: float = Field(MIN_DURATION_S, ge=0)  # seconds
    max_duration: float = Field(MAX_DURATION_S, gt=0)  # seconds
    skip_bad: bool = False  # train without the utterances that cannot be used, instead of stopping
    pseudo_label_weight: float | None = Field(None, ge=0, le=LARGEST)  # in the loss; None: "weight" of each line, or 1
    language_temperature: float | None = Field(None, ge=1)  # several languages: how much the small ones gain
    cache_mb: float = Field(2048, ge=0)  # decoded audio kept in memory (an hour at 16 kHz: 110 MB)
    cache: str | None = None  # folder that keeps decoded audio from run to run; several runs may share it
    cache_gb: float = Field(10, gt=0)  # its size at most


class TrainingSettings(BaseModel):
    """Section `training`."""

    model_config = SECTION

    epochs: int | None = Field(None, ge=1)  # None: 60, or as many as `max_minutes` has room for
    max_minutes: float | None = Field(None, gt=0)  # the schedule ends by then, even if epochs are left
    flat_start_steps: int = Field(600, ge=0)  # of cross-entropy against evenly spread letters, before CTC
    # audio of a step on all devices together, padding counted; auto: as long as is good for this much speech and fits into memory
    # each utterance twice under different masks, how much the two must agree beside CTC; 0: once, alone (arXiv:2410.05101)
    consistency: float = Field(0.0, ge=0)
    batch_seconds: Annotated[float, Field(gt=0)] | Literal["auto"] = 30.0
    optimizer: Literal["adamw", "novograd"] = "adamw"
    lr: float = Field(0.003, gt=0)
    min_lr: float = Field(1e-5, ge=0)
    betas: tuple[float, float] | None = None  # None: (0.9, 0.98) for adamw, (0.95, 0.98) for novograd
    weight_decay: float = Field(0.01, ge=0)
    warmup_steps: int = Field(200, ge=0)
    clip_norm: float = Field(1.0, gt=0)
    ema_decay: float | None = Field(None, gt=0, lt=1)  # also judge a moving average of the weights; 0.999 is usual
    average_last: int = Field(0, ge=0)  # also judge the mean of the weights of so many epochs; 0, 1: do not
    patience: int | None = Field(None, ge=1)  # end after so many epochs without a better validation CER
    stop_on_collapse: bool = True  # end a run that emits blanks alone and learns nothing any more
    loggers: list[Literal["wandb", "mlflow"]] = []  # of 0.1.0, in saved configs; training refuses all but []
    checkpoint_minutes: float = Field(5.0, gt=0)  # what a crash may cost; --resume goes on from there
    validate_every: int = Field(1, ge=1)  # epochs
    seed: int = Field(0, ge=0)
    devices: int = Field(1, ge=1)  # of this machine; with torchrun, leave it out
    strategy: Literal["ddp", "fsdp"] = "ddp"  # fsdp: weights, gradients and moments are shared out among the devices
    accumulate: int = Field(1, ge=1)  # pieces that a device hears its batch in: less memory, the same step
    accelerator: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    precision: Literal["auto", "32-true", "bf16-mixed", "16-mixed"] = "auto"

    @property
    def epoch_limit(self) -> int:
        """`epochs`, or what stands for it."""
        if self.epochs is not None:
            return self.epochs
        return EPOCHS if self.max_minutes is None else UNLIMITED

    @property
    def views(self) -> int:
        """How often an utterance is heard in a step."""
        return 2 if self.consistency else 1

    @property
    def batch_limit(self) -> float:
        """`batch_seconds`, once it is a number."""
        assert self.batch_seconds != "auto", "resolve_batch_seconds comes first"
        return self.batch_seconds

    @model_validator(mode="after")
    def _rates_agree(self) -> TrainingSettings:
        if self.min_lr > self.lr:
            raise ValueError(f"min_lr {self.min_lr} is above lr {self.lr}")
        return self


class Config(BaseModel):
    """What `anadil train` reads, and saves with the weights."""

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

    @model_validator(mode="after")
    def _can_be_patient(self) -> Config:
        if self.training.patience is not None and not self.data.valid:
            raise ValueError("training.patience needs data.valid: without validation no epoch is better than another")
        return self

    @model_validator(mode="after")
    def _features_are_heard(self) -> Config:
        own = isinstance(self.model, Wav2Vec2Settings | W2vBertSettings)
        if own and self.features != FeatureSettings():
            raise ValueError(
                f"features: a model of kind {self.model.kind} has features of its own: leave the section out"
            )
        return self

    def with_rules(self, rules: TextRules) -> Config:
        """A copy that holds the text rules as a whole: what is saved with the weights needs no other file."""
        return self.model_copy(update={"text": TextSettings(unknown=rules.unknown, saved=rules.to_dict())})

    def with_labels(self, labels: Sequence[str], kind: str | None = None) -> Config:
        """A copy whose `tokenizer.labels` are explicit."""
        update = {"labels": list(labels), "path": None, "kind": kind or self.tokenizer.kind}
        return self.model_copy(update={"tokenizer": self.tokenizer.model_copy(update=update)})


def load_config(path: Path, overrides: Sequence[str] = ()) -> Config:
    """Read a YAML config and apply `KEY=VALUE` overrides. Raises AnadilError naming every mistake."""
    return parse(Config, override(read_yaml(path), overrides), str(path))
