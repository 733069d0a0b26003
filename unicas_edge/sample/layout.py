"""Where on the synthetic slide which cell lies.

The answer depends on the seed, the slide's size and the place asked for, never on what was asked
before: every block can be laid out alone, in any thread, and neighbours fit.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from unicas_edge.sample.cells import KINDS

Floats = NDArray[np.float64]
NAMES = [kind.name for kind in KINDS]
VARIANTS = np.array([kind.variants for kind in KINDS])
LESION = np.array([bool(kind.task) for kind in KINDS])
#: spread of a group of cells, um
CLUSTER_UM = 26.0
#: the densest place has this many times the mean density
DENSEST = 1.6

#: one object: middle in level-0 pixels, kind, drawing, one of 8 orientations, plane of focus
OBJECT = np.dtype(
    [("x", "f8"), ("y", "f8"), ("kind", "i2"), ("variant", "i2"), ("turn", "i2"), ("focus", "i2")]
)


@dataclass(frozen=True)
class Mix:
    """What the slide is made of.

    `abnormal`, `candida`, `clue` are shares of the squamous cells; 0 makes the slide negative for
    that task. `density` is squamous cells a mm^2, `blur` the share of the deposit out of focus.
    """

    abnormal: float = 0.012
    candida: float = 0.006
    clue: float = 0.012
    density: float = 520.0
    blur: float = 0.06

    def per_mm2(self) -> Floats:
        """Return how many of each of `KINDS` lie on a mm^2 of deposit, float64 [kinds]."""
        share = {
            "intermediate": 0.5,
            "superficial": 0.24,
            "folded": 0.22,
            "parabasal": 0.04,
            "LSIL": self.abnormal * 0.55,
            "HSIL": self.abnormal * 0.45,
            "candida": self.candida,
            "clue_cell": self.clue,
            "neutrophil": 0.35,
            "debris": 0.07,
            "mucus": 0.008,
        }
        return self.density * np.array([share[name] for name in NAMES])


@dataclass(frozen=True)
class Layout:
    """The objects of a slide of `width` x `height` pixels, by square blocks of `block` pixels."""

    width: int
    height: int
    um_px: float
    seed: int
    mix: Mix
    block: int

    def objects(self, row: int, col: int) -> NDArray[np.void]:
        """Return the objects whose middles lie in a block, `OBJECT` [n]; none off the slide."""
        if row < 0 or col < 0 or row * self.block >= self.height or col * self.block >= self.width:
            return np.empty(0, OBJECT)
        rng = np.random.default_rng([self.seed, 2, row, col])
        rates = self.mix.per_mm2() * (self.block * self.um_px / 1000) ** 2
        kinds = np.repeat(np.arange(len(KINDS)), rng.poisson(rates * DENSEST))
        found = np.zeros(len(kinds), OBJECT)
        corner = np.array([col, row]) * self.block
        place = self._places(rng, len(kinds)) + corner
        found["x"], found["y"] = place.T
        found["kind"] = kinds
        found["variant"] = rng.integers(0, VARIANTS[kinds])
        found["turn"] = rng.integers(0, 8, len(kinds))
        found["focus"] = self._focus(rng, *place.T)
        chance = self._deposit(*place.T) * np.where(LESION[kinds], self._foci(*place.T), 1)
        kept: NDArray[np.void] = found[rng.random(len(kinds)) * DENSEST < chance]
        return kept

    def _places(self, rng: np.random.Generator, count: int) -> Floats:
        """Return places in a block [count, 2]; some together, as cells scraped off as a sheet."""
        place = rng.uniform(0, self.block, (count, 2))
        centres = rng.uniform(0, self.block, (4, 2))[rng.integers(0, 4, count)]
        grouped = centres + rng.normal(0, CLUSTER_UM / self.um_px, (count, 2))
        some = rng.random(count) < 0.22
        place[some] = grouped[some]
        return place.clip(0, self.block - 1)

    def _focus(self, rng: np.random.Generator, x: Floats, y: Floats) -> NDArray[np.int16]:
        """Return the plane of focus of objects at (x, y): regions, and single cells out of it."""
        alone = rng.random(len(x))
        plane = np.where(alone < 0.03, 2, np.where(alone < 0.14, 1, 0))
        if self.mix.blur > 0:
            limit = NormalDist().inv_cdf(min(self.mix.blur, 0.999))
            plane[self._field(3, x, y, 1500) < limit] = 2
        return plane.astype(np.int16)

    def _deposit(self, x: Floats, y: Floats) -> Floats:
        """Return the relative density, 0 to `DENSEST`, at (x, y): a patchy, round deposit."""
        across = (x - self.width / 2) / (0.48 * self.width)
        down = (y - self.height / 2) / (0.48 * self.height)
        ragged = np.hypot(across, down) + 0.01 * self._field(4, x, y, 300)
        patchy = 1 + 0.28 * self._field(5, x, y, 900) + 0.2 * self._field(6, x, y, 220)
        return patchy.clip(0.1, DENSEST) * (ragged < 1)

    def _foci(self, x: Floats, y: Floats) -> Floats:
        """Return how much likelier than on average a lesion or flora is at (x, y)."""
        return (1 + 0.9 * self._field(7, x, y, 1200)).clip(0, DENSEST)

    def _field(self, number: int, x: Floats, y: Floats, period_um: float) -> Floats:
        """Return value noise at level-0 (x, y): mean 0, deviation about 1, bilinear."""
        u, v = x * self.um_px / period_um, y * self.um_px / period_um
        i, j = np.floor(u).astype(np.int64), np.floor(v).astype(np.int64)
        fu, fv = u - i, v - j
        total = np.zeros(len(x))
        for di, wi in ((0, 1 - fu), (1, fu)):
            for dj, wj in ((0, 1 - fv), (1, fv)):
                total += _lattice(self.seed, number, i + di, j + dj) * wi * wj
        return total * 1.5  # interpolation takes a third of the deviation


def _lattice(seed: int, number: int, i: NDArray[np.int64], j: NDArray[np.int64]) -> Floats:
    """Return hashed values of deviation 1 for lattice points (splitmix64's finaliser)."""
    key = np.uint64((seed * 0x9E3779B97F4A7C15 + number * 0xD1B54A32D192ED03) % 2**64)
    mixed = i.astype(np.uint64) * np.uint64(0xBF58476D1CE4E5B9)
    mixed += j.astype(np.uint64) * np.uint64(0x94D049BB133111EB) + key
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
        mixed = (mixed ^ (mixed >> np.uint64(shift))) * np.uint64(factor)
    mixed ^= mixed >> np.uint64(31)
    values: Floats = (mixed.astype(np.float64) / 2.0**64 - 0.5) * math.sqrt(12)
    return values
