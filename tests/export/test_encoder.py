"""Bundles made of checkpoints: whole, honest about what is untrained, or not there at all."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from dataclasses import replace

import numpy as np
import onnx
import pytest
import torch

from tests.support.bundle_case import copy_with, fingerprint
from tests.support.dense_aggregator import weights_of as aggregator_weights
from tests.support.encoder_case import in_torch, module_of, tensors, tiles_of, weights_of
from tests.support.export_case import TINY, TRAINED, make_checkpoints, names
from unicas_edge.aggregator.aggregator import Aggregator
from unicas_edge.bundle import Bundle
from unicas_edge.bundle.aggregator_file import parameter_shapes as aggregator_shapes
from unicas_edge.bundle.edit import Draft
from unicas_edge.engines import EngineOptions, open_encoder
from unicas_edge.errors import BundleError, CheckpointError, OutputError
from unicas_edge.export import encoder as build
from unicas_edge.export.encoder import export_aggregator, export_encoder
from unicas_edge.models.architectures import ARCHITECTURES


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return make_checkpoints(tmp_path_factory.mktemp("checkpoints"))


@pytest.fixture
def begun(folder, tmp_path):
    return shutil.copytree(folder / "begun", tmp_path / "bundle")


def in_bundle(bundle, tiles):
    encoder = open_encoder(bundle, EngineOptions("onnxruntime", batch_size=len(tiles), threads=1))
    tokens = encoder.encode(tiles)
    encoder.close()
    return tokens


# ---- the encoder --------------------------------------------------------------------------------


def test_a_checkpoint_becomes_a_bundle_that_encodes_as_torch_does(folder):
    bundle = Bundle.load(folder / "begun")
    spec = bundle.manifest.encoder
    assert (spec.architecture, spec.width, spec.storage) == ("vit-ti16", 192, "fp32")
    assert spec.source_sha256 == hashlib.sha256((folder / "tiny.pth").read_bytes()).hexdigest()
    assert set(bundle.manifest.files) == {"encoder.onnx", "aggregator.safetensors"}
    tiles = tiles_of(TINY)
    wanted = in_torch(module_of(TINY, weights_of(TINY)), tiles)
    np.testing.assert_allclose(in_bundle(bundle, tiles), wanted, atol=1e-4)
    notes = {p.key: p.value for p in onnx.load(bundle.path("encoder.onnx")).metadata_props}
    assert notes == {"architecture": "vit-ti16", "source_sha256": spec.source_sha256}


def test_until_an_aggregator_is_imported_the_bundle_says_that_it_is_untrained(folder):
    bundle = Bundle.load(folder / "begun")
    assert not bundle.manifest.trained
    assert bundle.manifest.intended_use.startswith("The aggregator is untrained")
    assert bundle.manifest.aggregator.config.embed_dim_in == 192
    tokens = np.random.default_rng(0).standard_normal((50, 192)).astype("f4")
    assert all(np.isfinite(x).all() for x in Aggregator.load(bundle).logits(tokens))


@pytest.mark.parametrize("storage", ["fp16", "int8"])
def test_storage_is_recorded_and_smaller(folder, tmp_path, storage):
    made = export_encoder(folder / "tiny.pth", tmp_path / "b", storage=storage).bundle
    assert made.manifest.encoder.storage == storage
    size = made.path("encoder.onnx").stat().st_size
    assert size < {"fp16": 12e6, "int8": 6.5e6}[storage]
    tiles = tiles_of(TINY)
    wanted = in_torch(module_of(TINY, weights_of(TINY)), tiles)
    assert 1e-5 < np.abs(in_bundle(made, tiles) - wanted).max() < 0.3


def test_grey_levels_are_an_option(folder, tmp_path):
    matrix = ((0.9, 0.1, 0.0, 0.02), (0.0, 1.1, 0.0, -0.1), (0.2, 0.0, 0.8, 0.0))
    made = export_encoder(folder / "tiny.pth", tmp_path / "b", uint8=True, matrix=matrix).bundle
    assert made.manifest.input.dtype == "uint8"
    grey = np.random.default_rng(2).integers(0, 256, (2, 3, 224, 224), dtype=np.uint8)
    kind = ARCHITECTURES["vit-ti16"]
    affine = np.array(matrix)
    pixels = np.einsum("ij,bjhw->bihw", affine[:, :3], grey / 255) + affine[:, 3, None, None]
    mean, std = (np.array(v)[:, None, None] for v in (kind.mean, kind.std))
    wanted = in_torch(module_of(TINY, weights_of(TINY)), ((pixels - mean) / std).astype("f4"))
    np.testing.assert_allclose(in_bundle(made, grey), wanted, atol=1e-4)
    model = onnx.load(made.path("encoder.onnx"))
    notes = {p.key: json.loads(p.value) for p in model.metadata_props if p.key == "grey_levels"}
    assert notes["grey_levels"]["matrix"] == [list(row) for row in matrix]
    with pytest.raises(CheckpointError, match="needs --uint8"):
        export_encoder(folder / "tiny.pth", tmp_path / "c", matrix=matrix)


def test_large_weights_lie_beside_the_model(folder, tmp_path, monkeypatch):
    monkeypatch.setattr(build, "MAX_INLINE_BYTES", 1_000_000)
    made = export_encoder(folder / "tiny.pth", tmp_path / "b").bundle
    assert set(made.manifest.files) >= {"encoder.onnx", "encoder.onnx.data"}
    assert made.path("encoder.onnx").stat().st_size < 200_000
    tiles = tiles_of(TINY)
    inline = Bundle.load(folder / "begun")
    np.testing.assert_array_equal(in_bundle(made, tiles), in_bundle(inline, tiles))


def test_the_same_checkpoint_gives_the_same_bytes(folder, tmp_path):
    export_encoder(folder / "tiny.pth", tmp_path / "b")
    for name in names(folder / "begun"):
        assert (tmp_path / "b" / name).read_bytes() == (folder / "begun" / name).read_bytes()


def test_no_more_than_one_tensor_is_in_memory(tmp_path, monkeypatch):
    """Ten blocks of a giant: 1.1 GB of float32, and its largest tensor 50 MB."""
    import tracemalloc

    vit = replace(ARCHITECTURES["h-optimus-0"].vit, depth=10)
    new = Draft(tmp_path, tmp_path)
    tracemalloc.start()
    files = build.write_encoder(
        vit, lambda key: np.zeros(build.parameter_shapes(vit)[key], "f4"), new, "fp16"
    )
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    size = (tmp_path / "encoder.onnx.data").stat().st_size
    shutil.rmtree(tmp_path)
    assert files == ["encoder.onnx", "encoder.onnx.data"]
    assert size > 500e6
    assert peak < 250e6


# ---- the aggregator -----------------------------------------------------------------------------


def test_an_aggregator_completes_the_bundle(folder, begun):
    before = (begun / "encoder.onnx").stat().st_ino
    made = export_aggregator(folder / "model-7.pth", begun).bundle
    assert made.manifest.trained
    assert made.manifest.intended_use.startswith("Research use only")
    assert [task.name for task in made.manifest.tasks] == ["cancer", "candidiasis", "cluecell"]
    assert (begun / "encoder.onnx").stat().st_ino == before  # not copied
    assert made.manifest.aggregator.config == TRAINED
    tokens = np.random.default_rng(0).standard_normal((50, 192)).astype("f4")
    wanted = Aggregator(aggregator_weights(TRAINED), TRAINED).logits(tokens)
    for found, logits in zip(
        Aggregator.load(Bundle.load(begun)).logits(tokens), wanted, strict=True
    ):
        np.testing.assert_array_equal(found, logits)
    assert names(begun.parent) == ["bundle"]


def test_an_aggregator_does_not_make_a_demonstration_of_an_encoder_more(folder, tmp_path):
    bundle = Bundle.load(folder / "begun")
    shown = copy_with(bundle, tmp_path / "shown", trained=True, demonstration=True)
    made = export_aggregator(folder / "model-7.pth", shown.root).bundle
    assert (made.manifest.trained, made.manifest.demonstration) == (True, True)
    spec = bundle.manifest.encoder.model_copy(update={"source_sha256": None})
    drawn = copy_with(made, tmp_path / "drawn", encoder=spec)  # nobody knows where it is from
    made = export_aggregator(folder / "model-7.pth", drawn.root, force=True).bundle
    assert (made.manifest.trained, made.manifest.demonstration) == (False, False)


def test_an_imported_aggregator_is_replaced_only_with_force(folder, begun):
    export_aggregator(folder / "model-7.pth", begun)
    before = fingerprint(begun)
    with pytest.raises(OutputError, match="has an imported aggregator; --force replaces it"):
        export_aggregator(folder / "model-7.pth", begun)
    assert fingerprint(begun) == before
    named = {"a": 0.1, "b": 0.2, "c": 0.3}
    made = export_aggregator(folder / "model-7.pth", begun, tasks=named, force=True).bundle
    assert {task.name: task.threshold for task in made.manifest.tasks} == named


def test_verification_of_other_weights_is_dropped_and_other_forms_are_kept(folder, begun):
    content = json.loads((begun / "bundle.json").read_text())
    (begun / "int8.onnx").write_bytes(b"x")
    content["files"]["int8.onnx"] = hashlib.sha256(b"x").hexdigest()
    content["encoder"]["forms"] = [
        {
            "backend": "onnxruntime",
            "precision": "int8",
            "file": "int8.onnx",
            "format": "onnx",
            "calibration_tiles": 3,
            "kept": [],
        }
    ]
    digests = content["files"]
    content["verification"] = {
        "encoder_sha256": digests["encoder.onnx"],
        "slides": 1,
        "tiles": 9,
        "gate": {},
        "runs": [],
        "aggregator_sha256": digests["aggregator.safetensors"],
    }
    (begun / "bundle.json").write_text(json.dumps(content))
    assert Bundle.load(begun).manifest.verification
    made = export_aggregator(folder / "model-7.pth", begun).bundle
    assert made.manifest.verification is None
    assert made.manifest.encoder.forms[0].file == "int8.onnx"
    assert (begun / "int8.onnx").read_bytes() == b"x"


def test_without_hard_links_files_are_copied(folder, begun, monkeypatch):
    def refuse(*_):
        raise OSError("no links here")

    monkeypatch.setattr(os, "link", refuse)
    old = (begun / "encoder.onnx").read_bytes()
    export_aggregator(folder / "model-7.pth", begun)
    assert (begun / "encoder.onnx").read_bytes() == old


@pytest.mark.parametrize(
    "changes",
    [
        {"embed_dim": 36, "mlp_ratio": 1.3},
        {"mlp_ratio": 0.1},
        {"num_tasks": 1, "classes": (3,)},
        {"slots_per_expert": 3},
        {"qkv_bias": False},
        {"num_heads": 6, "depth": 5},
    ],
)
def test_any_configuration_is_read_off_the_shapes(folder, begun, tmp_path, changes):
    config = TRAINED.model_copy(update=changes)
    torch.save(tensors(aggregator_weights(config)), tmp_path / "m.pth")
    tasks = {f"task_{i}": 0.5 for i in range(config.num_tasks)}
    made = export_aggregator(tmp_path / "m.pth", begun, heads=config.num_heads, tasks=tasks).bundle
    found = made.manifest.aggregator.config
    assert aggregator_shapes(found) == aggregator_shapes(config)
    assert found.model_copy(update={"mlp_ratio": config.mlp_ratio}) == config
    assert tuple(len(task.classes) for task in made.manifest.tasks) == config.classes


def broken(weights, change):
    change(weights)
    return weights


@pytest.mark.parametrize(
    ("change", "cause"),
    [
        (
            lambda w: w.pop("model.task_tokens"),
            r"aggregator of UniCAS: missing model\.task_tokens",
        ),
        (lambda w: w.pop("model.norm.bias"), r"missing model\.norm\.bias \[24\]"),
        (lambda w: w.update(x=torch.zeros(2)), r"unexpected x \[2\]"),
        (lambda w: w.update({"model.norm.bias": torch.zeros(9)}), r"is \[9\], not \[24\]"),
        (
            lambda w: w["model.norm.bias"].fill_(torch.nan),
            r"norm\.bias holds 24 values that are NaN",
        ),
        (lambda w: w.update({"model.layer1.0.weight": torch.zeros(24, 0)}), r"is \[24, 0\]"),
    ],
)
def test_other_aggregators_are_refused_and_the_bundle_stays(folder, begun, tmp_path, change, cause):
    state = broken(tensors(aggregator_weights(TRAINED)), change)
    torch.save(state, tmp_path / "bad.pth")
    before = fingerprint(begun)
    with pytest.raises(CheckpointError, match=cause):
        export_aggregator(tmp_path / "bad.pth", begun)
    assert fingerprint(begun) == before
    assert names(tmp_path) == ["bad.pth", "bundle"]


def test_an_aggregator_that_does_not_go_with_the_encoder_is_refused(folder, begun, tmp_path):
    wide = TRAINED.model_copy(update={"embed_dim_in": 40})
    torch.save(tensors(aggregator_weights(wide)), tmp_path / "wide.pth")
    with pytest.raises(CheckpointError, match=r"made for tokens of width 40, the encoder .* 192"):
        export_aggregator(tmp_path / "wide.pth", begun)
    with pytest.raises(CheckpointError, match="has 3 tasks, but 1 names are given"):
        export_aggregator(folder / "model-7.pth", begun, tasks={"one": 0.5})
    with pytest.raises(CheckpointError, match="num_heads"):
        export_aggregator(folder / "model-7.pth", begun, heads=7)
    with pytest.raises(CheckpointError, match="an encoder is imported by"):
        export_aggregator(folder / "tiny.pth", begun)
    with pytest.raises(OutputError, match="make it from an encoder first"):
        export_aggregator(folder / "model-7.pth", tmp_path / "none")
    with pytest.raises(BundleError, match="cannot be read"):
        export_aggregator(folder / "model-7.pth", tmp_path)
