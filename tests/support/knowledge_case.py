"""Bundles with knowledge: hand-made linear readings of tokens, and manifests that get it wrong."""

from __future__ import annotations

import hashlib
import json
import shutil
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save

from tests.support.fake_encoder import FakeEncoder
from unicas_edge.bundle import Bundle

FILE = "knowledge.safetensors"
KINDS = ("cell", "ink", "bubble", "out_of_focus")


def weights_for(width: int, kinds: int = len(KINDS), **changes: Any) -> dict[str, np.ndarray]:
    """Every tile a cell tile of 10 squamous cells, as stated in scale, 0 to 1 away; or `changes`.

    A key with dots is given with underscores; None leaves it out.
    """
    made = {
        "kinds.weight": np.zeros((kinds, width)),
        "kinds.bias": np.eye(kinds)[0],
        "tokens.mean": np.zeros(width),
        "tokens.covariance": np.eye(width),
        "cells.weight": np.zeros(width),
        "cells.bias": np.full(1, 10.0),
        "scale.weight": np.zeros(width),
        "scale.bias": np.zeros(1),
    }
    made |= {key.replace("_", ".", 1): value for key, value in changes.items()}
    return {
        key: value.astype(np.float32) if value.dtype == np.float64 else value
        for key, value in made.items()
        if value is not None
    }


def spec_for(bundle: Bundle, **changes: Any) -> dict[str, Any]:
    """What a manifest says of knowledge that lets every slide pass; or `changes`."""
    files = bundle.manifest.files
    return {
        "file": FILE,
        "encoder_sha256": files[bundle.manifest.encoder.file],
        "kinds": list(KINDS),
        "aggregated": ["cell"],
        "calibration": {"temperature": 1.0},
        "min_cell_share": 0.3,
        "min_squamous_cells": 5000,
        "preparation_mm2": 314.2,
        "distance_limit": 1e9,
        "um_px_tolerance": 0.15,
    } | changes


def with_knowledge(
    bundle: Bundle,
    folder: Path,
    weights: dict[str, np.ndarray] | bytes | None = None,
    tasks: dict[str, Any] | None = None,
    **changes: Any,
) -> Path:
    """Copy a bundle to `folder`, by hand, and add knowledge; `tasks` is added to every task."""
    shutil.copytree(bundle.root, folder)
    if weights is None:
        weights = weights_for(bundle.manifest.encoder.width)
    data = weights if isinstance(weights, bytes) else save(weights)
    (folder / FILE).write_bytes(data)
    content = json.loads((folder / "bundle.json").read_text())
    content["knowledge"] = spec_for(bundle, **changes)
    content["files"][FILE] = hashlib.sha256(data).hexdigest()
    content["tasks"] = [task | (tasks or {}) for task in content["tasks"]]
    (folder / "bundle.json").write_text(json.dumps(content))
    return folder


def change_manifest(folder: Path, change: Any) -> None:
    """Apply `change` to the content of ``bundle.json``."""
    content = json.loads((folder / "bundle.json").read_text())
    change(content)
    (folder / "bundle.json").write_text(json.dumps(content))


@cache
def _inverse(width: int) -> np.ndarray:
    return np.linalg.pinv(FakeEncoder(width)._projection)


def colour_readout(bundle: Bundle, rgb: Any, constant: float = 0.0) -> tuple[np.ndarray, float]:
    """Weight and bias by which a `FakeEncoder`'s token gives rgb . mean colour (0 to 1) + constant.

    Its tokens are linear in the pixels, so that hand-made weights can read any colour from them.
    """
    spec = bundle.manifest.input
    inverse = _inverse(bundle.manifest.encoder.width)
    blocks = len(inverse) // 3
    mean, std, factors = (np.array(part, dtype=float) for part in (spec.mean, spec.std, rgb))
    pooled = np.repeat(factors * std / blocks, blocks)
    return pooled @ inverse, float(factors @ mean) + constant


def colour_weights(
    bundle: Bundle, *, cells: float = 30.0, octaves: float = 0.0, **changes: Any
) -> dict[str, np.ndarray]:
    """Knowledge of `FakeEncoder` tokens: the strongest colour is the kind of a tile.

    Blue: cell, red: ink, green: bubble, none (grey): out_of_focus. A tile has `cells` times its
    blue squamous cells, and is `octaves` off in scale.
    """
    kinds = [
        colour_readout(bundle, rgb, constant)
        for rgb, constant in (
            ((-100, -100, 200), 0),
            ((200, -100, -100), 0),
            ((-100, 200, -100), 0),
            ((0, 0, 0), 5),
        )
    ]
    weight, bias = colour_readout(bundle, (0, 0, cells))
    return weights_for(
        bundle.manifest.encoder.width,
        **{
            "kinds_weight": np.stack([weight for weight, _ in kinds]),
            "kinds_bias": np.array([bias for _, bias in kinds]),
            "cells_weight": weight,
            "cells_bias": np.array([bias]),
            "scale_bias": np.array([float(octaves)]),
        }
        | changes,
    )
