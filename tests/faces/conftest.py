"""What tests of the C library's faces share: the library, a runtime, tiles, and Python's result."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

from tests.support.places import ROOT
from tests.support.weights_file import run
from unicas_edge import Bundle, Session, config, open_slide
from unicas_edge.engines import EngineOptions, open_encoder
from unicas_edge.errors import UnicasError
from unicas_edge.sample import write_sample

STRICT = [
    "-std=c++17",
    "-Wall",
    "-Wextra",
    "-Wpedantic",
    "-Wconversion",
    "-Wshadow",
    "-Werror",
    f"-I{ROOT / 'csrc/include'}",
]
COLUMNS, ROWS, SIDE = 6, 4, 256


# ---- what is there ------------------------------------------------------------------------------


@pytest.fixture(scope="session")
def compiler():
    found = os.environ.get("CC") or shutil.which("gcc") or shutil.which("clang")
    if not found:
        pytest.skip("no C compiler: install gcc, or name one in CC")
    return found


@pytest.fixture(scope="session")
def cxx():
    found = os.environ.get("CXX") or shutil.which("g++") or shutil.which("clang++")
    if not found:
        pytest.skip("no C++ compiler: install g++, or name one in CXX")
    return found


@pytest.fixture(scope="session")
def library(tmp_path_factory):
    """The folder of this installation's library, under the name that programs look for."""
    try:
        found = config.library()
    except UnicasError as error:
        pytest.skip(str(error))
    folder = tmp_path_factory.mktemp("library")
    (folder / "libunicas_edge.so").symlink_to(found)
    (folder / found.name).symlink_to(found)
    return folder


@pytest.fixture(scope="session")
def runtime():
    """ONNX Runtime's library, which its wheel brings."""
    spec = importlib.util.find_spec("onnxruntime")
    found = sorted(Path(spec.origin).parent.glob("capi/libonnxruntime.so.1*")) if spec else []
    if not found:
        pytest.skip("onnxruntime's wheel has no libonnxruntime.so.1 here")
    return found[0]


@pytest.fixture(scope="session")
def told(library, tmp_path_factory):
    """Run a program that is linked with the library: (exit code, output, what it said)."""
    folder = tmp_path_factory.mktemp("here")  # where Mono leaves what is left of a crash

    def told(*command):
        environment = os.environ | {"LD_LIBRARY_PATH": str(library)}
        done = subprocess.run(
            list(map(str, command)),
            capture_output=True,
            cwd=folder,
            env=environment,
            timeout=300,
            check=False,
        )
        return done.returncode, done.stdout.decode(), done.stderr.decode()

    return told


@pytest.fixture(scope="session")
def works(told):
    """Run a program that must succeed and print nothing."""

    def works(*command):
        code, printed, said = told(*command)
        assert (code, printed) == (0, ""), printed + said

    return works


@pytest.fixture(scope="session")
def build(cxx, library, tmp_path_factory):
    """Compile and link a C++ program."""

    def build(name, sources, *flags):
        program = tmp_path_factory.mktemp("program") / name
        link = [f"-L{library}", "-lunicas_edge", "-pthread"]
        run(cxx, *STRICT, *sources, *flags, *link, "-o", program)
        return program

    return build


# ---- the same tiles for all ---------------------------------------------------------------------


@pytest.fixture(scope="session")
def bundle():
    return Bundle.load()


def places():
    """Tiles row by row: (x, y)."""
    return [(SIDE * col, SIDE * row) for row in range(ROWS) for col in range(COLUMNS)]


@pytest.fixture(scope="session")
def pixels(tmp_path_factory):
    """The tiles of a drawn slide, uint8 [256, 256, 3], by place."""
    path = tmp_path_factory.mktemp("slide") / "sample.svs"
    write_sample(path, COLUMNS * SIDE, ROWS * SIDE)
    with open_slide(path) as slide:
        return {(x, y): slide.read(x, y, SIDE, 1.0) for x, y in places()}


def write_ppm(path, tile):
    path.write_bytes(b"P6\n%d %d\n255\n" % (SIDE, SIDE) + np.ascontiguousarray(tile).tobytes())


@pytest.fixture(scope="session")
def tiles(pixels, tmp_path_factory):
    """The folder of these tiles as X_Y.ppm; one was left out and one is damaged."""
    folder = tmp_path_factory.mktemp("tiles")
    for (x, y), tile in list(pixels.items())[1:]:
        write_ppm(folder / f"{x}_{y}.ppm", tile)
    (folder / f"{SIDE}_0.ppm").write_bytes(b"P6\n")
    return folder


def in_python(bundle, deliver, **options):
    """The result of Python's session, to which `deliver` gives the tiles."""
    given = {"width": COLUMNS * SIDE, "height": ROWS * SIDE, "um_px": 0.5} | options
    encoder = open_encoder(bundle, EngineOptions(backend="onnxruntime", precision="fp32"))
    try:
        with Session(bundle, encoder=encoder, **given) as session:
            deliver(session)
            return session.finish().model_dump_json()
    finally:
        encoder.close()


def same(one, other):
    """Whether two results say the same; when and how fast they were made is left out."""
    found = [json.loads(text) for text in (one, other)]
    for each in found:
        assert each.pop("created")
        assert each.pop("timings_seconds")
    return found[0] == found[1]


@pytest.fixture(scope="session")
def damaged():
    """What is said of the damaged tile."""
    return f"is no PPM of {SIDE} pixels a side"


@pytest.fixture(scope="session")
def wanted(bundle, pixels, damaged):
    """Python's result for the folder of tiles."""

    def deliver(session):
        session.skip(0, 0)
        session.fail(SIDE, 0, damaged)
        for (x, y), tile in list(pixels.items())[2:]:
            session.push(tile, x, y)

    text = in_python(bundle, deliver)
    assert all(0 < task["probability"] < 1 for task in json.loads(text)["tasks"])
    return text


@pytest.fixture(scope="session")
def decisions(wanted):
    """The lines that each face's program prints of it."""
    found = json.loads(wanted)
    lines = [(task["name"], task["decision"], task["probability"]) for task in found["tasks"]]
    return lines, found["adequacy"]["reasons"]


def check_printed(printed, decisions):
    """A program's lines are these decisions, bit for bit."""
    lines, reasons = decisions
    words = [line.split() for line in printed.splitlines()[: len(lines)]]
    assert [(name, said, float(number)) for name, said, number in words] == lines
    said = [line.removeprefix("unsatisfactory: ") for line in printed.splitlines()[len(lines) :]]
    assert said == reasons


@pytest.fixture(scope="session")
def in_c(cxx, tmp_path_factory):
    """What the headers make of structs, fields and constants that a face lists."""
    wanted = {
        "struct": "sizeof({0})",
        "field": "offsetof({1}, {2})",
        "constant": "static_cast<size_t>({0})",
    }

    def in_c(printed):
        folder = tmp_path_factory.mktemp("layouts")
        lines = []
        for line in printed.splitlines():
            what, name, _ = line.split()
            value = wanted[what].format(name, *name.split("."))
            lines.append(f'    std::printf("{what} {name} %zu\\n", {value});\n')
        source = folder / "layouts.cpp"
        source.write_text(
            "#include <cstddef>\n#include <cstdio>\n#include <unicas_edge_session.h>\n"
            f"int main() {{\n{''.join(lines)}}}\n"
        )
        run(cxx, *STRICT, source, "-o", folder / "layouts")
        return run(folder / "layouts")

    return in_c
