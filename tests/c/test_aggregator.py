"""The native aggregator from C: as an embedder calls it, with sanitizers, on other processors."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

from tests.support.c_objects import compiled, shared_folder
from tests.support.dense_aggregator import config_of, weights_of
from tests.support.numpy_aggregator import Aggregator as Oracle
from tests.support.places import ROOT
from tests.support.weights_file import (
    NUMPY,
    SIZES,
    data_of,
    file_of,
    header_of,
    is_expert,
    run,
    widened,
)
from unicas_edge import _native
from unicas_edge.aggregator.aggregator import Aggregator

CASES = ROOT / "tests/c"
SOURCES = sorted((ROOT / "csrc").rglob("*.c"))
STRICT = [
    "-std=c11",
    "-Wall",
    "-Wextra",
    "-Wpedantic",
    "-Werror",
    "-Wno-psabi",
    "-ffp-contract=off",
    "-pthread",
    "-DUE_STATIC",
    "-DUE_VERSION=0x010203",
    f"-I{ROOT / 'csrc'}",
    f"-I{ROOT / 'csrc/include'}",
    f"-I{CASES}",
]
# Optimising the unrolled kernels with a sanitizer's checks in them takes minutes.
ADDRESS = ["-O0", "-g", "-fsanitize=address,undefined", "-fno-sanitize-recover=all"]
THREAD = ["-O0", "-g", "-fsanitize=thread", "-DUE_PORTABLE_ONLY"]
VARIANTS = _native.aggregator_variants()
TILES = 41  # no square: the grid is padded

ODD = config_of(
    embed_dim_in=7,
    embed_dim=20,
    num_heads=4,
    mlp_ratio=1.3,
    num_tasks=3,
    classes=(2, 4, 3),
    num_experts=3,
    slots_per_expert=2,
    top_m=9,
    qkv_bias=False,
)
EVEN = config_of(
    embed_dim_in=32,
    embed_dim=32,
    num_heads=4,
    num_tasks=2,
    classes=(3, 3),
    num_experts=8,
    slots_per_expert=2,
    top_m=16,
)
FILES = [("odd", "F32"), ("odd", "I8"), ("even", "F16"), ("even", "BF16"), ("even", "I8")]


# ---- building -----------------------------------------------------------------------------------


def find_compiler():
    found = os.environ.get("CC") or shutil.which("gcc") or shutil.which("clang")
    if not found:
        pytest.skip("no C compiler: install gcc, or name one in CC")
    return found


def check_links(cc, flags, folder):
    """Skip where the compiler lacks a sanitizer's library."""
    trivial = folder / "trivial.c"
    trivial.write_text("int main(void) { return 0; }\n")
    command = [cc, *flags, trivial, "-o", folder / "trivial"]
    if subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip(f"{cc} cannot link {' '.join(flags)}")


@pytest.fixture(scope="session")
def build(tmp_path_factory):
    """Link C cases with the library's sources, which are compiled once for each set of flags."""
    programs = {}

    def build(case, flags, *, cc=None, sources=SOURCES, link=()):
        cc = cc or find_compiler()
        key = (case, cc, tuple(flags), tuple(sources))
        if key not in programs:
            folder = tmp_path_factory.mktemp("program")
            check_links(cc, flags, folder)
            command, shared = [cc, *STRICT, *flags], shared_folder(tmp_path_factory)
            hashing = [path for path in sources if path.name == "sha256.c"]
            objects = compiled(shared, command, [path for path in sources if path not in hashing])
            objects += compiled(shared, [*command, "-O2"], hashing)  # of whole bundles
            programs[key] = folder / Path(case).stem
            run(*command, CASES / case, *objects, *link, "-lm", "-o", programs[key])
        return programs[key]

    return build


# ---- files --------------------------------------------------------------------------------------


def stored_as(dtype, value):
    """A float32 matrix as (dtype, shape, bytes), and the scale of an I8 one's rows or None."""
    if dtype == "I8":
        scale = (np.abs(value).max(axis=1) / 127).astype("<f4")
        rounded = np.rint(value / scale[:, None]).astype("i1")
        return (dtype, value.shape, rounded.tobytes()), scale
    if dtype == "BF16":
        return (dtype, value.shape, (value.view("<u4") >> 16).astype("<u2").tobytes()), None
    return (dtype, value.shape, value.astype(NUMPY[dtype]).tobytes()), None


def tensors_of(weights, experts):
    """The file's tensors, and the float32 that they stand for."""
    tensors, exact = {}, {}
    for key, value in weights.items():
        tensors[key], scale = stored_as(experts if is_expert(key) else "F32", value)
        exact[key] = widened(tensors[key][0], tensors[key][2]).reshape(value.shape)
        if scale is not None:
            tensors[key + "_scale"] = ("F32", scale.shape, scale.tobytes())
            exact[key] = exact[key] * scale[:, None]
    return dict(sorted(tensors.items(), key=lambda item: -SIZES[item[1][0]])), exact


def make_case(folder, name, experts):
    """(path, tokens' path, tokens, logits of the oracle)."""
    config = ODD if name == "odd" else EVEN
    tensors, exact = tensors_of(weights_of(config), experts)
    header = header_of(tensors, json.loads(config.model_dump_json()))
    path = folder / f"{name}-{experts}.safetensors"
    path.write_bytes(file_of(header, data_of(tensors)))
    rng = np.random.default_rng(5)
    tokens = rng.standard_normal((TILES, config.embed_dim_in), dtype="f4")
    tokens.astype("<f4").tofile(folder / f"{name}.bin")
    return path, folder / f"{name}.bin", tokens, Oracle(exact, config).logits(tokens)


@pytest.fixture(scope="session")
def cases(tmp_path_factory):
    folder = tmp_path_factory.mktemp("aggregator")
    return {key: make_case(folder, *key) for key in FILES}


def read_logits(output, like):
    """The variant and threads that ran, and the logits, of what test_aggregator.c prints."""
    facts, *lines = output.splitlines()
    values = [[float.fromhex(number) for number in line.split()] for line in lines]
    logits = np.array(values, dtype="f4")
    assert logits.shape == like.shape
    return facts.split(), logits


def same_probabilities(found, wanted):
    found, wanted = (
        np.exp(logits - logits.max(axis=1, keepdims=True)) for logits in (found, wanted)
    )
    difference = found / found.sum(axis=1, keepdims=True) - wanted / wanted.sum(1, keepdims=True)
    assert np.abs(difference).max() < 1e-5


# ---- the interface ------------------------------------------------------------------------------


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("key", FILES, ids="-".join)
def test_an_embedder_gets_what_python_gets(build, cases, key, variant):
    program = build("test_aggregator.c", ADDRESS)
    path, token_file, tokens, wanted = cases[key]
    expected = Aggregator.load(path, variant=variant, threads=1).logits(tokens)
    same_probabilities(expected, wanted)
    for threads in (1, 2, 5) if key[0] == "odd" else (2,):
        output = run(program, path, token_file, TILES, variant, threads)
        facts, logits = read_logits(output, wanted)
        assert facts == [variant, str(threads)]
        assert np.array_equal(logits, expected)


@pytest.mark.parametrize("key", [("odd", "I8"), ("even", "F16")], ids="-".join)
def test_an_arm_processor_gives_the_same_probabilities(build, cases, key):
    cc, emulator = shutil.which("aarch64-linux-gnu-gcc"), shutil.which("qemu-aarch64-static")
    if not cc or not emulator:
        pytest.skip("needs gcc-aarch64-linux-gnu and qemu-user-static")
    program = build("test_aggregator.c", ["-O1"], cc=cc, link=["-static"])
    path, token_file, tokens, wanted = cases[key]
    for variant in ("neon", "portable"):
        output = run(emulator, program, path, token_file, TILES, variant, 2)
        facts, logits = read_logits(output, wanted)
        assert facts == [variant, "2"]
        same_probabilities(logits, wanted)
        same_probabilities(logits, Aggregator.load(path).logits(tokens))


def test_threads_that_share_an_aggregator_do_not_race(build, cases):
    program = build("test_aggregator_threads.c", THREAD)
    path, token_file, *_ = cases["odd", "F32"]
    run(program, path, token_file, TILES)


def test_nothing_uninitialised_decides_or_comes_out(build, cases):
    """Bags' memory is not zeroed: padding that is read has to be written first."""
    valgrind = shutil.which("valgrind")
    if not valgrind:
        pytest.skip("no valgrind")
    program = build("test_aggregator.c", ["-O1", "-g"])
    check = [valgrind, "--quiet", "--error-exitcode=9", "--leak-check=full"]
    path, token_file, *_ = cases["odd", "I8"]
    known = [name for name in VARIANTS if "avx512" not in name]  # valgrind does not know that one
    for variant in known:
        run(*check, program, path, token_file, 11, variant, 2)


@pytest.mark.parametrize("flags", [ADDRESS, THREAD], ids=["address", "thread"])
def test_a_session_gives_the_same_bits_in_any_order(build, cases, tmp_path, flags):
    """Threads that push, threads that encode, little memory, a cancel in the middle, a spool."""
    program = build("test_intake.c", flags)
    run(program, cases["odd", "F32"][0], ODD.embed_dim_in, tmp_path / "spool")


# ---- parts --------------------------------------------------------------------------------------


def test_selection_keeps_what_sorting_would(build):
    run(build("test_select.c", ADDRESS, sources=[ROOT / "csrc/aggregator/select.c"]))


def accuracies(output):
    """{variant: what test_kernels_emulated.c says of exp and GELU}; the program has checked it."""
    return dict(line.split(": ") for line in output.splitlines())


def test_kernels_of_this_processor_agree_with_the_portable_ones(build):
    program = build("test_kernels_emulated.c", ["-O1"], sources=[])
    assert list(accuracies(run(program))) == list(VARIANTS)


@pytest.mark.parametrize("kernel", ["AVX512", "NEON"])
def test_emulated_kernels_agree_with_the_portable_ones(build, kernel):
    command = ["sh", CASES / "get_simde.sh", ROOT / "build/simde"]
    found = subprocess.run(command, capture_output=True, text=True, check=False)
    if found.returncode:
        pytest.skip(found.stderr.strip().splitlines()[-1])
    flags = ["-O0", f"-DEMULATE_{kernel}", "-isystem", found.stdout.strip()]
    program = build("test_kernels_emulated.c", [*flags, "-Wno-unused-function"], sources=[])
    assert list(accuracies(run(program))) == [kernel.lower()]


def test_kernels_in_an_emulated_arm_processor(build):
    cc, emulator = shutil.which("aarch64-linux-gnu-gcc"), shutil.which("qemu-aarch64-static")
    if not cc or not emulator:
        pytest.skip("needs gcc-aarch64-linux-gnu and qemu-user-static")
    program = build("test_kernels_emulated.c", ["-O0"], cc=cc, sources=[], link=["-static"])
    assert list(accuracies(run(emulator, program))) == ["neon", "portable"]
