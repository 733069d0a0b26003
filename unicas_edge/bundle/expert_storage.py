"""How expert matrices are stored, and safetensors files read tensor by tensor.

An expert matrix ``model.blocks.L.mlp.experts.J.fc1.weight`` or ``.fc2.weight`` is F32, F16, BF16 or
I8. Beside an I8 matrix [rows, columns] lies ``...weight_scale``, F32 [rows]: row r stands for
scale[r] * q[r]. Only experts are ever I8; each of them sees one vector a slide, so what their
storage costs is memory traffic, and what it changes is measured (`unicas_edge.export.experts`).
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open

from unicas_edge.core.arrays import Float32
from unicas_edge.errors import AggregatorError

Experts = Literal["fp32", "fp16", "bf16", "int8"]
#: From the least precise to the most: significant bits 7, 8, 11 and 24.
PRECISIONS: tuple[Experts, ...] = ("int8", "bf16", "fp16", "fp32")
DTYPES: dict[Experts, str] = {"fp32": "F32", "fp16": "F16", "bf16": "BF16", "int8": "I8"}
#: How a safetensors dtype lies in an array; NumPy has no bfloat16, so its bits are integers here.
NUMPY = {"F64": "<f8", "F32": "<f4", "F16": "<f2", "BF16": "<u2", "I8": "i1"}

SCALE = "_scale"
_EXPERT = re.compile(r"model\.blocks\.\d+\.mlp\.experts\.\d+\.fc[12]\.weight")
_Q_MAX = 127
_BF16_QUIET_NAN = np.uint32(0x0040)


def is_expert(key: str) -> bool:
    """Return whether `key` names an expert's matrix."""
    return _EXPERT.fullmatch(key) is not None


@dataclass(frozen=True)
class Tensor:
    """Where a tensor lies: safetensors dtype, shape, and bytes from the beginning of the file."""

    dtype: str
    shape: tuple[int, ...]
    begin: int
    size: int


class TensorFile:
    """The header of a safetensors file, verified; tensors are read from the disk when asked for.

    `AggregatorError`, naming file and key, for a file whose header lies about it, for one that has
    shrunk since, and for a dtype not in `NUMPY`.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        with _readable(path):
            with safe_open(path, framework="numpy") as file:  # checks dtypes, sizes, overlap, gaps
                self.metadata: dict[str, str] = dict(file.metadata() or {})
            self.tensors = dict(_tensors(path))

    def stored(self, key: str) -> NDArray[Any]:
        """Return the tensor as it is stored: BF16 as the bits, uint16, and I8 as int8."""
        tensor = self.tensors[key]
        if tensor.dtype not in NUMPY:
            raise AggregatorError(
                f"{self.path}: {key} is stored as {tensor.dtype}; store float32, float16 or "
                "bfloat16, and int8 only by `unicas-edge bundle convert`"
            )
        values = np.empty(tensor.shape, NUMPY[tensor.dtype])
        with _readable(self.path), self.path.open("rb") as file:
            file.seek(tensor.begin)
            read = file.readinto(values.reshape(-1).view(np.uint8).data) if values.size else 0
        if read != tensor.size:
            raise AggregatorError(f"{self.path}: {key} is cut off; copy the file again")
        return values

    def values(self, key: str) -> NDArray[np.floating[Any]]:
        """Return the tensor as floats: BF16 and I8 as float32, others as they are stored."""
        stored, dtype = self.stored(key), self.tensors[key].dtype
        if dtype == "BF16":
            return from_bf16(stored)
        return dequantise(stored, self._scale(key)) if dtype == "I8" else stored

    def is_scale(self, key: str) -> bool:
        """Return whether `key` is the companion of an int8 expert, and no parameter of its own."""
        matrix = self.tensors.get(key.removesuffix(SCALE))
        return (
            key.endswith(SCALE)
            and is_expert(key.removesuffix(SCALE))
            and matrix is not None
            and matrix.dtype == "I8"
        )

    def experts(self) -> Experts:
        """Return how the expert matrices are stored; the least precise one counts."""
        found = {tensor.dtype for key, tensor in self.tensors.items() if is_expert(key)}
        for name in PRECISIONS:
            if DTYPES[name] in found:
                return name
        raise AggregatorError(
            f"{self.path}: no expert matrix in fp32, fp16, bf16 or int8 ({sorted(found)} found); "
            "export the aggregator again"
        )

    def _scale(self, key: str) -> Float32:
        wanted, companion = self.tensors[key].shape[:1], self.tensors.get(key + SCALE)
        if not is_expert(key) or companion is None:
            raise AggregatorError(
                f"{self.path}: {key} is int8 without scales ({key + SCALE}); only expert matrices "
                "may be int8, converted by `unicas-edge bundle convert`"
            )
        if (
            companion.dtype != "F32"
            or companion.shape != wanted
            or len(self.tensors[key].shape) != 2
        ):
            raise AggregatorError(
                f"{self.path}: {key + SCALE} is {companion.dtype} {list(companion.shape)}, not F32 "
                f"{list(wanted)}, one per row of {key} {list(self.tensors[key].shape)}"
            )
        scale: Float32 = self.stored(key + SCALE)
        if not (np.isfinite(scale) & (scale > 0)).all():
            raise AggregatorError(
                f"{self.path}: {key + SCALE} holds a scale that is not finite and positive; "
                "convert the bundle again from the original"
            )
        return scale


def read_tensors(path: Path) -> Iterator[tuple[str, NDArray[np.floating[Any]]]]:
    """Yield (key, floats) of a safetensors file, one tensor in memory at a time, as `values` does.

    The scales of int8 matrices are folded in and not yielded.
    """
    file = TensorFile(path)
    for key in file.tensors:
        if not file.is_scale(key):
            yield key, file.values(key)


def encode(
    values: NDArray[np.floating[Any]], experts: Experts
) -> tuple[NDArray[Any], Float32 | None]:
    """Return a matrix [rows, columns] as it is to be stored, and the scales of its rows, for int8.

    Rounding is to the nearest, ties to even. `ValueError` for a value that is not finite or that
    the storage cannot hold.
    """
    values = np.ascontiguousarray(values, dtype=np.float32)
    if not np.isfinite(values).all():
        raise ValueError("holds a value that is not finite")
    stored, scale = _rounded(values, experts)
    back = stored if scale is None else dequantise(stored, scale)
    if not np.isfinite(from_bf16(stored) if experts == "bf16" else back).all():
        raise ValueError(f"holds {np.abs(values).max():g}, too large for {experts}")
    return stored, scale


def _rounded(values: Float32, experts: Experts) -> tuple[NDArray[Any], Float32 | None]:
    if experts == "int8":
        return quantise(values)
    with np.errstate(over="ignore", under="ignore"):
        return to_bf16(values) if experts == "bf16" else values.astype(NUMPY[DTYPES[experts]]), None


def quantise(values: Float32) -> tuple[NDArray[np.int8], Float32]:
    """Return int8 q [rows, columns] in -127..127 and float32 scale [rows]: values ~ scale * q.

    Symmetric, scale = max |row| / 127, so that no value is further off than half a scale. A row of
    zeros has scale 1; so has one whose scale would be subnormal, below what float32 divides by
    exactly: it becomes zero.
    """
    scale = np.abs(values).max(axis=1, initial=0) / np.float32(_Q_MAX)
    scale = np.where(scale < np.finfo(np.float32).tiny, np.float32(1), scale).astype("<f4")
    return np.rint(values / scale[:, None]).astype(np.int8), scale


def dequantise(q: NDArray[np.int8], scale: Float32) -> Float32:
    """Return float32 scale[r] * q[r] for q [rows, columns] and scale [rows]."""
    with np.errstate(over="ignore"):  # of damaged scales; the logits are checked
        return np.asarray(q.astype(np.float32) * scale[:, None])


def to_bf16(values: Float32) -> NDArray[np.uint16]:
    """Return the bits of the nearest bfloat16, ties to even, uint16; a NaN stays one (quiet)."""
    bits = np.ascontiguousarray(values, dtype=np.float32).view(np.uint32)
    high = bits >> np.uint32(16)
    with np.errstate(over="ignore"):  # of a NaN alone, whose result is not taken
        rounded = (bits + (np.uint32(0x7FFF) + (high & np.uint32(1)))) >> np.uint32(16)
    return np.where(np.isnan(values), high | _BF16_QUIET_NAN, rounded).astype("<u2")


def from_bf16(bits: NDArray[np.uint16]) -> Float32:
    """Return the float32 that each bfloat16 is, from its bits."""
    return (bits.astype(np.uint32) << np.uint32(16)).view(np.float32)


def _tensors(path: Path) -> Iterator[tuple[str, Tensor]]:
    """Yield (key, tensor) by place; the header has been verified by safetensors."""
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        header: dict[str, Any] = json.loads(file.read(length))
    header.pop("__metadata__", None)
    for key, entry in sorted(header.items(), key=lambda item: (item[1]["data_offsets"], item[0])):
        begin, end = entry["data_offsets"]
        yield key, Tensor(entry["dtype"], tuple(entry["shape"]), 8 + length + begin, end - begin)


@contextmanager
def _readable(path: Path) -> Iterator[None]:
    try:
        yield
    except (SafetensorError, OSError, ValueError) as error:
        raise AggregatorError(
            f"{path}: not a readable safetensors file ({error}); pass a .safetensors file or a "
            "model bundle's folder"
        ) from error
