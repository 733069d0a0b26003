"""The C# face, compiled and run by Mono."""

from __future__ import annotations

import shutil

import pytest

from tests.faces.conftest import check_printed, same
from tests.support.places import ROOT
from tests.support.weights_file import run

EXAMPLE = ROOT / "examples/csharp"
FACE = [EXAMPLE / "Native.cs", EXAMPLE / "UnicasEdge.cs"]
pytestmark = pytest.mark.slow


def tool(name, package):
    found = shutil.which(name)
    if not found:
        pytest.skip(f"no {name}: install {package}")
    return found


@pytest.fixture(scope="module")
def mono():
    return tool("mono", "mono-runtime")


@pytest.fixture(scope="module")
def compiled(tmp_path_factory):
    """Compile programs with the face; every warning is an error."""
    compiler = tool("mcs", "mono-mcs")

    def compiled(name, source):
        program = tmp_path_factory.mktemp("csharp") / name
        run(compiler, "-warnaserror", f"-out:{program}", source, *FACE)
        return program

    return compiled


@pytest.fixture(scope="module")
def push(compiled):
    return compiled("push.exe", EXAMPLE / "Push.cs")


def test_structs_lie_as_in_c(told, mono, push, in_c):
    code, printed, said = told(mono, push, "--layouts")
    assert code == 0, said
    assert printed.count("\n") > 70
    assert in_c(printed) == printed


def test_its_result_is_python_s(
    told, mono, push, bundle, runtime, tiles, wanted, decisions, tmp_path
):
    result = tmp_path / "result.json"
    code, printed, said = told(mono, push, bundle.root, runtime, tiles, result)
    assert code == 0, said
    check_printed(printed, decisions)
    assert same(result.read_text(), wanted)


def test_what_is_wrong_is_one_line_and_an_exit_code(told, mono, push, bundle, tiles, tmp_path):
    assert told(mono, push)[0] == 2
    for words, part in [
        ((tmp_path, "-", tiles), "bundle.json"),
        ((bundle.root, "/no/such.so", tiles), "/no/such.so"),
    ]:
        code, printed, said = told(mono, push, *words)
        assert (code, printed) == (1, "")
        assert said.startswith("push: ")
        assert part in said


def test_disposing_callbacks_threads_and_texts(works, compiled, mono, bundle, runtime):
    works(mono, compiled("check.exe", ROOT / "tests/faces/Check.cs"), bundle.root, runtime)
