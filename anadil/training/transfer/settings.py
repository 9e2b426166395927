"""Section `init` of a config: initialisation from a model of another language, or of the same language."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, Field, field_validator, model_validator

from anadil.settings import SECTION, Real, Whole


class FirstBlocks(BaseModel):
    """`freeze: {first_n: k}`: the first k blocks (layers), counted from the input."""

    model_config = SECTION

    first_n: Whole = Field(ge=1, le=10_000)


class LoraSettings(BaseModel):
    """`lora: {rank: 8}`: low-rank updates of the attention's projections, the rest of the encoder frozen."""

    model_config = SECTION

    rank: Whole = Field(8, ge=1, le=10_000)
    alpha: Real = Field(16.0, gt=0, le=1e6)  # the update is scaled by alpha / rank
    dropout: Real = Field(0.0, ge=0, lt=1)  # of the update's input
    targets: list[Literal["q", "k", "v", "out"]] = Field(["q", "v"], min_length=1)


class InitSettings(BaseModel):
    """Section `init` of a config.

    `from` is a model folder, a `.nemo`, or a folder of transformers, relative to the working directory; or the id of a
    model on the hub of Hugging Face; or `hama`, the model in that package, or a `.hama`.
    """

    model_config = SECTION

    from_: str = Field(alias="from", min_length=1)
    adapter: str | None = None  # for MMS: the language of its adapter and head, such as tur
    head: Literal["new", "keep", "map"] | None = None  # None: keep for the same language and labels, else map
    partial: bool = False  # allow an encoder that differs from the source's: the tensors that fit are loaded
    other_features: bool = False  # allow features that differ from those the encoder was trained on
    freeze: Literal["none", "encoder", "encoder_except_norm"] | FirstBlocks = "none"
    unfreeze_after: Whole | None = Field(None, ge=1, le=10**6)  # epochs; None: frozen for the whole training
    encoder_lr_factor: Real = Field(1.0, gt=0, le=1000)  # of the schedule's learning rate
    layer_lr_decay: Real = Field(1.0, gt=0, le=1)  # a further factor for each block, from the head to the input
    lora: LoraSettings | None = None  # train only low-rank updates of the encoder
    l2_sp: Real = Field(
        0.0, ge=0, le=1000
    )  # pull of the encoder's weights to their initial values, instead of weight decay

    @field_validator("freeze", mode="before")
    @classmethod
    def _check_freeze(cls, value: object) -> object:
        if isinstance(value, dict) and list(value) == ["first_n"] and type(value["first_n"]) is int:
            if value["first_n"] >= 1:
                return FirstBlocks(first_n=value["first_n"])
        elif isinstance(value, FirstBlocks) or value in ("none", "encoder", "encoder_except_norm"):
            return value
        raise ValueError("allowed are none, encoder, encoder_except_norm, and {first_n: 3} for the first 3 blocks")

    @model_validator(mode="after")
    def _options_agree(self) -> InitSettings:
        if self.unfreeze_after is not None and self.freeze == "none":
            raise ValueError("unfreeze_after needs freeze: set it too")
        if self.lora is not None and (self.freeze != "none" or self.l2_sp > 0):
            raise ValueError("lora already freezes the encoder: leave freeze and l2_sp out")
        return self
