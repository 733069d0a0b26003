"""What an encoder is adapted to: labelled cells, and tiles of composed slides, augmented.

Images are held as JPEG, so that all of them fit into memory and into the process that makes
batches. Tiles are those that something was put into, and some of the background: what decides a
label and the decoys that look like it come equally often. Artefacts may be among them.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import simplejpeg
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from unicas_edge.core.arrays import UInt8Image
from unicas_edge.tiles.colour import Target
from unicas_edge.train.cells.dataset import Regions, pixels
from unicas_edge.train.compose.choice import TASKS
from unicas_edge.train.compose.correct import Correct, correction
from unicas_edge.train.compose.recipe import Recipe
from unicas_edge.train.compose.set import plans
from unicas_edge.train.compose.slide import Composer, Slide
from unicas_edge.train.encoder.views import cell_view, restained, tile_view

TILE_SOURCE = "tiles"
#: Images of a step, all sources together.
BATCH = 64
_QUALITY = 95
#: A cell's picture is made so large at most: an encoder is shown 220 to 224 pixels.
_LARGEST = 320


class Batch(NamedTuple):
    """Images uint8 [n, 3, S, S] and their labels: classes int64 [n], tiles' float32 [n, tasks]."""

    images: Tensor
    labels: Tensor


class Picture(NamedTuple):
    """A JPEG, and the share of its sides that is the cell itself; around it is what lies there."""

    jpeg: bytes
    inner: float = 1.0


@dataclass(frozen=True)
class Pool:
    """Pictures of one source, the labels of each, and the `chances` [n] that it is drawn with."""

    pictures: tuple[Picture, ...]
    labels: NDArray[Any]
    chances: NDArray[np.float64]

    def draw(self, count: int, rng: np.random.Generator) -> NDArray[np.intp]:
        """Return the indices of `count` pictures, without one twice if there are so many."""
        twice = bool(count > np.count_nonzero(self.chances))
        found = rng.choice(len(self.pictures), count, replace=twice, p=self.chances)
        return np.asarray(found)


@dataclass(frozen=True)
class AdaptData:
    """The sources by name, their `shares` of a batch, and how an encoder is shown them.

    `outputs` are the logits of each; of those in `binary` the first class is told from all others
    besides. `size` is the side of what the encoder is shown, `mean` and `std` are its input's.
    """

    pools: Mapping[str, Pool]
    outputs: Mapping[str, int]
    shares: Mapping[str, float]
    binary: frozenset[str]
    size: int
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    batch_size: int = BATCH
    identity: Mapping[str, Any] = field(default_factory=dict)

    def batch(self, step: int) -> dict[str, Batch]:
        """Return a step's images by source, drawn from the global generators (`feed.seed_all`)."""
        del step
        rng = np.random.default_rng(int(torch.randint(2**62, ())))
        return {name: self._of(name, count, rng) for name, count in self._counts().items() if count}

    def _counts(self) -> dict[str, int]:
        """Return how many images of each source are in a batch, by the shares it asks for."""
        total = sum(self.shares[name] for name in self.pools)
        exact = {name: self.batch_size * self.shares[name] / total for name in self.pools}
        return {name: max(1, round(count)) for name, count in exact.items()}

    def _of(self, name: str, count: int, rng: np.random.Generator) -> Batch:
        pool = self.pools[name]
        view = tile_view if name == TILE_SOURCE else cell_view
        chosen = pool.draw(count, rng)
        shown = [
            view(
                simplejpeg.decode_jpeg(pool.pictures[i].jpeg),
                self.size,
                rng,
                pool.pictures[i].inner,
            )
            for i in chosen.tolist()
        ]
        images = torch.from_numpy(np.stack(shown).transpose(0, 3, 1, 2).copy())
        return Batch(restained(images, rng), torch.from_numpy(pool.labels[chosen]))


def cell_pool(data: Regions, around: float = 1.0) -> Pool:
    """Return the cells of a data set; rare classes are drawn more often than their share.

    By the square root of it. With `around` > 1 the pictures are so much larger than the region,
    which are squares in a field (CRIC's).
    """
    pictures = []
    for region in data.regions:
        wider = region
        if region.centre is not None:
            wider = type(region)(region.path, region.centre, round(region.side * around))
        inner = 1.0 if region.centre is None else region.side / wider.side
        pictures.append(Picture(_jpeg(pixels(wider)), inner))
    counts = np.bincount(data.labels, minlength=len(data.classes))
    chances = counts[data.labels].astype(np.float64) ** -0.5
    return Pool(tuple(pictures), data.labels, chances / chances.sum())


def tile_pool(
    composer: Composer,
    slides: int,
    seed: int,
    tell: Callable[[str], None] = lambda _: None,
    *,
    backgrounds: int = 24,
    recipes: Sequence[Recipe] = (Recipe(),),
    artefacts: Iterable[UInt8Image] = (),
    target: Target | None = None,
) -> Pool:
    """Return tiles of composed slides: all that something was put into, and some background.

    Labels float32 [n, tasks]: whether the tile decides each task, NaN where that is not known.
    Every kind comes equally often; `backgrounds` of a slide are one, and another for each further
    24, and so are `artefacts`, each half of them. So many `slides` are composed by the `recipes`,
    the same number by each. With a `target` the colours of every second one are corrected
    (`reinhard`).
    """
    made = _Tiles()
    each = -(-slides // len(recipes))
    for number, recipe in enumerate(recipes):
        for done, (_, slide) in enumerate(plans(composer, each, seed + 1000 * number, recipe), 1):
            mode = "reinhard" if target is not None and done % 2 else "none"
            made.take(slide, backgrounds, correction(slide, mode, target))
            if done % 10 == 0:
                tell(f"tiles of {number * each + done} of {len(recipes) * each} composed slides")
    for number, tile in enumerate(artefacts):
        made.add(tile, [0.0] * len(TASKS), f"artefact/{number % 2}")
    return Pool(tuple(made.pictures), np.array(made.labels, np.float32), _even(made.kinds))


class _Tiles:
    """Pictures, labels and kinds of the tiles of a pool, while it is made."""

    def __init__(self) -> None:
        self.pictures: list[Picture] = []
        self.labels: list[list[float]] = []
        self.kinds: list[str] = []

    def take(self, slide: Slide, backgrounds: int, correct: Correct) -> None:
        for one in slide.insertions:
            index = one.tile[0] * slide.recipe.columns + one.tile[1]
            labels = _labels(slide.shown(index), one.task if one.decisive else None)
            self.add(correct(slide.at(index)), labels, f"{one.task}/{one.decisive}")
        for k, index in enumerate(slide.backgrounds(backgrounds)):
            labels = _labels(slide.shown(index))
            self.add(correct(slide.at(index)), labels, f"background/{k // 24}")

    def add(self, tile: UInt8Image, labels: list[float], kind: str) -> None:
        self.pictures.append(Picture(_jpeg(tile)))
        self.labels.append(labels)
        self.kinds.append(kind)


def _labels(shown: Sequence[str], decided: str | None = None) -> list[float]:
    """Return a tile's labels: 1 for the task it decides, NaN for what may be there by itself."""
    return [float(t == decided) if t == decided or t not in shown else math.nan for t in TASKS]


def _even(kinds: list[str]) -> NDArray[np.float64]:
    """Return the chances with which every kind comes equally often."""
    names, inverse, counts = np.unique(kinds, return_inverse=True, return_counts=True)
    return np.asarray(1.0 / (len(names) * counts[inverse]))


def _jpeg(image: NDArray[np.uint8]) -> bytes:
    height, width = image.shape[:2]
    factor = _LARGEST / max(height, width)
    if factor < 1:
        size = (max(8, round(width * factor)), max(8, round(height * factor)))
        image = np.asarray(Image.fromarray(image).resize(size, Image.Resampling.BICUBIC))
    return bytes(simplejpeg.encode_jpeg(np.ascontiguousarray(image), _QUALITY, "RGB", "444"))


def digest(pools: Iterable[Pool]) -> str:
    """Return a hash of all pictures and labels: what a checkpoint depends on."""
    found = hashlib.sha256()
    for pool in pools:
        for picture in pool.pictures:
            found.update(picture.jpeg)
        found.update(pool.labels.tobytes())
    return found.hexdigest()
