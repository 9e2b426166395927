"""Section `init` of a config: a start from a model of another language, or of the same one."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, Field, field_validator, model_validator

from anadil.settings import SECTION


class FirstBlocks(BaseModel):
    """`freeze: {first_n: k}`: the k blocks (layers) next to the input."""

    model_config = SECTION

    first_n: int = Field(ge=1)


class LoraSettings(BaseModel):
    """`lora: {rank: 8}`: low-rank updates of the attention's projections, the rest of the encoder frozen."""

    model_config = SECTION

    rank: int = Field(8, ge=1)
    alpha: float = Field(16.0, gt=0)  # the update counts alpha / rank times
    dropout: float = Field(0.0, ge=0, lt=1)  # of what the update hears
    targets: list[Literal["q", "k", "v", "out"]] = Field(["q", "v"], min_length=1)


class InitSettings(BaseModel):
    """`from` is a model folder or `.nemo`, relative to the working directory, or a folder or id of Hugging Face.

    Rates are factors of the schedule's learning rate.
    """

    model_config = SECTION

    from_: str = Field(alias="from", min_length=1)
    adapter: str | None = None  # of MMS: the language whose adapter and head are taken, such as tur
    head: Literal["new", "keep", "map"] | None = None  # None: keep for the same language and labels, else map
    partial: bool = False  # train although the encoders differ, with what fits
    other_features: bool = False  # train although the features differ from those that the encoder knows
    freeze: Literal["none", "encoder", "encoder_except_norm"] | FirstBlocks = "none"
    unfreeze_after: int | None = Field(None, ge=1)  # epochs; None: what is frozen stays so
    encoder_lr_factor: float = Field(1.0, gt=0)
    layer_lr_decay: float = Field(1.0, gt=0, le=1)  # a factor for each block, from the head to the input
    lora: LoraSettings | None = None  # the encoder learns by low-rank updates alone
    l2_sp: float = Field(0.0, ge=0)  # pull of the encoder's weights to their start, in place of weight decay

    @field_validator("freeze", mode="before")
    @classmethod
    def _one_of(cls, value: object) -> object:
        if isinstance(value, dict) and list(value) == ["first_n"] and type(value["first_n"]) is int:
            if value["first_n"] >= 1:
                return FirstBlocks(first_n=value["first_n"])
        elif isinstance(value, FirstBlocks) or value in ("none", "encoder", "encoder_except_norm"):
            return value
        raise ValueError("allowed are none, encoder, encoder_except_norm, and {first_n: 3} for the first 3 blocks")

    @model_validator(mode="after")
    def _agrees(self) -> InitSettings:
        if self.unfreeze_after is not None and self.freeze == "none":
            raise ValueError("unfreeze_after needs something to unfreeze: set freeze too")
        if self.lora is not None and (self.freeze != "none" or self.l2_sp > 0):
            raise ValueError("lora freezes the encoder itself: leave freeze and l2_sp out")
        return self
