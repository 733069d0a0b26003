"""The table of engines: what others say of them agrees with it, and asking it loads nothing."""

from __future__ import annotations

import subprocess
import sys
import tomllib
from typing import get_args

import pytest

from tests.support.places import ROOT
from unicas_edge.bundle.encoder import Backend, EncoderForm, Precision
from unicas_edge.engines.base import CheckedEncoder
from unicas_edge.engines.registry import BACKENDS, ENGINES, engine, missing, require
from unicas_edge.errors import EngineError


def test_the_manifest_names_the_same_engines():
    assert set(BACKENDS) == set(get_args(Backend))
    assert len(BACKENDS) == len(ENGINES)
    formats = set(get_args(EncoderForm.model_fields["format"].annotation))
    assert {row.format for row in ENGINES} == formats


@pytest.mark.parametrize("row", ENGINES, ids=BACKENDS)
def test_a_row_is_true(row):
    assert engine(row.name) is row
    assert issubclass(row.encoder(), CheckedEncoder)
    assert set(row.precisions) <= set(get_args(Precision))
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    brought = extras["optional-dependencies"][row.extra] if row.extra else extras["dependencies"]
    assert any(line.startswith(row.package) for line in brought)


@pytest.mark.parametrize("row", ENGINES, ids=BACKENDS)
def test_what_is_not_installed_says_how_to_get_it(row, monkeypatch):
    monkeypatch.setitem(sys.modules, row.package, None)
    said = f"{row.package} is not installed; pip install "
    assert missing(row.name).startswith(said)
    with pytest.raises(EngineError, match=f"{said}.*, or use --backend auto"):
        require(row.name)


def test_an_engine_that_is_installed_lacks_nothing():
    pytest.importorskip("openvino")
    assert missing("onnxruntime") is None
    assert missing("openvino") is None


def test_listing_the_engines_loads_neither_them_nor_a_bundle():
    code = (
        "import sys, unicas_edge.engines.registry;"
        "print(sorted({'numpy', 'pydantic', 'onnxruntime', 'openvino'} & set(sys.modules)))"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "[]"


def test_asking_what_is_missing_loads_no_runtime_of_the_cpu():
    code = (
        "import sys, unicas_edge.engines.registry as r; r.missing('onnxruntime');"
        "r.missing('openvino'); print(sorted({'onnxruntime', 'openvino'} & set(sys.modules)))"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "[]"
