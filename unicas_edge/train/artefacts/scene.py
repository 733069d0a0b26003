"""What a whole artefact slide is put together from: grounds that give tiles, and layers on them."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial

import numpy as np

from unicas_edge.core.arrays import UInt8Image
from unicas_edge.errors import TrainingError
from unicas_edge.train.artefacts.foreign import DRAWN, IMPOSSIBLE
from unicas_edge.train.artefacts.glass import grain
from unicas_edge.train.artefacts.material import Material
from unicas_edge.train.artefacts.plane import (
    Layer,
    Light,
    Noise,
    Rng,
    Window,
    grey_of,
    light_of,
    log_uniform,
    step,
)
from unicas_edge.train.artefacts.tiles import LAYERS
from unicas_edge.train.compose.pixels import feather
from unicas_edge.train.compose.recipe import Recipe
from unicas_edge.train.compose.scale import at_scale
from unicas_edge.train.compose.slide import Composer
from unicas_edge.train.compose.sources import TILE

#: (row, column) of a tile -> its light, float32 [256, 256, 3]; the same whenever it is asked for
Ground = Callable[[int, int], Light]
#: pixels a side of a single cell with what is around it
_CELL = 150


@dataclass
class Scene:
    """A slide of rows x columns tiles; `used` gathers the sources of what is drawn on it."""

    rng: Rng
    rows: int
    columns: int
    material: Material
    composer: Composer
    used: set[str] = field(default_factory=set)

    @property
    def side(self) -> float:
        """The side of the square of the plane that the slide lies in, pixels."""
        return float(TILE * max(self.rows, self.columns))

    def tile_rng(self) -> Callable[[int, int], Rng]:
        """Return what gives each tile a generator of its own, the same each time."""
        seed = int(self.rng.integers(2**62))
        return lambda row, column: np.random.default_rng([seed, row, column])

    # ---- grounds ----

    def glass(self, low: float = 0.82) -> Ground:
        """Return glass of one lamp: every tile as bright as the others."""
        level, tint = self.rng.uniform(low, 0.995), self.rng.normal(0, 0.01, 3)
        colour, rng_of = np.asarray((level + tint).clip(0, 1), np.float32), self.tile_rng()
        amount = np.float32(self.rng.uniform(0, 0.006))
        return lambda row, column: colour + grain(rng_of(row, column)) * amount

    def cells(self) -> Ground:
        """Return a composed slide of one stain: what would be judged if nothing lay on it."""
        recipe = Recipe(rows=self.rows, columns=self.columns)
        slide = self.composer.plan(int(self.rng.integers(2**62)), recipe=recipe)
        self.used.add(f"cells/{slide.background}")
        return lambda row, column: light_of(slide.tile(row, column))

    def few(self, share: float) -> Ground:
        """Return glass with one or two cells on a `share` of the tiles."""
        ground, rng_of = self.glass(0.92), self.tile_rng()
        self.used.add("cells/few")

        def tile(row: int, column: int) -> Light:
            light, rng = ground(row, column), rng_of(row, column)
            for _ in range(int(rng.random() < share) * int(rng.integers(1, 3))):
                self._lay_cell(light, rng)
            return light

        return tile

    def _lay_cell(self, light: Light, rng: Rng) -> None:
        """Lay the middle of a tile with cells on the light, faded out round about."""
        under = light_of(self.material.tile(rng, crowded=True))
        start = (TILE - _CELL) // 2
        cell = under[start : start + _CELL, start : start + _CELL]
        share = feather(_CELL, _CELL, round_=True)[..., None]
        top, left = (int(v) for v in rng.integers(0, TILE - _CELL, 2))
        white = np.percentile(under, 97, axis=(0, 1)).astype(np.float32).clip(0.8, 1)
        light[top : top + _CELL, left : left + _CELL] *= (cell / white).clip(0, 1) ** share

    def picture(self, source: str, enlarged: float | None = None) -> Ground:
        """Return a picture over the whole slide, or `enlarged` so much and mirrored as it ends.

        `TrainingError` where the material lacks it.
        """
        if source not in self.material.pictures:
            raise TrainingError(f"no picture {source} in the material")
        self.used.add(source)
        whole = self.material.pictures[source]
        factor = enlarged or max(
            self.rows * TILE / whole.shape[0], self.columns * TILE / whole.shape[1]
        )
        return partial(_part, whole, factor)

    def drawn(self, source: str) -> Ground:
        """Return tiles that a program drew, each another."""
        self.used.add(source)
        rng_of = self.tile_rng()
        return lambda row, column: light_of(DRAWN[source](rng_of(row, column)))

    def impossible(self, source: str) -> Ground:
        """Return cells in colours that there are not, the same change on every tile."""
        self.used.add(source)
        ground, seed = self.cells(), int(self.rng.integers(2**62))

        def tile(row: int, column: int) -> Light:
            pixels = grey_of(ground(row, column))
            return light_of(IMPOSSIBLE[source](pixels, np.random.default_rng(seed)))

        return tile

    # ---- layers ----

    def layer(self, source: str) -> Layer:
        """Return the layer of a source, drawn over the whole slide."""
        return self.noted(source, LAYERS[source](self.rng, self.side))

    def noted(self, source: str, layer: Layer) -> Layer:
        """Return a layer, its source noted."""
        self.used.add(source)
        return layer

    def over(self, ground: Ground, *layers: Layer) -> Ground:
        """Return a ground with layers on it, one after the other."""

        def tile(row: int, column: int) -> Light:
            window = Window(row * TILE, column * TILE)
            light = ground(row, column)
            for layer in layers:
                light = layer(light, window)
            return light

        return tile

    def mostly(self, share: float, one: Ground, other: Ground) -> Ground:
        """Return `one` on a share of the tiles, which lie together, and `other` on the rest."""
        noise, period = Noise(self.rng), self.side / self.rng.uniform(2, 6)
        high = np.array(
            [
                [_middle(noise, row, column, period) for column in range(self.columns)]
                for row in range(self.rows)
            ]
        )
        chosen = high <= np.quantile(high, share)
        return lambda row, column: (one if chosen[row, column] else other)(row, column)


def lamp(rng: Rng, low: float, high: float) -> Layer:
    """Return a lamp that gives so much of the light, from nothing to too much."""
    level = np.float32(log_uniform(rng, low, high))

    def layer(light: Light, window: Window) -> Light:
        del window
        lit: Light = (light * level).clip(0, 1)
        return lit

    return layer


def fading(layer: Layer, rng: Rng, share: float) -> Layer:
    """Return a layer on about a share of the plane only, its border soft and uneven."""
    noise, period = Noise(rng), log_uniform(rng, 600, 2000)
    level = math.sqrt(2) * (2 * share - 1)

    def changed(light: Light, window: Window) -> Light:
        where = step(level - noise.octaves(window, period, 4), 0.15)
        if not where.any():
            return light
        return light + (layer(light, window) - light) * where[..., None]

    return changed


def _middle(noise: Noise, row: int, column: int, period: float) -> float:
    window = Window(row * TILE, column * TILE)
    return float(noise.over(window, period)[TILE // 2, TILE // 2])


def _part(whole: UInt8Image, factor: float, row: int, column: int) -> Light:
    """Return the part of a picture, enlarged, that a tile shows; it is mirrored as it ends."""
    middle = ((row + 0.5) * TILE / factor, (column + 0.5) * TILE / factor)
    return light_of(at_scale(whole, middle, factor, (TILE, TILE)))
