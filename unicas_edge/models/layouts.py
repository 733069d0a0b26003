"""Checkpoints whose tensors have other names than timm's, read under timm's.

- DINOv2's own (github.com/facebookresearch/dinov2; Hibou's ``.pth``): ``mlp.w12``, ``mlp.w3``,
  ``register_tokens``, a mask token that only pre-training needs. With registers the class token's
  position is added to the token, as timm's own conversion does.
- transformers' ``Dinov2Model`` (Hibou's ``.safetensors``): other names throughout, and query, key
  and value apart.
- CONCH: the vision tower of a model that also holds a text encoder and a decoder.
"""

from __future__ import annotations

import re
from dataclasses import replace

import numpy as np

from unicas_edge.core.arrays import Float32
from unicas_edge.models.checkpoint import Checkpoint

#: Key -> timm's key, or "" for what inference does not need; tried in order.
_DINOV2 = {
    r"mask_token": "",
    r"register_tokens": "reg_token",
    r"(blocks\.\d+\.mlp)\.w12\.(\w+)": r"\1.fc1.\2",
    r"(blocks\.\d+\.mlp)\.w3\.(\w+)": r"\1.fc2.\2",
}
_TRANSFORMERS = {
    r"embeddings\.mask_token": "",
    r"embeddings\.cls_token": "cls_token",
    r"embeddings\.register_tokens": "reg_token",
    r"embeddings\.position_embeddings": "pos_embed",
    r"embeddings\.patch_embeddings\.projection\.(\w+)": r"patch_embed.proj.\1",
    r"encoder\.layer\.(\d+)\.(norm[12]\.\w+|mlp\.fc[12]\.\w+)": r"blocks.\1.\2",
    r"encoder\.layer\.(\d+)\.attention\.attention\.(?:query|key|value)\.(\w+)": (
        r"blocks.\1.attn.qkv.\2"
    ),
    r"encoder\.layer\.(\d+)\.attention\.output\.dense\.(\w+)": r"blocks.\1.attn.proj.\2",
    r"encoder\.layer\.(\d+)\.layer_scale([12])\.lambda1": r"blocks.\1.ls\2.gamma",
    r"encoder\.layer\.(\d+)\.mlp\.weights_in\.(\w+)": r"blocks.\1.mlp.fc1.\2",
    r"encoder\.layer\.(\d+)\.mlp\.weights_out\.(\w+)": r"blocks.\1.mlp.fc2.\2",
    r"layernorm\.(\w+)": r"norm.\1",
}
_CONCH = {
    r"text\..*|text_decoder\..*|logit_scale": "",
    r"visual\.(?:attn_pool_caption\..*|ln_caption\..*|proj_contrast)": "",
    r"visual\.trunk\.(.*)": r"\1",
    r"visual\.((?:attn_pool|ln)_contrast\..*)": r"\1",
}
#: What is joined, in this order.
_ORDER = (".query.", ".key.", ".value.")


def as_timm(found: Checkpoint) -> Checkpoint:
    """Return the checkpoint under timm's names, with a note; one in timm's names as it is.

    A key that is in no table keeps its name.
    """
    keys = found.shapes
    if any(key.startswith("visual.trunk.") for key in keys):
        return _renamed(found, _CONCH, "CONCH's")
    if "embeddings.cls_token" in keys:
        return _positioned(_renamed(found, _TRANSFORMERS, "transformers'"))
    if {"mask_token", "register_tokens"} & set(keys) or any(".mlp.w12." in key for key in keys):
        return _positioned(_renamed(found, _DINOV2, "DINOv2's"))
    return found


def _renamed(found: Checkpoint, table: dict[str, str], whose: str) -> Checkpoint:
    parts: dict[str, list[str]] = {}
    left = 0
    for key in found.shapes:
        name = _name(key, table)
        parts.setdefault(name, []).append(key) if name else None
        left += not name
    for keys in parts.values():
        keys.sort(key=lambda key: next((i for i, part in enumerate(_ORDER) if part in key), 0))
    shapes = {name: _joined_shape(found, keys) for name, keys in parts.items()}
    get = found.get

    def read(name: str) -> Float32:
        values = [get(key) for key in parts[name]]
        return values[0] if len(values) == 1 else np.concatenate(values)

    rest = f", ignored {left} tensors that are not needed to encode tiles" if left else ""
    return replace(found, shapes=shapes, get=read).noting(f"read in {whose} layout{rest}")


def _name(key: str, table: dict[str, str]) -> str:
    for pattern, name in table.items():
        match = re.fullmatch(pattern, key)
        if match:
            return match.expand(name)
    return key


def _joined_shape(found: Checkpoint, keys: list[str]) -> tuple[int, ...]:
    shapes = [found.shapes[key] for key in keys]
    if len(shapes) == 1:
        return shapes[0]
    if () in shapes or len({shape[1:] for shape in shapes}) > 1:
        return ()  # which fits nothing
    return (sum(shape[0] for shape in shapes), *shapes[0][1:])


def _positioned(found: Checkpoint) -> Checkpoint:
    """Move the class token's position into the token where there are registers, as timm has it."""
    shape = found.shapes.get("pos_embed", ())
    if "reg_token" not in found.shapes or "cls_token" not in found.shapes or len(shape) != 3:
        return found
    get = found.get

    def read(name: str) -> Float32:
        if name == "pos_embed":
            return get(name)[:, 1:]
        return get(name) + get("pos_embed")[:, :1] if name == "cls_token" else get(name)

    shapes = {**found.shapes, "pos_embed": (shape[0], shape[1] - 1, shape[2])}
    return replace(found, shapes=shapes, get=read)
