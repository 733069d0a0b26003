"""The code on the page of other languages stands in programs that the tests compile and run."""

from __future__ import annotations

import re
import textwrap

from tests.support.places import ROOT

PROGRAMS = {
    "c": "examples/c/push.c",
    "cpp": "examples/scanner/main.cpp",
    "csharp": "examples/csharp/Push.cs",
    "java": "examples/java/Push.java",
}


def test_the_page_s_code_is_the_programs_own():
    page = (ROOT / "docs/guide/embed.md").read_text()
    found = re.findall(r"```(c|cpp|csharp|java)\n(.*?)```", page, re.DOTALL)
    assert {language for language, _ in found} == set(PROGRAMS)
    for language, block in found:
        lines = (ROOT / PROGRAMS[language]).read_text().splitlines(keepends=True)
        length = block.count("\n")
        windows = ("".join(lines[k : k + length]) for k in range(len(lines)))
        assert any(textwrap.dedent(window) == block for window in windows), block


def test_the_page_names_files_that_are_there():
    page = (ROOT / "docs/guide/embed.md").read_text()
    named = re.findall(r"\b(?:examples|csrc)/[\w/.]+\w", page)
    assert len(named) > 8
    assert [name for name in named if not (ROOT / name).exists()] == []
