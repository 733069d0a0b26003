"""The public names, and that importing them costs nothing until they are used."""

from __future__ import annotations

import importlib
import subprocess
import sys

import pytest

import unicas_edge


def test_the_public_names():
    assert unicas_edge.__all__ == [
        "Aggregator",
        "Bundle",
        "Session",
        "SlideResult",
        "UnicasError",
        "__version__",
        "fit_colour",
        "open_slide",
        "screen",
    ]
    for name in unicas_edge.__all__:
        assert getattr(unicas_edge, name).__doc__
        assert name in dir(unicas_edge)


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no attribute 'scren'"):
        unicas_edge.scren  # noqa: B018


def test_what_is_public_is_there():
    """The modules and names that the package's docstring promises."""
    for name in unicas_edge.__all__:
        assert getattr(unicas_edge, name) is not None
    assert set(unicas_edge.__all__) <= set(dir(unicas_edge))
    for module, names in {
        "slide": ["Slide", "Level", "Spacing", "open_slide"],
        "errors": ["UnicasError", "SlideError", "BundleError"],
        "result": ["SlideResult"],
        "bundle": ["Bundle"],
    }.items():
        found = importlib.import_module(f"unicas_edge.{module}")
        assert not [name for name in names if not hasattr(found, name)]


def test_the_command_line_starts_without_the_heavy_libraries():
    code = (
        "import sys, unicas_edge.cli; heavy = {'numpy', 'onnxruntime', 'h5py', 'pyvips', 'torch',"
        " 'tifffile', 'PIL'}; print(sorted(heavy & set(sys.modules)))"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "[]"


def test_screening_never_imports_torch_or_onnx():
    code = (
        "import sys; sys.modules['torch'] = None; sys.modules['onnx'] = None;"
        "import unicas_edge.screening.screener, unicas_edge.screening.batch;"
        "import unicas_edge.verification.doctor"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
