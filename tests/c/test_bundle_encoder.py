"""A bundle's encoder from C: Python's choice, Python's tokens, and no file that nobody hashed."""

from __future__ import annotations

import os

import numpy as np
import pytest

from tests.c.test_aggregator import build
from tests.support.bundle_program import (
    driver,
    environment,
    mean,
    model_with_weights,
    write_bundle,
)
from tests.support.encoder_program import BAD_MODEL, BAD_OPTIONS, NO_RUNTIME, library
from tests.support.engine_case import encode, run_of, vouched
from unicas_edge.bundle import Bundle
from unicas_edge.engines import Candidate, EngineOptions, open_encoder
from unicas_edge.engines import speeds as measured
from unicas_edge.engines.base import DEFAULT_MEMORY_BYTES, memory_budget
from unicas_edge.engines.choice import reference
from unicas_edge.errors import EngineError

__all__ = ["build", "driver", "environment"]  # fixtures
pytestmark = pytest.mark.slow
BAD_BUNDLE = 21


@pytest.fixture(autouse=True)
def _same_cache(driver, monkeypatch):
    """What was measured lies where the driver looks for it."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(driver.cache))
    (driver.cache / "unicas-edge/speeds.json").unlink(missing_ok=True)


def facts(encoder):
    return (
        f"{encoder.name} {encoder.version} {encoder.precision} {encoder.device} "
        f"{encoder.batch_size} {encoder.workers} {encoder.threads}"
    )


def same(driver, folder, tmp_path, **options):
    """C opens the encoder that Python opens, which gives the same bits; what Python says of it."""
    bundle = Bundle.load(folder)
    encoder = open_encoder(bundle, EngineOptions(threads=2, batch_size=2, **options))
    driver.open(folder)
    said, unverified = driver.encoder(threads=2, batch=2, **in_c(options))
    assert said == facts(encoder)
    assert unverified == (encoder.unverified or "")
    crop = bundle.manifest.tile.crop_px
    tiles = np.random.default_rng(1).standard_normal((4, 3, crop, crop), dtype="f4")
    tiles.tofile(tmp_path / "tiles")
    assert driver.ask("close") == ["ok"]  # the encoder needs nothing of it
    assert driver.ask("encode", tmp_path / "tiles", tmp_path / "tokens") == ["ok"]
    tokens = np.fromfile(tmp_path / "tokens", "f4").reshape(len(tiles), -1)
    assert np.array_equal(tokens, encode(encoder, tiles))
    encoder.close()
    return encoder


def in_c(options):
    return {key: int(value) if value in (True, False) else value for key, value in options.items()}


# ---- the same encoder ---------------------------------------------------------------------------


def test_the_embedded_bundles_encoder(driver, tmp_path):
    library("onnxruntime")
    encoder = same(driver, Bundle.load().root, tmp_path)
    assert (encoder.name, encoder.unverified) == ("onnxruntime", None)


def test_of_the_embedded_bundle_another_engine_that_is_allowed(driver, tmp_path):
    library("openvino")
    encoder = same(driver, Bundle.load().root, tmp_path, backend="openvino", allow_unverified=True)
    assert "was not verified" in encoder.unverified


def test_threads_and_batches_are_pythons(driver):
    library("onnxruntime")
    driver.open(Bundle.load().root)
    bundle = Bundle.load()
    encoder = open_encoder(bundle, EngineOptions(memory_mb=12))
    assert driver.encoder(memory=12 << 20) == (facts(encoder), "")
    if memory_budget() == DEFAULT_MEMORY_BYTES:  # what is free changes all the time
        assert driver.encoder() == (facts(open_encoder(bundle)), "")


@pytest.fixture
def two(tmp_path):
    """A bundle where OpenVINO passed in fp32."""
    write_bundle(tmp_path / "one")
    bundle = Bundle.load(tmp_path / "one")
    candidate = Candidate("openvino", "fp32", reference(bundle).path)
    return vouched(bundle, tmp_path / "two", run_of(bundle, candidate))


def test_what_passed_is_taken_and_what_is_faster_here(driver, two, tmp_path):
    library("openvino")
    assert same(driver, two.root, tmp_path).name == "openvino"
    kinds = {("onnxruntime", "fp32"): 5.0, ("openvino", "fp32"): 2.0}
    path = measured.write_speeds(two, kinds)
    assert same(driver, two.root, tmp_path).name == "onnxruntime"
    path.rename(tmp_path / "elsewhere")
    assert same(driver, two.root, tmp_path).name == "openvino"
    driver.open(two.root)
    assert driver.encoder(speeds=tmp_path / "elsewhere")[0].startswith("onnxruntime ")


@pytest.mark.parametrize("damage", [lambda t: t[:-1], lambda t: f"[{t}]", lambda t: f"{t}{t}",
                                    lambda t: " " * (1 << 20) + t, lambda t: t.replace(": 5", ":"),
                                    lambda t: t.replace("5.0", "-5.0"), lambda t: ""])  # fmt: skip
def test_speeds_that_cannot_be_read_are_none(driver, two, tmp_path, damage):
    library("openvino")
    path = measured.write_speeds(two, {("onnxruntime", "fp32"): 5.0})
    assert same(driver, two.root, tmp_path).name == "onnxruntime"
    path.write_text(damage(path.read_text()))
    assert same(driver, two.root, tmp_path).name == "openvino"


# ---- what is not installed ----------------------------------------------------------------------


def test_what_is_not_installed_is_passed_over(driver, two):
    library("onnxruntime")
    driver.open(two.root)
    assert driver.encoder(openvino="/nowhere.so")[0].startswith("onnxruntime ")
    said = driver.refused(NO_RUNTIME, openvino="/nowhere.so", onnxruntime="/nowhere.so")
    assert "install ONNX Runtime" in said
    said = driver.refused(NO_RUNTIME, openvino="/nowhere.so", backend="openvino")
    assert "install OpenVINO" in said


@pytest.mark.parametrize("backend", ["onnxruntime-cuda", "onnxruntime-tensorrt"])
def test_a_provider_that_is_not_installed(driver, two, backend):
    library("onnxruntime")
    driver.open(two.root)
    with pytest.raises(EngineError, match="has no"):
        open_encoder(two, EngineOptions(backend))
    assert "install a build" in driver.refused(NO_RUNTIME, backend=backend)


@pytest.mark.parametrize(
    ("wanted", "said"),
    [
        ({"backend": "abacus"}, "unknown backend 'abacus'; there are: auto, onnxruntime"),
        ({"precision": "fp8"}, "unknown precision 'fp8'; there are: auto, fp32"),
        ({"precision": "int8"}, "no int8 for any engine in this bundle; it has onnxruntime fp32"),
        ({"backend": "openvino", "precision": "bf16"}, "was not verified for this bundle"),
        ({"backend": "openvino", "precision": "bf16"}, "or set allow_unverified"),
        ({"threads": 1025}, "at most 1024 threads"),
        ({"batch": 4097}, "batches of 4096"),
    ],
)
def test_what_cannot_be_had(driver, two, wanted, said):
    for name in ("onnxruntime", "openvino"):
        library(name)
    driver.open(two.root)
    assert said in driver.refused(BAD_OPTIONS, **wanted)
    python = {"batch_size" if key == "batch" else key: value for key, value in wanted.items()}
    with pytest.raises(EngineError):
        open_encoder(two, EngineOptions(**python))


def test_structs_of_impossible_sizes(driver, two):
    driver.open(two.root)
    assert driver.ask("sizes") == ["ok"]


# ---- weights in files of their own --------------------------------------------------------------


@pytest.fixture
def beside(tmp_path):
    model, weights = model_with_weights()
    write_bundle(tmp_path / "beside", model=model, files={"row.bin": weights})
    return tmp_path / "beside"


def test_weights_beside_a_model(driver, beside, tmp_path):
    library("onnxruntime")
    same(driver, beside, tmp_path)


def test_weights_that_are_read_in_place(driver, beside, tmp_path):
    """As OpenVINO does with those of an ONNX file: no touch of them is forgiven any more."""
    library("openvino")
    same(driver, beside, tmp_path, backend="openvino", allow_unverified=True)
    wanted = {"backend": "openvino", "allow_unverified": 1}
    driver.open(beside)
    os.utime(beside / "row.bin", (1, 1))
    assert driver.check() == (0, "")
    assert "fp32" in driver.encoder(**wanted)[0]
    assert driver.check() == (0, "")
    os.utime(beside / "row.bin", (2, 2))
    status, text = driver.check()
    assert status == BAD_BUNDLE
    assert "row.bin: changed while the bundle was in use" in text
    assert driver.refused(BAD_BUNDLE, **wanted) == text


@pytest.mark.parametrize("location", ["row.bin", "./row.bin", ".//./row.bin"])
@pytest.mark.parametrize("folder", ["", "deep/er/"])
def test_weights_are_found_from_the_models_folder(driver, tmp_path, location, folder):
    library("onnxruntime")
    model, weights = model_with_weights(location)
    files = {f"{folder}row.bin": weights}
    write_bundle(tmp_path / "bundle", model=model, file=f"{folder}encoder.onnx", files=files)
    same(driver, tmp_path / "bundle", tmp_path)


def form(precision="fp32", name="encoder.xml", file_format="openvino"):
    return {
        "backend": "openvino",
        "precision": precision,
        "file": name,
        "format": file_format,
        "calibration_tiles": 0,
        "kept": [],
    }


@pytest.fixture
def ir(tmp_path):
    """The files of OpenVINO's own format that hold the mean of a tile times a constant."""
    library("openvino")
    openvino = pytest.importorskip("openvino")
    model, weights = model_with_weights()
    (tmp_path / "made.onnx").write_bytes(model)
    (tmp_path / "row.bin").write_bytes(weights)
    read = openvino.Core().read_model(tmp_path / "made.onnx")
    openvino.save_model(read, tmp_path / "made.xml", compress_to_fp16=False)
    return {f"encoder.{end}": (tmp_path / f"made.{end}").read_bytes() for end in ("xml", "bin")}


def test_a_form_in_openvinos_own_format(driver, ir, tmp_path):
    write_bundle(tmp_path / "formed", files=ir, forms=[form()])
    for options in ({"backend": "openvino", "allow_unverified": True}, {}):
        encoder = same(driver, tmp_path / "formed", tmp_path, **options)
        assert encoder.name == options.get("backend", "onnxruntime")


@pytest.mark.parametrize(
    ("forms", "files", "said"),
    [
        ([form()], {"encoder.xml": b"<net/>"}, "refers to 'encoder.bin', which is not a file"),
        ([form()], {"encoder.xml": mean(), "encoder.bin": b"x"}, "encoder.xml: is no .xml"),
        ([form(name="a.pb")], {"a.pb": mean()}, "a.pb: is neither .onnx nor .xml"),
        ([form(name="a.onnx")], {"a.onnx": b""}, "not a readable ONNX file"),
        ([form(name="a.onnx")], {"a.onnx": b"<net/>"}, "not a readable ONNX file"),
        ([form(name="a.onnx")], {"a.onnx": model_with_weights()[0]}, "refers to 'row.bin'"),
        ([form(name="a.onnx")], {"a.onnx": model_with_weights("/dev/zero")[0]}, "refers to"),
        ([form(name="a.onnx")], {"a.onnx": model_with_weights("")[0]}, "refers to ''"),
        (
            [form(name="d/a.onnx")],
            {"d/a.onnx": model_with_weights("../row.bin")[0], "row.bin": b"x" * 12},
            "refers to '../row.bin'",
        ),
    ],
)
def test_models_that_are_none(driver, tmp_path, forms, files, said):
    library("openvino")
    write_bundle(tmp_path / "bundle", files=files, forms=forms)
    driver.open(tmp_path / "bundle")
    wanted = {"backend": "openvino", "precision": "fp32", "allow_unverified": True}
    assert said in driver.refused(BAD_MODEL, **in_c(wanted))
    with pytest.raises(EngineError):
        open_encoder(Bundle.load(tmp_path / "bundle"), EngineOptions(**wanted))
