"""Encoders of any shape with random weights: in torch, as timm has them, and through ONNX."""

from __future__ import annotations

import zlib
from dataclasses import replace

import numpy as np
import onnx
import onnxruntime
import torch

from unicas_edge.export import vit as exported
from unicas_edge.models.architectures import ARCHITECTURES, parameter_shapes
from unicas_edge.train.encoder.model import VisionTransformer

SMALL = replace(
    ARCHITECTURES["h-optimus-0"].vit, size=56, width=32, depth=2, heads=4, hidden=24, registers=3
)


def shallow(name, depth=2):
    return replace(ARCHITECTURES[name].vit, depth=depth)


def weights_of(vit, seed=0):
    """Every parameter drawn from its key, of a size that keeps every term noticeable."""
    return {key: _draw(key, shape, seed) for key, shape in parameter_shapes(vit).items()}


def _draw(key, shape, seed):
    normal = np.random.default_rng([zlib.crc32(key.encode()), seed]).standard_normal(
        shape, dtype=np.float32
    )
    leaf = key.rsplit(".", 1)[-1]
    if leaf in {"cls_token", "reg_token", "pos_embed", "query"}:
        return 0.5 * normal
    if leaf == "gamma":
        return 0.3 + 0.1 * normal
    if leaf.endswith("bias"):
        return 0.1 * normal
    if len(shape) == 1:
        return 1 + 0.1 * normal
    return normal / np.float32(np.sqrt(np.prod(shape[1:])))


def tensors(weights):
    """The arrays as torch tensors that share their memory."""
    return {key: torch.from_numpy(np.require(w, requirements="W")) for key, w in weights.items()}


def module_of(vit, weights):
    with torch.device("meta"):
        module = VisionTransformer(vit)
    module.load_state_dict(tensors(weights), strict=True, assign=True)
    return module.eval()


def tiles_of(vit, count=2, seed=3):
    shape = (count, 3, vit.size, vit.size)
    return np.random.default_rng(seed).standard_normal(shape, dtype=np.float32)


def in_torch(module, tiles):
    with torch.inference_mode():
        return module(torch.from_numpy(tiles)).numpy()


def in_onnx(vit, weights, tiles, **options):
    """Tokens from the exported graph through onnxruntime; the model is checked on the way."""
    model = exported.build(vit, weights.__getitem__, **options)
    onnx.checker.check_model(model, full_check=True)
    return run(model.SerializeToString(), tiles)


def run(model, tiles):
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 2
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    (tokens,) = session.run(["tokens"], {"pixels": tiles})
    return tokens


def cosines(a, b):
    return (a * b).sum(axis=1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)
