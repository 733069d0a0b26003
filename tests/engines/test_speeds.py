"""The cache of measured speeds: it may be lost or be nonsense, and never be half-written."""

from __future__ import annotations

import json
import os
import threading
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.support.engine_case import run_of, vouched
from unicas_edge.bundle import Bundle
from unicas_edge.engines import Candidate, choose
from unicas_edge.engines import speeds as measured
from unicas_edge.engines.choice import reference
from unicas_edge.engines.speeds import cache_file, read_speeds, write_speeds
from unicas_edge.errors import OutputError

SPEEDS = {("onnxruntime", "fp32"): 3.5, ("openvino", "bf16"): 6.25}

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner),
    max_leaves=8,
)


@pytest.fixture(autouse=True)
def _cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture(scope="module")
def bundle(untrained_bundle):
    return untrained_bundle


@pytest.fixture(scope="module")
def two(bundle, tmp_path_factory):
    """A bundle where OpenVINO passed in fp32: two models to choose from."""
    run = run_of(bundle, Candidate("openvino", "fp32", reference(bundle).path))
    return vouched(bundle, tmp_path_factory.mktemp("two") / "bundle", run)


def put(data):
    path = cache_file()
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)


def test_nothing_measured_is_no_speeds(bundle):
    assert read_speeds(bundle) == {}


def test_what_is_written_is_read(bundle, tmp_path):
    path = write_speeds(bundle, SPEEDS)
    assert path == cache_file() == tmp_path / "cache" / "unicas-edge" / "speeds.json"
    assert read_speeds(bundle) == SPEEDS
    write_speeds(bundle, {("onnxruntime", "fp32"): 1.0})
    assert read_speeds(bundle) == {("onnxruntime", "fp32"): 1.0}  # in place of the former


def test_without_a_cache_variable_it_lies_in_the_home_folder(monkeypatch, tmp_path):
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setattr(Path, "home", lambda: tmp_path)
    assert cache_file() == tmp_path / ".cache" / "unicas-edge" / "speeds.json"


def test_speeds_are_of_one_processor_and_its_cores(bundle, monkeypatch):
    write_speeds(bundle, SPEEDS)
    for name, value in (("processor", "another"), ("usable_cores", 999)):
        with monkeypatch.context() as patch:
            patch.setattr(measured, name, lambda value=value: value)
            assert read_speeds(bundle) == {}
            write_speeds(bundle, {("openvino", "fp32"): 9.0})
    assert read_speeds(bundle) == SPEEDS


def test_speeds_are_of_one_encoder(bundle):
    write_speeds(bundle, SPEEDS)
    files = bundle.manifest.files | {bundle.manifest.encoder.file: "5" * 64}
    other = Bundle(bundle.root, bundle.manifest.model_copy(update={"files": files}), bundle.digest)
    assert read_speeds(other) == {}
    write_speeds(other, {("openvino", "fp32"): 9.0})
    assert read_speeds(bundle) == SPEEDS
    assert read_speeds(other) == {("openvino", "fp32"): 9.0}


def test_the_cache_does_not_grow_without_end(bundle, monkeypatch):
    for number in range(measured._KEPT + 9):
        monkeypatch.setattr(measured, "processor", lambda number=number: f"cpu {number}")
        write_speeds(bundle, SPEEDS)
    kept = json.loads(cache_file().read_text())
    assert len(kept) == measured._KEPT
    assert read_speeds(bundle) == SPEEDS


# ---- nonsense -----------------------------------------------------------------------------------


@settings(max_examples=200, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.binary(max_size=200)
    | json_values.map(lambda value: json.dumps(value).encode())
    | st.just(b"[" * 100_000)
)
def test_a_cache_of_any_bytes_is_none_and_can_be_replaced(two, data):
    put(data)
    assert read_speeds(two) == {}
    assert choose(two).backend == "openvino"  # as if nothing had been measured
    write_speeds(two, SPEEDS)
    assert read_speeds(two) == SPEEDS


@settings(max_examples=200, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.dictionaries(st.text(max_size=12) | st.just("openvino/fp32"), json_values, max_size=4))
def test_an_entry_of_any_values_never_stops_the_choice(two, entry):
    put(json.dumps({measured._key(two): entry}).encode())
    for (backend, precision), speed in read_speeds(two).items():
        assert isinstance(backend, str)
        assert isinstance(precision, str)
        assert 0 < speed < 1e9
    assert choose(two).backend in ("openvino", "onnxruntime")


def test_figures_that_are_no_speeds_are_left_out(bundle):
    entry = {
        "a/b": 1.0,
        "c/d": 0,
        "e/f": -1,
        "g/h": "2",
        "i/j": float("inf"),
        "k": 3,
        "l/m": float("nan"),
        "n/o": None,
        "p/q": 1e9,
    }
    put(json.dumps({measured._key(bundle): entry}).encode())
    assert read_speeds(bundle) == {("a", "b"): 1.0}


def test_a_cache_that_is_too_large_is_none(bundle):
    write_speeds(bundle, SPEEDS)
    put(cache_file().read_bytes() + b" " * measured._MAX_BYTES)
    assert read_speeds(bundle) == SPEEDS  # what is read is bounded, and still whole JSON
    put(b" " * measured._MAX_BYTES + json.dumps({measured._key(bundle): {"a/b": 1}}).encode())
    assert read_speeds(bundle) == {}


# ---- writing ------------------------------------------------------------------------------------


def test_a_write_that_fails_leaves_what_was_there(bundle, monkeypatch):
    write_speeds(bundle, SPEEDS)
    before = cache_file().read_bytes()

    def full(*_):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(OutputError, match="No space"):
            write_speeds(bundle, {("openvino", "fp32"): 1.0})
    assert cache_file().read_bytes() == before
    assert os.listdir(cache_file().parent) == ["speeds.json"]  # noqa: PTH208 - hidden ones too


def test_readers_never_see_half_a_cache(bundle):
    write_speeds(bundle, SPEEDS)
    stop, seen = threading.Event(), []

    def read():
        while not stop.is_set():
            seen.append(read_speeds(bundle))

    reader = threading.Thread(target=read)
    reader.start()
    for _ in range(50):
        write_speeds(bundle, SPEEDS)
    stop.set()
    reader.join()
    assert seen
    assert all(found == SPEEDS for found in seen)
    assert os.listdir(cache_file().parent) == ["speeds.json"]  # noqa: PTH208 - hidden ones too
