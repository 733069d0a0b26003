"""bundle.json read in C and in Python: both accept, or both refuse."""

from __future__ import annotations

import copy
import json
import struct
import subprocess

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.places import ROOT
from tests.support.weights_file import SANITIZERS
from unicas_edge.bundle.bundle import _DEFAULT
from unicas_edge.bundle.manifest import Manifest
from unicas_edge.core.json_once import check_once

pytest_plugins = ["tests.support.weights_program"]

SOURCES = [ROOT / f"csrc/bundle/{part}.c" for part in ("fields", "schema", "rules", "manifest")]
TEXT = (_DEFAULT / "bundle.json").read_bytes()
GOOD = json.loads(TEXT)
#: What stands in a place in turn; bounds of every kind, one inside and one outside.
VALUES = [
    None, True, False, -1, 0, 1, 2, 15, 16, 64, 65, 4097, 65_536, 65_537, 1_000_001, 10**15,
    0.0, -0.5, 0.5, 1.0, 1.5, 1e-9, 1001.0, 1e300, "", "a", "cell", "A", "a b", "x" * 201,
    "é" * 200,
    "0" * 64, "fp32", "int8w", "openvino", "reinhard", "x" * 5001, "a\u0000", [], {}, [1, 2, 3],
    [0, 1, 1], ["a", "b"], ["a", "a"], [{}],
]  # fmt: skip


def full() -> dict:
    """Return the embedded manifest with every key that it leaves out."""
    made = copy.deepcopy(GOOD)
    files = made["files"]
    encoder = files[made["encoder"]["file"]]
    form = {
        "backend": "openvino", "precision": "int8", "file": made["encoder"]["file"],
        "format": "onnx", "calibration_tiles": 3, "kept": ["a"],
    }  # fmt: skip
    made["encoder"]["forms"] = [form, form | {"precision": "bf16"}]
    made["aggregator"]["storage"] = {
        "experts": "int8", "source_sha256": "0" * 64, "bags": 1, "tiles": 2,
        "max_probability_change": 0.1, "mean_probability_change": 0, "changed_decisions": 0,
    }  # fmt: skip
    run = dict.fromkeys(
        ["cosine_mean", "cosine_min", "cosine_p01", "centred_cosine_mean", "overlap",
         "max_probability_change", "tiles_per_second", "reference_tiles_per_second", "peak_mb"], 1
    )  # fmt: skip
    run |= dict.fromkeys(["engine_version", "processor", "isa"], "x") | {"changed_decisions": 0}
    run |= {"backend": "openvino", "precision": "fp16", "weights_sha256": "0" * 64}
    gate = {"min_cosine": 0.5, "max_changed_decisions": 1, "min_overlap": 0}
    made["verification"] = {
        "encoder_sha256": encoder, "aggregator_sha256": "0" * 64, "slides": 1, "tiles": 9,
        "gate": gate, "runs": [run],
    }  # fmt: skip
    made["knowledge"] = {
        "file": made["aggregator"]["file"], "encoder_sha256": encoder, "kinds": ["cell", "b"],
        "aggregated": ["cell"], "calibration": {"temperature": 1}, "min_cell_share": 0,
        "min_squamous_cells": 5, "preparation_mm2": 1, "distance_limit": 2,
        "um_px_tolerance": 0.5, "cell_error": None,
    }  # fmt: skip
    made["heads"] = [
        {"name": "h", "file": made["aggregator"]["file"], "classes": ["a", "b"], "hidden": 3,
         "view": "cell", "positive": 1, "threshold": 0.5, "calibration": {"temperature": 1}}
    ]  # fmt: skip
    made["tasks"][0]["conformal"] = {
        "coverage": 0.9, "slides": 10, "positive_from": 0.2, "negative_to": 0.5
    }  # fmt: skip
    return made


FULL = full()


def places(value, path=()):
    """Yield the path of every value inside; of long lists the first two elements'."""
    if path:
        yield path
    inner = value.items() if isinstance(value, dict) else ()
    inner = list(enumerate(value))[:2] if isinstance(value, list) else inner
    for key, one in inner:
        yield from places(one, (*path, key))


PLACES = list(places(FULL))


@pytest.fixture(scope="module")
def in_c(build, tmp_path_factory):
    """Ask one running program about a manifest: "ok" or its sentence."""
    program = build("test_manifest.c", *SANITIZERS, more=SOURCES)
    with subprocess.Popen([program], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as running:

        def ask(text):
            running.stdin.write(struct.pack("=Q", len(text)) + text)
            running.stdin.flush()
            return running.stdout.readline().decode().rstrip("\n")

        yield ask
        running.stdin.close()
        assert running.wait(60) == 0


def in_python(text: bytes) -> bool:
    try:
        Manifest.model_validate_json(text)
        check_once(text)
    except ValueError:
        return False
    return True


def same(in_c, text):
    answer = in_c(text)
    assert answer, text
    assert (answer == "ok") == in_python(text), (answer, text[-300:])
    return answer


def put(made, path, value):
    made = copy.deepcopy(made)
    inner = made
    for key in path[:-1]:
        inner = inner[key]
    inner[path[-1]] = value
    return made


def dumped(made) -> bytes:
    return json.dumps(made).encode()


def test_good_manifests_are_accepted(in_c):
    for text in (TEXT, dumped(FULL), json.dumps(FULL, ensure_ascii=False).encode()):
        assert same(in_c, text) == "ok"


@pytest.mark.parametrize("path", PLACES, ids=lambda p: ".".join(map(str, p)))
def test_every_key_with_every_value_missing_unknown_and_twice(in_c, path):
    for value in VALUES:
        if path == ("schema_version",) and value in (1, 1.0) and type(value) is not int:
            continue  # pydantic's Literal[1] takes what equals 1; C takes 1 alone
        same(in_c, dumped(put(FULL, path, value)))
    made = copy.deepcopy(FULL)
    inner = made
    for key in path[:-1]:
        inner = inner[key]
    if isinstance(inner, dict):
        same(in_c, dumped(put(FULL, (*path[:-1], "surprise"), 1)))
        marked = dumped(put(FULL, (*path[:-1], "TWICE"), inner[path[-1]]))
        assert same(in_c, marked.replace(b"TWICE", str(path[-1]).encode())) != "ok"
        del inner[path[-1]]
    else:
        inner.append(inner[path[-1]])
    same(in_c, dumped(made))


@pytest.mark.parametrize("text", [b"", b"[]", b"{", b"null", b"\xff\xfe", b"[" * 9999, TEXT + b"x"])
def test_what_is_no_manifest(in_c, text):
    assert same(in_c, text).startswith("bundle.json: ")


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_damaged_bytes(in_c, data):
    text = bytearray(dumped(FULL))
    for _ in range(data.draw(st.integers(1, 3))):
        text[data.draw(st.integers(0, len(text) - 1))] = data.draw(st.integers(0, 255))
    same(in_c, bytes(text))


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_any_value_in_any_place(in_c, data):
    numbers = st.integers(-5, 70_000) | st.floats(-2, 2_000).filter(lambda x: str(x) != "-0.0")
    value = st.one_of(st.none(), st.booleans(), numbers, st.text(max_size=220))
    path = data.draw(st.sampled_from([path for path in PLACES if path != ("schema_version",)]))
    made = put(FULL, path, data.draw(value | st.lists(value, max_size=4)))
    same(in_c, json.dumps(made, ensure_ascii=data.draw(st.booleans())).encode())
