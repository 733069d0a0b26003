"""The one editor of bundles: a copy, or a new one, that appears whole or not at all.

`edited_copy` and `new_bundle` give a `Draft`, a folder beside the bundle's place. Files are put
into it, each synced and hashed, then its manifest; at the end of the block it takes the place, or
goes if anything failed. `with_manifest` replaces the manifest of a bundle where it lies.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, BinaryIO

from pydantic import ValidationError

from unicas_edge.bundle.bundle import MANIFEST_NAME, MAX_MANIFEST_BYTES, Bundle
from unicas_edge.bundle.manifest import Manifest
from unicas_edge.core.files import atomic_write, output_errors, sync_folder
from unicas_edge.core.hashing import sha256
from unicas_edge.core.regular_file import open_regular
from unicas_edge.errors import OutputError

_CHUNK = 1 << 20


def check_places(source: Path, target: Path, *, force: bool) -> None:
    """Raise `OutputError` if writing a bundle to `target` would touch `source` or anything else.

    With `force` a bundle may be there, in a folder of its own.
    """
    here, there = Path(os.path.realpath(source)), Path(os.path.realpath(target))
    if here == there or here in there.parents or there in here.parents:
        raise OutputError(
            f"{target}: overlaps with the source {source}; choose a folder outside it"
        )
    if os.path.lexists(target):
        if not force:
            raise OutputError(f"{target}: exists; --force replaces it if it is a bundle")
        _check_replaceable(target)


def _check_replaceable(target: Path) -> None:
    """Raise `OutputError` unless `target` is a folder of nothing but a bundle's files."""
    step = "--force replaces only a bundle; move it away or choose another folder"
    if target.is_symlink() or not target.is_dir():
        raise OutputError(f"{target}: is not a folder; {step}")
    try:
        with open_regular(target / MANIFEST_NAME) as file:
            manifest = Manifest.model_validate_json(file.read(MAX_MANIFEST_BYTES))
    except (OSError, ValidationError) as error:
        raise OutputError(f"{target}: holds no valid {MANIFEST_NAME}; {step}") from error
    names = {MANIFEST_NAME, *manifest.files}
    for path in target.rglob("*"):
        name = path.relative_to(target).as_posix()
        if name not in names and (path.is_symlink() or not path.is_dir()):
            raise OutputError(f"{path}: is not a file of the bundle in this folder; {step}")


class Draft:
    """A bundle in the making: `folder` beside `target`, where it goes when it is whole.

    Every error of the file system is an `OutputError` that names the file as it will lie in
    `target`.
    """

    def __init__(self, folder: Path, target: Path) -> None:
        self.folder, self.target = folder, target
        self._hashes: dict[str, str] = {}
        self._loaded: Bundle | None = None

    @property
    def complete(self) -> bool:
        """Whether a manifest was written."""
        return self._loaded is not None

    @property
    def bundle(self) -> Bundle:
        """The bundle as the last `manifest` said, loaded; after the block it lies at `target`."""
        if self._loaded is None:
            raise OutputError(f"{self.target}: a bundle without {MANIFEST_NAME} was to be written")
        return self._loaded

    def path(self, name: str) -> Path:
        """Return where the file `name` lies while the bundle is being made."""
        return self.folder.joinpath(*name.split("/"))

    @contextlib.contextmanager
    def put(self, name: str) -> Iterator[BinaryIO]:
        """Give a new file `name`, in place of one that is there; synced and hashed at the end."""
        path = self.path(name)
        with output_errors(self.target / name):
            path.parent.mkdir(parents=True, exist_ok=True)
            path.unlink(missing_ok=True)  # perhaps a link to the source's own
            with path.open("xb") as out:
                yield out
                out.flush()
                os.fsync(out.fileno())
        self._hashes[name] = sha256(path)

    def link_all(self, source: Bundle) -> None:
        """Put every file of another bundle in, by hard links, or copies where none can be.

        Links, as the files of a bundle are replaced and never written to.
        """
        for name, digest in source.manifest.files.items():
            self._link(source.path(name), name)
            self._hashes[name] = digest

    def _link(self, source: Path, name: str) -> None:
        place = self.path(name)
        with output_errors(self.target / name):
            place.parent.mkdir(parents=True, exist_ok=True)
            try:
                os.link(source.resolve(), place)
            except OSError:  # another file system, or one without links
                with self.put(name) as out, source.open("rb") as file:
                    shutil.copyfileobj(file, out, _CHUNK)

    def take(self, name: str) -> None:
        """Take in a file that a library wrote to `path(name)`: sync and hash it."""
        with output_errors(self.target / name), self.path(name).open("rb") as file:
            os.fsync(file.fileno())
        self._hashes[name] = sha256(self.path(name))

    def drop(self, name: str) -> None:
        """Take a file out again; nothing if it is not there."""
        with output_errors(self.target / name):
            self.path(name).unlink(missing_ok=True)
        self._hashes.pop(name, None)

    def manifest(self, content: dict[str, Any]) -> Bundle:
        """Write ``bundle.json`` from `content` with the hashes of all files; return it, loaded.

        `content` is JSON as `Manifest.model_dump(mode="json")` gives it. Files keep the order they
        have there; new ones follow by name. Knowledge of another encoder than the one that is there
        now is dropped, as it says nothing of its tokens; results then say that it is missing.
        """
        content = self._without_strange_knowledge(content)
        listed = [name for name in content.get("files", {}) if name in self._hashes]
        order = [*listed, *sorted(self._hashes.keys() - set(listed))]
        text = _text({**content, "files": {name: self._hashes[name] for name in order}})
        with self.put(MANIFEST_NAME) as out:
            out.write(text)
        del self._hashes[MANIFEST_NAME]
        self._loaded = Bundle.load(self.folder)
        return self._loaded

    def _without_strange_knowledge(self, content: dict[str, Any]) -> dict[str, Any]:
        known = content.get("knowledge")
        if not known or known["encoder_sha256"] == self._hashes.get(content["encoder"]["file"]):
            return content
        self.drop(known["file"])
        return {key: value for key, value in content.items() if key != "knowledge"}

    def take_place(self, *, force: bool) -> None:
        """Become the bundle at `target`; see `new_bundle`."""
        whole = self.bundle
        with output_errors(self.target):
            _take_place(self.folder, self.target.resolve(), force=force)
        held = whole.held.moved(self.folder, self.target)
        self._loaded = replace(whole, root=self.target, held=held)


@contextlib.contextmanager
def new_bundle(target: Path, *, force: bool) -> Iterator[Draft]:
    """Give the draft of a bundle that takes the place `target` at the end, or goes if that fails.

    `check_places` comes first, with what the bundle is made from. With `force` it replaces what is
    there. `OutputError`, naming `target`, where the system refuses.
    """
    place = target.resolve()
    folder = place.with_name(f".{place.name}.{secrets.token_hex(4)}.part")
    with output_errors(target):
        folder.mkdir(parents=True)
    draft = Draft(folder, target)
    try:
        yield draft
        draft.take_place(force=force)
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise


@contextlib.contextmanager
def edited_copy(source: Bundle, target: Path, *, force: bool) -> Iterator[Draft]:
    """Give the draft of a copy of `source`: all its files, to be changed.

    A block that writes no manifest leaves the source's. Errors as `check_places` and `new_bundle`.
    """
    check_places(source.root, target, force=force)
    with new_bundle(target, force=force) as draft:
        draft.link_all(source)
        yield draft
        if not draft.complete:
            draft.manifest(source.manifest.model_dump(mode="json"))


def with_manifest(bundle: Bundle, content: dict[str, Any]) -> Bundle:
    """Replace the manifest of a bundle where it lies, at once or not at all; return it, loaded."""
    with atomic_write(bundle.root / MANIFEST_NAME) as out:
        out.write(_text(content))
    return Bundle.load(bundle.root)


def _text(content: dict[str, Any]) -> bytes:
    """Return ``bundle.json`` as it is written; the model puts the keys into their order."""
    manifest = Manifest.model_validate_json(json.dumps(content))
    return manifest.model_dump_json(indent=2).encode() + b"\n"


@contextlib.contextmanager
def workshop(draft: Draft, name: str) -> Iterator[Path]:
    """Give a folder in the draft for temporary files, those of libraries too, gone at the end.

    The system's own may be small, or in memory. An `OSError` inside is about the file `name`.
    """
    before, work = tempfile.tempdir, draft.folder / ".work"
    with output_errors(draft.target / name):
        work.mkdir()
        tempfile.tempdir = str(work)
        try:
            yield work
        finally:
            tempfile.tempdir = before
            shutil.rmtree(work, ignore_errors=True)


def _take_place(folder: Path, target: Path, *, force: bool) -> None:
    old = target.with_name(folder.name.removesuffix(".part") + ".old")
    try:
        if force and target.exists():
            target.rename(old)
        folder.rename(target)
    except BaseException:
        if old.exists():
            old.rename(target)
        raise
    sync_folder(target.parent)
    shutil.rmtree(old, ignore_errors=True)
