"""The golden cases of the published aggregator, and the real bags they were computed from."""

from __future__ import annotations

import importlib.util
import json
import zipfile

import numpy as np

from unicas_edge.bundle.aggregator_file import parameter_shapes
from unicas_edge.bundle.manifest import AggregatorConfig


def golden_cases(folder):
    """Return the description and the arrays of the cases in `folder`."""
    cases = json.loads((folder / "multitask_aggregator.json").read_text())
    with np.load(folder / "multitask_aggregator.npz") as arrays:
        return cases, dict(arrays)


def golden_weights(golden, folder):
    """Return 344 M parameters, every one drawn from its key, and their configuration."""
    spec = importlib.util.spec_from_file_location("fill", folder / "fill.py")
    fill = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(fill)
    config = AggregatorConfig.model_validate_json(json.dumps(golden[0]["config"]))
    shapes = {key: tuple(shape) for key, shape in golden[0]["shapes"].items()}
    assert parameter_shapes(config) == shapes
    return fill.fill(shapes), config


def read_bag(path):
    """A torch zip of one float32 tensor [800, 1024], read without torch."""
    with zipfile.ZipFile(path) as file:
        (name,) = (n for n in file.namelist() if n.endswith("/data/0"))
        return np.frombuffer(file.read(name), dtype="<f4").reshape(800, 1024)
