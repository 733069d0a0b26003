"""Encoders from C: Python's tokens, from threads, through interrupts and forks; the example."""

from __future__ import annotations

import subprocess

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from tests.c.test_aggregator import ADDRESS, THREAD, build
from tests.support.encoder_program import (
    BAD_MODEL,
    BAD_OPTIONS,
    COUNT,
    LIBRARIES,
    SOURCES,
    ask,
    environment,
    in_python,
    library,
    model_of,
    refused,
    small,
    tiles_of,
    tiny,
)
from tests.support.endless import endless_bundle
from tests.support.places import ROOT
from tests.support.weights_beside import bundle_with_weights_beside
from tests.support.weights_file import run
from unicas_edge.bundle import Bundle
from unicas_edge.engines.base import activation_bytes, plan_batches
from unicas_edge.errors import EngineError

__all__ = ["ask", "build", "environment", "refused", "small", "tiny"]  # fixtures
pytestmark = pytest.mark.slow


# ---- the same tokens ----------------------------------------------------------------------------


@pytest.mark.parametrize("engine", LIBRARIES)
def test_c_gives_the_bits_that_python_gives(ask, engine):
    """With the embedded bundle's encoder: the same runtime, options and batches."""
    library(engine)
    bundle = Bundle.load()
    manifest = bundle.manifest
    path, tiles = bundle.path(manifest.encoder.file), tiles_of(manifest.tile.crop_px)
    wanted, facts = in_python(bundle, engine, "fp32", path, tiles)
    for way in ("path", "bytes"):
        code, said, tokens = ask(engine, tiles, width=manifest.encoder.width, **{way: path})
        assert code == 0, said
        assert said.rsplit(" ", 1)[0] == facts
        assert said.endswith("reference" if engine == "onnxruntime" else "unverified")
        assert np.array_equal(tokens, wanted)


@pytest.mark.parametrize("precision", ["bf16", "int8w", "int8"])
def test_in_every_precision_of_openvino(ask, refused, tiny, precision):
    library("openvino")
    path, tiles = tiny.path("encoder.onnx"), tiles_of(224)
    try:
        wanted, facts = in_python(tiny, "openvino", precision, path, tiles)
    except EngineError:  # as on a processor without bf16
        said = refused("openvino", tiles, BAD_OPTIONS, path=path, width=64, precision=precision)
        assert "this processor has no bf16" in said
        return
    code, said, tokens = ask("openvino", tiles, path=path, width=64, precision=precision)
    assert (code, said) == (0, f"{facts} unverified")
    assert np.array_equal(tokens, wanted)


def test_an_xml_from_memory_and_by_its_path(ask, tiny, tmp_path):
    library("openvino")
    openvino = pytest.importorskip("openvino")
    path, tiles = tiny.path("encoder.onnx"), tiles_of(224)
    xml = tmp_path / "encoder.xml"
    openvino.save_model(openvino.Core().read_model(path), xml, compress_to_fp16=False)
    wanted, _ = in_python(tiny, "openvino", "fp32", path, tiles)
    weights = f"encoder.bin:{xml.with_suffix('.bin')}"
    for source in ({"path": xml}, {"bytes": xml, "weights": weights}):
        code, said, tokens = ask("openvino", tiles, width=64, **source)
        assert code == 0, said
        np.testing.assert_allclose(tokens, wanted, atol=1e-5)
    code, said, _ = ask("openvino", tiles, width=64, bytes=xml)
    assert code == 3
    assert "needs its .bin" in said


def test_weights_beside_a_model(ask, refused, tmp_path):
    bundle = bundle_with_weights_beside(tmp_path / "beside")
    path, tiles = bundle.path("encoder.onnx"), tiles_of(224)
    wanted, _ = in_python(bundle, "onnxruntime", "fp32", path, tiles)
    weights = f"row.bin:{bundle.path('row.bin')}"
    for source in ({"path": path}, {"bytes": path, "weights": weights}):
        code, said, tokens = ask("onnxruntime", tiles, width=192, **source)
        assert code == 0, said
        assert np.array_equal(tokens, wanted)
    said = refused("onnxruntime", tiles, BAD_MODEL, width=192, bytes=path)
    assert "refers to the file 'row.bin', which was not given" in said
    other = weights.replace("row.bin:", "../row.bin:")
    refused("onnxruntime", tiles, BAD_MODEL, width=192, bytes=path, weights=other)
    code, said, tokens = ask("openvino", tiles, width=192, path=path)
    assert code == 0, said
    np.testing.assert_allclose(tokens, wanted, rtol=1e-5)
    said = refused("openvino", tiles, BAD_OPTIONS, width=192, bytes=path, weights=weights)
    assert "give its path" in said


@pytest.mark.parametrize("engine", LIBRARIES)
@pytest.mark.parametrize("dtype", ["f2", "u1"])
def test_other_types_of_planes_and_half_precision_tokens(ask, tmp_path, engine, dtype):
    kind = TensorProto.FLOAT16 if dtype == "f2" else TensorProto.UINT8
    nodes = [
        helper.make_node("Cast", ["x"], ["wide"], to=TensorProto.FLOAT),
        helper.make_node("ReduceMean", ["wide"], ["mean"], axes=[2, 3], keepdims=0),
        helper.make_node("Cast", ["mean"], ["y"], to=TensorProto.FLOAT16),
    ]
    model = model_of(nodes, dtype=kind)
    model.graph.output[0].type.tensor_type.elem_type = TensorProto.FLOAT16
    onnx.save_model(model, tmp_path / "half.onnx")
    tiles = np.random.default_rng(2).integers(0, 200, (COUNT, 3, 8, 8)).astype(dtype)
    code, said, tokens = ask(engine, tiles, path=tmp_path / "half.onnx", width=3)
    assert code == 0, said
    mean = tiles.astype("f8").mean((2, 3)).ravel()
    np.testing.assert_allclose(tokens, mean, rtol=2e-3)
    assert np.array_equal(tokens, tokens.astype("f2").astype("f4"))


# ---- threads ------------------------------------------------------------------------------------


@pytest.mark.parametrize("engine", LIBRARIES)
@pytest.mark.parametrize("mode", ["interrupt", "fork"])
def test_after_an_interrupt_or_a_fork_it_still_encodes(ask, tiny, engine, mode):
    """More threads than workers encode until an interrupt ends all of them."""
    path, tiles = tiny.path("encoder.onnx"), tiles_of(224)
    _, _, wanted = ask(engine, tiles, path=path, width=64)
    code, said, tokens = ask(engine, tiles, path=path, width=64, mode=mode)
    assert code == 0, said
    assert np.array_equal(tokens, wanted)


def test_an_interrupt_ends_a_model_that_never_returns(ask, tmp_path):
    path = endless_bundle(tmp_path / "endless").path("encoder.onnx")
    code, said, _ = ask("onnxruntime", tiles_of(224), path=path, width=192, mode="endless")
    assert code == 0, said


@pytest.mark.parametrize("flags", [ADDRESS, THREAD], ids=["address", "thread"])
def test_slots_are_one_threads_each(build, flags):
    run(build("test_slots.c", flags, sources=[ROOT / "csrc/encoders/slots.c"]))


@pytest.mark.parametrize("workers", [1, 3])
def test_workers_are_as_many_as_asked_for(ask, tiny, workers):
    path, tiles = tiny.path("encoder.onnx"), tiles_of(224)
    _, said, tokens = ask("onnxruntime", tiles, path=path, width=64, threads=3, workers=workers)
    assert said.split()[5:7] == [str(workers), "3"]
    _, _, wanted = ask("onnxruntime", tiles, path=path, width=64)
    np.testing.assert_allclose(tokens, wanted, atol=1e-5)


@pytest.mark.parametrize("engine", LIBRARIES)
def test_a_runtime_is_found_by_its_usual_name(ask, small, tmp_path, engine):
    found = library(engine)
    usual = {"onnxruntime": "libonnxruntime.so.1", "openvino": "libopenvino_c.so"}[engine]
    (tmp_path / usual).symlink_to(found)
    where = f"{tmp_path}:{found.parent}"
    code, said, _ = ask(
        engine, tiles_of(8), path=small(), width=3, library=None, path_of_libraries=where
    )
    assert code == 0, said


def test_onnxruntime_sends_nothing(ask, small, tmp_path):
    """It would keep what it is to send, and a number for this machine, in the home folder."""
    (tmp_path / "home").mkdir()
    code, said, _ = ask("onnxruntime", tiles_of(8), path=small(), width=3, home=tmp_path / "home")
    assert code == 0, said
    assert not list((tmp_path / "home").iterdir())


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("megabytes", [1, 40, 200])
@pytest.mark.parametrize("batch", [None, 2])
def test_workers_and_batches_are_planned_as_in_python(ask, small, threads, megabytes, batch):
    path, memory = small(shape=("batch", 3, 224, 224)), megabytes << 20
    workers, each, size = plan_batches(threads, activation_bytes(224, 3), memory, batch)
    code, said, _ = ask(
        "onnxruntime",
        tiles_of(224),
        path=path,
        width=3,
        threads=threads,
        batch=batch,
        memory=memory,
    )
    assert code == 0, said
    assert said.split()[4:7] == [str(size), str(workers), str(workers * each)]


# ---- the example --------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def example(build):
    sources = [*SOURCES, *sorted((ROOT / "csrc/pixels").glob("*.c"))]
    return build("../../examples/c/encode.c", ["-O1"], sources=sources)


@pytest.mark.parametrize("engine", LIBRARIES)
def test_the_example_gives_the_norm_of_pythons_token(example, engine, tmp_path):
    found, bundle = library(engine), Bundle.load()
    manifest = bundle.manifest
    crop, path = manifest.tile.crop_px, bundle.path(manifest.encoder.file)
    tile = np.random.default_rng(4).integers(0, 256, (crop, crop, 3), dtype=np.uint8)
    tile.tofile(tmp_path / "tile.rgb")
    scaled = (tile / np.float32(255) - manifest.input.mean) / manifest.input.std
    planes = np.repeat(scaled.transpose(2, 0, 1)[None].astype("f4"), 2, axis=0)
    wanted = np.linalg.norm(
        in_python(bundle, engine, "fp32", path, planes)[0][: manifest.encoder.width]
    )
    arguments = [engine, found, path, crop, manifest.encoder.width, tmp_path / "tile.rgb"]
    lines = run(example, *arguments).splitlines()
    assert lines[0].split()[::2] == [engine, "fp32"]
    assert float(lines[1].removeprefix("norm ")) == pytest.approx(float(wanted), rel=1e-4)
    assert len(lines) == (2 if engine == "onnxruntime" else 3)


def test_the_example_says_what_is_wrong(example, small, tmp_path):
    found, model = library("onnxruntime"), small()
    (tmp_path / "short.rgb").write_bytes(bytes(3 * 8 * 8 - 1))
    (tmp_path / "long.rgb").write_bytes(bytes(3 * 8 * 8 + 1))
    for code, said, *arguments in [
        (2, "usage:"),
        (2, "usage:", "abacus", found, model, 8, 3, tmp_path / "short.rgb"),
        (1, "install ONNX Runtime", "onnxruntime", tmp_path / "no.so", model, 8, 3, "tile.rgb"),
        (1, "not float32 [batch, 3, 9, 9]", "onnxruntime", found, model, 9, 3, "tile.rgb"),
        (1, "No such file", "onnxruntime", found, model, 8, 3, tmp_path / "missing.rgb"),
        (1, "CROP x CROP x 3", "onnxruntime", found, model, 8, 3, tmp_path / "short.rgb"),
        (1, "CROP x CROP x 3", "onnxruntime", found, model, 8, 3, tmp_path / "long.rgb"),
    ]:
        done = subprocess.run(
            [example, *map(str, arguments)], capture_output=True, text=True, check=False
        )
        assert (done.returncode, done.stdout) == (code, ""), done.stderr
        assert said in done.stderr
