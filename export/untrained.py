"""Builds the embedded bundle: the right shape, the right size, and weights that know nothing.

``python -m unicas_edge.export.untrained OUT`` writes it. Rebuilding gives the same bytes anywhere:
weights come from integer arithmetic on a counter-based stream, never from a mathematical library.

Why the adequacy limits are what they are. `min_coverage` 0.95: the published bags were cut from
undamaged slides, and one field in twenty lost is more than a decoder loses by accident.
`min_cellular_tiles` 32, two fields: even a crowded monolayer shows about ten squamous cells on a
tile of 128 um, so fewer tiles hold a few hundred of the 5,000 cells that the Bethesda system asks
for; it is a floor, not a promise of adequacy. `min_in_focus_share` 0.5: below it the out-of-focus
tiles decide. `focus_floor` 20: what blur of 1 um sigma leaves of real ThinPrep tiles (99th
percentile 14 to 22), whose own 1st percentile is 125 to 190.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import math
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from safetensors.numpy import save

from unicas_edge.bundle.aggregator_file import parameter_shapes
from unicas_edge.bundle.edit import new_bundle
from unicas_edge.bundle.manifest import AggregatorConfig, Manifest
from unicas_edge.export import vit

ENCODER, AGGREGATOR = "encoder.onnx", "aggregator.safetensors"
VIT = vit.ViT()
CONFIG = AggregatorConfig(
    embed_dim_in=VIT.width,
    embed_dim=128,
    depth=4,
    num_heads=4,
    mlp_ratio=2.0,
    num_tasks=3,
    classes=(2, 2, 2),
    num_experts=4,
    top_m=256,
)

TASKS = ("cancer", "candidiasis", "cluecell")
ADEQUACY = {
    "min_coverage": 0.95,
    "min_cellular_tiles": 32,
    "min_in_focus_share": 0.5,
    "focus_floor": 20.0,
}

#: CIELAB of the tissue pixels of three real ThinPrep slides, averaged over the slides and rounded.
TARGET = {"mean": [66.0, 9.0, -18.0], "std": [20.0, 17.0, 6.0]}


def draw(key: str, shape: tuple[int, ...]) -> NDArray[np.float32]:
    """Return the weight `key`: a stream seeded by its CRC-32, scaled by 1 / sqrt(fan in).

    Norm weights lie around 1; biases, tokens, and positions get a standard deviation of 0.02.
    """
    sample = _near_normal(zlib.crc32(key.encode()), shape)
    leaf = key.rsplit(".", 1)[-1]
    if leaf == "phi":
        sample /= math.sqrt(shape[0])
    elif leaf in {"bias", "cls_token", "pos_embed", "task_tokens"}:
        sample *= 0.02
    elif len(shape) == 1:
        sample = 1 + 0.02 * sample
    else:
        sample /= math.sqrt(math.prod(shape[1:]))
    return sample.astype(np.float32)


def _near_normal(seed: int, shape: tuple[int, ...]) -> NDArray[np.float64]:
    """Return a normal sample cut at 3.5 sigma: the sum of four 16-bit uniforms (Irwin-Hall).

    NumPy promises that PCG64's raw stream never changes, which it does not for its normals.
    """
    raw = np.random.PCG64(seed).random_raw(math.prod(shape))
    quarters = np.ascontiguousarray(raw).view(np.uint16).reshape(-1, 4)
    centred = quarters.sum(axis=1, dtype=np.int64) - 2 * 65_535
    return np.asarray(centred * (math.sqrt(3) / 65_536)).reshape(shape)


def encoder_bytes() -> bytes:
    """Return the encoder, ViT-Ti/16 at 224, as an ONNX file."""
    shapes = vit.parameter_shapes(VIT)
    model = vit.build(VIT, lambda key: draw(key, shapes[key]), storage="fp16")
    onnx.checker.check_model(model)
    return bytes(model.SerializeToString(deterministic=True))


def aggregator_bytes(config: AggregatorConfig = CONFIG) -> bytes:
    """Return the aggregator as a safetensors file, float16, its configuration in the metadata."""
    weights = {
        key: draw(key, shape).astype(np.float16) for key, shape in parameter_shapes(config).items()
    }
    return save(weights, metadata={"config": config.model_dump_json()})


def manifest(files: dict[str, bytes]) -> Manifest:
    """Return the manifest of the untrained bundle for the given files."""
    content: dict[str, Any] = {
        "schema_version": 1,
        "name": "untrained-vit-ti16",
        "version": "1",
        "licence": "Apache-2.0",
        "intended_use": "Shows that the pipeline works; random weights. No use on patients.",
        "trained": False,
        "tile": {"size_px": 256, "crop_px": 224, "um_px": 0.5, "field_tiles": 4, "max_tiles": 800},
        "input": {
            "layout": "NCHW",
            "dtype": "float32",
            "mean": [0.485, 0.456, 0.406],  # ImageNet's, as DINOv2 and the published encoder use
            "std": [0.229, 0.224, 0.225],
        },
        "colour": {"default": "none", "target": TARGET},
        "encoder": {"file": ENCODER, "format": "onnx", "width": VIT.width, "precision": "fp32"},
        "aggregator": {"file": AGGREGATOR, "config": CONFIG.model_dump()},
        "tasks": [task(name) for name in TASKS],
        "detector": None,
        "adequacy": ADEQUACY,
        "training_data": [],
        "evaluation": [],
        "files": {name: hashlib.sha256(data).hexdigest() for name, data in sorted(files.items())},
    }
    return Manifest.model_validate_json(json.dumps(content))


def task(name: str, threshold: float = 0.5, classes: int = 2) -> dict[str, Any]:
    """Return what a manifest says of a task; of more than two classes the second is positive."""
    names = ["negative", "positive"] if classes == 2 else [f"class {i}" for i in range(classes)]
    return {
        "name": name,
        "classes": names,
        "positive": 1,
        "threshold": threshold,
        "calibration": {"temperature": 1.0},
    }


def write(folder: Path) -> None:
    """Write the untrained bundle into the new folder `folder`."""
    files = {AGGREGATOR: aggregator_bytes(), ENCODER: encoder_bytes()}
    with new_bundle(folder, force=False) as new:
        for name, data in files.items():
            with new.put(name) as out:
                out.write(data)
        new.manifest(manifest(files).model_dump(mode="json"))


def main() -> None:
    """Command line: write the bundle into the folder given."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("folder", type=Path)
    write(parser.parse_args().folder)


if __name__ == "__main__":
    main()
