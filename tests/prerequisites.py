"""Say what a machine lacks to build the project; run by ``make`` before anything is installed."""

import importlib.util
import pathlib
import shutil
import sys
import sysconfig

missing = []
if sys.version_info < (3, 11):
    missing.append(f"Python >= 3.11 (this is {sys.version.split()[0]}; set PYTHON=python3.x)")
if importlib.util.find_spec("ensurepip") is None:
    missing.append("the venv module (Debian, Ubuntu: apt install python3-venv)")
if not (pathlib.Path(sysconfig.get_path("include")) / "Python.h").exists():
    missing.append("Python's C headers (Debian, Ubuntu: apt install python3-dev)")
if not any(shutil.which(name) for name in ("cc", "gcc", "clang")):
    missing.append("a C compiler (Debian, Ubuntu: apt install gcc)")
if missing:
    sys.exit("unicas-edge cannot be built here; missing: " + "; ".join(missing))
