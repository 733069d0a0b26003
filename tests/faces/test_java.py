"""The Java face, compiled and run by a JDK that has the foreign function and memory API."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import pytest

from tests.faces.conftest import check_printed, same
from tests.support.places import ROOT
from tests.support.weights_file import run

EXAMPLE = ROOT / "examples/java"
OLDEST = 22
pytestmark = pytest.mark.slow


def homes():
    """Folders where a JDK may lie: JAVA_HOME, those of the path, those that Debian keeps."""
    if home := os.environ.get("JAVA_HOME"):
        yield Path(home)
    yield from (Path(place).parent for place in os.environ.get("PATH", "").split(os.pathsep))
    yield from sorted(Path("/usr/lib/jvm").glob("*"))


def version(compiler):
    done = subprocess.run([compiler, "-version"], capture_output=True, text=True, check=False)
    found = re.search(r"javac (\d+)", done.stdout + done.stderr)
    return int(found[1]) if found else 0


@pytest.fixture(scope="module")
def jdk():
    """The folder of programs of a JDK that is new enough."""
    for home in homes():
        if (home / "bin/javac").is_file() and version(home / "bin/javac") >= OLDEST:
            return home / "bin"
    pytest.skip(f"no JDK {OLDEST} or newer: install one, and name it in JAVA_HOME")


@pytest.fixture(scope="module")
def classes(jdk, tmp_path_factory):
    folder = tmp_path_factory.mktemp("classes")
    sources = [*sorted(EXAMPLE.glob("*.java")), ROOT / "tests/faces/Check.java"]
    run(jdk / "javac", "-Xlint:all,-try", "-Werror", "-d", folder, *sources)
    return folder


@pytest.fixture(scope="module")
def java(told, jdk, classes):
    def java(*words):
        flags = ["--enable-native-access=ALL-UNNAMED", "-Xmx512m", "-cp", classes]
        return told(jdk / "java", *flags, *words)

    return java


def test_structs_lie_as_in_c(java, in_c):
    code, printed, said = java("Push", "--layouts")
    assert code == 0, said
    assert printed.count("\n") > 70
    assert in_c(printed) == printed


def test_its_result_is_python_s(java, bundle, runtime, tiles, wanted, decisions, tmp_path):
    result = tmp_path / "result.json"
    code, printed, said = java("Push", bundle.root, runtime, tiles, result)
    assert code == 0, said
    check_printed(printed, decisions)
    assert same(result.read_text(), wanted)


def test_what_is_wrong_is_one_line_and_an_exit_code(java, bundle, tiles, tmp_path):
    assert java("Push")[0] == 2
    for words, part in [
        ((tmp_path, "-", tiles), "bundle.json"),
        ((bundle.root, "/no/such.so", tiles), "/no/such.so"),
    ]:
        code, printed, said = java("Push", *words)
        assert (code, printed) == (1, "")
        assert said.startswith("push: ")
        assert part in said
    missing = f"-Dunicas_edge.library={tmp_path}/none.so"
    code, _, said = java(missing, "Push", bundle.root, "-", tiles)
    assert code == 1
    assert "cannot be opened; give the library's path" in said


def test_closing_callbacks_threads_and_texts(java, bundle, runtime):
    code, printed, said = java("Check", bundle.root, runtime)
    assert (code, printed) == (0, ""), said
