"""Builds the extension, one abi3 wheel for CPython >= 3.11, and the C library that it carries.

csrc is compiled once, and linked twice: into the Cython module, and into ``libunicas_edge`` in
``unicas_edge/lib``, for C programs (``python -m unicas_edge.config``).
"""

import re
import shutil
import sys
from pathlib import Path

from Cython.Build import cythonize
from setuptools import Extension, find_packages, setup
from setuptools.command.build_ext import build_ext

# CMakeLists.txt has the same; tests/c/test_library.py compares them.
# No contraction: variants give the same bits only if a * b + c is never fused (unicas_edge.h).
GNU_FLAGS = ["-O3", "-std=c11", "-ffp-contract=off", "-fvisibility=hidden"]
MSVC_FLAGS = ["/O2", "/std:c11", "/experimental:c11atomics", "/fp:precise"]
FLAGS = MSVC_FLAGS if sys.platform == "win32" else GNU_FLAGS
#: On Windows a function is exported where it is compiled, so there the library is not carried.
CARRIED = sys.platform != "win32"
#: The extension keeps the library's functions to itself.
HIDE = {
    "linux": ["-Wl,--version-script=csrc/extension.map", "-Wl,--strip-debug"],
    "darwin": ["-Wl,-exported_symbol,_PyInit__native"],
}


def version() -> tuple[int, int, int]:
    """Return the version from its one place, unicas_edge/__init__.py."""
    text = Path("unicas_edge/__init__.py").read_text(encoding="utf-8")
    found = re.search(r'^__version__ = "(\d+)\.(\d+)\.(\d+)', text, re.M).groups()
    return tuple(map(int, found))


MAJOR, MINOR, PATCH = version()
#: The library's file, and how it is linked: as CMakeLists.txt does it.
LIBRARY, SONAME = {
    "linux": (
        f"libunicas_edge.so.{MAJOR}",
        [
            f"-Wl,-soname,libunicas_edge.so.{MAJOR}",
            "-Wl,--version-script=csrc/unicas_edge.map",
            "-Wl,--strip-debug",
        ],
    ),
    "darwin": (
        f"libunicas_edge.{MAJOR}.dylib",
        [f"-Wl,-install_name,@rpath/libunicas_edge.{MAJOR}.dylib"],
    ),
}.get(sys.platform, ("", []))


#: dlopen has a library of its own where the C library is old.
LIBRARIES = ["m", "dl"] if sys.platform == "linux" else ["m"]


class BuildNative(build_ext):
    """Compiles csrc once, for the extension and for the library."""

    def build_extension(self, ext: Extension) -> None:
        """Build both."""
        ext.extra_objects = self.compiler.compile(
            sorted(map(str, Path("csrc").rglob("*.c"))),
            output_dir=self.build_temp,
            macros=ext.define_macros,
            include_dirs=ext.include_dirs,
            extra_postargs=ext.extra_compile_args,
        )
        super().build_extension(ext)
        if CARRIED:
            self._carry(Path(self.get_ext_fullpath(ext.name)).parent, ext.extra_objects)

    def copy_extensions_to_source(self) -> None:
        """Copy what an editable installation needs into the source tree."""
        super().copy_extensions_to_source()
        for folder in ("lib", "include") if CARRIED else ():
            made = Path(self.build_lib, "unicas_edge", folder)
            shutil.copytree(made, Path("unicas_edge", folder), dirs_exist_ok=True)

    def _carry(self, package: Path, objects: list[str]) -> None:
        for folder in ("lib", "include"):
            (package / folder).mkdir(exist_ok=True)
        self.compiler.link_shared_object(
            objects,
            str(package / "lib" / LIBRARY),
            libraries=LIBRARIES,
            extra_postargs=[*SONAME, "-pthread"],
        )
        for header in Path("csrc/include").glob("*.h*"):  # of C, and the .hpp of C++
            shutil.copy(header, package / "include")


native = Extension(
    "unicas_edge._native",
    sources=["unicas_edge/_native.pyx"],
    depends=[
        *sorted(map(str, Path("unicas_edge").glob("_*.pxi"))),
        *sorted(str(path) for end in ("[ch]", "hpp") for path in Path("csrc").rglob(f"*.{end}")),
    ],
    include_dirs=["csrc", "csrc/include"],
    define_macros=[
        ("Py_LIMITED_API", "0x030B0000"),
        ("UE_BUILDING" if CARRIED else "UE_STATIC", None),
        ("UE_VERSION", str((MAJOR << 16) + (MINOR << 8) + PATCH)),
    ],
    extra_compile_args=FLAGS,
    libraries=LIBRARIES if CARRIED else [],
    extra_link_args=HIDE.get(sys.platform, []),
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
    cmdclass={"build_ext": BuildNative},
    options={"bdist_wheel": {"py_limited_api": "cp311"}},
)
