"""The C++ face: alone, in several files of one program, and with a host's own encoder."""

from __future__ import annotations

import os
import shutil
import subprocess

import pytest

from tests.faces.conftest import STRICT
from tests.support.places import ROOT
from tests.support.weights_file import run

CHECK = ROOT / "tests/faces/check.cpp"
SANITIZED = ["-O0", "-g", "-fsanitize=address,undefined", "-fno-sanitize-recover=all"]


@pytest.mark.slow
def test_a_host_s_own_encoder_threads_and_errors(build, cxx, works, bundle, tmp_path):
    (tmp_path / "trivial.cpp").write_text("int main() { return 0; }\n")
    trivial = [cxx, *SANITIZED, tmp_path / "trivial.cpp", "-o", tmp_path / "trivial"]
    if subprocess.run(trivial, capture_output=True, check=False).returncode:
        pytest.skip(f"{cxx} cannot link AddressSanitizer")
    works(build("check", [CHECK], *SANITIZED), bundle.root)


@pytest.mark.slow
def test_the_same_without_sanitizers(build, works, bundle):
    """At full speed threads meet elsewhere."""
    works(build("check", [CHECK], "-O2"), bundle.root)


@pytest.mark.parametrize("header", ["unicas_edge.hpp", "unicas_edge_models.hpp"])
def test_a_header_stands_alone_and_twice_in_a_program(build, works, tmp_path, header):
    one, other = tmp_path / "one.cpp", tmp_path / "other.cpp"
    include = f"#include <{header}>\n"
    one.write_text(f"{include}int other();\nint main() {{ return other(); }}\n")
    other.write_text(
        f"{include}int other() {{\n"
        "    try {\n"
        '        unicas_edge::Bundle bundle("no such folder");\n'
        "    } catch (const unicas_edge::Error &error) {\n"
        "        return error.status() == UE_OK;\n"
        "    }\n"
        "    return 1;\n}\n"
    )
    works(build("two", [one, other]))


def test_it_compiles_for_windows(tmp_path):
    compiler = shutil.which("x86_64-w64-mingw32-g++-posix")
    if not compiler:
        pytest.skip("no x86_64-w64-mingw32-g++-posix: install g++-mingw-w64-x86-64-posix")
    run(compiler, *STRICT, "-fsyntax-only", CHECK)


@pytest.mark.skipif(os.environ.get("CXX") is not None, reason="CXX names the compiler")
def test_it_compiles_with_clang():
    compiler = shutil.which("clang++")
    if not compiler:
        pytest.skip("no clang++: install clang")
    run(compiler, *STRICT, "-fsyntax-only", CHECK)
