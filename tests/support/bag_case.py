"""Writers of bags, and the error that reading one ends in."""

from __future__ import annotations

import zipfile

import h5py
import pytest

from unicas_edge.aggregator.bag_files import read_bag
from unicas_edge.errors import AggregatorError

WIDTH = 8


def write_h5(path, **datasets):
    with h5py.File(path, "w") as file:
        for name, values in datasets.items():
            file[name] = values


def write_torch(path, values, *, pickled=b"never read", compress=zipfile.ZIP_STORED, more=()):
    """The zip that torch.save writes of one tensor."""
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("images/data.pkl", pickled)
        file.writestr("images/byteorder", "little")
        for number, storage in enumerate([values, *more]):
            file.writestr(f"images/data/{number}", storage.tobytes(), compress_type=compress)
        file.writestr("images/version", "3\n")
        file.writestr("images/.data/serialization_id", "0" * 40)


def error_of(path, width=WIDTH):
    with pytest.raises(AggregatorError) as error:
        read_bag(path, width)
    assert str(error.value).startswith(str(path))
    return str(error.value)
