"""Fixtures that build tests/c/test_weights.c and talk to it."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.support.c_objects import compiled, shared_folder
from tests.support.places import ROOT
from tests.support.weights_file import SANITIZERS, framed, run

PARTS = ("config", "widen", "misfits", "parameters", "weights")
SOURCES = [
    ROOT / "csrc/system/error.c",
    *sorted((ROOT / "csrc/formats").glob("*.c")),
    *(ROOT / f"csrc/aggregator/{part}.c" for part in PARTS),
]
STRICT = [
    "-std=c11",
    "-Wall",
    "-Wextra",
    "-Wpedantic",
    "-Werror",
    f"-I{ROOT / 'csrc'}",
    f"-I{ROOT / 'csrc/include'}",
]


@pytest.fixture(scope="session")
def build(tmp_path_factory):
    """Compile and link one program with the sanitizers; skips where there are none."""
    compiler = os.environ.get("CC") or shutil.which("gcc") or shutil.which("clang")
    if not compiler:
        pytest.skip("no C compiler: install gcc, or name one in CC")
    folder, shared = tmp_path_factory.mktemp("weights"), shared_folder(tmp_path_factory)
    (folder / "trivial.c").write_text("int main(void) { return 0; }\n")
    trivial = [compiler, *SANITIZERS, folder / "trivial.c", "-o", folder / "trivial"]
    if subprocess.run(trivial, capture_output=True, check=False).returncode:
        pytest.skip(f"{compiler} cannot link AddressSanitizer")

    def build(case, *flags, more=()):
        program = folder / f"{Path(case).stem}{len(list(folder.iterdir()))}"
        for_linking = [flag for flag in flags if flag.startswith("-Wl,")]
        command = [compiler, *STRICT, *(flag for flag in flags if flag not in for_linking)]
        objects = compiled(shared, command, [*more, *SOURCES])
        run(*command, ROOT / "tests/c" / case, *objects, *for_linking, "-lm", "-o", program)
        return program

    return build


@pytest.fixture(scope="session")
def program(build):
    return build("test_weights.c", *SANITIZERS)


@pytest.fixture(scope="session")
def ask(program):
    """Ask one running program about one case at a time: its line."""
    with subprocess.Popen(
        [program, "-"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as running:

        def ask(kind, content):
            running.stdin.write(framed(kind, content))
            running.stdin.flush()
            line = running.stdout.readline().decode()
            assert line, running.communicate()[1].decode()
            return line.rstrip("\n")

        yield ask
        running.stdin.close()
        assert running.wait(60) == 0, running.stderr.read().decode()
