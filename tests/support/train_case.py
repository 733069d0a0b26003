"""Small images, slides and configurations to train on, for the tests of pre-training."""

from __future__ import annotations

from contextlib import contextmanager

import numpy as np
import torch
from PIL import Image

from unicas_edge.train.loop.config import DistilConfig, PretrainConfig

SHAPE = {"like": "vit-ti16", "size": 64, "width": 24, "depth": 2, "heads": 3, "hidden": 48}
OPTIMISATION = {
    "batch": 6,
    "steps": 6,
    "lr": 2e-3,
    "warmup_steps": 2,
    "save_every": 4,
    "validate_every": 3,
}
DATA = {"tile_px": 80, "crop_px": 64, "tiles_per_slide": 32}


@contextmanager
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def picture(seed, side=80):
    """Round cells of a colour on white."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:side, :side]
    pixels = np.full((side, side, 3), 250.0)
    for _ in range(4):
        middle, radius = rng.uniform(0, side, 2), rng.uniform(4, 12)
        inside = (y - middle[0]) ** 2 + (x - middle[1]) ** 2 < radius**2
        pixels[inside] = rng.uniform(40, 200, 3)
    return (pixels + rng.normal(0, 3, pixels.shape)).clip(0, 255).astype(np.uint8)


def make_images(folder, count=12, side=80):
    folder.mkdir()
    for i in range(count):
        Image.fromarray(picture(i, side)).save(folder / f"{i:02}.png")
    return folder


def pretrain_config(**changes):
    content = {
        "encoder": SHAPE,
        "optimisation": OPTIMISATION,
        "data": DATA,
        "crops": {"global_size": 64, "local_size": 32, "local_count": 3},
        "dino": {
            "prototypes": 48,
            "hidden": 32,
            "bottleneck": 16,
            "momentum": 0.9,
            "rank_tiles": 8,
            "frozen_steps": 1,
            "temperature_steps": 3,
        },
    }
    return PretrainConfig.model_validate(_merged(content, changes), strict=False)


def distil_config(**changes):
    content = {
        "encoder": SHAPE,
        "optimisation": OPTIMISATION,
        "data": DATA,
        "statistics_tiles": 24,
        "validation_tiles": 12,
    }
    return DistilConfig.model_validate(_merged(content, changes), strict=False)


def _merged(content, changes):
    return {
        key: value | changes.get(key, {}) if isinstance(value, dict) else changes.get(key, value)
        for key, value in content.items()
    } | {key: value for key, value in changes.items() if key not in content}


def toml_of(config, path):
    """Write a configuration as TOML: tables of numbers, texts, truths and lists."""
    lines = []
    tables = config.model_dump(mode="json", exclude_none=True)
    for name, value in sorted(tables.items(), key=lambda item: isinstance(item[1], dict)):
        if isinstance(value, dict):
            lines += [f"[{name}]", *(f"{key} = {_toml(v)}" for key, v in value.items())]
        else:
            lines.append(f"{name} = {_toml(value)}")
    path.write_text("\n".join(lines))
    return path


def _toml(value):
    return str(value).lower() if isinstance(value, bool) else repr(value)
