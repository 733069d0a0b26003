"""The one editor of bundles: whole or not at all, and never into the source."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from tests.support.bundle_case import fingerprint, make_bundle, three_tasks
from tests.support.knowledge_case import FILE, with_knowledge
from unicas_edge.bundle import Bundle
from unicas_edge.bundle.edit import edited_copy, new_bundle, with_manifest, workshop
from unicas_edge.errors import BundleError, OutputError

ENCODER = "encoder.onnx"


@pytest.fixture
def small(tmp_path):
    return make_bundle(tmp_path / "small", three_tasks())


def content_of(bundle, **changes):
    return bundle.manifest.model_dump(mode="json") | changes


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_a_copy_says_what_it_was_told_and_links_the_rest(small, tmp_path):
    before = fingerprint(small.root)
    with edited_copy(small, tmp_path / "new", force=False) as new:
        with new.put("notes/card.md") as out:
            out.write(b"hello")
        new.manifest(content_of(small, name="another"))
    made = new.bundle
    assert made.root == tmp_path / "new"
    assert made == Bundle.load(tmp_path / "new")
    assert made.manifest.name == "another"
    assert list(made.manifest.files) == [*small.manifest.files, "notes/card.md"]
    assert made.path("notes/card.md").read_bytes() == b"hello"
    assert made.path(ENCODER).stat().st_ino == small.path(ENCODER).stat().st_ino
    assert fingerprint(small.root) == before
    assert names(tmp_path) == ["new", "small"]


def test_a_block_that_says_nothing_copies(small, tmp_path):
    with edited_copy(small, tmp_path / "new", force=False) as new:
        pass
    assert new.bundle.manifest == small.manifest


def test_a_file_put_anew_is_not_written_into_the_source(small, tmp_path):
    with edited_copy(small, tmp_path / "new", force=False) as new:
        with new.put(ENCODER) as out:
            out.write(b"other")
        new.manifest(content_of(small))
    assert new.bundle.path(ENCODER).read_bytes() == b"other"
    assert list(new.bundle.manifest.files) == list(small.manifest.files)
    assert Bundle.load(small.root) == small


def test_a_copy_where_the_disk_has_no_links(small, tmp_path, monkeypatch):
    def refused(*_):
        raise OSError(1, "Operation not permitted")

    monkeypatch.setattr(os, "link", refused)
    with edited_copy(small, tmp_path / "new", force=False) as new:
        pass
    assert new.bundle.manifest == small.manifest
    assert new.bundle.path(ENCODER).stat().st_ino != small.path(ENCODER).stat().st_ino


def test_a_file_may_go_and_a_library_may_write_one(small, tmp_path):
    with edited_copy(small, tmp_path / "new", force=False) as new:
        with new.put("x.bin") as out:
            out.write(b"1")
        new.drop("x.bin")
        new.drop("x.bin")
        new.path("y.bin").write_bytes(b"2")
        new.take("y.bin")
        new.manifest(content_of(small))
    assert set(new.bundle.manifest.files) == {*small.manifest.files, "y.bin"}
    assert not (tmp_path / "new" / "x.bin").exists()


def test_a_manifest_may_be_written_again(small, tmp_path):
    with edited_copy(small, tmp_path / "new", force=False) as new:
        assert new.manifest(content_of(small, name="one")).manifest.name == "one"
        assert new.manifest(content_of(small, name="two")).manifest.name == "two"
    assert Bundle.load(tmp_path / "new").manifest.name == "two"


@pytest.mark.parametrize("error", [KeyboardInterrupt, ValueError])
def test_what_fails_leaves_nothing_new_and_the_old_as_it_was(small, tmp_path, error):
    target = tmp_path / "new"
    with edited_copy(small, target, force=False):
        pass
    before = fingerprint(tmp_path)
    with pytest.raises(error), edited_copy(small, target, force=True) as new:
        new.path("half").write_text("x")
        raise error
    assert fingerprint(tmp_path) == before


def test_force_replaces_a_bundle_and_nothing_else(small, tmp_path):
    target = tmp_path / "new"
    with edited_copy(small, target, force=False):
        pass
    with pytest.raises(OutputError, match="exists; --force replaces"):
        with edited_copy(small, target, force=False):
            pytest.fail("was begun")
    with edited_copy(small, target, force=True) as new:
        new.manifest(content_of(small, name="newer"))
    assert Bundle.load(target).manifest.name == "newer"
    (target / "mine.txt").write_text("mine")
    with pytest.raises(OutputError, match="is not a file of the bundle"):
        with edited_copy(small, target, force=True):
            pytest.fail("was begun")


def test_a_new_bundle_needs_a_manifest(tmp_path):
    with pytest.raises(OutputError, match=r"without bundle\.json"):
        with new_bundle(tmp_path / "new", force=False) as new:
            with new.put("a") as out:
                out.write(b"a")
    assert names(tmp_path) == []


def test_a_manifest_that_names_no_such_file_leaves_nothing(small, tmp_path):
    content = content_of(small)
    content["encoder"]["file"] = "gone.onnx"
    with pytest.raises((BundleError, ValueError), match=r"gone\.onnx"):
        with edited_copy(small, tmp_path / "new", force=False) as new:
            new.manifest(content)
    assert names(tmp_path) == ["small"]


def test_a_manifest_replaced_in_place(small):
    made = with_manifest(small, content_of(small, name="renamed"))
    assert made == Bundle.load(small.root)
    assert made.manifest.name == "renamed"
    assert json.loads((small.root / "bundle.json").read_text())["name"] == "renamed"


def test_a_workshop_goes_even_where_its_work_fails(small, tmp_path):
    with pytest.raises(OutputError, match=r"new/form\.xml: cannot be written"):
        with (
            edited_copy(small, tmp_path / "new", force=False) as new,
            workshop(new, "form.xml") as w,
        ):
            assert w.parent == new.folder
            raise OSError(28, "No space left on device")
    assert names(tmp_path) == ["small"]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full")
def test_a_full_device_names_the_file(small, tmp_path):
    with pytest.raises(OutputError, match=r"target/w/a\.bin: .*No space left.*free space"):
        with edited_copy(small, tmp_path / "target", force=False) as new, new.put("w/a.bin") as out:
            with open("/dev/full", "wb", buffering=0) as full:  # noqa: PTH123
                os.dup2(full.fileno(), out.fileno())
            out.write(b"x" * 100_000)
    assert names(tmp_path) == ["small"]


def test_knowledge_stays_with_its_encoder_and_goes_with_it(small, tmp_path):
    known = Bundle.load(with_knowledge(small, tmp_path / "known"))
    with edited_copy(known, tmp_path / "kept", force=False) as new:
        new.manifest(content_of(known, name="another"))
    assert new.bundle.manifest.knowledge == known.manifest.knowledge
    with edited_copy(known, tmp_path / "other", force=False) as new:
        with new.put(ENCODER) as out:
            out.write(b"another encoder")
        new.manifest(content_of(known))
    assert new.bundle.manifest.knowledge is None
    assert FILE not in new.bundle.manifest.files
    assert not (tmp_path / "other" / FILE).exists()
    assert Bundle.load(known.root) == known
