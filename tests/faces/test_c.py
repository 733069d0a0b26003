"""The C program that pushes a folder's tiles, and says Python's result."""

from __future__ import annotations

import pytest

from tests.faces.conftest import COLUMNS, ROWS, SIDE, check_printed, same
from tests.support.places import ROOT
from tests.support.weights_file import run

pytestmark = pytest.mark.slow
SIZE = (COLUMNS * SIDE, ROWS * SIDE)


@pytest.fixture(scope="module")
def push(compiler, library, tmp_path_factory):
    program = tmp_path_factory.mktemp("program") / "push"
    strict = ["-std=c11", "-Wall", "-Wextra", "-Wpedantic", "-Wconversion", "-Wshadow", "-Werror"]
    link = [f"-I{ROOT / 'csrc/include'}", f"-L{library}", "-lunicas_edge"]
    run(compiler, *strict, ROOT / "examples/c/push.c", *link, "-o", program)
    return program


def test_its_result_is_python_s(
    told, push, bundle, runtime, tiles, wanted, decisions, damaged, tmp_path
):
    result = tmp_path / "result.json"
    code, printed, said = told(push, bundle.root, runtime, tiles, *SIZE, result)
    assert code == 0, said
    check_printed(printed, decisions)
    assert same(result.read_text().replace("is no PPM of the bundle's tiles", damaged), wanted)


def test_what_is_wrong_is_one_line_and_an_exit_code(told, push, bundle, runtime, tiles, tmp_path):
    assert told(push)[0] == 2
    for words, part in [
        ((tmp_path, runtime, tiles, *SIZE), "bundle.json"),
        ((bundle.root, "/no/such.so", tiles, *SIZE), "/no/such.so"),
        ((bundle.root, runtime, tiles, -1, 256), "a slide of -1 x 256"),
        ((bundle.root, runtime, tiles, *SIZE, tmp_path / "no" / "r.json"), "No such file"),
    ]:
        code, _, said = told(push, *words)
        assert code == 1
        assert said.startswith("push: ")
        assert said.count("\n") == 1
        assert part in said
