"""A published aggregator checkpoint: its configuration read off its shapes, and safetensors."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import BinaryIO

import numpy as np
from pydantic import ValidationError

from unicas_edge.bundle.aggregator_file import parameter_shapes
from unicas_edge.bundle.manifest import AggregatorConfig
from unicas_edge.core.safetensors import layout
from unicas_edge.errors import CheckpointError
from unicas_edge.models.architectures import Shape
from unicas_edge.models.checkpoint import Checkpoint, check_fit

#: Of the published configuration; no shape tells them.
HEADS, TOP_M = 12, 256


def infer_config(found: Checkpoint, heads: int = HEADS, top_m: int = TOP_M) -> AggregatorConfig:
    """Return the configuration whose keys and shapes are those of the checkpoint, all of them.

    Attention heads and tiles per head are not in the shapes. `CheckpointError` lists what is not
    an aggregator's.
    """
    first = "model.blocks.0."
    c, d = _shape(found, "model.layer1.0.weight", 2)
    _, tasks, _ = _shape(found, "model.task_tokens", 3)
    _, experts, slots = _shape(found, first + "mlp.phi", 3)
    hidden, _ = _shape(found, first + "mlp.experts.0.fc1.weight", 2)
    try:
        config = AggregatorConfig(
            embed_dim_in=d,
            embed_dim=c,
            depth=_count(found.shapes, r"model\.blocks\.(\d+)\.norm1\.weight"),
            num_heads=heads,
            mlp_ratio=_ratio(hidden, c),
            qkv_bias=first + "attn.kv.bias" in found.shapes,
            num_tasks=tasks,
            classes=tuple(_shape(found, f"model.heads.{i}.bias", 1)[0] for i in range(tasks)),
            num_experts=experts,
            slots_per_expert=slots,
            top_m=top_m,
        )
    except ValidationError as error:
        problem = error.errors()[0]
        where = ".".join(map(str, problem["loc"])) or "its configuration"
        raise CheckpointError(
            f"{found.path}: {where}: {problem['msg']}; give the checkpoint's own --heads, or "
            "another checkpoint"
        ) from error
    check_fit(
        found,
        parameter_shapes(config),
        "an aggregator of UniCAS",
        "Give the model-N.pth that training wrote",
    )
    return config


def _shape(found: Checkpoint, key: str, dimensions: int) -> Shape:
    shape = found.shapes.get(key, ())
    if len(shape) != dimensions or 0 in shape:
        said = f"{key} is {list(shape)}" if key in found.shapes else f"missing {key}"
        raise CheckpointError(
            f"{found.path}: is not an aggregator of UniCAS: {said}. Give the model-N.pth that "
            "training wrote; an encoder is imported by `unicas-edge export encoder`"
        )
    return shape


def _count(shapes: Mapping[str, Shape], pattern: str) -> int:
    return sum(re.fullmatch(pattern, key) is not None for key in shapes)


def _ratio(hidden: int, width: int) -> float:
    """Return the ratio that gives `hidden` when multiplied by `width` and cut to an integer."""
    ratio = hidden / width
    return ratio if int(width * ratio) == hidden else math.nextafter(ratio, math.inf)


def write_safetensors(
    found: Checkpoint, shapes: Mapping[str, Shape], metadata: Mapping[str, str], out: BinaryIO
) -> None:
    """Write the tensors as float32 safetensors, one in memory at a time."""
    header, _ = layout(((key, "F32", shape) for key, shape in shapes.items()), metadata)
    out.write(header)
    for key in shapes:
        out.write(np.ascontiguousarray(found.read(key)).reshape(-1).view(np.uint8).data)
