"""Bags of CLS tokens kept in files: HDF5, torch's zip, NumPy. Nothing in them is unpickled.

Sizes are checked against the width wanted and `MAX_TILES` before anything is allocated, and a bag
that is empty or not finite is an error.
"""

from __future__ import annotations

import contextlib
import io
import math
import os
import re
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO

import h5py
import numpy as np
from numpy.typing import NDArray

from unicas_edge.core.arrays import Float32
from unicas_edge.errors import AggregatorError

MAX_TILES = 200_000
MAX_BAGS = 100_000
#: What a folder is searched for: our own output, and the published bags.
NAMES = ("features.h5", "images.pt")
SUFFIXES = (".h5", ".pt", ".npy", ".npz")
#: Bytes taken from an archive at once; also the most that its table of contents may have.
_CHUNK = 1 << 20
#: What h5py, zipfile and NumPy raise for a file that is not what it should be.
_UNREADABLE = (
    OSError,
    EOFError,
    ValueError,
    KeyError,
    RuntimeError,
    zipfile.BadZipFile,
    zlib.error,
)
_HEADER_BYTES = 10_000
_HEADER = re.compile(
    rb"\{'descr': '([<>|=]?\w+)', 'fortran_order': (True|False), 'shape': \((\d+), (\d+)\),? ?\}\s*"
)
_LAYOUT = "store float32 [tiles, {width}] as features.h5, images.pt (torch.save), .npy or .npz"


def find_bags(paths: list[Path]) -> list[Path]:
    """Return the bag files that `paths` name, folders searched for `NAMES`, each file once.

    In the order given, a folder's by path. `AggregatorError` for a path that holds none.
    """
    found: dict[Path, None] = {}
    for path in paths:
        inside = sorted(_inside(path)) if path.is_dir() else [path]
        if not inside or inside[0].suffix.lower() not in SUFFIXES:
            raise AggregatorError(
                f"{path}: no bag of tokens; give {', '.join(SUFFIXES)} files, or a folder with "
                f"{' or '.join(NAMES)} in it"
            )
        found.update(dict.fromkeys(inside))
    if len(found) > MAX_BAGS:
        raise AggregatorError(f"{len(found)} bags are more than {MAX_BAGS}; give fewer")
    return list(found)


def _inside(folder: Path) -> Iterator[Path]:
    for name in NAMES:
        yield from folder.rglob(name)


def read_bag(path: Path, width: int) -> Float32:
    """Return the tokens in a file, float32 [n, width], 1 <= n <= `MAX_TILES`, all finite.

    ``.h5``: the data set ``features``, of it the tiles that ``aggregated`` marks, where it is
    there. ``.npz``: its only array, or ``features``. ``.pt``: a zip as
    torch writes it for one contiguous little-endian float32 tensor; its pickle is not looked at, so
    the tensor must have `width` columns. `AggregatorError` naming the file for anything else.
    """
    readers = {".h5": _read_h5, ".pt": _read_torch, ".npy": _read_npy, ".npz": _read_npz}
    try:
        bag = readers[path.suffix.lower()](path, width)
    except _UNREADABLE as error:
        raise AggregatorError(
            f"{path}: no readable bag of tokens ({error}); {_LAYOUT.format(width=width)}"
        ) from error
    bad = np.flatnonzero(~np.isfinite(bag).all(axis=1))
    if bad.size:
        raise AggregatorError(
            f"{path}: token {bad[0]} is not finite ({bad.size} of {len(bag)} are not): screen that "
            "slide again or leave it out"
        )
    return bag


def _empty(shape: tuple[int, ...], dtype: str, width: int) -> Float32:
    """Return an array to read a bag into; `ValueError` if shape or dtype code is no bag's."""
    if len(shape) != 2 or shape[1] != width or dtype not in {"<f4", ">f4"}:
        raise ValueError(f"it holds {dtype} {list(shape)}, not float32 [tiles, {width}]")
    if not 1 <= shape[0] <= MAX_TILES:
        raise ValueError(f"{shape[0]} tiles; a bag has 1 to {MAX_TILES}")
    return np.empty(shape, dtype)


def _read_h5(path: Path, width: int) -> Float32:
    with h5py.File(path, "r") as file:
        features = _data_set(file, "features")
        bag = _empty(features.shape or (), features.dtype.str, width)
        if math.prod(features.chunks or ()) > MAX_TILES * width:
            raise ValueError(f"its chunks of {list(features.chunks)} are too large to be unpacked")
        features.read_direct(bag)
        kept = _aggregated(file, len(bag))
    return bag.astype(np.float32, copy=False) if kept is None else bag[kept].astype(np.float32)


def _data_set(file: h5py.File, name: str) -> h5py.Dataset:
    """Return a data set whose values lie in this file; `KeyError` or `ValueError` otherwise."""
    if not isinstance(file.get(name, getlink=True), h5py.HardLink):
        raise KeyError(f"no data set `{name}` in this file")
    found = file[name]
    if not isinstance(found, h5py.Dataset) or found.is_virtual or found.external:
        raise ValueError(f"`{name}` is not a data set with its values in this file")
    return found


def _aggregated(file: h5py.File, count: int) -> NDArray[np.bool_] | None:
    """Return which tiles reached the aggregator, bool [count]; None where the file does not say.

    Bags hold these alone, so that what is trained or verified is what `screen` aggregates.
    """
    if "aggregated" not in file:
        return None
    found = _data_set(file, "aggregated")
    if (
        found.shape != (count,)
        or found.dtype != np.uint8
        or math.prod(found.chunks or ()) > MAX_TILES
    ):
        raise ValueError(f"`aggregated` is {found.dtype} {list(found.shape)}, not uint8 [{count}]")
    kept = np.asarray(found[:] != 0)
    if not kept.any():
        raise ValueError("none of its tiles shows what may carry a decision")
    return kept


def _read_npy(path: Path, width: int) -> Float32:
    with path.open("rb") as file:
        return _read_array(file, width)


def _read_npz(path: Path, width: int) -> Float32:
    with _archive(path) as archive:
        names = archive.namelist()
        name = names[0] if len(names) == 1 else "features.npy"
        if name not in names:
            raise ValueError(f"{len(names)} arrays, none with the name features")
        with archive.open(name) as file:
            return _read_array(file, width)


def _read_array(file: IO[bytes], width: int) -> Float32:
    """Read an array in NumPy's own format, versions 1 and 2.

    NumPy's reader of headers evaluates them, repairs those of Python 2 and can exhaust the stack;
    for float32 [tiles, columns] one pattern says it all.
    """
    major, _ = np.lib.format.read_magic(file)
    length = int.from_bytes(file.read(2 if major == 1 else 4), "little")
    text = file.read(min(length, _HEADER_BYTES))
    header = _HEADER.fullmatch(text)
    if header is None:
        raise ValueError("its header is not that of a float32 array [tiles, columns]")
    dtype, by_columns, *shape = (part.decode("ascii") for part in header.groups())
    bag = _empty(tuple(map(int, shape)), dtype, width)
    if by_columns == "True":
        raise ValueError("the array is stored column by column; save np.ascontiguousarray of it")
    return _fill(file, bag)


def _read_torch(path: Path, width: int) -> Float32:
    with _archive(path) as archive:
        storages = [info for info in archive.infolist() if "/data/" in info.filename]
        if len(storages) != 1:
            raise ValueError(f"it holds {len(storages)} tensors, not one")
        (storage,) = storages
        if storage.compress_type != zipfile.ZIP_STORED or storage.flag_bits & 1:
            raise ValueError(f"{storage.filename} is compressed, which torch never does")
        if storage.file_size % (4 * width):
            raise ValueError(f"{storage.file_size} bytes do not fit float32 [tiles, {width}]")
        bag = _empty((storage.file_size // (4 * width), width), "<f4", width)
        with archive.open(storage) as file:
            return _fill(file, bag)


def _fill(file: IO[bytes], bag: Float32) -> Float32:
    """Read `bag` from `file` to the last byte, and be sure that it was the last one."""
    room = bag.reshape(-1).view(np.uint8).data
    for start in range(0, len(room), _CHUNK):
        part = file.read(min(_CHUNK, len(room) - start))
        room[start : start + len(part)] = part
        if len(part) < min(_CHUNK, len(room) - start):
            raise EOFError("the values are cut off")
    if file.read(1):  # to the end, where a zip's checksum is verified
        raise ValueError("more bytes follow the values")
    return bag.astype(np.float32, copy=False)


class _Bounded(io.FileIO):
    """A file that gives at most `_CHUNK` bytes at once: zipfile reads a whole directory in one."""

    def read(self, size: int | None = -1, /) -> bytes:
        if size is None or size < 0:
            size = os.fstat(self.fileno()).st_size - self.tell()
        if size > _CHUNK:
            raise zipfile.BadZipFile(f"its table of contents claims {size} bytes")
        return super().read(size)


@contextlib.contextmanager
def _archive(path: Path) -> Iterator[zipfile.ZipFile]:
    with _Bounded(path) as file, zipfile.ZipFile(file) as archive:
        yield archive
