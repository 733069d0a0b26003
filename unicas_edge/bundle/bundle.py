"""A model bundle: a folder with ``bundle.json`` and the files it names, every one hash-checked.

Nothing in a bundle is unpickled or executed: JSON, ONNX and safetensors only.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path

from pydantic import ValidationError

from unicas_edge.bundle.aggregator_file import read_config
from unicas_edge.bundle.manifest import Manifest
from unicas_edge.bundle.verified_files import VerifiedFiles
from unicas_edge.core.json_once import check_once
from unicas_edge.core.regular_file import identity, open_regular
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
    #: What was hashed when it was loaded.
    held: VerifiedFiles = field(default_factory=VerifiedFiles, compare=False, repr=False)

    @classmethod
    def load(cls, path: str | Path | None = None) -> Bundle:
        """Return the bundle in folder `path` (None: the one embedded in this package), verified.

        `BundleError`, naming file and key, for a manifest that breaks the schema, for a file that
        is missing, lies outside the folder or has another hash, and for an aggregator whose own
        configuration differs from the manifest's.
        """
        root = _DEFAULT if path is None else Path(path)
        held = VerifiedFiles()
        text = _read_manifest(root / MANIFEST_NAME, held)
        digest = hashlib.sha256(text).hexdigest()
        bundle = cls(root, _parse(root / MANIFEST_NAME, text), digest, held)
        for name in bundle.manifest.files:
            bundle._verify(name)
        bundle._check_aggregator()
        return bundle

    def read(self, name: str) -> memoryview:
        """Return the bytes of the bundle's file `name`, hashed in the memory that they are in.

        `BundleError` where they are not those that the manifest names any more.
        """
        return self.held.read(self.path(name), self.manifest.files[name])

    def in_place(self, names: Iterable[str]) -> AbstractContextManager[None]:
        """Return a context in which a runtime may read the files `names` where they lie.

        For those too large for `read`. `BundleError` where one was touched since it was hashed;
        afterwards `check_unchanged` says so.
        """
        return self.held.in_place(names)

    def check_unchanged(self) -> None:
        """Raise `BundleError` if a file of the bundle changed since it was loaded.

        From then on always: only a bundle that is loaded anew can say what it runs. Looks at sizes
        and times, and reads a file again only where these differ.
        """
        self.held.check()

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

    def check_part(self, what: str, digests: Mapping[str, str]) -> None:
        """Raise `BundleError` if a part was made of files that are not this bundle's (SHA-256).

        Of this one as it was before, say.
        """
        for name, digest in digests.items():
            if self.manifest.files.get(name) != digest:
                raise BundleError(
                    f"{self.root}: the {what} was opened from another {name} than this bundle's, "
                    f"so that results could not say what made them; open the {what} again"
                )

    def _verify(self, name: str) -> None:
        manifest, path, again = self.root / MANIFEST_NAME, self.path(name), "copy the bundle again"
        if not path.is_file():
            what = "not a regular file" if path.exists() else "no such file"
            raise BundleError(f"{manifest}: files: {name!r} is missing ({path}: {what}); {again}")
        try:
            self.held.verify(name, path, self.manifest.files[name])
        except OSError as error:
            raise BundleError(f"{path}: cannot be read ({error.strerror}); {again}") from error
        except BundleError as error:
            raise BundleError(f"{manifest}: files: {error}") from error

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


def _read_manifest(path: Path, held: VerifiedFiles) -> bytes:
    try:
        with open_regular(path) as file:
            found = identity(file.fileno())
            text = file.read(MAX_MANIFEST_BYTES + 1)
    except OSError as error:
        raise BundleError(
            f"{path}: cannot be read ({error.strerror}); --bundle takes a folder with a "
            f"{MANIFEST_NAME} inside"
        ) from error
    if len(text) > MAX_MANIFEST_BYTES:
        raise BundleError(f"{path}: too large for a manifest (over {MAX_MANIFEST_BYTES:,} bytes)")
    held.keep(MANIFEST_NAME, path, found, hashlib.sha256(text).hexdigest())
    return text


def _parse(path: Path, text: bytes) -> Manifest:
    try:
        manifest = Manifest.model_validate_json(text)
        check_once(text)
    except ValidationError as error:
        problems = [
            f"{'.'.join(map(str, e['loc'])) or 'manifest'}: {e['msg']}" for e in error.errors()
        ]
        more = f" and {len(problems) - _SHOWN} more" if len(problems) > _SHOWN else ""
        raise BundleError(
            f"{path}: {'; '.join(problems[:_SHOWN])}{more}. Correct the manifest; its schema is "
            "unicas_edge/schemas/bundle.schema.json"
        ) from error
    except ValueError as error:
        raise BundleError(f"{path}: {error}. Correct the manifest") from error
    return manifest
