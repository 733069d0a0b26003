"""Image files through a bundle's region heads, and the results as CSV or JSON."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from unicas_edge.core.arrays import Float32, UInt8Image
from unicas_edge.core.files import atomic_write, output_errors
from unicas_edge.errors import OutputError, RegionError
from unicas_edge.heads.classifier import RegionClassifier
from unicas_edge.heads.head import Head
from unicas_edge.heads.images import read_image
from unicas_edge.result import caution


@dataclass(frozen=True)
class Classified:
    """What the heads say of the images that could be read, in the order of `paths`.

    `probabilities` float32 [n, classes] and `called`, the class indices [n], go by head; `failed`
    says of every other image what is wrong with it.
    """

    bundle: dict[str, str]
    heads: tuple[Head, ...]
    paths: tuple[Path, ...]
    probabilities: dict[str, Float32]
    called: dict[str, NDArray[np.intp]]
    failed: tuple[str, ...]
    notices: tuple[str, ...]


@dataclass
class _Readable:
    """The images of `paths` that can be read, noting which, and what is wrong with the others."""

    paths: Sequence[Path]
    read: list[Path] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)

    def __iter__(self) -> Iterator[UInt8Image]:
        for path in self.paths:
            try:
                image = read_image(path)
            except RegionError as error:
                self.failed.append(str(error))
                continue
            self.read.append(path)
            yield image


def classify_files(
    classifier: RegionClassifier, paths: Sequence[Path], um_px: float | None = None
) -> Classified:
    """Return what the classifier's heads say of each file; one image is in memory at a time."""
    images = _Readable(paths)
    found = classifier.classify(images, um_px)
    manifest, encoder = classifier.bundle.manifest, classifier.encoder
    doubt = encoder.unverified and f"{encoder.name} {encoder.precision}: {encoder.unverified}"
    return Classified(
        bundle={
            "name": manifest.name,
            "version": manifest.version,
            "sha256": classifier.bundle.digest,
            "intended_use": manifest.intended_use,
        },
        heads=classifier.heads,
        paths=tuple(images.read),
        probabilities=found,
        called={head.spec.name: head.decide(found[head.spec.name]) for head in classifier.heads},
        failed=tuple(images.failed),
        notices=(manifest.intended_use, *filter(None, (caution(manifest), doubt))),
    )


def check_output(path: Path, *, force: bool) -> None:
    """Raise `OutputError` where `path` is there and `force` is not given, or cannot be a file."""
    if path.exists() and not (force and path.is_file()):
        step = "choose another file with --output" if force else "--force replaces it"
        raise OutputError(f"{path}: exists; {step}")


def write_csv(path: Path, found: Classified) -> None:
    """Write a row an image: its path, and of each head the class called and all probabilities.

    The columns are ``image``, ``<head>``, ``<head>.<class>``. `path` appears whole or not at all.
    """
    with output_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_write(path) as handle:
        text = io.TextIOWrapper(handle, encoding="utf-8", newline="", write_through=True)
        writer = csv.writer(text, lineterminator="\n")
        names = [
            name
            for head in found.heads
            for name in (head.spec.name, *(f"{head.spec.name}.{c}" for c in head.spec.classes))
        ]
        writer.writerow(["image", *names])
        writer.writerows(_rows(found))
        text.detach()  # the handle is closed by its owner


def _rows(found: Classified) -> Iterator[list[str]]:
    for row, path in enumerate(found.paths):
        cells = [_harmless(path)]
        for head in found.heads:
            name = head.spec.name
            cells.append(head.spec.classes[found.called[name][row]])
            cells += [str(share) for share in found.probabilities[name][row]]
        yield cells


def _harmless(path: Path) -> str:
    """Return a path that no spreadsheet takes for a formula."""
    text = str(path)
    return f"./{text}" if text[0] in "=+-@" else text


def as_json(found: Classified) -> str:
    """Return the results as a JSON document."""
    heads = [
        {"name": h.spec.name, "classes": h.spec.classes, "threshold": h.spec.threshold}
        for h in found.heads
    ]
    images = [
        {
            "image": str(path),
            "heads": {
                h.spec.name: {
                    "called": h.spec.classes[found.called[h.spec.name][row]],
                    "probabilities": [float(str(p)) for p in found.probabilities[h.spec.name][row]],
                }
                for h in found.heads
            },
        }
        for row, path in enumerate(found.paths)
    ]
    content = {
        "bundle": found.bundle,
        "heads": heads,
        "images": images,
        "failed": found.failed,
        "notices": found.notices,
    }
    return json.dumps(content, indent=2)
