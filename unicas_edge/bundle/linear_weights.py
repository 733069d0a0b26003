"""Small safetensors files of linear layers: a bundle's heads and its knowledge."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load

from unicas_edge.bundle.bundle import Bundle
from unicas_edge.core.arrays import Float32
from unicas_edge.core.safetensors import metadata_in
from unicas_edge.errors import AggregatorError, BundleError

_SHOWN = 5


@dataclass(frozen=True)
class Wanted:
    """What a file must hold: the shape of each key, in `most_bytes` at most.

    `what` it is, and the `remedy` where it is not, are for messages.
    """

    shapes: Mapping[str, tuple[int, ...]]
    most_bytes: int
    what: str
    remedy: str


def linear_weights(bundle: Bundle, file: str, wanted: Wanted) -> dict[str, Float32]:
    """Return the tensors of the bundle's `file`, contiguous float32, in the order of `wanted`.

    `BundleError`, naming file and key, for a file that is too large, for keys, shapes or types that
    are others, and for values that are not finite.
    """
    path = bundle.path(file)
    _check_size(path, wanted)
    weights = tensors_in(bundle.read(file), path)
    problems = [f"missing {key}" for key in wanted.shapes if key not in weights]
    problems += [f"unexpected {key}" for key in weights if key not in wanted.shapes]
    found: dict[str, Float32] = {}
    for key, shape in wanted.shapes.items():
        weight = weights.get(key, np.zeros(shape, np.float32))
        if weight.dtype.kind != "f" or weight.shape != shape:
            problems.append(
                f"{key} is {weight.dtype} {list(weight.shape)}, not float {list(shape)}"
            )
            continue
        with np.errstate(over="ignore"):  # of float64; infinity is refused by name
            found[key] = np.ascontiguousarray(weight, dtype=np.float32)
        if not np.isfinite(found[key]).all():
            problems.append(f"{key} is not finite")
    if problems:
        told = "; ".join(sorted(problems)[:_SHOWN])
        raise BundleError(f"{path}: {wanted.what}: {told}; {wanted.remedy}")
    return found


def _check_size(path: Path, wanted: Wanted) -> None:
    """Raise `BundleError` before a file that is too large is read into memory."""
    try:
        size = path.stat().st_size
    except OSError:
        return  # who reads it says what is wrong
    if size > wanted.most_bytes:
        raise BundleError(
            f"{path}: {wanted.what}: too large (over {wanted.most_bytes >> 20} MiB); "
            f"{wanted.remedy}"
        )


def tensors_in(data: memoryview, path: Path) -> dict[str, NDArray[np.generic]]:
    """Return every tensor of the safetensors file `path`, whose bytes are `data`.

    Nothing in it is executed. `BundleError` where it is none.
    """
    try:
        metadata_in(data, path)
        return dict(load(bytes(data)))
    except AggregatorError as error:
        raise BundleError(str(error)) from error
    except (SafetensorError, KeyError, TypeError, ValueError) as error:
        raise BundleError(f"{path}: not a readable safetensors file: {error}") from error
