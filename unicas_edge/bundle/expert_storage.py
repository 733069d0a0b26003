"""How expert matrices are stored: in floats, or in int8 with a scale per row.

An expert matrix ``model.blocks.L.mlp.experts.J.fc1.weight`` or ``.fc2.weight`` is F32, F16, BF16 or
I8. Beside an I8 matrix [rows, columns] lies ``...weight_scale``, F32 [rows]: row r stands for
scale[r] * q[r]. Only experts are ever I8; each of them sees one vector a slide, so what their
storage costs is memory traffic, and what it changes is measured (`unicas_edge.export.experts`).
"""

from __future__ import annotations

import re
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from unicas_edge.core.arrays import Float32
from unicas_edge.core.safetensors import NUMPY, TensorFile, from_bf16, to_bf16
from unicas_edge.errors import AggregatorError

Experts = Literal["fp32", "fp16", "bf16", "int8"]
#: From the least precise to the most: significant bits 7, 8, 11 and 24.
PRECISIONS: tuple[Experts, ...] = ("int8", "bf16", "fp16", "fp32")
DTYPES: dict[Experts, str] = {"fp32": "F32", "fp16": "F16", "bf16": "BF16", "int8": "I8"}

SCALE = "_scale"
_EXPERT = re.compile(r"model\.blocks\.\d+\.mlp\.experts\.\d+\.fc[12]\.weight")
_Q_MAX = 127


def is_expert(key: str) -> bool:
    """Return whether `key` names an expert's matrix."""
    return _EXPERT.fullmatch(key) is not None


class AggregatorTensors(TensorFile):
    """A safetensors file whose expert matrices may be int8, with the scales beside them."""

    def values(self, key: str) -> NDArray[np.floating[Any]]:
        """Return the tensor as floats: BF16 and I8 as float32, others as they are stored."""
        if self.tensors[key].dtype != "I8":
            return super().values(key)
        return dequantise(self.stored(key), self._scale(key))

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
