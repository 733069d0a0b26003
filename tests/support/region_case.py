"""A copy of the embedded bundle with region heads of random weights, and images to classify."""

from __future__ import annotations

import hashlib
import json
import shutil

import numpy as np
from PIL import Image
from safetensors.numpy import save_file

from unicas_edge.bundle import Bundle

WIDTH = Bundle.load().manifest.encoder.width


def head_weights(classes, hidden=16, width=WIDTH, seed=0):
    rng = np.random.default_rng(seed)
    shapes = {
        "fc1.weight": (hidden, width),
        "fc1.bias": (hidden,),
        "fc2.weight": (classes, hidden),
        "fc2.bias": (classes,),
    }
    return {key: rng.normal(0, 0.3, shape).astype(np.float32) for key, shape in shapes.items()}


def head_spec(name, classes, *, view="cell", positive=None, hidden=16, temperature=1.0, cut=0.5):
    return {
        "name": name,
        "file": f"heads/{name}.safetensors",
        "classes": list(classes),
        "hidden": hidden,
        "view": view,
        "positive": positive,
        "threshold": None if positive is None else cut,
        "calibration": {"temperature": temperature},
    }


def with_heads(folder, *heads):
    """A copy of the embedded bundle with `heads`: (spec, weights) or a spec alone."""
    shutil.copytree(Bundle.load().root, folder)
    content = json.loads((folder / "bundle.json").read_text())
    (folder / "heads").mkdir(exist_ok=True)
    content["heads"] = []
    for seed, head in enumerate(heads):
        spec, weights = head if isinstance(head, tuple) else (head, None)
        weights = weights or head_weights(len(spec["classes"]), spec["hidden"], seed=seed)
        save_file(weights, folder / spec["file"])
        content["heads"].append(spec)
        digest = hashlib.sha256((folder / spec["file"]).read_bytes()).hexdigest()
        content["files"][spec["file"]] = digest
    (folder / "bundle.json").write_text(json.dumps(content))
    return folder


def cell(rng, size=(60, 80), colour=(120, 60, 140)):
    """A blob of `colour` on a pale ground, uint8 [h, w, 3], with noise."""
    height, width = size
    y, x = np.mgrid[:height, :width]
    inside = ((y / height - 0.5) ** 2 + (x / width - 0.5) ** 2 < 0.1)[..., None]
    pixels = np.where(inside, colour, (225, 215, 230)) + rng.normal(0, 6, (height, width, 3))
    return np.clip(pixels, 0, 255).astype(np.uint8)


def write_image(path, pixels, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path, **options)
    return path
