"""A synthetic cytology slide of any size with its ground truth, and the writer of such slides."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from unicas_edge.core.files import atomic_write
from unicas_edge.errors import OutputError
from unicas_edge.sample.cells import KINDS
from unicas_edge.sample.layout import Mix
from unicas_edge.sample.scene import STRIP, Scene
from unicas_edge.slide.tiff.pyramid_writer import EncodedTile, Progress, encode_tile, write_pyramid

#: findings listed in the ground truth; the counts are of all
LISTED = 50_000
NOTICE = "synthetic: drawn by a program, no patient and no diagnosis"


@dataclass(frozen=True)
class Finding:
    """A cell or organism a task looks for: its kind, level-0 box in pixels, and whether sharp."""

    label: str
    x: int
    y: int
    width: int
    height: int
    in_focus: bool


@dataclass(frozen=True)
class Truth:
    """What a synthetic slide holds.

    `labels` is {task: positive}, `counts` {kind: how many on the slide}; `findings` lists the
    first `LISTED` of them. `path` is the slide, `truth_path` the JSON with the same content.
    """

    path: Path
    truth_path: Path
    width: int
    height: int
    um_px: float
    seed: int
    mix: Mix
    labels: dict[str, bool]
    counts: dict[str, int]
    findings: tuple[Finding, ...]

    def document(self) -> dict[str, Any]:
        """Return what the JSON file holds."""
        content = asdict(self) | {"path": self.path.name, "notice": NOTICE}
        del content["truth_path"]
        return content


def write_sample(
    path: str | Path,
    width: int,
    height: int,
    *,
    um_px: float = 0.5,
    seed: int = 0,
    mix: Mix | None = None,
    threads: int | None = None,
    progress: Progress | None = None,
) -> Truth:
    """Write a synthetic liquid-based cervical slide (SVS) and ``<stem>.truth.json`` beside it.

    The same arguments give the same bytes. `mix` says how many abnormal cells, candida, clue cells
    and blurred regions there are; `progress` is called with level-0 tiles done and all. Memory does
    not grow with the height. Existing files are replaced once the new ones are complete;
    `OutputError` where they cannot be written, and then neither is left behind.
    """
    path, mix = Path(path), mix or Mix()
    if width < 1 or height < 1 or not 0.1 <= um_px <= 2 or seed < 0:
        raise OutputError(
            f"{path}: cannot draw {width} x {height} pixels of {um_px} um/px with seed {seed}; "
            "give sizes of at least 1 pixel, 0.1 to 2 um/px, and a seed of at least 0"
        )
    scene = Scene(width, height, um_px, seed, mix)
    truth = _truth(path, scene, mix)
    span = scene.block // STRIP
    with atomic_write(truth.truth_path) as stream:
        stream.write(json.dumps(truth.document(), indent=1).encode() + b"\n")
        write_pyramid(
            path,
            width,
            height,
            lambda row, col: scene.render(row, col // span),
            um_px=um_px,
            span=span,
            threads=threads,
            progress=progress,
        )
    return truth


def _truth(path: Path, scene: Scene, mix: Mix) -> Truth:
    """Return what the scene holds, counted and listed."""
    counts = {kind.name: 0 for kind in KINDS if kind.task}
    listed: list[Finding] = []
    for name, box, sharp in scene.findings():
        counts[name] += 1
        if len(listed) < LISTED:
            listed.append(Finding(name, *box, sharp))
    labels = dict.fromkeys((kind.task for kind in KINDS if kind.task), False)
    for kind in KINDS:
        if kind.task and counts[kind.name]:
            labels[kind.task] = True
    return Truth(
        path,
        path.with_suffix(".truth.json"),
        scene.width,
        scene.height,
        scene.um_px,
        scene.seed,
        mix,
        labels,
        counts,
        tuple(listed),
    )


__all__ = [
    "EncodedTile",
    "Finding",
    "Mix",
    "Truth",
    "encode_tile",
    "write_pyramid",
    "write_sample",
]
