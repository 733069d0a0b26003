"""A bundle folder that appears whole or not at all: written beside its place, then renamed."""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from pydantic import ValidationError

from unicas_edge.bundle.bundle import MANIFEST_NAME, MAX_MANIFEST_BYTES
from unicas_edge.bundle.manifest import Manifest
from unicas_edge.core.files import output_errors, sync_folder
from unicas_edge.errors import OutputError


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
        with (target / MANIFEST_NAME).open("rb") as file:
            manifest = Manifest.model_validate_json(file.read(MAX_MANIFEST_BYTES))
    except (OSError, ValidationError) as error:
        raise OutputError(f"{target}: holds no valid {MANIFEST_NAME}; {step}") from error
    names = {MANIFEST_NAME, *manifest.files}
    for path in target.rglob("*"):
        name = path.relative_to(target).as_posix()
        if name not in names and (path.is_symlink() or not path.is_dir()):
            raise OutputError(f"{path}: is not a file of the bundle in this folder; {step}")


@contextlib.contextmanager
def staging(target: Path, *, force: bool) -> Iterator[Path]:
    """Give a new folder beside `target` that takes its place at the end, or goes if that fails.

    `check_places` comes first. `OutputError`, naming `target`, where the system refuses.
    """
    place = target.resolve()
    folder = place.with_name(f".{place.name}.{secrets.token_hex(4)}.part")
    with output_errors(target):
        folder.mkdir(parents=True)
    try:
        yield folder
        with output_errors(target):
            _take_place(folder, place, force=force)
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise


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


@contextlib.contextmanager
def new_file(folder: Path, target: Path, name: str) -> Iterator[BinaryIO]:
    """Give a new file `name` in `folder`, synced at the end of the block.

    An `OSError` in the block is an `OutputError` that names the file as it will lie in `target`.
    """
    path = folder.joinpath(*name.split("/"))
    with output_errors(target / name):
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("xb") as out:
            yield out
            out.flush()
            os.fsync(out.fileno())
