"""A bundle copied with its experts stored otherwise; what that changes is measured on bags."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from unicas_edge.aggregator.aggregator import Aggregator
from unicas_edge.aggregator.bag_files import find_bags, read_bag
from unicas_edge.bundle import Bundle
from unicas_edge.bundle.bundle import MANIFEST_NAME
from unicas_edge.bundle.edit import edited_copy
from unicas_edge.bundle.expert_storage import (
    DTYPES,
    PRECISIONS,
    SCALE,
    AggregatorTensors,
    Experts,
    encode,
    is_expert,
)
from unicas_edge.bundle.manifest import ExpertStorage, Task
from unicas_edge.core.safetensors import NUMPY, layout
from unicas_edge.errors import AggregatorError, BundleError
from unicas_edge.screening.decide import probability

_ORIGINAL = "convert from the original bundle"


@dataclass(frozen=True)
class Measured:
    """`probabilities` float64 [bags, tasks] of the tasks' positive classes, on `tiles` tiles."""

    probabilities: NDArray[np.float64]
    tiles: int


def convert(
    source: Bundle,
    target: Path,
    experts: Experts,
    bags: Sequence[Path] = (),
    *,
    force: bool = False,
) -> Bundle:
    """Write a copy of `source` into the folder `target`, its experts stored as `experts`.

    `bags` are files, or folders of them, as `aggregator.bag_files` reads them; the change of every
    task's probability on them is recorded in the new manifest. Return the new bundle. `target`
    appears whole or not at all; with `force` it replaces a bundle that is there. `BundleError` for
    a source that is converted already or less precise than asked; `AggregatorError` for weights or
    bags that do not fit; `OutputError` for a target that is in the way or cannot be written.
    """
    spec = source.manifest.aggregator
    weights = source.path(spec.file)
    file = AggregatorTensors(weights)
    _check_precision(source, file.experts(), experts)
    paths = find_bags(list(bags))
    tasks = source.manifest.tasks
    with edited_copy(source, target, force=force) as new:
        before = measure(Aggregator.load(weights), tasks, paths)
        with new.put(spec.file) as out:
            write_experts(file, out, experts)
        after = measure(Aggregator.load(new.path(spec.file)), tasks, paths)
        storage = record(experts, source.manifest.files[spec.file], tasks, before, after)
        content = source.manifest.model_dump(mode="json")
        content["aggregator"]["storage"] = storage.model_dump()
        new.manifest(content)
    return new.bundle


def describe(bundle: Bundle) -> str:
    """Return in one line how the experts are stored and what converting them changed.

    `BundleError` where the manifest's record is not how the file stores them.
    """
    spec = bundle.manifest.aggregator
    stored, storage = AggregatorTensors(bundle.path(spec.file)).experts(), spec.storage
    if storage is None:
        return f"experts stored as {stored}"
    if storage.experts != stored:
        raise BundleError(
            f"{bundle.root / MANIFEST_NAME}: aggregator.storage.experts is {storage.experts}, but "
            f"{spec.file} stores {stored}; {_ORIGINAL} again"
        )
    head = f"experts converted to {stored}: "
    if not storage.bags:
        return head + "change in probability not measured"
    return head + (
        f"on {storage.bags} bags ({storage.tiles:,} tiles) probabilities changed by "
        f"{storage.max_probability_change:.2g} at most and {storage.mean_probability_change:.2g} "
        f"on average, {storage.changed_decisions} decisions changed"
    )


def measure(aggregator: Aggregator, tasks: Sequence[Task], bags: Sequence[Path]) -> Measured:
    """Return the tasks' probabilities on each bag; one bag is in memory at a time."""
    found, tiles = np.zeros((len(bags), len(tasks))), 0
    for row, path in enumerate(bags):
        bag = read_bag(path, aggregator.config.embed_dim_in)
        tiles += len(bag)
        for column, (logits, task) in enumerate(zip(aggregator.logits(bag), tasks, strict=True)):
            found[row, column] = probability(logits, task)
    return Measured(found, tiles)


def record(
    experts: Experts, source_sha256: str, tasks: Sequence[Task], before: Measured, after: Measured
) -> ExpertStorage:
    """Return what the manifest says of a conversion, from the probabilities before and after it."""
    change = np.abs(after.probabilities - before.probabilities)
    thresholds = np.array([task.threshold for task in tasks])
    changed = (after.probabilities >= thresholds) != (before.probabilities >= thresholds)
    bags = len(change)
    return ExpertStorage(
        experts=experts,
        source_sha256=source_sha256,
        bags=bags,
        tiles=after.tiles,
        max_probability_change=float(change.max()) if bags else None,
        mean_probability_change=float(change.mean()) if bags else None,
        changed_decisions=int(changed.sum()) if bags else None,
    )


def write_experts(file: AggregatorTensors, out: BinaryIO, experts: Experts) -> None:
    """Write the safetensors file `file` to `out` with its experts stored as `experts`.

    All other tensors and the metadata stay as they are. One tensor is in memory at a time.
    `AggregatorError`, naming the key, for an expert that `experts` cannot hold.
    """
    header, places = _layout(file, experts)
    out.write(header)
    for key in file.tensors:
        for name, values in _stored(file, key, experts):
            out.seek(len(header) + places[name])
            out.write(values.reshape(-1).view(np.uint8).data)


def _layout(file: AggregatorTensors, experts: Experts) -> tuple[bytes, dict[str, int]]:
    """Return the header, and where each tensor begins after it: widest elements first."""
    entries: list[tuple[str, str, tuple[int, ...]]] = []
    for key, tensor in file.tensors.items():
        dtype = DTYPES[experts] if is_expert(key) else tensor.dtype
        entries.append((key, dtype, tensor.shape))
        if dtype == "I8":
            entries.append((key + SCALE, "F32", tensor.shape[:1]))
    entries.sort(key=lambda entry: (-np.dtype(NUMPY[entry[1]]).itemsize, entry[0]))
    return layout(entries, file.metadata)


def _stored(
    file: AggregatorTensors, key: str, experts: Experts
) -> Iterator[tuple[str, NDArray[Any]]]:
    """Yield the tensor `key` as it is to be stored, and its scales if it becomes int8."""
    if not is_expert(key) or file.tensors[key].dtype == DTYPES[experts]:
        yield key, file.stored(key)
        return
    try:
        values, scale = encode(file.values(key), experts)
    except ValueError as error:
        raise AggregatorError(
            f"{file.path}: {key} {error}; choose another storage, or check the weights"
        ) from error
    yield key, values
    if scale is not None:
        yield key + SCALE, scale


def _check_precision(source: Bundle, stored: Experts, wanted: Experts) -> None:
    name = source.path(source.manifest.aggregator.file)
    if source.manifest.aggregator.storage is not None or stored == "int8":
        raise BundleError(f"{name}: its experts were converted to {stored} before; {_ORIGINAL}")
    if PRECISIONS.index(stored) < PRECISIONS.index(wanted):
        raise BundleError(
            f"{name}: its experts are {stored}, and {wanted} would add bytes but no precision; "
            f"{_ORIGINAL}, or to a storage no more precise than {stored}"
        )
