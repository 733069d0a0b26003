"""A changed copy of a bundle: its files linked, its manifest extended, room for scratch files."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from unicas_edge.bundle import Bundle
from unicas_edge.bundle.edit import new_file
from unicas_edge.bundle.encoder import EncoderForm
from unicas_edge.bundle.manifest import Manifest
from unicas_edge.core.files import output_errors


def link_files(source: Bundle, folder: Path, target: Path) -> None:
    """Put every file of a bundle into `folder`, staged for `target`; `OutputError` if it cannot.

    Hard links, as the files of a bundle are replaced and never written to; copies where the disk
    has no links.
    """
    for name in source.manifest.files:
        link_file(source.path(name), folder, target, name)


def link_file(path: Path, folder: Path, target: Path, name: str) -> None:
    """Put one file into `folder` as `name`; see `link_files`."""
    place = folder.joinpath(*name.split("/"))
    with output_errors(target / name):
        place.parent.mkdir(parents=True, exist_ok=True)
        with contextlib.suppress(OSError):  # another file system, or one without links
            os.link(path.resolve(), place)
            return
    with new_file(folder, target, name) as out, path.open("rb") as file:
        shutil.copyfileobj(file, out, 1 << 20)


@contextlib.contextmanager
def workshop(folder: Path, file: Path) -> Iterator[Path]:
    """Give a folder in `folder` for temporary files, those of libraries too, gone at the end.

    The system's own may be small, or in memory. An `OSError` inside is about `file`.
    """
    before, work = tempfile.tempdir, folder / ".work"
    with output_errors(file):
        work.mkdir()
        tempfile.tempdir = str(work)
        try:
            yield work
        finally:
            tempfile.tempdir = before
            shutil.rmtree(work, ignore_errors=True)


def sync(path: Path) -> None:
    """Bring a file that a library wrote onto the disk."""
    with path.open("rb") as file:
        os.fsync(file.fileno())


def sha256(path: Path) -> str:
    """Return the SHA-256 of a file, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def manifest_with(source: Manifest, form: EncoderForm, hashes: dict[str, str]) -> bytes:
    """Return ``bundle.json``: the source's with one more form and its files."""
    content = source.model_dump(mode="json")
    content["encoder"].setdefault("forms", []).append(form.model_dump(mode="json"))
    content["files"] |= hashes
    text = Manifest.model_validate_json(json.dumps(content)).model_dump_json(indent=2) + "\n"
    return text.encode()
