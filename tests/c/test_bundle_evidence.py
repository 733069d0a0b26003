"""Manifests with evidence of all sorts have one verdict in C and in Python; files that change."""

from __future__ import annotations

import json
import os
import shutil

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.c.test_aggregator import THREAD, build
from tests.c.test_choice import FIGURE, LIMITS, WISHES, in_python
from tests.support.bundle_program import driver, environment, sha256, write_bundle, write_manifest
from tests.support.encoder_program import NO_RUNTIME
from tests.support.engine_case import PERFECT
from tests.support.places import ROOT
from tests.support.weights_file import run
from unicas_edge.bundle import Bundle
from unicas_edge.core.machine import isa
from unicas_edge.engines.base import Candidate
from unicas_edge.engines.choice import reference, weights_sha256
from unicas_edge.engines.registry import BACKENDS, ENGINES
from unicas_edge.errors import BundleError

__all__ = ["build", "driver", "environment"]  # fixtures
pytestmark = pytest.mark.slow
BAD_BUNDLE = 21
PRECISIONS = ("int8", "int8w", "bf16", "fp16", "fp32")
IN_C = ("onnxruntime", "openvino", "onnxruntime-cuda", "onnxruntime-tensorrt")
#: A form's file, and those that belong to it or look as if they did.
NAMES = ("a.onnx", "a.xml", "deep/a.onnx", "encoder.onnx")
BESIDE = ("a.onnx.data", "a.onnx.bin", "a.bin", "a.onnxx", "a.xml.more", "deep/a.onnx.data",
          "encoder.onnx.data", "encoder.openvino.xml", "z")  # fmt: skip
NOWHERE = {"onnxruntime": "/nowhere.so", "openvino": "/nowhere.so"}


# ---- evidence -----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A bundle with many files, none of which is a model."""
    made = tmp_path_factory.mktemp("evidence") / "bundle"
    write_bundle(made, files={name: name.encode() for name in (*NAMES, *BESIDE)})
    return made


KINDS = st.tuples(st.sampled_from(BACKENDS), st.sampled_from(PRECISIONS))
FORMS = st.lists(st.tuples(KINDS, st.sampled_from(NAMES)), max_size=4, unique_by=lambda f: f[0])


def form(backend, precision, name):
    said = {"backend": backend, "precision": precision, "file": name, "format": "onnx"}
    return said | {"calibration_tiles": 0, "kept": ["a layer"]}


def evidence(draw, bundle, forms):
    """Runs of the bundle's own forms, most of them over the right files on this processor."""
    first = bundle.manifest.encoder.file
    known = [(row.name, precision, first) for row in ENGINES for precision in row.precisions]
    known += [(*kind, name) for kind, name in forms]
    runs = []
    for backend, precision, name in draw(st.lists(st.sampled_from(known), max_size=6)):
        right = weights_sha256(bundle, Candidate(backend, precision, bundle.root / name))
        runs.append(
            {"backend": backend, "precision": precision, "engine_version": "1", "processor": "p"}
            | {"weights_sha256": draw(st.sampled_from([right, right, right, "0" * 64]))}
            | {"isa": draw(st.sampled_from([isa()] * 4 + ["x86_64", f"{isa()}\0"]))}
            | PERFECT
            | draw(FIGURE)
        )
    gate = draw(st.dictionaries(st.sampled_from(LIMITS), st.sampled_from([0, 1]), max_size=2))
    return {
        "encoder_sha256": weights_sha256(bundle, reference(bundle)),
        "aggregator_sha256": bundle.manifest.files[bundle.manifest.aggregator.file],
        "slides": 1,
        "tiles": 8,
        "gate": gate,
        "runs": runs,
    }


@settings(max_examples=200, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data(), forms=FORMS, wish=WISHES, installed=st.sets(st.sampled_from(BACKENDS)))
def test_a_manifests_evidence_has_one_verdict(driver, folder, data, forms, wish, installed):
    written = json.loads((folder / "bundle.json").read_text("utf-8"))
    listed = data.draw(st.sets(st.sampled_from(BESIDE)))
    written["files"] = {
        name: written["files"].get(name, sha256(name.encode()))
        for name in [*listed, *NAMES, "aggregator.safetensors"]
    }
    written["encoder"]["precision"] = data.draw(st.sampled_from(["fp32", "fp32", "int8"]))
    written["encoder"]["forms"] = [form(*kind, name) for kind, name in forms]
    written.pop("verification", None)
    write_manifest(folder, written)
    if data.draw(st.sampled_from([True, True, False])):
        written["verification"] = evidence(data.draw, Bundle.load(folder), forms)
        for key in ("encoder_sha256", "aggregator_sha256"):
            if data.draw(st.integers(0, 9)) == 0:
                written["verification"][key] = "0" * 64
        write_manifest(folder, written)
    check(driver, Bundle.load(folder), installed, wish)


def check(driver, bundle, installed, wish):
    driver.open(bundle.root)
    has = "".join(str(int(name in installed)) for name in IN_C)
    *words, text = driver.ask("choose", *wish[:2], int(wish[2]), has)
    status, backend, precision, file, unverified = words
    found, said = in_python(bundle, isa(), installed, {}, wish)
    if found:
        chosen = found.path.relative_to(bundle.root).as_posix()
        assert (status, backend, precision, file) == ("0", found.backend, found.precision, chosen)
        assert (unverified, text) == (str(int(said is not None)), said or "")
    elif "is not installed" in said:
        assert status == str(NO_RUNTIME)
    else:
        assert status == "9"
        told = said.removeprefix(f"{bundle.root}: ").removesuffix("; or --allow-unverified")
        assert text == told or text.startswith("no ")


# ---- files that change --------------------------------------------------------------------------


@pytest.fixture
def copy(tmp_path):
    write_bundle(tmp_path / "bundle", files={"extra": b"extra", "weights": b"w"})
    return tmp_path / "bundle"


def spoil(path, how):
    content = path.read_bytes()
    path.unlink()
    if how == "changed":
        path.write_bytes(bytes([content[0] ^ 1]) + content[1:])
    elif how == "longer":
        path.write_bytes(content + b"x")
    elif how == "pipe":
        os.mkfifo(path)  # nobody ever writes to it
    elif how == "folder":
        path.mkdir()
    elif how == "outside":
        (path.parent.parent / "outside").write_bytes(content)
        path.symlink_to("../outside")
    elif how == "device":
        path.symlink_to("/dev/zero")


@pytest.mark.parametrize(
    ("how", "said"),
    [
        ("missing", "is missing"),
        ("changed", "has SHA-256"),
        ("longer", "has SHA-256"),
        ("pipe", "not a regular file"),
        ("folder", "not a regular file"),
        ("outside", "leads outside"),
        ("device", "leads outside"),
    ],
)
def test_an_encoder_that_changed_after_the_bundle_was_opened(driver, copy, how, said):
    driver.open(copy)
    spoil(copy / "encoder.onnx", how)
    text = driver.refused(BAD_BUNDLE)
    assert said in text
    assert "encoder.onnx" in text
    status, text = driver.check()
    if how == "outside":  # the same bytes: nothing ran that was not hashed
        assert status == 0
    else:
        assert (status, "changed while the bundle was in use" in text) == (BAD_BUNDLE, True)


@pytest.mark.parametrize("name", ["bundle.json", "extra", "aggregator.safetensors"])
def test_any_file_that_changes_is_noticed_for_good(driver, copy, name):
    bundle = Bundle.load(copy)
    content = (copy / name).read_bytes()
    driver.open(copy)
    for touched in (lambda: os.utime(copy / name), lambda: (copy / name).write_bytes(content)):
        touched()
        bundle.check_unchanged()
        assert driver.check() == (0, "")
    shutil.copy2(copy / name, copy / "kept")
    (copy / name).write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    os.utime(copy / name, ns=((copy / "kept").stat().st_mtime_ns,) * 2)  # as if nothing were
    with pytest.raises(BundleError):
        bundle.check_unchanged()
    status, text = driver.check()
    assert status == BAD_BUNDLE
    assert f"{name}: changed while the bundle was in use" in text
    assert "open the bundle again" in text
    (copy / name).write_bytes(content)
    assert driver.check() == (BAD_BUNDLE, text)
    driver.open(copy)
    assert driver.check() == (0, "")


def test_a_link_that_leads_elsewhere_now(driver, copy):
    (copy / "encoder.onnx").rename(copy / "first")
    (copy / "encoder.onnx").symlink_to("first")
    driver.open(copy)
    (copy / "encoder.onnx").unlink()
    (copy / "encoder.onnx").symlink_to("weights")
    assert driver.check()[0] == BAD_BUNDLE
    (copy / "encoder.onnx").unlink()
    shutil.copy(copy / "first", copy / "second")
    (copy / "encoder.onnx").symlink_to("second")
    driver.open(copy)
    (copy / "encoder.onnx").unlink()
    (copy / "encoder.onnx").symlink_to("first")  # the same bytes
    assert driver.check() == (0, "")


def test_of_a_folder_that_was_renamed_nothing_is_left(driver, copy):
    driver.open(copy)
    copy.rename(copy.with_name("renamed"))
    assert driver.check()[0] == BAD_BUNDLE
    assert "is missing" in driver.refused(BAD_BUNDLE)


def test_a_bundle_that_is_none(driver, tmp_path):
    assert driver.ask("open", tmp_path)[:2] == ["refused", str(BAD_BUNDLE)]


# ---- threads ------------------------------------------------------------------------------------


def test_many_threads_ask_whether_files_changed(build, tmp_path):
    parts = ["bundle/watch", "bundle/checked_file", "formats/sha256", "formats/shown"]
    parts += ["system/file", "system/error"]
    program = build("test_watch.c", THREAD, sources=[ROOT / f"csrc/{part}.c" for part in parts])
    for number in range(3):
        (tmp_path / f"file{number}").write_bytes(os.urandom(100_000))
    run(program, tmp_path)
