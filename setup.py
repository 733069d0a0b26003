"""Builds the one extension: csrc and the Cython module, one abi3 wheel for CPython >= 3.11."""

import re
import sys
from pathlib import Path

from Cython.Build import cythonize
from setuptools import Extension, find_packages, setup

# CMakeLists.txt has the same; tests/c/test_library.py compares them.
# No contraction: variants give the same bits only if a * b + c is never fused (unicas_edge.h).
GNU_FLAGS = ["-O3", "-std=c11", "-ffp-contract=off", "-fvisibility=hidden"]
MSVC_FLAGS = ["/O2", "/std:c11", "/experimental:c11atomics", "/fp:precise"]


def version() -> int:
    """Return the version as UE_VERSION, from its one place, unicas_edge/__init__.py."""
    text = Path("unicas_edge/__init__.py").read_text(encoding="utf-8")
    major, minor, patch = re.search(r'^__version__ = "(\d+)\.(\d+)\.(\d+)', text, re.M).groups()
    return (int(major) << 16) + (int(minor) << 8) + int(patch)


native = Extension(
    "unicas_edge._native",
    sources=["unicas_edge/_native.pyx", *sorted(map(str, Path("csrc").rglob("*.c")))],
    depends=["unicas_edge/_session.pxi", *sorted(map(str, Path("csrc").rglob("*.h")))],
    include_dirs=["csrc", "csrc/include"],
    define_macros=[
        ("Py_LIMITED_API", "0x030B0000"),
        ("UE_STATIC", None),  # the extension exports none of the library's functions
        ("UE_VERSION", str(version())),
    ],
    extra_compile_args=MSVC_FLAGS if sys.platform == "win32" else GNU_FLAGS,
    py_limited_api=True,
)

# `export/` and `profiles/` lie at the top level, and are packages of unicas_edge (pyproject.toml).
packages = [
    *find_packages(include=["unicas_edge", "unicas_edge.*"]),
    *(f"unicas_edge.{name}" for name in find_packages(include=["export", "export.*", "profiles"])),
]

setup(
    packages=packages,
    ext_modules=cythonize([native], language_level=3),
    options={"bdist_wheel": {"py_limited_api": "cp311"}},
)
