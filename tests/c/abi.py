"""The binary interface of the C library, read off its header: ``python -m tests.c.abi``.

Functions as they are declared; sizes of structs and places of their fields, and values of
constants, as a compiler has them on a 64-bit machine. ``csrc/abi.txt`` is what was promised.
"""

from __future__ import annotations

import re
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

from tests.support.places import ROOT

INCLUDE = ROOT / "csrc/include"
HEADERS = tuple(
    f"unicas_edge{part}.h" for part in ("", "_colour", "_encoder", "_bundle", "_session")
)
INCLUDES = "".join(f'#include "{name}"\n' for name in HEADERS)
PROMISED = ROOT / "csrc/abi.txt"


def plain_header() -> str:
    """The headers without comments and directives, in single spaces."""
    whole = "\n".join((INCLUDE / name).read_text() for name in HEADERS)
    text = re.sub(r"/\*.*?\*/", " ", whole, flags=re.DOTALL)
    lines = [line for line in text.splitlines() if not line.startswith("#")]
    return " ".join(" ".join(lines).split())


def functions(header: str) -> list[str]:
    return sorted(re.findall(r"UE_API ([^;]+);", header))


def fields(body: str) -> Iterator[str]:
    for declared in filter(None, map(str.strip, body.split(";"))):
        if pointer := re.search(r"\(\*(\w+)\)", declared):  # to a function
            yield pointer[1]
            continue
        for name in declared.split(","):
            yield re.findall(r"\w+", re.sub(r"\[.*?\]", "", name))[-1]


def program(header: str) -> str:
    """A C program that prints a line for each struct, field and constant."""
    said = []
    for body, name in re.findall(r"typedef struct \w+ {(.*?)} (\w+);", header):
        said.append(f'printf("struct {name} %zu\\n", sizeof({name}));')
        said += [
            f'printf("field {name}.{field} %zu %zu\\n", offsetof({name}, {field}), '
            f"sizeof((({name} *)0)->{field}));"
            for field in fields(body)
        ]
    for body in re.findall(r"typedef enum \w+ {(.*?)} \w+;", header):
        names = [part.split("=")[0].strip() for part in body.split(",")]
        said += [f'printf("constant {name} %d\\n", (int){name});' for name in filter(None, names)]
    lines = "\n    ".join(said)
    return (
        f"{INCLUDES}#include <stddef.h>\n#include <stdio.h>\n\n"
        f"int main(void) {{\n    {lines}\n    return 0;\n}}\n"
    )


def interface(compiler: str = "cc", *runner: str, flags: tuple[str, ...] = ()) -> str:
    """As a compiler has it; `runner` runs what it makes for another processor."""
    header = plain_header()
    with tempfile.TemporaryDirectory() as folder:
        source, output = Path(folder) / "abi.c", Path(folder) / "abi"
        source.write_text(program(header))
        subprocess.run([compiler, *flags, f"-I{INCLUDE}", source, "-o", output], check=True)
        command = [*runner, output]
        measured = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    return "".join(f"function {one}\n" for one in functions(header)) + measured


def assertions(listed: str) -> str:
    """C that compiles where all numbers of the list hold."""
    held = []
    for line in listed.splitlines():
        what, name, *numbers = line.split()
        if what == "struct":
            held.append(f"sizeof({name}) == {numbers[0]}")
        elif what == "field":
            struct, field = name.split(".")
            held.append(f"offsetof({struct}, {field}) == {numbers[0]}")
            held.append(f"sizeof((({struct} *)0)->{field}) == {numbers[1]}")
        elif what == "constant":
            held.append(f"{name} == {numbers[0]}")
    lines = "".join(f'_Static_assert({one}, "{one}");\n' for one in held)
    return f"{INCLUDES}#include <stddef.h>\n{lines}"


if __name__ == "__main__":
    PROMISED.write_text(interface())
