"""Aggregator weights: which keys and shapes a configuration asks for, and reading them safely."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import ValidationError

from unicas_edge.bundle.expert_storage import AggregatorTensors
from unicas_edge.bundle.manifest import AggregatorConfig
from unicas_edge.core.arrays import Float32
from unicas_edge.core.json_once import check_once
from unicas_edge.core.safetensors import metadata_in
from unicas_edge.errors import AggregatorError

Shape = tuple[int, ...]
_SHOWN = 5


def parameter_shapes(config: AggregatorConfig) -> dict[str, Shape]:
    """Return every key of the published checkpoint and its shape, for this configuration.

    ``attn.proj`` is among them although the forward pass never uses it.
    """
    d, c = config.embed_dim_in, config.embed_dim
    shapes: dict[str, Shape] = {"model.task_tokens": (1, config.num_tasks, c)}
    for block in range(config.depth):
        shapes.update(_block_shapes(f"model.blocks.{block}.", config))
    shapes.update(_linear("model.layer1.0", c, d))
    shapes.update(_norm("model.layer1.1", c))
    shapes.update(_norm("model.norm", c))
    for i, classes in enumerate(config.classes):
        shapes.update(_linear(f"model.heads.{i}", classes, c))
    for name, size in (("proj", 7), ("proj1", 5), ("proj2", 3)):
        shapes[f"model.pos_layer.{name}.weight"] = (c, 1, size, size)
        shapes[f"model.pos_layer.{name}.bias"] = (c,)
    return shapes


def _block_shapes(block: str, config: AggregatorConfig) -> Iterator[tuple[str, Shape]]:
    c, hidden, bias = config.embed_dim, config.hidden_dim, config.qkv_bias
    yield from _norm(block + "norm1", c)
    yield from _norm(block + "norm2", c)
    for i in range(config.num_tasks):
        yield from _linear(f"{block}attn.qs.{i}", c, c, bias=bias)
        yield from _linear(f"{block}attn.experts.{i}", c, c, bias=False)
    yield from _linear(block + "attn.kv", 2 * c, c, bias=bias)
    yield from _linear(block + "attn.proj", c, c)
    yield block + "mlp.phi", (c, config.num_experts, config.slots_per_expert)
    yield block + "mlp.scale", (1,)
    for j in range(config.num_experts):
        yield from _linear(f"{block}mlp.experts.{j}.fc1", hidden, c)
        yield from _linear(f"{block}mlp.experts.{j}.fc2", c, hidden)


def _linear(name: str, out: int, into: int, *, bias: bool = True) -> Iterator[tuple[str, Shape]]:
    yield name + ".weight", (out, into)
    if bias:
        yield name + ".bias", (out,)


def _norm(name: str, width: int) -> Iterator[tuple[str, Shape]]:
    yield name + ".weight", (width,)
    yield name + ".bias", (width,)


def check_weights(
    weights: Mapping[str, NDArray[np.floating[Any]]], config: AggregatorConfig
) -> dict[str, Float32]:
    """Return the weights as contiguous float32 arrays; a key or shape that differs is an error."""
    wanted = parameter_shapes(config)
    problems = [f"missing {key} {list(wanted[key])}" for key in wanted if key not in weights]
    problems += [f"unexpected {key}" for key in weights if key not in wanted]
    problems += [
        f"{key} is {weight.dtype} {list(weight.shape)}, not float {list(wanted[key])}"
        for key, weight in weights.items()
        if key in wanted and (weight.shape != wanted[key] or weight.dtype.kind != "f")
    ]
    if problems:
        more = f" and {len(problems) - _SHOWN} more" if len(problems) > _SHOWN else ""
        raise AggregatorError(
            f"the aggregator's weights do not fit its configuration: "
            f"{'; '.join(problems[:_SHOWN])}{more}. Export them again with their own configuration"
        )
    return {key: np.ascontiguousarray(weights[key], dtype=np.float32) for key in wanted}


def read_config(path: Path) -> AggregatorConfig:
    """Return the configuration in a safetensors file's metadata; no tensor is read."""
    return _config(path, AggregatorTensors(path).metadata)


def config_in(data: memoryview, path: Path) -> AggregatorConfig:
    """Return the configuration in the metadata of a safetensors file whose bytes are `data`."""
    return _config(path, metadata_in(data, path))


def load_weights(path: Path) -> tuple[dict[str, NDArray[np.floating[Any]]], AggregatorConfig]:
    """Return the tensors as floats, and the configuration, of a safetensors file.

    float32 and float16 stay as they are; bfloat16 and int8 experts become float32.
    """
    file = AggregatorTensors(path)
    config = _config(path, file.metadata)
    return {key: file.values(key) for key in file.tensors if not file.is_scale(key)}, config


def _config(path: Path, metadata: Mapping[str, str]) -> AggregatorConfig:
    text = metadata.get("config")
    if text is None:
        raise AggregatorError(
            f"{path}: the metadata has no `config`; export the aggregator again so that the file "
            "carries its configuration"
        )
    try:
        config = AggregatorConfig.model_validate_json(text)
        check_once(text)
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(map(str, first["loc"])) or "config"
        raise AggregatorError(f"{path}: metadata config: {key}: {first['msg']}") from error
    except ValueError as error:
        raise AggregatorError(f"{path}: metadata config: {error}") from error
    return config
