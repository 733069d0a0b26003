"""The C library built for processors and systems that are not here: aarch64, run by qemu; Windows.

Each part needs Debian packages, and skips without: gcc-aarch64-linux-gnu and qemu-user (or
qemu-user-static); gcc-mingw-w64-x86-64; wine64 to run what that made.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sysconfig

import numpy as np
import pytest

from tests.c import abi
from tests.support.places import ROOT
from tests.support.weights_file import config_of, good_file, run
from unicas_edge.aggregator.aggregator import Aggregator

pytestmark = pytest.mark.slow

CASES = ROOT / "tests/c"
LISTED = abi.PROMISED.read_text()
FUNCTIONS = set(re.findall(r"\bue_\w+(?=\()", "\n".join(abi.functions(abi.plain_header()))))
WARNINGS = ["-Wall", "-Wextra", "-Wpedantic", "-Werror", "-Wno-psabi"]
ARM, WINDOWS = "aarch64-linux-gnu", "x86_64-w64-mingw32"
TILES = 41


def tool(package, *names):
    """The first of these programs that is here."""
    places = (sysconfig.get_path("scripts"), None)
    found = [path for name in names for place in places if (path := shutil.which(name, path=place))]
    if not found:
        pytest.skip(f"no {' or '.join(names)}: install {package}")
    return found[0]


def build(folder, triple, package, **settings):
    """Build and install the library as CMake does for another system; return the prefix."""
    compiler = tool(package, f"{triple}-gcc")
    settings |= {"C_COMPILER": compiler, "C_FLAGS": " ".join(WARNINGS)}
    options = [f"-DCMAKE_{name}={value}" for name, value in settings.items()]
    cmake = tool("cmake", "cmake")
    run(cmake, "-S", ROOT, "-B", folder / "build", *options)
    run(cmake, "--build", folder / "build")
    run(cmake, "--install", folder / "build", "--prefix", folder / "prefix")
    return folder / "prefix"


def compiled(triple, target, *arguments):
    """Compile and link, every warning an error."""
    flags = ["-std=c11", "-O1", *WARNINGS, f"-I{ROOT / 'csrc/include'}", f"-I{ROOT / 'csrc'}"]
    run(f"{triple}-gcc", *flags, *arguments, "-o", target)
    return target


def assertions_hold(triple, folder):
    source = folder / "assertions.c"
    source.write_text(abi.assertions(LISTED))
    compiled(triple, folder / "assertions.o", "-DUE_STATIC", "-c", source)


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    path = tmp_path_factory.mktemp("weights") / "aggregator.safetensors"
    path.write_bytes(good_file()[0])
    return path


def tokens_in(folder):
    """Write a bag of tokens to tokens.bin; return it."""
    tokens = np.random.default_rng(7).standard_normal((TILES, 3), dtype="f4")
    tokens.astype("<f4").tofile(folder / "tokens.bin")
    return tokens


def same_logits(printed, weights, tokens):
    """What the example printed there is what Python has on this processor."""
    found = [np.array(line.split()[1:], "f4") for line in printed.splitlines()[::2]]
    for row, logits in zip(Aggregator.load(weights).logits(tokens), found, strict=True):
        assert np.allclose(logits, row[: len(logits)], rtol=0, atol=1e-4)


# ---- aarch64 ------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def emulator():
    """The command that runs programs for aarch64, with the C library that they are linked to."""
    program = tool("qemu-user", "qemu-aarch64", "qemu-aarch64-static")
    return [program, "-L", f"/usr/{ARM}"]


@pytest.fixture(scope="module")
def arm(emulator, tmp_path_factory):
    settings = {"SYSTEM_NAME": "Linux", "SYSTEM_PROCESSOR": "aarch64"}
    folder = tmp_path_factory.mktemp("arm")
    return build(folder, ARM, "gcc-aarch64-linux-gnu", INSTALL_LIBDIR="lib", **settings)


def test_an_arm_processor_has_the_same_binary_interface(arm, emulator, tmp_path):
    assert abi.interface(f"{ARM}-gcc", *emulator) == LISTED
    lines = run(f"{ARM}-nm", "-D", "--defined-only", arm / "lib/libunicas_edge.so").splitlines()
    found = dict(line.split()[-1].split("@@") for line in lines if "@@" in line)
    assert found == dict.fromkeys(FUNCTIONS, "UNICAS_EDGE_0")


def test_a_program_runs_with_the_shared_library_for_arm(arm, emulator, weights, tmp_path):
    """Built as a vendor would; the logits are those that Python has on this processor."""
    where = [f"-L{arm / 'lib'}", "-lunicas_edge", f"-Wl,-rpath,{arm / 'lib'}"]
    example = ROOT / "examples/c/aggregate.c"
    program = compiled(ARM, tmp_path / "aggregate", example, *where)
    tokens = tokens_in(tmp_path)
    same_logits(
        run(*emulator, program, weights, tmp_path / "tokens.bin", "5"),
        weights,
        tokens,
    )


def test_sessions_run_on_an_arm_processor(arm, emulator, weights, tmp_path):
    """Threads that push and threads that encode: the case of test_intake.c."""
    library = arm / "lib/libunicas_edge.a"
    flags = ["-DUE_STATIC", "-pthread", "-ffp-contract=off", f"-I{CASES}"]
    source = CASES / "test_intake.c"
    program = compiled(ARM, tmp_path / "session", *flags, source, library, "-lm")
    run(*emulator, program, weights, config_of().embed_dim_in, tmp_path / "spool")


# ---- Windows ------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def windows(tmp_path_factory):
    folder = tmp_path_factory.mktemp("windows")
    return build(folder, WINDOWS, "gcc-mingw-w64-x86-64", SYSTEM_NAME="Windows")


def test_windows_gets_a_dll_with_the_public_functions_alone(windows):
    (library,) = windows.glob("bin/*.dll")
    said = run(f"{WINDOWS}-objdump", "-p", library)
    table = said.split("[Ordinal/Name Pointer] Table")[1].split("\n\n")[0]
    assert {line.split()[-1] for line in table.splitlines() if "ue_" in line} == FUNCTIONS
    assert len([line for line in table.splitlines() if "[" in line]) == len(FUNCTIONS)


def test_the_dll_needs_nothing_but_windows(windows):
    (library,) = windows.glob("bin/*.dll")
    said = run(f"{WINDOWS}-objdump", "-p", library)
    needs = {line.split()[-1].lower() for line in said.splitlines() if "DLL Name:" in line}
    own = ("kernel32.dll", "msvcrt.dll", "ucrtbase.dll", "api-ms-win-")
    assert all(name.startswith(own) for name in needs), needs


def test_windows_has_the_same_binary_interface(windows, tmp_path):
    assertions_hold(WINDOWS, tmp_path)


@pytest.mark.parametrize("kind", ["shared", "static"])
def test_a_program_links_for_windows(windows, tmp_path, kind):
    library = "libunicas_edge.dll.a" if kind == "shared" else "libunicas_edge.a"
    flags = [] if kind == "shared" else ["-DUE_STATIC"]
    example = ROOT / "examples/c/aggregate.c"
    compiled(WINDOWS, tmp_path / "aggregate.exe", *flags, example, windows / "lib" / library)


@pytest.fixture(scope="module")
def wine(tmp_path_factory):
    """(the command, its environment): a Windows of its own, which begins with its own set-up."""
    program = tool("wine64", "wine", "wine64")
    folder = tmp_path_factory.mktemp("wine")
    environment = os.environ | {"WINEPREFIX": str(folder / "prefix"), "WINEDEBUG": "-all"}
    try:
        run(program, "cmd", "/c", "exit 0", env=environment)
    except (AssertionError, subprocess.TimeoutExpired):
        pytest.skip("wine does not start here: repair its installation")
    return program, environment


def test_programs_run_under_wine(windows, wine, weights, tmp_path):
    program, environment = wine
    example = ROOT / "examples/c/aggregate.c"
    imported = windows / "lib/libunicas_edge.dll.a"
    binary = compiled(WINDOWS, tmp_path / "aggregate.exe", example, imported)
    (dll,) = windows.glob("bin/*.dll")
    shutil.copy(dll, tmp_path)
    shutil.copy(weights, tmp_path)
    tokens = tokens_in(tmp_path)
    command = [program, binary, weights.name, "tokens.bin", "5"]
    same_logits(run(*command, cwd=tmp_path, env=environment), weights, tokens)
