"""Safetensors files, read tensor by tensor, and the one way their header is written.

The library writes whole models from memory, with metadata in an order that changes from run to run;
here a file of any size is written one tensor at a time, and the same weights are the same bytes.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open

from unicas_edge.core.arrays import Float32
from unicas_edge.core.json_once import loads_once
from unicas_edge.core.regular_file import open_regular
from unicas_edge.errors import AggregatorError

#: How a safetensors dtype lies in an array; NumPy has no bfloat16, so its bits are integers here.
NUMPY = {"F64": "<f8", "F32": "<f4", "F16": "<f2", "BF16": "<u2", "I8": "i1"}
_BF16_QUIET_NAN = np.uint32(0x0040)


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
            with open_regular(path):
                pass  # neither pipe nor device, which the library would wait for
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
        """Return the tensor as floats: BF16 as float32, others as they are stored."""
        stored = self.stored(key)
        return from_bf16(stored) if self.tensors[key].dtype == "BF16" else stored


def metadata_in(data: memoryview, path: Path) -> dict[str, str]:
    """Return the metadata of a safetensors file whose bytes are `data`; the tensors may lie.

    `AggregatorError`, naming `path`, where there is no header, or one with a key given twice.
    """
    with _readable(path):
        length = int.from_bytes(data[:8], "little")
        if not 0 < length <= len(data) - 8:
            raise ValueError(f"it has {len(data)} bytes and states a header of {length}")
        header = loads_once(bytes(data[8 : 8 + length]))
        found = header.get("__metadata__", {}) if isinstance(header, dict) else None
        if not isinstance(found, dict) or not all(isinstance(v, str) for v in found.values()):
            raise ValueError("its header does not map names to tensors and metadata to text")
    return found


def layout(
    entries: Iterable[tuple[str, str, tuple[int, ...]]], metadata: Mapping[str, str]
) -> tuple[bytes, dict[str, int]]:
    """Return the bytes of a header, and where each tensor begins after them.

    `entries` are (key, safetensors dtype, shape) in the order in which the tensors will lie.
    """
    header: dict[str, Any] = {"__metadata__": dict(metadata)}
    places, begin = {}, 0
    for key, dtype, shape in entries:
        end = begin + int(np.prod(shape, dtype=np.int64)) * np.dtype(NUMPY[dtype]).itemsize
        header[key] = {"dtype": dtype, "shape": shape, "data_offsets": [begin, end]}
        places[key], begin = begin, end
    return header_bytes(header), places


def header_bytes(header: Mapping[str, Any]) -> bytes:
    """Return a header as it begins a file: its length, JSON, and spaces that align the tensors."""
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text


def with_sorted_metadata(data: bytes) -> bytes:
    """Return a whole file that the library wrote, its metadata by name: the same bytes each run."""
    begin = 8 + int.from_bytes(data[:8], "little")
    header = json.loads(data[8:begin])
    if "__metadata__" in header:
        header["__metadata__"] = dict(sorted(header["__metadata__"].items()))
    return header_bytes(header) + data[begin:]


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
        header: dict[str, Any] = loads_once(file.read(length))
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
