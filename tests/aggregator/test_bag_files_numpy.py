"""Bags in NumPy's format that lie, and any damage to any archive."""

from __future__ import annotations

import io
import struct
import zipfile

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.bag_case import WIDTH, error_of, write_torch
from unicas_edge.aggregator.bag_files import MAX_TILES, read_bag
from unicas_edge.errors import AggregatorError


@pytest.fixture
def bag(rng):
    return rng.standard_normal((5, WIDTH), dtype="f4")


# ---- NumPy --------------------------------------------------------------------------------------


def npy(header, values=b"", version=(1, 0)):
    text = header.encode() + b"\n"
    length = struct.pack("<H" if version == (1, 0) else "<I", len(text))
    return b"\x93NUMPY" + bytes(version) + length + text + values


F4 = "{'descr': '<f4', 'fortran_order': False, 'shape': (%s, 8)}"


@pytest.mark.parametrize(
    ("content", "cause"),
    [
        (npy(F4 % 10**12), "1000000000000 tiles; a bag has 1 to 200000"),
        (npy(F4 % (MAX_TILES + 1)), "200001 tiles"),
        (npy(F4 % -1), "its header is not that of a float32 array"),
        (npy(F4 % ("9" * 5_000)), "no readable bag"),
        (npy(F4 % 3, bytes(95)), "cut off"),
        (npy(F4 % 3, bytes(97)), "more bytes follow"),
        (npy(F4.replace("False", "True") % 3, bytes(96)), "column by column"),
        (npy("__import__('os').abort()"), "its header is not that of a float32 array"),
        (npy("[" * 9_000), "its header is not that of a float32 array"),
        (npy(F4 % 3 + " ")[:60], "its header is not that of a float32 array"),
        (b"\x93NUMPY\2\0" + b"\xff" * 4 + b"{" * 100, "its header is not that of a float32 array"),
    ],
)
def test_an_array_that_lies_is_refused(tmp_path, content, cause):
    (tmp_path / "a.npy").write_bytes(content)
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as file:
        file.writestr("arr_0.npy", content)
    for name in ("a.npy", "a.npz"):
        text = error_of(tmp_path / name)
        assert any(part in text for part in cause.split("|")), text


def test_the_second_format_is_read(tmp_path):
    (tmp_path / "a.npy").write_bytes(npy(F4 % 3, bytes(96), (2, 0)))
    assert read_bag(tmp_path / "a.npy", WIDTH).shape == (3, WIDTH)


def test_an_archive_that_unpacks_to_much_more_than_its_array_is_left_unread(tmp_path):
    with zipfile.ZipFile(tmp_path / "a.npz", "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("arr_0.npy", npy(F4 % 3) + bytes(200_000_000))
    assert (tmp_path / "a.npz").stat().st_size < 1_000_000
    assert "more bytes follow" in error_of(tmp_path / "a.npz")


def test_several_arrays_need_one_called_features(tmp_path, bag):
    np.savez(tmp_path / "a.npz", a=bag, b=bag)
    assert "2 arrays, none with the name features" in error_of(tmp_path / "a.npz")


# ---- any damage ---------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def whole():
    """The bytes of one bag as torch's zip and in NumPy's three ways."""
    values, found = np.ones((5, WIDTH), "f4"), {}
    for name, write in {
        "a.pt": write_torch,
        "a.npy": np.save,
        "a.npz": np.savez,
        "z.npz": np.savez_compressed,
    }.items():
        file = io.BytesIO()
        write(file, values)
        found[name] = file.getvalue()
    return found


@given(st.data())
@settings(max_examples=400)
def test_random_damage_is_an_error_of_ours_or_a_bag(whole, tmp_path_factory, data):
    name = data.draw(st.sampled_from(sorted(whole)))
    content = bytearray(whole[name])
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    path = tmp_path_factory.getbasetemp() / f"damaged-{name}"
    path.write_bytes(content[: data.draw(st.integers(0, len(content)))])
    try:
        bag = read_bag(path, WIDTH)
    except AggregatorError:
        return
    assert bag.shape[1] == WIDTH
    assert np.isfinite(bag).all()
