"""Configuration files of pre-training and distillation: TOML, every key checked."""

from __future__ import annotations

import json
import tomllib
from dataclasses import replace
from importlib import resources
from pathlib import Path
from typing import Annotated, Literal, Self, TypeVar

from pydantic import Field, ValidationError, model_validator

from unicas_edge.bundle.manifest import TileSpec
from unicas_edge.core.values import Count, Share, Strict
from unicas_edge.errors import TrainingError
from unicas_edge.models.architectures import ARCHITECTURES, ViT
from unicas_edge.train.loop.settings import Settings

MAX_BYTES = 1 << 20
_MANY = Annotated[int, Field(ge=0, le=100_000_000)]
Positive = Annotated[float, Field(gt=0)]
Rate = Annotated[float, Field(ge=0)]
Pair = tuple[Share, Share]


class Data(Strict):
    """Which tiles: `tile_px` a side at `um_px`; of a slide those the plan ranks first."""

    tile_px: Annotated[int, Field(ge=32, le=4096)] = 256
    crop_px: Annotated[int, Field(ge=32, le=4096)] = 224
    um_px: Annotated[float, Field(ge=0.01, le=100)] = 0.5
    tiles_per_slide: Annotated[int, Field(ge=1, le=1_000_000)] = 4800
    slides_per_draw: Count = 8
    most_unreadable: Share = 0.01

    @property
    def spec(self) -> TileSpec:
        """Return these as the tile plan takes them."""
        return TileSpec(
            size_px=self.tile_px,
            crop_px=self.crop_px,
            um_px=self.um_px,
            field_tiles=4,
            max_tiles=self.tiles_per_slide,
        )


class EncoderShape(Strict):
    """An encoder `like` one of `ARCHITECTURES`; what is named beside it differs."""

    like: str
    size: Count | None = None
    width: Count | None = None
    depth: Count | None = None
    heads: Count | None = None
    hidden: Count | None = None

    @model_validator(mode="after")
    def _possible(self) -> Self:
        if self.like not in ARCHITECTURES:
            raise ValueError(f"like = {self.like!r} is not one of {', '.join(ARCHITECTURES)}")
        vit = self.vit
        if vit.pool is not None or vit.size % vit.patch or vit.width % vit.heads:
            raise ValueError(
                "an encoder with a pooler is not trained here, and patches must fill the tile as "
                "heads must fill the width"
            )
        return self

    @property
    def vit(self) -> ViT:
        """Return the shape."""
        given = self.model_dump(exclude={"like"}, exclude_none=True)
        return replace(ARCHITECTURES[self.like].vit, **given)


class Optimisation(Strict):
    """How `loop.fit` is told to go; `batch` tiles a step of all processes together."""

    batch: Annotated[int, Field(ge=2, le=1_000_000)]
    steps: Annotated[int, Field(ge=1, le=100_000_000)]
    lr: Positive
    warmup_steps: _MANY = 0
    final_lr: Rate = 1e-6
    weight_decay: Rate = 0.04
    final_weight_decay: Rate = 0.4
    clip_norm: Positive = 3.0
    precision: Literal["fp32", "bf16"] = "fp32"
    seed: _MANY = 0
    save_every: _MANY = 1000
    validate_every: _MANY = 1000

    def settings(self) -> Settings:
        """Return these for the loop."""
        return Settings(**self.model_dump(exclude={"batch"}), optimiser="adamw")


class Crops(Strict):
    """Views of a tile: pixels a side, and the share of its area that they show."""

    global_size: Count = 224
    global_scale: Pair = (0.5, 1.0)
    local_size: Count = 96
    local_scale: Pair = (0.05, 0.32)
    local_count: Annotated[int, Field(ge=0, le=64)] = 8
    brightness: Share = 0.4
    contrast: Share = 0.4
    saturation: Share = 0.2
    hue: Annotated[float, Field(ge=0, le=0.5)] = 0.1
    jitter_share: Share = 0.8

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        for name, (low, high) in (("global", self.global_scale), ("local", self.local_scale)):
            if not 0 < low <= high:
                raise ValueError(f"{name}_scale {low}, {high} must rise from above 0")
        return self


class Dino(Strict):
    """DINOv2's own numbers; `frozen_steps` and `temperature_steps` count from the beginning."""

    prototypes: Annotated[int, Field(ge=2, le=1_000_000)] = 65_536
    hidden: Count = 2048
    bottleneck: Count = 256
    separate_patch_head: bool = True
    koleo_weight: Rate = 0.1
    patch_weight: Rate = 1.0
    mask_share: Share = 0.5
    mask_ratio: Pair = (0.1, 0.5)
    momentum: Share = 0.994
    temperature: Pair = (0.04, 0.07)
    temperature_steps: _MANY = 0
    frozen_steps: _MANY = 0
    patch_embed_lr: Share = 0.2
    layer_decay: Annotated[float, Field(gt=0, le=1)] = 1.0
    rank_tiles: Annotated[int, Field(ge=2, le=100_000)] = 512


class PretrainConfig(Strict):
    """A configuration of `pretrain`."""

    encoder: EncoderShape
    optimisation: Optimisation
    data: Data = Data()
    crops: Crops = Crops()
    dino: Dino = Dino()

    @model_validator(mode="after")
    def _fits(self) -> Self:
        patch, crops = self.encoder.vit.patch, self.crops
        if crops.global_size % patch or crops.local_size % patch:
            raise ValueError(f"crops must be multiples of the patch of {patch} pixels")
        if (crops.global_size // patch) ** 2 * self.dino.mask_ratio[0] < 1:
            raise ValueError("mask_ratio masks less than one patch of a crop")
        return self


class DistilConfig(Strict):
    """A configuration of `distil`.

    `patch_weight` weighs the patch tokens, which only a teacher in torch gives, against the CLS
    token; `statistics_tiles` tiles say where the teacher's tokens lie before it begins.
    """

    encoder: EncoderShape
    optimisation: Optimisation
    data: Data = Data()
    loss: Literal["cosine", "mse"] = "cosine"
    patch_weight: Rate = 0.0
    scale: tuple[Positive, Positive] = (0.6, 1.6)
    statistics_tiles: Annotated[int, Field(ge=2, le=100_000)] = 512
    validation_tiles: Annotated[int, Field(ge=2, le=100_000)] = 256


C = TypeVar("C", PretrainConfig, DistilConfig)


def shipped() -> list[str]:
    """Return the names of the configurations in this package."""
    found = resources.files("unicas_edge.train.loop").joinpath("configs").iterdir()
    return sorted(path.name.removesuffix(".toml") for path in found if path.name.endswith(".toml"))


def read_config(source: str, kind: type[C]) -> C:
    """Return the configuration in file `source`, or the shipped one of that name.

    `TrainingError`, naming file and key, for TOML that is not, and for a key that is unknown,
    missing or out of range.
    """
    path = Path(source)
    if not path.suffix and source in shipped():
        path = Path(
            str(resources.files("unicas_edge.train.loop").joinpath(f"configs/{source}.toml"))
        )
    try:
        with path.open("rb") as file:
            text = file.read(MAX_BYTES).decode()
        return kind.model_validate_json(json.dumps(tomllib.loads(text), default=str))
    except OSError as error:
        known = ", ".join(shipped())
        raise TrainingError(
            f"{source}: {error.strerror}; name a file, or one of {known}"
        ) from error
    except ValidationError as error:
        lines = (f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors())
        raise TrainingError(f"{path}: {'; '.join(lines)}") from error
    except ValueError as error:  # TOML, UTF-8
        raise TrainingError(f"{path}: is not a TOML file: {error}") from error
