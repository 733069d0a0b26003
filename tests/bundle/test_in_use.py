"""What runs is what the digest names, whatever happens to a bundle's files meanwhile."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import pytest

from tests.support.fake_encoder import FakeEncoder
from unicas_edge.aggregator.aggregator import Aggregator
from unicas_edge.bundle import Bundle
from unicas_edge.bundle.edit import with_manifest
from unicas_edge.core import regular_file
from unicas_edge.engines import EngineOptions, open_encoder
from unicas_edge.errors import AggregatorError, BundleError
from unicas_edge.heads.head import load_heads
from unicas_edge.screening.session import Session

posix = pytest.mark.skipif(sys.platform == "win32", reason="no such files on Windows")


@pytest.fixture
def bundle(tmp_path, untrained_bundle):
    return Bundle.load(shutil.copytree(untrained_bundle.root, tmp_path / "bundle"))


def invert(path: Path) -> None:
    """Other bytes in the same place, of the same size."""
    data = bytes(255 - byte for byte in path.read_bytes())
    with path.open("r+b") as file:
        file.write(data)


def invert_and_hide(path: Path) -> None:
    """As `invert`, with the times set back as they were."""
    about = path.stat()
    invert(path)
    os.utime(path, ns=(about.st_atime_ns, about.st_mtime_ns))


def replace(path: Path) -> None:
    other = path.with_name("other")
    other.write_bytes(path.read_bytes()[:-1] + b"!")
    other.replace(path)


def link(path: Path) -> None:
    other = path.with_name("other")
    other.write_bytes(path.read_bytes()[:-1] + b"!")
    path.unlink()
    path.symlink_to(other)


def cut(path: Path) -> None:
    os.truncate(path, 0)


CHANGES = [invert, invert_and_hide, replace, cut, Path.unlink]
if sys.platform != "win32":
    CHANGES.append(link)


# ---- between loading and opening ----------------------------------------------------------------


@pytest.mark.parametrize("change", CHANGES)
def test_a_file_changed_before_it_is_opened_is_refused(bundle, change):
    spec = bundle.manifest
    for name in (spec.encoder.file, spec.aggregator.file):
        change(bundle.path(name))
    with pytest.raises(BundleError, match=spec.encoder.file):
        open_encoder(bundle)
    with pytest.raises(BundleError, match=spec.aggregator.file):
        Aggregator.load(bundle)


def test_a_head_changed_before_it_is_opened_is_refused(tmp_path):
    copy = Bundle.load(shutil.copytree(Bundle.load().root, tmp_path / "bundle"))
    invert(copy.path("heads/grade.safetensors"))
    with pytest.raises(BundleError, match=r"grade\.safetensors: is not the file that the manifest"):
        load_heads(copy, ["grade"])


# ---- in use -------------------------------------------------------------------------------------


@pytest.mark.parametrize("change", CHANGES)
def test_an_aggregator_in_use_computes_what_it_did(bundle, rng, change):
    tokens = rng.standard_normal((9, bundle.manifest.encoder.width), dtype="f4")
    path = bundle.path(bundle.manifest.aggregator.file)
    for source in (bundle, path):
        shutil.copy(bundle.path("encoder.onnx"), path.with_name("kept"))
        aggregator = Aggregator.load(source)
        wanted = aggregator.logits(tokens)
        whole = path.read_bytes()
        change(path)
        assert np.array_equal(aggregator.logits(tokens), wanted)
        path.unlink(missing_ok=True)
        path.write_bytes(whole)


def session(bundle, aggregator=None):
    encoder = FakeEncoder(bundle.manifest.encoder.width)
    return Session(bundle, width=512, height=512, um_px=0.5, encoder=encoder, aggregator=aggregator)


@pytest.mark.parametrize("name", ["encoder.onnx", "aggregator.safetensors", "bundle.json"])
@pytest.mark.parametrize("change", CHANGES)
def test_a_slide_during_which_the_bundle_changed_fails_and_so_do_the_next(
    bundle, rng, change, name
):
    aggregator = Aggregator.load(bundle)
    tile = rng.integers(0, 256, (256, 256, 3), dtype="u1")
    with session(bundle, aggregator) as first:
        first.push(tile, 0, 0)
        whole = (bundle.root / name).read_bytes()
        change(bundle.root / name)
        with pytest.raises(
            BundleError, match=r"changed while the bundle was in use.*load the bundle again"
        ):
            first.finish()
    with pytest.raises(BundleError, match="changed while the bundle was in use"):
        session(bundle, aggregator)
    (bundle.root / name).unlink(missing_ok=True)
    (bundle.root / name).write_bytes(whole)
    with pytest.raises(BundleError):  # whoever puts the file back has to say so, by loading it
        session(bundle, aggregator)
    again = Bundle.load(bundle.root)
    with session(again, aggregator) as last:
        last.push(tile, 0, 0)
        assert last.finish().bundle.files["bundle.json"] == again.digest


def test_parts_opened_from_the_bundle_as_it_was_before_are_refused(bundle, tmp_path):
    encoder, aggregator = open_encoder(bundle), Aggregator.load(bundle)
    content = bundle.manifest.model_dump(mode="json")
    for name in ("encoder.onnx", "aggregator.safetensors"):
        content["files"][name] = "0" * 64
    other = Bundle(bundle.root, bundle.manifest.model_validate_json(json.dumps(content)), "0" * 64)
    where = {"width": 512, "height": 512, "um_px": 0.5}
    with pytest.raises(BundleError, match=r"encoder was opened from another encoder\.onnx"):
        Session(other, encoder=encoder, **where)
    with pytest.raises(BundleError, match=r"aggregator was opened from another aggregator\."):
        Session(other, encoder=FakeEncoder(), aggregator=aggregator, **where)
    Session(bundle, encoder=encoder, aggregator=aggregator, **where).close()


def test_a_verification_written_meanwhile_is_a_change(bundle):
    content = bundle.manifest.model_dump(mode="json")
    with_manifest(bundle, {**content, "version": "9"})
    with pytest.raises(BundleError, match=r"bundle\.json: changed"):
        bundle.check_unchanged()


def test_the_same_bytes_under_new_times_are_no_change(bundle):
    """A backup, a hard link or the same file copied anew: what ran is still what is there."""
    for name in bundle.manifest.files:
        path = bundle.path(name)
        data = path.read_bytes()
        path.unlink()
        path.write_bytes(data)
    os.link(bundle.path("encoder.onnx"), bundle.root / "linked")
    bundle.check_unchanged()
    invert(bundle.path("encoder.onnx"))
    with pytest.raises(BundleError, match=r"encoder\.onnx: changed"):
        bundle.check_unchanged()


def test_a_relative_bundle_is_the_same_after_a_change_of_folder(bundle, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    relative = Bundle.load("bundle")
    monkeypatch.chdir("/")
    relative.check_unchanged()


# ---- files that are none ------------------------------------------------------------------------


def pipe(path: Path) -> None:
    os.mkfifo(path)


def plug(path: Path) -> None:
    """A socket; its name may be no longer than some 100 bytes."""
    with tempfile.TemporaryDirectory() as short, socket.socket(socket.AF_UNIX) as made:
        made.bind(f"{short}/s")
        Path(short, "s").rename(path)


def device(path: Path) -> None:
    path.symlink_to("/dev/zero")


KINDS = [pipe, plug, device, Path.mkdir]


@posix
@pytest.mark.parametrize("make", KINDS)
def test_a_manifest_that_is_no_file_is_refused_at_once(bundle, make):
    (bundle.root / "bundle.json").unlink()
    make(bundle.root / "bundle.json")
    code = f"from unicas_edge.bundle import Bundle; Bundle.load({str(bundle.root)!r})"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False
    )
    assert "bundle.json: cannot be read (not a regular file)" in done.stderr


@posix
@pytest.mark.parametrize("make", [*KINDS[:2], Path.mkdir])
@pytest.mark.parametrize("name", ["encoder.onnx", "aggregator.safetensors"])
def test_a_listed_file_that_is_none_is_refused_at_once(bundle, make, name):
    loaded, path = bundle, bundle.root / name
    path.unlink()
    make(path)
    with pytest.raises(BundleError, match="not a regular file"):
        Bundle.load(bundle.root)
    with pytest.raises(BundleError, match="not a regular file"):
        loaded.read(name)
    with pytest.raises(
        AggregatorError, match=r"not a regular file|cannot be read|No such|Not a dir|not a readable"
    ):
        Aggregator.load(path) if make is not Path.mkdir else Aggregator.load(path / "x")


def test_a_file_is_read_whole_or_refused(tmp_path):
    path = tmp_path / "x"
    path.write_bytes(b"12345")
    assert bytes(regular_file.read_regular(path, 5)) == b"12345"
    with pytest.raises(OSError, match="larger than 4 bytes"):
        regular_file.read_regular(path, 4)
    with regular_file.open_regular(path) as file:
        path.write_bytes(b"123")
        assert bytes(regular_file.read_whole(file, 5)) == b"123"


# ---- JSON ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("old", "new", "cause"),
    [
        (b'"name":', b'"name": "x", "name":', "'name' is given twice"),
        (b'"encoder.onnx": "', b'"encoder.onnx": "%s", "encoder.onnx": "' % (b"0" * 64), "encoder"),
        (b'"temperature":', b'"temperature": 1.0, "temperature":', "'temperature' is given twice"),
        (b'"temperature":', b'"tem\\u0070erature": 1.0, "temperature":', "is given twice"),
        (b'"schema_version": 1', b'"schema_version": 1' + b"0" * 5000, "number out of range"),
        (b'"threshold": ', b'"threshold": 1e9999, "x": ', "threshold"),
        (b'"licence":', b'"x": ' + b"[" * 5000 + b"]" * 5000 + b', "licence":', "x|recursion"),
    ],
)
def test_json_that_says_a_thing_twice_or_endlessly_is_refused(bundle, old, new, cause):
    path = bundle.root / "bundle.json"
    text = path.read_bytes()
    assert old in text
    path.write_bytes(text.replace(old, new, 1))
    with pytest.raises(BundleError, match=rf"bundle\.json: .*({cause})"):
        Bundle.load(bundle.root)


# ---- large weights, which stay where they are ---------------------------------------------------


@pytest.mark.parametrize("backend", ["onnxruntime", "openvino"])
def test_weights_read_in_place_must_not_be_touched(tmp_path, monkeypatch, rng, backend):
    pytest.importorskip(backend)
    from tests.support.weights_beside import bundle_with_weights_beside
    from unicas_edge.engines import model_files

    beside = bundle_with_weights_beside(tmp_path / "beside")
    tiles = rng.standard_normal((1, 3, 224, 224), dtype="f4")
    options = EngineOptions(backend, "fp32", 1, 1, allow_unverified=True)
    wanted = open_encoder(beside, options).encode(tiles)
    monkeypatch.setattr(model_files, "MAX_WEIGHTS_BYTES", 0)
    beside = Bundle.load(beside.root)
    assert np.array_equal(open_encoder(beside, options).encode(tiles), wanted)
    beside.check_unchanged()
    os.utime(beside.root / "row.bin")  # a touch alone: nobody could say what was read meanwhile
    with pytest.raises(BundleError, match=r"row\.bin: changed while the bundle was in use"):
        beside.check_unchanged()
    late = Bundle.load(beside.root)
    invert_and_hide(late.root / "row.bin")
    with pytest.raises(BundleError, match=r"row\.bin: changed"):
        open_encoder(late, options)
