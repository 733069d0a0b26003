"""A model bundle: a folder with ``bundle.json`` and the files it names, every one hash-checked.

Nothing in a bundle is unpickled or executed: JSON, ONNX and safetensors only.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError

from unicas_edge.bundle.aggregator_file import read_config
from unicas_edge.bundle.manifest import Manifest
from unicas_edge.core.hashing import sha256
from unicas_edge.errors import AggregatorError, BundleError

MANIFEST_NAME = "bundle.json"
MAX_MANIFEST_BYTES = 1 << 20
_SHOWN = 5
_DEFAULT = Path(__file__).parent / "default"


@dataclass(frozen=True)
class Bundle:
    """A verified bundle. `root` is its folder, `digest` the SHA-256 of ``bundle.json``.

    As the manifest holds the hash of every other file, the digest names the whole bundle.
    """

    root: Path
    manifest: Manifest
    digest: str

    @classmethod
    def load(cls, path: str | Path | None = None) -> Bundle:
        """Return the bundle in folder `path` (None: the one embedded in this package), verified.

        `BundleError`, naming file and key, for a manifest that breaks the schema, for a file that
        is missing, lies outside the folder or has another hash, and for an aggregator whose own
        configuration differs from the manifest's.
        """
        root = _DEFAULT if path is None else Path(path)
        text = _read_manifest(root / MANIFEST_NAME)
        bundle = cls(root, _parse(root / MANIFEST_NAME, text), hashlib.sha256(text).hexdigest())
        for name, expected in bundle.manifest.files.items():
            _verify(root / MANIFEST_NAME, bundle.path(name), name, expected)
        bundle._check_aggregator()
        return bundle

    def path(self, name: str) -> Path:
        """Return where the bundle's file `name` lies; `BundleError` if that is not inside it."""
        manifest = self.root / MANIFEST_NAME
        if name not in self.manifest.files:
            raise BundleError(f"{manifest}: files: {name!r} is not listed; add it with its SHA-256")
        path = self.root.joinpath(*name.split("/"))
        try:
            inside = path.resolve().is_relative_to(self.root.resolve())
        except (OSError, RuntimeError):  # links that loop
            inside = False
        if not inside or ".." in name.split("/"):
            raise BundleError(
                f"{manifest}: files: {name!r} leads outside the bundle; copy the file into the "
                "folder and name it from there"
            )
        return path

    def _check_aggregator(self) -> None:
        spec = self.manifest.aggregator
        path = self.path(spec.file)
        try:
            stored = read_config(path)
        except AggregatorError as error:
            raise BundleError(f"{self.root / MANIFEST_NAME}: aggregator.file: {error}") from error
        if stored != spec.config:
            theirs, ours = stored.model_dump(), spec.config.model_dump()
            differ = [f"{k} {ours[k]} != {theirs[k]}" for k in ours if ours[k] != theirs[k]]
            raise BundleError(
                f"{self.root / MANIFEST_NAME}: aggregator.config differs from the metadata of "
                f"{path}: {', '.join(differ)}; copy the file's configuration into the manifest"
            )


def _read_manifest(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            text = file.read(MAX_MANIFEST_BYTES + 1)
    except OSError as error:
        raise BundleError(
            f"{path}: cannot be read ({error.strerror}); --bundle takes a folder with a "
            f"{MANIFEST_NAME} inside"
        ) from error
    if len(text) > MAX_MANIFEST_BYTES:
        raise BundleError(f"{path}: too large for a manifest (over {MAX_MANIFEST_BYTES:,} bytes)")
    return text


def _parse(path: Path, text: bytes) -> Manifest:
    try:
        return Manifest.model_validate_json(text)
    except ValidationError as error:
        problems = [
            f"{'.'.join(map(str, e['loc'])) or 'manifest'}: {e['msg']}" for e in error.errors()
        ]
        more = f" and {len(problems) - _SHOWN} more" if len(problems) > _SHOWN else ""
        raise BundleError(
            f"{path}: {'; '.join(problems[:_SHOWN])}{more}. Correct the manifest; its schema is "
            "unicas_edge/schemas/bundle.schema.json"
        ) from error


def _verify(manifest: Path, path: Path, name: str, expected: str) -> None:
    again = "copy the bundle again"
    if not path.is_file():
        raise BundleError(f"{manifest}: files: {name!r} is missing ({path}); {again}")
    try:
        found = sha256(path)
    except OSError as error:
        raise BundleError(f"{path}: cannot be read ({error.strerror}); {again}") from error
    if found != expected:
        raise BundleError(
            f"{manifest}: files: {name!r} has SHA-256 {found}, the manifest says {expected}; the "
            f"file is damaged or was changed: {again}"
        )
