"""Slides of tiles of one strong colour each, for knowledge that is made by hand to read it."""

from __future__ import annotations

import random

import numpy as np

from tests.support.fake_encoder import FakeEncoder
from unicas_edge.screening.session import Session

WIDTH, HEIGHT = 3000, 2500
GRID = (10, 12)
RGB = {"cell": (90, 100, 200), "ink": (200, 90, 100), "bubble": (100, 190, 90), "grey": (120,) * 3}
EMPTY = (245,) * 3


def tile_of(what, cell):
    """A sharp tile of one colour, differing from place to place."""
    rng = np.random.default_rng((3, *cell))
    colour = np.array(EMPTY if what == "empty" else RGB[what])
    if what == "empty":
        return np.full((256, 256, 3), colour, np.uint8)
    noise = rng.integers(-40, 41, (64, 64, 1)).repeat(4, axis=0).repeat(4, axis=1)
    shade = rng.integers(-20, 21)
    return np.clip(colour + noise + shade, 0, 255).astype(np.uint8)


CONFORMAL = {"coverage": 0.9, "slides": 200, "positive_from": 0.4, "negative_to": 0.6}


def run(bundle, content, *, pushed=None, order=None, given=None, max_tiles="all", **options):
    """Screen a slide whose tile at a cell is content(cell); `given` scores are pushed along."""
    encoder = FakeEncoder(bundle.manifest.encoder.width, batch_size=8)
    with Session(
        bundle,
        **{"width": WIDTH, "height": HEIGHT, "um_px": 0.5, "max_tiles": max_tiles} | options,
        encoder=encoder,
    ) as session:
        cells = pushed or [
            (r, c) for r in range(session.grid.rows) for c in range(session.grid.cols)
        ]
        for cell in order(list(cells)) if order else cells:
            score = None if given is None else float(given[cell])
            session.push(tile_of(content(cell), cell), *session.grid.origin(cell), score)
        return session.finish()


def shuffled(cells):
    random.Random(5).shuffle(cells)
    return cells


def always(what):
    return lambda _: what


def striped(cell):
    return ("cell", "cell", "bubble", "ink", "empty")[cell[1] % 5]


def decisions(result):
    return {task.decision for task in result.tasks}
