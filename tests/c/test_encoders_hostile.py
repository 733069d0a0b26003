"""Encoders from C: models, libraries and tables that are refused, and files that models name."""

from __future__ import annotations

import subprocess
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import helper

from tests.c.test_aggregator import ADDRESS, THREAD, build, find_compiler
from tests.support.encoder_program import (
    BAD_MODEL,
    BAD_OPTIONS,
    BAD_TOKENS,
    LIBRARIES,
    MEAN,
    NO_RUNTIME,
    SOURCES,
    ask,
    environment,
    refused,
    small,
    tiles_of,
)
from tests.support.places import ROOT
from tests.support.weights_file import run
from unicas_edge.engines.onnx_file import files_named_in
from unicas_edge.errors import EngineError

__all__ = ["ask", "build", "environment", "refused", "small"]  # fixtures
pytestmark = pytest.mark.slow


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
        assert "give the path of its" in said


@pytest.mark.parametrize("version", ["1.17.3", "2.0.0", "new", ""])
def test_a_version_whose_table_is_unknown(refused, small, tmp_path, version):
    """It is not asked for its table: an old one would print that it has none."""
    code = """
    #include <stdlib.h>
    static const void *table(unsigned version) { (void)version; abort(); }
    static const char *version(void) { return VERSION; }
    static const struct { const void *(*table)(unsigned); const char *(*version)(void); } base = {
        table, version};
    const void *OrtGetApiBase(void) { return &base; }
    """
    (tmp_path / "other.c").write_text(code)
    flags = ["-shared", "-fPIC", f'-DVERSION="{version}"']
    run(find_compiler(), *flags, tmp_path / "other.c", "-o", tmp_path / "other.so")
    other = tmp_path / "other.so"
    said = refused("onnxruntime", tiles_of(8), NO_RUNTIME, path=small(), width=3, library=other)
    assert "lacks what is needed" in said or "does not say its version" in said


@pytest.mark.parametrize("provider", ["cuda", "tensorrt", "dml"])
def test_a_provider_that_this_library_lacks(refused, small, provider):
    said = refused("onnxruntime", tiles_of(8), NO_RUNTIME, path=small(), width=3, provider=provider)
    assert "onnxruntime" in said


def test_openvino_never_computes_in_fp16(refused, small):
    said = refused("openvino", tiles_of(8), BAD_OPTIONS, path=small(), width=3, precision="fp16")
    assert "it would be bf16" in said


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
