"""A model's bytes, hashed in the memory that a runtime loads them from.

A graph is always read into memory (protobuf ends at 2 GB). The weights beside it are, too, up to
`MAX_WEIGHTS_BYTES`: a runtime copies them once more, which for a ViT-L in fp32 would be 1.2 GB at
the peak. Larger ones are read where they lie, and must not be touched meanwhile or afterwards.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path

from unicas_edge.bundle import Bundle
from unicas_edge.errors import EngineError

MAX_WEIGHTS_BYTES = 256 << 20


@dataclass(frozen=True)
class ModelFiles:
    """The bundle's model at `path`: the bytes of its `graph`, and the files it refers to.

    `weights` are their bytes by the name that the graph has for them; None where they are too
    large or the runtime takes none, and the runtime has to read `path` inside `in_place`.
    """

    bundle: Bundle
    path: Path
    graph: bytes
    beside: tuple[Path, ...]
    weights: dict[str, memoryview] | None

    def in_place(self) -> AbstractContextManager[None]:
        """Return the context in which a runtime may read the model's files where they lie.

        `BundleError` from it if one of them was touched since it was hashed. Nothing to do where
        all of them are in memory.
        """
        if self.weights is not None:
            return nullcontext()
        return self.bundle.in_place(map(self.name, (self.path, *self.beside)))

    @property
    def mapped(self) -> tuple[Path, ...]:
        """The files that a runtime maps: the weights that are not in memory."""
        return self.beside if self.weights is None else ()

    def digests(self) -> dict[str, str]:
        """Return the SHA-256 of every file of the model, by its name in the manifest."""
        names = map(self.name, (self.path, *self.beside))
        return {name: self.bundle.manifest.files[name] for name in names}

    def name(self, path: Path) -> str:
        """Return what the manifest calls the bundle's file at `path`."""
        return path.relative_to(self.bundle.root).as_posix()


def read_model(
    bundle: Bundle,
    path: Path,
    referred: Callable[[memoryview, Path], set[str]],
    *,
    in_memory: bool,
) -> ModelFiles:
    """Return the model at `path`, with the files that `referred` finds named in its bytes.

    `in_memory` says whether the runtime takes the weights beside a graph from memory.

    `EngineError` where one of these is not a file of the bundle, which alone are hashed;
    `BundleError` where a file is no longer what the manifest names.
    """
    graph = bundle.read(path.relative_to(bundle.root).as_posix())
    names = referred(graph, path)
    refuse_foreign_files(bundle, path, names)
    beside = {name: path.parent / name for name in sorted(names)}
    made = ModelFiles(bundle, path, bytes(graph), tuple(beside.values()), None)
    few = sum(map(_size, made.beside)) <= MAX_WEIGHTS_BYTES
    if (in_memory and few) or not beside:
        read = {name: bundle.read(made.name(file)) for name, file in beside.items()}
        return replace(made, weights=read)
    return made


def _size(file: Path) -> int:
    return file.stat().st_size if file.is_file() else 0


def refuse_foreign_files(bundle: Bundle, path: Path, names: set[str]) -> None:
    """Let the model at `path` refer only to files of its bundle, which are hash-checked."""
    known = {bundle.path(name) for name in bundle.manifest.files}
    for name in sorted(names):
        if Path(name).is_absolute() or path.parent / name not in known:
            raise EngineError(
                f"{path}: refers to {name!r}, which is not a file of the bundle; list it under "
                "files, or export the model in one file"
            )
