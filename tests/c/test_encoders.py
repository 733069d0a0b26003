"""Encoders from C: Python's tokens, threads, interrupts, and what is refused."""

from __future__ import annotations

import importlib.util
import os
import subprocess
from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper

from tests.c.test_aggregator import ADDRESS, THREAD, build
from tests.support.endless import endless_bundle
from tests.support.engine_case import encode
from tests.support.places import ROOT
from tests.support.quantise_case import tiny_bundle
from tests.support.weights_beside import bundle_with_weights_beside
from tests.support.weights_file import run
from unicas_edge.bundle import Bundle
from unicas_edge.engines import EngineOptions
from unicas_edge.engines.base import Candidate
from unicas_edge.engines.onnx_file import files_named_in
from unicas_edge.engines.opening import open_candidate
from unicas_edge.errors import EngineError

__all__ = ["build"]  # the fixture that compiles
pytestmark = pytest.mark.slow

SOURCES = [
    ROOT / "csrc/status.c",
    ROOT / "csrc/system/cores.c",
    *sorted((ROOT / "csrc/encoders").glob("*.c")),
]
#: With sanitizers a C program must bring the C++ library along whose exceptions they watch.
LINK = ["-Wl,--no-as-needed", "-lstdc++"]
LIBRARIES = {
    "onnxruntime": ("onnxruntime", "capi/libonnxruntime.so.1*"),
    "openvino": ("openvino", "libs/libopenvino_c.so*"),
}
#: What runtimes keep until the process ends is theirs, and TBB must be told of the sanitizer.
SUPPRESSED = "".join(f"leak:{name}\n" for name in ("libonnxruntime", "libopenvino", "libtbb"))
NO_RUNTIME, BAD_MODEL, BAD_OPTIONS, BAD_TOKENS = 18, 19, 9, 13
COUNT = 5  # tiles; the last batch of two is padded


# ---- the programs -------------------------------------------------------------------------------


def library(engine):
    """The path of a runtime's library, as its wheel has it."""
    package, pattern = LIBRARIES[engine]
    spec = importlib.util.find_spec(package)
    found = sorted(Path(spec.origin).parent.glob(pattern)) if spec and spec.origin else []
    if not found:
        pytest.skip(f"no {pattern} of {package} is installed")
    return found[0]


@pytest.fixture(scope="module")
def environment(tmp_path_factory):
    file = tmp_path_factory.mktemp("suppressions") / "leaks"
    file.write_text(SUPPRESSED)
    leaks = f"suppressions={file}:print_suppressions=0"
    return os.environ | {"LSAN_OPTIONS": leaks, "TBB_ENABLE_SANITIZERS": "1"}


@pytest.fixture
def ask(build, environment, tmp_path):
    """Run the driver: (exit code, what it says in words, the tokens it wrote)."""
    program = build("test_encoders.c", ADDRESS, sources=SOURCES, link=LINK)

    def ask(engine, tiles, *, mode="encode", loud=False, **changes):
        tiles.tofile(tmp_path / "tiles")
        values = {
            "engine": engine,
            "library": library(engine),
            "mode": mode,
            "crop": tiles.shape[-1],
            "dtype": {"f": 0, "e": 1, "B": 2}[tiles.dtype.char],
            "precision": "fp32",
            "threads": 2,
            "batch": 2,
            "tiles": tmp_path / "tiles",
            "out": tmp_path / "out",
        }
        arguments = [f"{key}={value}" for key, value in (values | changes).items()]
        own = environment | ({"ASAN_OPTIONS": "detect_leaks=0"} if loud else {})
        done = subprocess.run(
            [program, *arguments], capture_output=True, text=True, env=own, check=False
        )
        assert loud or done.stderr == ""
        written = done.returncode == 0 and mode != "endless"
        tokens = np.fromfile(tmp_path / "out", "f4") if written else None
        return done.returncode, done.stdout.strip(), tokens

    return ask


@pytest.fixture
def refused(ask):
    """Run the driver, which must fail with that status: the sentence."""

    def refused(engine, tiles, status, **changes):
        code, said, _ = ask(engine, tiles, **changes)
        sentence = said.splitlines()[-1]  # what it says of itself may come first
        assert (code, sentence.split(":")[0]) == (3, str(status)), said
        return sentence

    return refused


# ---- the models ---------------------------------------------------------------------------------


def tiles_of(crop, seed=3):
    return np.random.default_rng(seed).standard_normal((COUNT, 3, crop, crop), dtype="f4")


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    """A ViT of two blocks, width 64."""
    return tiny_bundle(tmp_path_factory.mktemp("tiny") / "bundle")


def in_python(bundle, engine, precision, path, tiles, **options):
    """The tokens of Python's engine, and what it says of itself."""
    asked = EngineOptions(threads=2, batch_size=2, allow_unverified=True, **options)
    encoder = open_candidate(bundle, Candidate(engine, precision, path), asked)
    facts = f"{engine} {encoder.version} {precision} cpu {encoder.batch_size} {encoder.workers}"
    tokens = encode(encoder, tiles)
    encoder.close()
    return tokens.ravel(), f"{facts} {encoder.threads}"


def model_of(nodes, *, dtype=TensorProto.FLOAT, shape=("batch", 3, 8, 8), outputs=1, width=3):
    """An ONNX model from `x` to `y`."""
    given = helper.make_tensor_value_info("x", dtype, shape)
    made = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, [shape[0], width])
        for name in ("y", "z")[:outputs]
    ]
    graph = helper.make_graph(nodes, "graph", [given], made)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


MEAN = helper.make_node("ReduceMean", ["x"], ["y"], axes=[2, 3], keepdims=0)


@pytest.fixture
def small(tmp_path):
    """Save a model: its path."""

    def small(*nodes, **options):
        path = tmp_path / "small.onnx"
        onnx.save_model(model_of(list(nodes) or [MEAN], **options), path)
        return path

    return small


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


# ---- what is refused ----------------------------------------------------------------------------


@pytest.mark.parametrize("engine", LIBRARIES)
def test_a_model_that_is_not_what_was_expected(refused, small, engine):
    tiles = tiles_of(8)
    for says, status, changes in [
        ("not float32 [batch, 3, 9, 9]", BAD_MODEL, {"crop": 9}),
        ("gives float32 [?, 3], not [batch, 4]", BAD_MODEL, {"width": 4}),
        ("takes float32 [?, 3, 8, 8], not uint8", BAD_MODEL, {"dtype": 2}),
        ("fp32, bf16, fp16, int8w or int8", BAD_OPTIONS, {"precision": "fp8"}),
        ("threads", BAD_OPTIONS, {"threads": 100_000}),
    ]:
        assert says in refused(engine, tiles, status, **{"path": small(), "width": 3} | changes)
    two = small(MEAN, helper.make_node("Identity", ["y"], ["z"]), outputs=2)
    assert "1 inputs and 2 outputs" in refused(engine, tiles, BAD_MODEL, path=two, width=3)


def test_a_batch_that_is_fixed_in_the_model(ask, refused, small):
    path, tiles = small(shape=(4, 3, 8, 8)), tiles_of(8)
    code, said, tokens = ask("onnxruntime", tiles, path=path, width=3, batch=0)
    assert (code, said.split()[4]) == (0, "4")
    np.testing.assert_allclose(tokens, tiles.mean((2, 3)).ravel(), atol=1e-6)
    said = refused("onnxruntime", tiles, BAD_MODEL, path=path, width=3, batch=2)
    assert "is made for batches of 4, not 2" in said


@pytest.mark.parametrize("engine", LIBRARIES)
def test_a_damaged_model(refused, small, tmp_path, engine):
    """OpenVINO shows what is no ONNX to readers of other formats, which print and leak."""
    whole, tiles = small().read_bytes(), tiles_of(8)
    loud = engine == "openvino"
    for number, damaged in enumerate([whole[:-9], whole[: len(whole) // 2], b"\0" * 64, b"<net/>"]):
        path = tmp_path / f"damaged{number}.onnx"
        path.write_bytes(damaged)
        said = refused(engine, tiles, BAD_MODEL, path=path, width=3, loud=loud)
        assert path.name in said
        assert "export it again" in said
        if not damaged.startswith(b"<"):
            refused(engine, tiles, BAD_MODEL, bytes=path, width=3, loud=loud)
    refused(engine, tiles, BAD_MODEL, path=tmp_path / "missing.onnx", width=3, loud=loud)
    said = refused(engine, tiles, BAD_MODEL, bytes=tmp_path / "damaged1.onnx", width=3)
    assert "the model in memory: not a readable ONNX file" in said


@pytest.mark.parametrize("engine", LIBRARIES)
def test_tokens_that_are_not_finite(refused, small, engine):
    tiles = tiles_of(8)
    tiles[1, 0, 0, 0] = np.nan
    said = refused(engine, tiles, BAD_TOKENS, path=small(), width=3, threads=1)
    assert "the token of tile 1 of the batch is not finite" in said


@pytest.mark.parametrize("engine", LIBRARIES)
def test_a_library_that_is_not_there_or_another_one(refused, small, tmp_path, engine):
    tiles, text = tiles_of(8), tmp_path / "text.so"
    text.write_text("no library")
    for path in (tmp_path / "no.so", text, "libm.so.6"):
        said = refused(engine, tiles, NO_RUNTIME, path=small(), width=3, library=path)
        assert "install" in said
        assert "options.library" in said


@pytest.mark.parametrize("provider", ["cuda", "tensorrt", "dml"])
def test_a_provider_that_this_library_lacks(refused, small, provider):
    said = refused("onnxruntime", tiles_of(8), NO_RUNTIME, path=small(), width=3, provider=provider)
    assert "onnxruntime" in said


def test_openvino_never_computes_in_fp16(refused, small):
    said = refused("openvino", tiles_of(8), BAD_OPTIONS, path=small(), width=3, precision="fp16")
    assert "it would be bf16" in said


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


# ---- without a runtime --------------------------------------------------------------------------


@pytest.mark.parametrize("flags", [ADDRESS, THREAD], ids=["address", "thread"])
def test_a_host_fills_a_table_of_its_own(build, flags):
    run(build("test_encoder_host.c", flags, sources=SOURCES))


@pytest.fixture(scope="module")
def named(build):
    """Ask one running program which file a model refers to."""
    parts = [ROOT / f"csrc/encoders/{part}.c" for part in ("named_files", "said")]
    program = build("test_named_files.c", ADDRESS, sources=parts)
    with subprocess.Popen([program], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as running:

        def named(data):
            running.stdin.write(len(data).to_bytes(4, "little") + data)
            running.stdin.flush()
            line = running.stdout.readline()
            assert line, "the program has ended"
            return line.decode("utf-8", "replace").strip()

        yield named
        running.stdin.close()
        assert running.wait(60) == 0


def check_named(named, data):
    """C refuses what Python refuses, and what refers to another file than the one it is given."""
    said = named(data)
    try:
        wanted = files_named_in(memoryview(data), Path("model"))
    except EngineError:
        assert said != "ok"
    else:
        assert (said == "ok") == (wanted <= {"given.bin"}), (said, wanted)


def field(number, content):
    """A length-delimited field."""
    return varint(number << 3 | 2) + varint(len(content)) + content


def varint(value):
    out = bytearray()
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])


LOCATIONS = st.sampled_from([b"given.bin", b"", b"../given.bin", b"/etc/passwd", b"given.bin\0"])
ENTRIES = st.builds(
    lambda key, value, tail: field(1, key) + field(2, value) + tail,
    st.sampled_from([b"location", b"offset"]),
    LOCATIONS,
    st.sampled_from([b"", field(2, b"given.bin"), field(1, b"offset"), field(3, b"x")]),
)
#: Messages in messages, along fields that lead to a tensor and along others.
MESSAGES = st.recursive(
    ENTRIES | st.binary(max_size=8) | st.just(field(4, b"EPContext")),
    lambda inner: st.lists(
        st.tuples(st.sampled_from([1, 2, 4, 5, 6, 7, 10, 11, 13, 15, 20, 22, 25]), inner),
        max_size=4,
    ).map(lambda fields: b"".join(field(*pair) for pair in fields)),
    max_leaves=12,
)


@settings(max_examples=400)
@given(data=MESSAGES)
def test_files_are_found_as_python_finds_them(named, data):
    check_named(named, data or b"\x08\x08")


@settings(max_examples=300)
@given(
    place=st.integers(0, 2**16),
    put=st.binary(max_size=12) | st.just(b"\xff" * 9 + b"\x02"),
    cut=st.integers(0, 40),
)
def test_and_in_damaged_models(named, place, put, cut):
    tensor = field(13, field(1, b"location") + field(2, b"given.bin"))
    whole = b"\x08\x08" + field(7, field(5, tensor) + field(1, field(5, field(5, tensor))))
    at = place % len(whole)
    check_named(named, whole[:at] + put + whole[at + cut :] or b"\x08\x08")


def test_nesting_has_an_end(named):
    deep = field(13, field(1, b"location") + field(2, b"x"))
    for _ in range(40):
        deep = field(6, field(1, field(5, deep)))
    assert "nested too deeply" in named(field(7, field(1, field(5, deep))))
