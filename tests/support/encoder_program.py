"""Build the C driver of encoders and talk to it; the models and tokens that its tests share."""

from __future__ import annotations

import importlib.util
import os
import subprocess
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from tests.support.engine_case import encode
from tests.support.places import ROOT
from tests.support.quantise_case import tiny_bundle
from unicas_edge.engines import EngineOptions
from unicas_edge.engines.base import Candidate
from unicas_edge.engines.opening import open_candidate

SOURCES = [
    ROOT / "csrc/status.c",
    *(ROOT / f"csrc/system/{part}.c" for part in ("cores", "structs", "text_file")),
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
SANITIZED = ["-O0", "-g", "-fsanitize=address,undefined", "-fno-sanitize-recover=all"]
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
    program = build("test_encoders.c", SANITIZED, sources=SOURCES, link=LINK)

    def ask(
        engine, tiles, *, mode="encode", loud=False, path_of_libraries=None, home=None, **changes
    ):
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
        known = {key: value for key, value in (values | changes).items() if value is not None}
        arguments = [f"{key}={value}" for key, value in known.items()]
        own = dict(environment) | ({"ASAN_OPTIONS": "detect_leaks=0"} if loud else {})
        if path_of_libraries:
            own |= {"LD_LIBRARY_PATH": path_of_libraries}
        if home:
            own |= {"HOME": str(home)}
            for name in ("ORT_DISABLE_TELEMETRY", "XDG_CACHE_HOME"):
                own.pop(name, None)
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
