"""Where the C library of this installation lies: ``python -m unicas_edge.config --cflags --libs``.

cc program.c $(python -m unicas_edge.config --cflags --libs) -o program
"""

from __future__ import annotations

import argparse
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

from unicas_edge import __version__
from unicas_edge.errors import UnicasError

_PACKAGE = Path(__file__).resolve().parent
_OPTIONS = {
    "cflags": "print what the compiler needs to find unicas_edge.h",
    "libs": "print what the linker needs; the program will find the library where it lies now",
    "include-dir": "print the folder of unicas_edge.h",
    "library": "print the library's file",
    "version": "print the version",
}


def include_dir() -> Path:
    """Return the folder that holds ``unicas_edge.h``; `UnicasError` if none was installed."""
    return _there(_PACKAGE / "include" / "unicas_edge.h").parent


def library() -> Path:
    """Return the shared library; `UnicasError` where this installation has none."""
    found = sorted((_PACKAGE / "lib").glob("libunicas_edge*"))
    return _there(found[0] if found else _PACKAGE / "lib" / "libunicas_edge")


def _there(path: Path) -> Path:
    if not path.exists():
        raise UnicasError(
            f"{path}: is not there; build the library with CMake (docs/guide/c-library.md), as is "
            "needed on Windows and where nothing was installed"
        )
    return path


def _told(option: str) -> str:
    if option == "cflags":
        return shlex.quote(f"-I{include_dir()}")
    if option == "libs":
        file = library()
        return f"{shlex.quote(str(file))} {shlex.quote(f'-Wl,-rpath,{file.parent}')}"
    if option == "version":
        return __version__
    return str(include_dir() if option == "include-dir" else library())


def main(arguments: Sequence[str] | None = None) -> int:
    """Print what is asked for, in one line; return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m unicas_edge.config", description=__doc__)
    for option, what in _OPTIONS.items():
        parser.add_argument(f"--{option}", action="store_true", help=what)
    given = vars(parser.parse_args(arguments))
    asked = [option for option in _OPTIONS if given[option.replace("-", "_")]]
    if not asked:
        parser.error("say what to print, for example --cflags --libs")
    try:
        sys.stdout.write(" ".join(map(_told, asked)) + "\n")
    except UnicasError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
