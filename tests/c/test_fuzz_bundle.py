"""Bundles that are damaged anywhere are refused in a sentence, or opened whole."""

from __future__ import annotations

import json

import pytest

from tests.c.test_aggregator import ADDRESS, build
from tests.support.bundle_program import mean, model_with_weights, write_bundle
from tests.support.engine_case import PERFECT
from tests.support.weights_file import run
from unicas_edge.bundle import Bundle
from unicas_edge.core.machine import isa, processor, usable_cores

__all__ = ["build"]  # the fixture that compiles
pytestmark = pytest.mark.slow
AGGREGATOR, MODEL = "a" * 64, "e" * 64  # the fuzzer puts the digests there
PARTS = ("bundle.json", "aggregator.safetensors", "encoder.onnx", "speeds.json")


def form(backend, precision):
    said = {"backend": backend, "precision": precision, "file": "encoder.onnx", "format": "onnx"}
    return said | {"calibration_tiles": 3, "kept": ["a", "b"]}


def evidence():
    run = {"backend": "openvino", "precision": "fp32", "weights_sha256": MODEL, "isa": isa()}
    run |= {"engine_version": "1", "processor": "p"} | PERFECT
    figures = {"encoder_sha256": MODEL, "aggregator_sha256": AGGREGATOR, "slides": 1, "tiles": 8}
    return figures | {"gate": {"min_overlap": 0.5}, "runs": [run, run | {"overlap": 0.2}]}


def seed(folder, **changes):
    """The four files of a bundle that says as much as it may."""
    model, _ = model_with_weights("./encoder.onnx")  # a listed file
    manifest = write_bundle(folder, model=mean() if "plain" in changes else model)
    Bundle.load(folder)
    manifest["files"] = {"encoder.onnx": MODEL, "aggregator.safetensors": AGGREGATOR}
    if "plain" not in changes:
        manifest["encoder"]["forms"] = [form("openvino", "int8"), form("onnxruntime", "fp16")]
        manifest["verification"] = evidence()
        manifest["heads"] = [
            {"name": "h", "file": "encoder.onnx", "classes": ["a", "b"], "hidden": 4}
            | {"view": "cell", "positive": None, "threshold": None}
            | {"calibration": {"temperature": 1}}
        ]
    (folder / "bundle.json").write_text(json.dumps(manifest), "utf-8")
    speeds = {f"{MODEL} {processor()} {usable_cores()}": {"openvino/fp32": 3.5, "x/y": 1}}
    (folder / "speeds.json").write_text(json.dumps(speeds), "utf-8")
    return [folder / part for part in PARTS]


def test_fuzzer(build, tmp_path):
    fuzzer = build("fuzz_bundle.c", ADDRESS)
    seeds = [*seed(tmp_path / "plain", plain=True), *seed(tmp_path / "full")]
    (tmp_path / "work").mkdir()
    assert run(fuzzer, tmp_path / "work", 500, 0, *seeds) == "1000 inputs\n"
