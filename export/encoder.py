"""Checkpoints become bundles: an encoder begins one, an aggregator completes it.

Until an aggregator is imported the bundle holds a small untrained one of the encoder's width, so
that it can be loaded, timed and verified, and says `trained: false`, which every result repeats.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import onnx

from unicas_edge.bundle import Bundle
from unicas_edge.bundle.edit import Draft, check_places, new_bundle
from unicas_edge.bundle.expert_storage import AggregatorTensors
from unicas_edge.bundle.manifest import AggregatorConfig
from unicas_edge.errors import AggregatorError, CheckpointError, OutputError
from unicas_edge.export import aggregator, untrained, vit
from unicas_edge.export.graph import Array, Storage
from unicas_edge.models.architectures import (
    ARCHITECTURES,
    Architecture,
    Shape,
    ViT,
    parameter_shapes,
)
from unicas_edge.models.checkpoint import Checkpoint, check_fit, differences, digest, load
from unicas_edge.models.layouts import as_timm

ENCODER, DATA, AGGREGATOR = "encoder.onnx", "encoder.onnx.data", "aggregator.safetensors"
#: Weights beyond this lie beside the model: a protobuf ends at 2 GB, and is read as a whole.
MAX_INLINE_BYTES = 100_000_000
_BYTES: dict[Storage, int] = {"fp32": 4, "fp16": 2, "int8": 1}
_THERE_ARE = "There are: " + ", ".join(ARCHITECTURES)
_UNTRAINED = "The aggregator is untrained: its probabilities mean nothing. "
_USE = "Research use only. Not a medical device."
#: In an aggregator's metadata: the checkpoint that it was imported from.
_SOURCE = "source_sha256"

Matrix = tuple[tuple[float, float, float, float], ...]


@dataclass(frozen=True)
class Exported:
    """A bundle that was written, and what was unwrapped or left out of the checkpoint."""

    bundle: Bundle
    notes: tuple[str, ...]


def export_encoder(
    checkpoint: Path,
    target: Path,
    *,
    architecture: str = "auto",
    storage: Storage = "fp32",
    uint8: bool = False,
    matrix: Matrix | None = None,
    name: str | None = None,
    force: bool = False,
) -> Exported:
    """Write a new bundle into the folder `target`: this encoder and an untrained aggregator.

    `architecture` is a name of `ARCHITECTURES`; auto takes the one whose keys and shapes the
    checkpoint has. With `uint8` the model takes grey levels and holds mean, std and the 3 x 4
    colour `matrix` itself (`vit.GreyLevels`). `target` appears whole or not at all; with `force` it
    replaces a bundle that is there. `CheckpointError` for a checkpoint that cannot be imported,
    `OutputError` for a target that is in the way or cannot be written.
    """
    if matrix is not None and not uint8:
        raise CheckpointError("a colour matrix needs --uint8; give both")
    check_places(checkpoint, target, force=force)
    name_of, found = identify(as_timm(load(checkpoint)), architecture)
    kind = ARCHITECTURES[name_of]
    source = digest(checkpoint)
    levels = vit.GreyLevels(kind.mean, kind.std, matrix) if uint8 else None
    notes = {"architecture": name_of, "source_sha256": source}
    if levels:
        notes["grey_levels"] = json.dumps(asdict(levels))
    config = untrained.CONFIG.model_copy(update={"embed_dim_in": kind.vit.out_width})
    with new_bundle(target, force=force) as new:
        write_encoder(kind.vit, found.read, new, storage, levels, notes)
        with new.put(AGGREGATOR) as out:
            out.write(untrained.aggregator_bytes(config))
        content = _new_content(kind, name or name_of)
        content["encoder"] |= {"architecture": name_of, "source_sha256": source, "storage": storage}
        content["input"]["dtype"] = "uint8" if uint8 else "float32"
        content["aggregator"]["config"] = config.model_dump(mode="json")
        new.manifest(content)
    return Exported(new.bundle, found.notes)


def export_aggregator(
    checkpoint: Path,
    target: Path,
    *,
    heads: int = aggregator.HEADS,
    top_m: int = aggregator.TOP_M,
    tasks: Mapping[str, float] | None = None,
    force: bool = False,
) -> Exported:
    """Put this aggregator into the bundle `target`, in place of its untrained one.

    `tasks` maps names to thresholds, in the checkpoint's order; the default are UniCAS's three at
    0.5. Verification is dropped, as it spoke for other weights. An aggregator that was imported is
    replaced only with `force`. The bundle changes at once or not at all. Errors: as
    `export_encoder`.
    """
    if not target.exists():
        raise OutputError(
            f"{target}: no bundle there; make it from an encoder first: "
            f"unicas-edge export encoder CHECKPOINT -o {target}"
        )
    old = Bundle.load(target)
    if not force and _imported(old):
        raise OutputError(f"{target}: has an imported aggregator; --force replaces it")
    check_places(checkpoint, target, force=True)
    found = load(checkpoint, prefixes=("module.",))  # its own keys begin with "model."
    config = aggregator.infer_config(found, heads, top_m)
    if config.embed_dim_in != old.manifest.encoder.width:
        raise CheckpointError(
            f"{checkpoint}: is made for tokens of width {config.embed_dim_in}, the encoder of "
            f"{target} gives {old.manifest.encoder.width}; import the encoder it was trained with"
        )
    named = tasks or dict.fromkeys(untrained.TASKS, 0.5)
    if len(named) != config.num_tasks:
        raise CheckpointError(
            f"{checkpoint}: has {config.num_tasks} tasks, but {len(named)} names are given "
            f"({', '.join(named)}); give each in order with --task NAME=THRESHOLD"
        )
    meta = {"config": config.model_dump_json(), _SOURCE: digest(checkpoint)}
    with new_bundle(target, force=True) as new:
        new.link_all(old)
        new.drop(old.manifest.aggregator.file)
        with new.put(AGGREGATOR) as out:
            aggregator.write_safetensors(found, found.shapes, meta, out)
        new.manifest(_with_aggregator(old, config, named))
    return Exported(new.bundle, found.notes)


def _with_aggregator(
    old: Bundle, config: AggregatorConfig, tasks: Mapping[str, float]
) -> dict[str, Any]:
    """Return what the manifest of `old` says once it holds an aggregator of these tasks."""
    content = old.manifest.model_dump(mode="json") | {"verification": None}
    content["aggregator"] = {"file": AGGREGATOR, "config": config.model_dump(mode="json")}
    content["tasks"] = [
        untrained.task(name, limit, classes)
        for (name, limit), classes in zip(tasks.items(), config.classes, strict=True)
    ]
    content["trained"] = old.manifest.encoder.source_sha256 is not None
    content["demonstration"] = content["trained"] and old.manifest.demonstration  # its encoder's
    if content["trained"]:
        content["intended_use"] = content["intended_use"].removeprefix(_UNTRAINED)
    return content


def identify(found: Checkpoint, architecture: str = "auto") -> tuple[str, Checkpoint]:
    """Return the name of the architecture that the checkpoint is, key for key, and it.

    `CheckpointError` lists how it differs from the one asked for, or from the most similar one.
    """
    if architecture != "auto" and architecture not in ARCHITECTURES:
        raise CheckpointError(
            f"unknown architecture {architecture!r}; there are: auto, {', '.join(ARCHITECTURES)}"
        )
    shapes = {name: shapes_of(name) for name in ARCHITECTURES}
    fits = [name for name in shapes if not differences(found.shapes, shapes[name])]
    if architecture == "auto":
        architecture = fits[0] if fits else _most_similar(found, shapes)
    step = f"It is {fits[0]}: give --architecture {fits[0]}" if fits else _THERE_ARE
    check_fit(found, shapes[architecture], f"the encoder {architecture}", step)
    return architecture, found


def _most_similar(found: Checkpoint, shapes: Mapping[str, Mapping[str, Shape]]) -> str:
    """Return the architecture with the largest share of tensors in common with the checkpoint."""

    def share(name: str) -> float:
        common = found.shapes.items() & shapes[name].items()
        return len(common) / len(found.shapes.keys() | shapes[name].keys())

    name = max(shapes, key=share)
    if not share(name):
        keys = ", ".join(list(found.shapes)[:3])
        raise CheckpointError(
            f"{found.path}: has no tensor of an encoder ({keys}, ...); an aggregator is imported "
            f"by `unicas-edge export aggregator`. {_THERE_ARE}"
        )
    return name


def shapes_of(architecture: str) -> dict[str, Shape]:
    """Return the keys and shapes of a named architecture."""
    return parameter_shapes(ARCHITECTURES[architecture].vit)


def write_encoder(
    shape: ViT,
    weight: Callable[[str], Array],
    new: Draft,
    storage: Storage,
    levels: vit.GreyLevels | None = None,
    notes: Mapping[str, str] | None = None,
) -> list[str]:
    """Put the encoder into the bundle in the making; return the names of its files.

    One tensor is in memory at a time where the weights lie beside the model.
    """
    size = sum(math.prod(dims) for dims in parameter_shapes(shape).values()) * _BYTES[storage]
    options: dict[str, Any] = {"storage": storage, "levels": levels, "notes": notes}
    files = [ENCODER]
    if size > MAX_INLINE_BYTES:
        files.append(DATA)
        with new.put(DATA) as data:
            model = vit.build(shape, weight, **options, data=data, location=DATA)
    else:
        model = vit.build(shape, weight, **options)
    with new.put(ENCODER) as out:
        out.write(model.SerializeToString(deterministic=True))
    onnx.checker.check_model(str(new.path(ENCODER)))
    return files


def _new_content(kind: Architecture, name: str) -> dict[str, Any]:
    """Return the manifest of a bundle with an imported encoder, all but hashes and storage."""
    return {
        "schema_version": 1,
        "name": name,
        "version": "1",
        "licence": kind.licence,
        "intended_use": _UNTRAINED + _USE,
        "trained": False,
        "tile": {
            "size_px": kind.tile_px,
            "crop_px": kind.vit.size,
            "um_px": 0.5,
            "field_tiles": 4,
            "max_tiles": 800,
        },
        "input": {"layout": "NCHW", "mean": list(kind.mean), "std": list(kind.std)},
        "colour": {"default": "none", "target": untrained.TARGET},
        "encoder": {
            "file": ENCODER,
            "format": "onnx",
            "width": kind.vit.out_width,
            "precision": "fp32",
        },
        "aggregator": {"file": AGGREGATOR},
        "tasks": [untrained.task(task) for task in untrained.TASKS],
        "detector": None,
        "adequacy": untrained.ADEQUACY,
        "training_data": [],
        "evaluation": [],
    }


def _imported(bundle: Bundle) -> bool:
    try:
        path = bundle.path(bundle.manifest.aggregator.file)
        return _SOURCE in AggregatorTensors(path).metadata
    except AggregatorError:
        return False
