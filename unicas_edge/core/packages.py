"""The packages whose version can change a result, or whether a slide can be read."""

from __future__ import annotations

import platform
from importlib.metadata import PackageNotFoundError, version

from unicas_edge import __version__

#: Names of distributions. `onnxruntime-gpu` stands in place of `onnxruntime` where it is installed.
PACKAGES = (
    "numpy",
    "onnxruntime",
    "onnxruntime-gpu",
    "openvino",
    "simplejpeg",
    "tifffile",
    "pyvips",
    "pyvips-binary",
    "openslide-python",
    "openslide-bin",
    "pillow",
    "h5py",
    "safetensors",
    "pydantic",
    "filelock",
    "nncf",
    "onnx",
    "torch",
)


def installed() -> dict[str, str | None]:
    """Return the version of each of `PACKAGES`, None where it is not installed."""
    return {package: _version(package) for package in PACKAGES}


def versions() -> dict[str, str | None]:
    """Return the versions of this package, Python, the system, and `PACKAGES` as `installed`."""
    return {
        "unicas-edge": __version__,
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        **installed(),
    }


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
