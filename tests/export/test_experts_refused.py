"""Conversions that are refused, and targets that stay as they were."""

from __future__ import annotations

import json
import os
import shutil

import numpy as np
import pytest

from tests.support.bundle_case import fingerprint, make_bundle, three_tasks
from unicas_edge.bundle import Bundle
from unicas_edge.errors import AggregatorError, BundleError, OutputError
from unicas_edge.export.experts import convert, describe


@pytest.fixture
def small(tmp_path):
    return make_bundle(tmp_path / "small", three_tasks())


# ---- sources that are refused -------------------------------------------------------------------


def test_what_was_converted_is_not_converted_again(small, tmp_path):
    for experts in ("fp16", "int8"):
        made = convert(small, tmp_path / experts, experts)
        for again in ("int8", "fp32", experts):
            with pytest.raises(BundleError, match=f"converted to {experts} before; convert from"):
                convert(made, tmp_path / "again", again)


def test_precision_is_not_invented(untrained_bundle, tmp_path):
    with pytest.raises(BundleError, match="experts are fp16, and fp32 would add bytes but no prec"):
        convert(untrained_bundle, tmp_path / "a", "fp32")
    made = convert(untrained_bundle, tmp_path / "b", "fp16")
    assert describe(made).startswith("experts converted to")
    assert not (tmp_path / "a").exists()


def test_int8_weights_without_a_record_are_refused_too(small, tmp_path):
    made = convert(small, tmp_path / "int8", "int8")
    content = json.loads((made.root / "bundle.json").read_text())
    del content["aggregator"]["storage"]
    (made.root / "bundle.json").write_text(json.dumps(content))
    with pytest.raises(BundleError, match="converted to int8 before"):
        convert(Bundle.load(made.root), tmp_path / "again", "fp16")


def test_a_record_that_is_not_how_the_weights_are_stored_is_an_error(small, tmp_path):
    made = convert(small, tmp_path / "int8", "int8")
    text = (made.root / "bundle.json").read_text()
    (made.root / "bundle.json").write_text(text.replace('"int8"', '"bf16"'))
    with pytest.raises(BundleError, match=r"storage\.experts is bf16, but .* stores int8"):
        describe(Bundle.load(made.root))


def test_a_source_with_a_link_that_leads_out_is_refused(small, tmp_path):
    shutil.move(small.root / "encoder.onnx", tmp_path / "outside.onnx")
    (small.root / "encoder.onnx").symlink_to(tmp_path / "outside.onnx")
    with pytest.raises(BundleError, match="leads outside the bundle"):
        convert(small, tmp_path / "new", "int8")
    assert not list(tmp_path.glob(".new*"))


def test_a_source_damaged_after_it_was_loaded_does_not_become_a_bundle(small, tmp_path):
    (small.root / "encoder.onnx").write_bytes(b"another")
    with pytest.raises(BundleError, match=r"'encoder\.onnx' has SHA-256"):
        convert(small, tmp_path / "new", "int8")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["small"]


@pytest.mark.parametrize(
    ("values", "cause"),
    [
        (np.zeros((3, 7), "f4"), r"not float32 \[tiles, 6\]"),
        (np.zeros((0, 6), "f4"), "0 tiles"),
        (np.full((3, 6), np.nan, "f4"), "token 0 is not finite"),
    ],
)
def test_a_bad_bag_leaves_nothing_behind(small, tmp_path, values, cause):
    np.save(tmp_path / "bad.npy", values)
    with pytest.raises(AggregatorError, match=cause) as error:
        convert(small, tmp_path / "new", "int8", [tmp_path / "bad.npy"])
    assert "bad.npy" in str(error.value)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bad.npy", "small"]


# ---- where it is written ------------------------------------------------------------------------


def test_an_existing_target_needs_force_and_is_replaced_whole(small, tmp_path):
    target = tmp_path / "new"
    convert(small, target, "bf16")
    (target / "weights" / "empty").mkdir()
    with pytest.raises(OutputError, match="exists; --force replaces it"):
        convert(small, target, "int8")
    assert Bundle.load(target).manifest.aggregator.storage.experts == "bf16"
    convert(small, target, "int8", force=True)
    assert Bundle.load(target).manifest.aggregator.storage.experts == "int8"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["new", "small"]
    assert not (target / "weights" / "empty").exists()


def in_the_way(target, kind, small):
    if kind == "file":
        target.write_text("mine")
    elif kind == "folder":
        target.mkdir()
    elif kind == "dangling link":
        target.symlink_to(target.parent / "nowhere")
    elif kind == "link to a bundle":
        target.symlink_to(shutil.copytree(small.root, target.parent / "other"))
    else:
        shutil.copytree(small.root, target)
        extra = target / ("notes.txt" if kind == "bundle with notes" else "weights/link")
        extra.write_text("mine") if extra.suffix else extra.symlink_to(target.parent)


@pytest.mark.parametrize(
    ("kind", "cause"),
    [
        ("file", "is not a folder"),
        ("folder", "holds no valid bundle.json"),
        ("dangling link", "is not a folder"),
        ("link to a bundle", "is not a folder"),
        ("bundle with notes", "notes.txt: is not a file of the bundle"),
        ("bundle with a link", "link: is not a file of the bundle"),
    ],
)
def test_force_replaces_nothing_but_a_bundle(small, tmp_path, kind, cause):
    target = tmp_path / "new"
    in_the_way(target, kind, small)
    before = sorted(path.name for path in tmp_path.rglob("*"))
    with pytest.raises(OutputError, match="exists"):
        convert(small, target, "int8")
    with pytest.raises(OutputError, match=cause):
        convert(small, target, "int8", force=True)
    assert sorted(path.name for path in tmp_path.rglob("*")) == before


@pytest.mark.parametrize("where", [".", "new", "weights", "weights/new", "..", "../small"])
@pytest.mark.parametrize("force", [False, True])
def test_target_and_source_never_overlap(small, where, force):
    before = fingerprint(small.root.parent)
    with pytest.raises(OutputError, match="overlaps with the source"):
        convert(small, small.root / where, "int8", force=force)
    assert fingerprint(small.root.parent) == before


def test_a_link_to_the_source_is_the_source(small, tmp_path):
    (tmp_path / "link").symlink_to(small.root)
    with pytest.raises(OutputError, match="overlaps with the source"):
        convert(small, tmp_path / "link" / "new", "int8", force=True)
    with pytest.raises(OutputError, match="overlaps with the source"):
        convert(Bundle.load(tmp_path / "link"), small.root, "int8", force=True)


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_that_takes_nothing_is_named(small, tmp_path):
    (tmp_path / "locked").mkdir(mode=0o555)
    with pytest.raises(OutputError, match="cannot be written"):
        convert(small, tmp_path / "locked" / "new", "int8")


def test_a_file_where_a_folder_should_be_is_named(small, tmp_path):
    (tmp_path / "file").write_text("mine")
    with pytest.raises(OutputError, match=r"file/new: cannot be written: .*; a file is in the way"):
        convert(small, tmp_path / "file" / "new", "int8")
