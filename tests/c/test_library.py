"""The C library as others get it: built by CMake, installed, found, linked; what it exports."""

from __future__ import annotations

import ast
import ctypes
import importlib.metadata
import json
import os
import re
import shlex
import shutil
import subprocess
import sysconfig
from graphlib import TopologicalSorter
from pathlib import Path

import numpy as np
import pytest

import unicas_edge
from tests.support.places import ROOT
from tests.support.weights_file import good_file, run
from unicas_edge import _native
from unicas_edge.aggregator.aggregator import Aggregator

pytestmark = pytest.mark.slow

HEADER = "\n".join(p.read_text() for p in sorted((ROOT / "csrc/include").glob("*.h")))
EXAMPLE = ROOT / "examples/c"
TILES = 41


# ---- tools --------------------------------------------------------------------------------------


def tool(name, package):
    """The path of a program beside this Python, where its wheel put it, or of the system's."""
    own = shutil.which(name, path=sysconfig.get_path("scripts"))
    found = own or shutil.which(name)
    if not found:
        pytest.skip(f"no {name}: pip install {package}")
    return found


@pytest.fixture(scope="module")
def cmake():
    return tool("cmake", "cmake")


def configure(cmake, compiler, folder, *options):
    own = [f"-DCMAKE_C_COMPILER={compiler}", "-DCMAKE_INSTALL_PREFIX=/nowhere"]
    run(cmake, "-S", ROOT, "-B", folder, *own, *options)


@pytest.fixture(scope="module")
def built(cmake, compiler, tmp_path_factory):
    """The build folder; not optimised, which takes a minute and changes none of the answers."""
    folder = tmp_path_factory.mktemp("built")
    configure(cmake, compiler, folder, "-DCMAKE_BUILD_TYPE=Debug")
    run(cmake, "--build", folder, "--parallel", "2")
    return folder


@pytest.fixture(scope="module")
def prefix(cmake, built, tmp_path_factory):
    """Where the library is installed; moved there, which what was installed must bear."""
    folder = tmp_path_factory.mktemp("installed")
    run(cmake, "--install", built, "--prefix", folder / "first")
    return (folder / "first").rename(folder / "prefix")


@pytest.fixture(scope="module")
def library(prefix):
    (found,) = prefix.glob("lib*/libunicas_edge.so")
    return found


@pytest.fixture(scope="module")
def package(library):
    """Ask pkg-config about the installed library."""
    program = tool("pkg-config", "pkgconf")
    environment = os.environ | {"PKG_CONFIG_PATH": str(library.parent / "pkgconfig")}

    def ask(*options):
        return shlex.split(run(program, *options, "unicas_edge", env=environment))

    return ask


def names(*options_and_file):
    """The symbols that nm lists as defined: name -> its file."""
    lines = run("nm", "-A", "--defined-only", *options_and_file).splitlines()
    symbols = [line for line in lines if line.split()[-2] != "A"]  # that is the map's own name
    return {line.split()[-1].split("@")[0]: line.split(":")[-2].strip() for line in symbols}


# ---- what is exported ---------------------------------------------------------------------------


def declared(start):
    return set(re.findall(rf"^{start}[a-z][\w *]*?\b(ue_\w+)\(", HEADER, re.MULTILINE))


def test_the_header_marks_every_function():
    assert declared("UE_API ") == declared("(?:UE_API )?")
    assert len(declared("UE_API ")) > 20


def test_the_public_functions_alone_are_exported(library):
    assert set(names("-D", library)) == declared("UE_API ")


def test_the_python_extension_exports_none_of_them():
    assert set(names("-D", _native.__file__)) == {"PyInit__native"}


def test_every_name_in_the_static_library_is_the_librarys_own(library):
    found = names("-g", library.with_suffix(".a"))
    assert declared("UE_API ") <= set(found)
    assert all(name.startswith("ue_") for name in found)


def test_the_shared_library_says_which_interface_it_has(library):
    major = unicas_edge.__version__.split(".")[0]
    soname = f"libunicas_edge.so.{major}"
    assert f"[{soname}]" in run("readelf", "-d", library)
    assert library.with_name(soname).exists()


# ---- one version, one set of flags --------------------------------------------------------------


def test_all_say_the_same_version(library, package):
    version = tuple(map(int, re.findall(r"\d+", unicas_edge.__version__)))
    assert len(version) == 3
    number = ctypes.CDLL(str(library)).ue_version()
    assert (number >> 16, number >> 8 & 255, number & 255) == version
    assert _native.version() == version
    assert package("--modversion") == [unicas_edge.__version__]
    assert importlib.metadata.version("unicas-edge") == unicas_edge.__version__


def test_setup_and_cmake_compile_with_the_same_flags(cmake, compiler, tmp_path):
    """As CMake compiles where nothing else is asked for."""
    configure(cmake, compiler, tmp_path, "-DCMAKE_EXPORT_COMPILE_COMMANDS=ON")
    tree = ast.parse((ROOT / "setup.py").read_text())
    (flags,) = (
        ast.literal_eval(node.value)
        for node in tree.body
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "GNU_FLAGS"
    )
    assert "-ffp-contract=off" in flags
    commands = json.loads((tmp_path / "compile_commands.json").read_text())
    assert {Path(c["file"]) for c in commands} == set((ROOT / "csrc").rglob("*.c"))
    for command in commands:
        assert set(flags) <= set(shlex.split(command["command"])), command["file"]


# ---- the house of csrc --------------------------------------------------------------------------


def test_no_two_files_need_each_other(library):
    """Files as nodes, what one calls of another as arrows: there is an order without a circle."""
    archive = library.with_suffix(".a")
    home = names("-g", archive)
    needs = {file: set() for file in home.values()}
    for line in run("nm", "-A", "-u", archive).splitlines():
        file, symbol = line.split(":")[-2].strip(), line.split()[-1]
        if symbol in home:
            needs.setdefault(file, set()).add(home[symbol])
    assert {"run.c.o", "embed.c.o", "attention.c.o"} <= set(needs)
    assert "run.c.o" in needs["mixture.c.o"]
    list(TopologicalSorter(needs).static_order())  # CycleError


# ---- the example --------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def slide(tmp_path_factory):
    """(the example's arguments, its output as Python's aggregator would have it)."""
    folder = tmp_path_factory.mktemp("slide")
    path, token_file = folder / "aggregator.safetensors", folder / "tokens.bin"
    path.write_bytes(good_file()[0])
    tokens = np.random.default_rng(7).standard_normal((TILES, 3), dtype="f4")
    tokens.astype("<f4").tofile(token_file)
    aggregator = Aggregator.load(path)
    bag = aggregator.bag(TILES)
    bag.push(0, tokens)
    bag.arrange(range(TILES))
    logits, attention = bag.finish(), bag.attention()
    return (path, token_file), [
        (logits[0][:2], attention[0]),
        (logits[1][:3], attention[1]),
    ]


def check_example(program, slide, **options):
    arguments, wanted = slide
    lines = run(program, *arguments, "5", **options).splitlines()
    assert len(lines) == 2 * len(wanted)
    for (logits, attention), first, second in zip(wanted, lines[::2], lines[1::2], strict=True):
        word, *values = first.split()
        assert word == "logits"
        assert np.array_equal(np.array(values, "f4"), logits)
        word, *tiles = second.split()
        largest = np.argsort(-attention, kind="stable")[:5]
        assert [int(tile.split(":")[0]) for tile in tiles] == list(largest)
        shares = np.array([tile.split(":")[1] for tile in tiles], "f4")
        assert np.array_equal(shares, attention[largest])


def compile_example(compiler, folder, *flags):
    program = folder / "aggregate"
    strict = ["-std=c11", "-Wall", "-Wextra", "-Wpedantic", "-Werror"]
    run(compiler, *strict, EXAMPLE / "aggregate.c", *flags, "-o", program)
    return program


@pytest.fixture(scope="module")
def example(compiler, package, tmp_path_factory):
    folder = tmp_path_factory.mktemp("example")
    return compile_example(compiler, folder, *package("--cflags", "--libs"))


def test_pkg_config_finds_the_shared_library(example, library, slide):
    environment = os.environ | {"LD_LIBRARY_PATH": str(library.parent)}
    assert "libunicas_edge.so.0" in run("readelf", "-d", example)
    check_example(example, slide, env=environment)


def test_pkg_config_finds_the_static_library(compiler, package, slide, tmp_path):
    (tmp_path / "trivial.c").write_text("int main(void) { return 0; }\n")
    trivial = [compiler, "-static", tmp_path / "trivial.c", "-o", tmp_path / "trivial"]
    if subprocess.run(trivial, capture_output=True, check=False).returncode:
        pytest.skip(f"{compiler} has no static C library")
    flags = package("--static", "--cflags", "--libs")
    program = compile_example(compiler, tmp_path, "-static", *flags)
    assert "NEEDED" not in run("readelf", "-d", program)
    check_example(program, slide)


@pytest.mark.parametrize("target", ["unicas_edge::unicas_edge", "unicas_edge::static"])
def test_cmake_finds_either_library(cmake, compiler, prefix, slide, tmp_path, target):
    options = [f"-DCMAKE_C_COMPILER={compiler}", f"-DCMAKE_PREFIX_PATH={prefix}"]
    run(cmake, "-S", EXAMPLE, "-B", tmp_path, *options, f"-DLIBRARY={target}")
    run(cmake, "--build", tmp_path)
    needs = "libunicas_edge.so" in run("readelf", "-d", tmp_path / "aggregate")
    assert needs == (target == "unicas_edge::unicas_edge")
    check_example(tmp_path / "aggregate", slide)


def test_cmake_builds_the_scanner_in_cpp(cmake, prefix, tmp_path):
    cxx = os.environ.get("CXX") or shutil.which("g++") or shutil.which("clang++")
    if not cxx:
        pytest.skip("no C++ compiler: install g++, or name one in CXX")
    options = [f"-DCMAKE_CXX_COMPILER={cxx}", f"-DCMAKE_PREFIX_PATH={prefix}"]
    run(cmake, "-S", ROOT / "examples/scanner", "-B", tmp_path, *options)
    run(cmake, "--build", tmp_path, "--parallel", "2")
    done = subprocess.run([tmp_path / "scanner"], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    assert "usage: scanner" in done.stderr


def test_the_example_says_what_is_wrong(example, library, slide, tmp_path):
    environment = os.environ | {"LD_LIBRARY_PATH": str(library.parent)}
    (path, token_file), _ = slide
    (tmp_path / "empty.bin").touch()
    (tmp_path / "cut.bin").write_bytes(token_file.read_bytes()[:-1])
    (tmp_path / "nan.bin").write_bytes(np.full((2, 3), np.nan, "<f4").tobytes())
    for code, said, *arguments in [
        (2, "usage:"),
        (2, "usage:", path, token_file, "none"),
        (1, "no.safetensors: cannot open it", "no.safetensors", token_file),
        (1, "not whole ones", path, tmp_path / "empty.bin"),
        (1, "not whole ones", path, tmp_path / "cut.bin"),
        (1, "No such file", path, tmp_path / "missing.bin"),
        (1, "token 0 is not finite", path, tmp_path / "nan.bin"),
    ]:
        done = subprocess.run(
            [example, *arguments], capture_output=True, text=True, env=environment, check=False
        )
        assert (done.returncode, done.stdout) == (code, ""), done.stderr
        assert said in done.stderr
