"""Bags of tokens read from files: the four layouts, and what hostile files try."""

from __future__ import annotations

import pickle
import struct
import zipfile

import h5py
import numpy as np
import pytest

from tests.support.bag_case import WIDTH, error_of, write_h5, write_torch
from unicas_edge.aggregator.bag_files import find_bags, read_bag
from unicas_edge.errors import AggregatorError


@pytest.fixture
def bag(rng):
    return rng.standard_normal((5, WIDTH), dtype="f4")


class Trap:
    """A pickle that leaves a file behind when it is loaded."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (self.path.write_text, ("sprung",))


# ---- what a bag may lie in ----------------------------------------------------------------------


def test_every_layout_gives_the_same_tokens(tmp_path, bag):
    write_h5(tmp_path / "features.h5", features=bag, coords=np.zeros((5, 2), "i8"))
    write_torch(tmp_path / "images.pt", bag)
    np.save(tmp_path / "a.npy", bag)
    np.save(tmp_path / "big_endian.npy", bag.astype(">f4"))
    np.savez(tmp_path / "one.npz", bag)
    np.savez_compressed(tmp_path / "named.npz", features=bag, coords=np.zeros((5, 2)))
    paths = sorted(tmp_path.iterdir())
    assert len(paths) == 6
    for path in paths:
        found = read_bag(path, WIDTH)
        assert found.dtype == np.float32
        assert found.flags.c_contiguous
        assert np.array_equal(found, bag), path


def test_the_published_bags_are_read_without_torch(data_dir):
    paths = find_bags([data_dir / "unicas_features"])
    assert len(paths) == 4
    for path in paths:
        with zipfile.ZipFile(path) as file:
            (name,) = (n for n in file.namelist() if n.endswith("/data/0"))
            wanted = np.frombuffer(file.read(name), dtype="<f4").reshape(800, 1024)
        assert np.array_equal(read_bag(path, 1024), wanted)


def test_folders_are_searched_and_a_file_named_twice_counts_once(tmp_path, bag):
    for name in ("b", "a"):
        (tmp_path / "slides" / name).mkdir(parents=True)
        write_h5(tmp_path / "slides" / name / "features.h5", features=bag)
    np.save(tmp_path / "x.npy", bag)
    found = find_bags([tmp_path / "x.npy", tmp_path, tmp_path / "slides" / "a" / "features.h5"])
    assert [path.relative_to(tmp_path).as_posix() for path in found] == [
        "x.npy",
        "slides/a/features.h5",
        "slides/b/features.h5",
    ]
    assert find_bags([]) == []


@pytest.mark.parametrize("name", ["", "empty", "slide.svs"])
def test_a_path_without_bags_is_named(tmp_path, name):
    (tmp_path / "empty").mkdir()
    with pytest.raises(AggregatorError, match=r"no bag of tokens; give \.h5, \.pt, \.npy"):
        find_bags([tmp_path / name])


# ---- what a bag may not be ----------------------------------------------------------------------


@pytest.mark.parametrize("suffix", [".h5", ".pt", ".npy", ".npz"])
def test_no_file_an_empty_one_and_nonsense_are_refused(tmp_path, suffix):
    path = tmp_path / f"a{suffix}"
    assert "no readable bag of tokens" in error_of(path)
    for content in (b"", b"nonsense" * 1000, b"PK\x05\x06" + bytes(18), b"PK\x03\x04" * 20):
        path.write_bytes(content)
        assert "no readable bag of tokens" in error_of(path)


@pytest.mark.parametrize("suffix", [".h5", ".pt", ".npy", ".npz"])
@pytest.mark.parametrize(
    ("change", "cause"),
    [
        (lambda b: b[:, :7], "[5, 7]|140 bytes do not fit float32"),
        (lambda b: b[:0], "0 tiles"),
        (lambda b: np.zeros((0, 0), "f4"), "[0, 0]|0 tiles"),
        (lambda b: np.where(np.arange(5)[:, None] > 2, np.nan, b), "token 3 is not finite (2 of 5"),
        (lambda b: np.where(b == b[1, 1], np.inf, b), "token 1 is not finite (1 of 5"),
    ],
)
def test_a_bag_that_is_not_one_is_refused(tmp_path, bag, suffix, change, cause):
    path, values = tmp_path / f"a{suffix}", change(bag).astype("f4")
    write = {
        ".h5": lambda: write_h5(path, features=values),
        ".pt": lambda: write_torch(path, values),
        ".npy": lambda: np.save(path, values),
        ".npz": lambda: np.savez(path, values),
    }
    write[suffix]()
    text = error_of(path)
    assert any(part in text for part in cause.split("|")), text


@pytest.mark.parametrize(
    "values",
    [
        np.zeros((3, WIDTH)),
        np.zeros((3, WIDTH), "f2"),
        np.zeros((3, WIDTH), "i4"),
        np.zeros(WIDTH, "f4"),
        np.zeros((1, 3, WIDTH), "f4"),
        np.zeros((3, WIDTH), "c8"),
    ],
)
def test_another_dtype_or_rank_is_refused(tmp_path, values):
    write_h5(tmp_path / "a.h5", features=values)
    np.save(tmp_path / "a.npy", values)
    np.savez(tmp_path / "a.npz", values)
    for path in tmp_path.iterdir():
        text = error_of(path)
        assert "not float32 [tiles, 8]" in text or "not that of a float32 array" in text


# ---- HDF5 ---------------------------------------------------------------------------------------


def hostile_h5(path, elsewhere, kind):
    with h5py.File(path, "w") as file:
        if kind == "missing":
            file["tokens"] = np.zeros((2, WIDTH), "f4")
        elif kind == "nothing":
            file["features"] = h5py.Empty("f4")
        elif kind == "group":
            file.create_group("features")
        elif kind == "external link":
            file["features"] = h5py.ExternalLink(str(elsewhere), "features")
        elif kind == "soft link":
            file["features"] = h5py.SoftLink("/tokens")
        elif kind == "external values":
            file.create_dataset(
                "features", (1, WIDTH), "f4", external=[(str(elsewhere), 0, h5py.h5f.UNLIMITED)]
            )
        elif kind == "virtual":
            layout = h5py.VirtualLayout((5, WIDTH), "f4")
            layout[:] = h5py.VirtualSource(str(elsewhere), "features", (5, WIDTH))
            file.create_virtual_dataset("features", layout)
        elif kind == "tall":
            file.create_dataset("features", (10**9, WIDTH), "f4", chunks=(64, WIDTH))
        elif kind == "huge chunk":
            file.create_dataset(
                "features",
                (5, WIDTH),
                "f4",
                maxshape=(None, WIDTH),
                chunks=(10**7, WIDTH),
                compression="gzip",
            )


@pytest.mark.parametrize(
    ("kind", "cause"),
    [
        ("missing", "no data set `features`"),
        ("nothing", "it holds <f4 []"),
        ("group", "not a data set with its values in this file"),
        ("external link", "no data set `features` in this file"),
        ("soft link", "no data set `features` in this file"),
        ("external values", "not a data set with its values in this file"),
        ("virtual", "not a data set with its values in this file"),
        ("tall", "1000000000 tiles"),
        ("huge chunk", "too large to be unpacked"),
    ],
)
def test_hdf5_that_points_elsewhere_or_unpacks_without_end_is_refused(tmp_path, bag, kind, cause):
    write_h5(tmp_path / "elsewhere.h5", features=bag)
    hostile_h5(tmp_path / "a.h5", tmp_path / "elsewhere.h5", kind)
    assert cause in error_of(tmp_path / "a.h5")


def test_hdf5_cut_off_is_refused(tmp_path, rng):
    path = tmp_path / "a.h5"
    write_h5(path, features=rng.standard_normal((500, WIDTH), dtype="f4"))
    whole = path.read_bytes()
    for length in (10, 100, len(whole) // 2, len(whole) - 100):
        path.write_bytes(whole[:length])
        error_of(path)


# ---- torch --------------------------------------------------------------------------------------


def test_a_pickle_is_never_loaded_wherever_it_lies(tmp_path, bag):
    sprung = tmp_path / "sprung"
    bomb = pickle.dumps(Trap(sprung))
    (tmp_path / "old.pt").write_bytes(bomb)  # torch's format before the zip
    write_torch(tmp_path / "new.pt", bag, pickled=bomb)
    np.save(tmp_path / "a.npy", np.array([Trap(sprung)], object), allow_pickle=True)
    np.savez(tmp_path / "a.npz", np.array([Trap(sprung)], object), allow_pickle=True)
    assert np.array_equal(read_bag(tmp_path / "new.pt", WIDTH), bag)
    assert "not a zip file" in error_of(tmp_path / "old.pt")
    for name in ("a.npy", "a.npz"):
        assert "not that of a float32 array" in error_of(tmp_path / name)
    assert not sprung.exists()


@pytest.mark.parametrize("method", [zipfile.ZIP_DEFLATED, zipfile.ZIP_LZMA, zipfile.ZIP_BZIP2])
def test_a_compressed_tensor_is_refused(tmp_path, bag, method):
    write_torch(tmp_path / "a.pt", bag, compress=method)
    assert "images/data/0 is compressed" in error_of(tmp_path / "a.pt")


def test_no_tensor_and_several_are_refused(tmp_path, bag):
    write_torch(tmp_path / "two.pt", bag, more=[bag])
    assert "holds 2 tensors" in error_of(tmp_path / "two.pt")
    with zipfile.ZipFile(tmp_path / "none.pt", "w") as file:
        file.writestr("images/data.pkl", b"")
    assert "holds 0 tensors" in error_of(tmp_path / "none.pt")


def claims(content, sizes):
    """Let the directory entry of images/data/0 claim `sizes`, packed and unpacked, in bytes."""
    changed = bytearray(content)
    entry = content.rindex(b"images/data/0") - 46
    assert changed[entry : entry + 4] == b"PK\x01\x02"
    changed[entry + 20 : entry + 28] = struct.pack("<II", *sizes)
    return changed


@pytest.mark.parametrize(
    ("sizes", "cause"),
    [
        ((160, 2**32 - 32), "134217727 tiles"),
        ((2**32 - 32, 2**32 - 32), "134217727 tiles"),
        ((320, 320), "cut off|Bad CRC|Overlapped"),
        ((64, 160), "cut off|Bad CRC|Overlapped"),
        ((160, 64), "Bad CRC|more bytes|cut off"),
    ],
)
def test_a_member_that_lies_about_its_size_is_refused(tmp_path, bag, sizes, cause):
    path = tmp_path / "a.pt"
    write_torch(path, bag)
    path.write_bytes(claims(path.read_bytes(), sizes))
    text = error_of(path)
    assert any(part in text for part in cause.split("|")), text


def test_a_table_of_contents_that_would_fill_the_memory_is_refused(tmp_path):
    path = tmp_path / "a.pt"
    with zipfile.ZipFile(path, "w") as file:
        for number in range(20_000):
            file.writestr(f"images/data/{number:08}", b"")
    assert "table of contents claims" in error_of(path)


def test_a_changed_bit_breaks_the_checksum(tmp_path, bag):
    path = tmp_path / "a.pt"
    write_torch(path, bag)
    content = bytearray(path.read_bytes())
    content[content.index(bag.tobytes()) + 4] ^= 1
    path.write_bytes(content)
    assert "Bad CRC-32" in error_of(path)


@pytest.mark.parametrize(
    ("values", "cause"),
    [
        (np.ones(3, np.uint8), "not uint8"),
        (np.ones(20, np.int32), "not uint8"),
        (np.ones((20, 1), np.uint8), "not uint8"),
        (np.zeros(20, np.uint8), "none of its tiles"),
        (None, "is not a data set"),
    ],
    ids=["too few", "dtype", "rank", "none", "a group"],
)
def test_marks_of_the_tiles_that_count_are_checked(tmp_path, rng, values, cause):
    path = tmp_path / "bag.h5"
    tokens = rng.normal(size=(20, WIDTH)).astype(np.float32)
    with h5py.File(path, "w") as file:
        file["features"] = tokens
        if values is None:
            file.create_group("aggregated")
        else:
            file["aggregated"] = values
    with pytest.raises(AggregatorError, match=cause):
        read_bag(path, WIDTH)


def test_tiles_that_are_not_marked_are_left_out(tmp_path, rng):
    path = tmp_path / "bag.h5"
    tokens = rng.normal(size=(20, WIDTH)).astype(np.float32)
    kept = np.arange(20) % 3 == 0
    with h5py.File(path, "w") as file:
        file["features"], file["aggregated"] = tokens, kept.astype(np.uint8)
    assert np.array_equal(read_bag(path, WIDTH), tokens[kept])
