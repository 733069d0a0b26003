"""Exports that fail leave nothing behind, and bundles that were spoilt afterwards do not load."""

from __future__ import annotations

import hashlib
import json
import shutil
import sys

import numpy as np
import onnx
import pytest
import torch

from tests.support.bundle_case import fingerprint
from tests.support.encoder_case import tensors, weights_of
from tests.support.export_case import TINY, make_checkpoints, names
from unicas_edge.bundle import Bundle
from unicas_edge.engines import EngineOptions, open_encoder
from unicas_edge.errors import BundleError, CheckpointError, EngineError, OutputError
from unicas_edge.export import encoder as build
from unicas_edge.export.encoder import export_aggregator, export_encoder


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return make_checkpoints(tmp_path_factory.mktemp("checkpoints"))


@pytest.fixture
def begun(folder, tmp_path):
    return shutil.copytree(folder / "begun", tmp_path / "bundle")


# ---- nothing half-written -----------------------------------------------------------------------


def test_an_existing_bundle_is_replaced_only_with_force(folder, begun):
    before = fingerprint(begun)
    with pytest.raises(OutputError, match="exists; --force replaces it"):
        export_encoder(folder / "tiny.pth", begun)
    assert fingerprint(begun) == before
    made = export_encoder(folder / "tiny.pth", begun, storage="int8", force=True).bundle
    assert Bundle.load(begun).digest == made.digest
    assert names(begun.parent) == ["bundle"]


@pytest.mark.parametrize("where", [".", "tiny.pth", "tiny.pth/new"])
def test_a_checkpoint_is_never_written_over(folder, where):
    before = fingerprint(folder)
    with pytest.raises(OutputError, match=r"overlaps with the source|not a folder|holds no valid"):
        export_encoder(folder / "tiny.pth", folder / where, force=True)
    assert fingerprint(folder) == before


def test_a_checkpoint_that_turns_bad_while_it_is_read_leaves_nothing(tmp_path):
    weights = weights_of(TINY)
    weights["norm.bias"][7] = np.inf  # the last tensor that is read
    torch.save(tensors(weights), tmp_path / "bad.pth")
    with pytest.raises(CheckpointError, match=r"norm\.bias holds 1 values"):
        export_encoder(tmp_path / "bad.pth", tmp_path / "b")
    assert names(tmp_path) == ["bad.pth"]


@pytest.mark.skipif(sys.platform == "win32", reason="no limit on file sizes")
@pytest.mark.parametrize("inline", [0, 1 << 40])
def test_a_disk_that_takes_no_more_leaves_nothing(folder, begun, tmp_path, monkeypatch, inline):
    import resource

    monkeypatch.setattr(build, "MAX_INLINE_BYTES", inline)
    before = fingerprint(tmp_path)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, hard))
    try:
        with pytest.raises(OutputError, match=r"encoder\.onnx.*cannot be written: File too large"):
            export_encoder(folder / "tiny.pth", tmp_path / "new")
        with pytest.raises(OutputError, match=r"encoder\.onnx.*cannot be written"):
            export_encoder(folder / "tiny.pth", begun, force=True)
        with pytest.raises(OutputError, match=r"aggregator\.safetensors: cannot be written"):
            export_aggregator(folder / "model-7.pth", begun)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert fingerprint(tmp_path) == before
    assert names(tmp_path) == ["bundle"]


# ---- what may happen to a bundle afterwards -----------------------------------------------------


@pytest.fixture
def beside(folder, tmp_path, monkeypatch):
    monkeypatch.setattr(build, "MAX_INLINE_BYTES", 0)
    return export_encoder(folder / "tiny.pth", tmp_path / "beside").bundle.root


def listed(folder):
    """Give the bundle the list and the hashes of its files as they are now."""
    content = json.loads((folder / "bundle.json").read_text())
    for name in list(content["files"]):
        if not (folder / name).exists():
            del content["files"][name]
            continue
        content["files"][name] = hashlib.sha256((folder / name).read_bytes()).hexdigest()
    (folder / "bundle.json").write_text(json.dumps(content))
    return Bundle.load(folder)


def test_a_truncated_graph_is_refused(beside):
    whole = (beside / "encoder.onnx").read_bytes()
    (beside / "encoder.onnx").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(BundleError, match=r"'encoder\.onnx' has SHA-256"):
        Bundle.load(beside)
    with pytest.raises(EngineError, match=r"encoder\.onnx"):
        open_encoder(listed(beside), EngineOptions("onnxruntime"))


def test_missing_or_short_weights_are_refused(beside):
    data = beside / "encoder.onnx.data"
    whole = data.read_bytes()
    data.write_bytes(whole[:-5000])
    with pytest.raises(BundleError, match=r"'encoder\.onnx\.data' has SHA-256"):
        Bundle.load(beside)
    with pytest.raises(EngineError, match="cannot load it"):
        open_encoder(listed(beside), EngineOptions("onnxruntime"))
    data.unlink()
    with pytest.raises(BundleError, match=r"'encoder\.onnx\.data' is missing"):
        Bundle.load(beside)
    with pytest.raises(EngineError, match="not a file of the bundle"):
        open_encoder(listed(beside), EngineOptions("onnxruntime"))


def test_weights_outside_the_bundle_are_refused(beside):
    model = onnx.load(beside / "encoder.onnx", load_external_data=False)
    shutil.copy(beside / "encoder.onnx.data", beside.parent / "out.data")
    for tensor in model.graph.initializer:
        for entry in tensor.external_data:
            if entry.key == "location":
                entry.value = "../out.data"
    (beside / "encoder.onnx").write_bytes(model.SerializeToString())
    with pytest.raises(EngineError, match=r"refers to '\.\./out\.data', which is not a file"):
        open_encoder(listed(beside), EngineOptions("onnxruntime"))
