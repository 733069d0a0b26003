"""What every made slide is: tiles on demand, the JPEG streams they become, and the file of them."""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Iterator
from itertools import product
from pathlib import Path
from typing import Any

import simplejpeg

from unicas_edge.core.arrays import UInt8Image
from unicas_edge.core.files import atomic_write
from unicas_edge.slide.tiff.pyramid_writer import encode_tile, write_pyramid
from unicas_edge.train.compose.recipe import Recipe
from unicas_edge.train.compose.sources import TILE, UM_PX


class TiledSlide(ABC):
    """A slide of `recipe.rows` x `recipe.columns` tiles, made when they are asked for."""

    recipe: Recipe

    @abstractmethod
    def tile(self, row: int, column: int) -> UInt8Image:
        """Return a tile before JPEG, uint8 [256, 256, 3]; threads may ask at the same time."""

    @abstractmethod
    def truth(self) -> dict[str, Any]:
        """Return what the JSON file holds beside the slide's name."""

    @property
    def quality(self) -> int:
        """The JPEG quality that the slide is written with."""
        return self.recipe.quality

    def encoded(self) -> Iterator[bytes]:
        """Yield all tiles, row by row, as the JPEG streams that the written slide holds."""
        for row, column in product(range(self.recipe.rows), range(self.recipe.columns)):
            yield encode_tile(self.tile(row, column), self.quality).jpeg

    def bag(self) -> Iterator[UInt8Image]:
        """Yield all tiles, row by row, as a reader decodes them from the written slide."""
        for jpeg in self.encoded():
            yield simplejpeg.decode_jpeg(jpeg)

    def write(self, path: Path) -> Path:
        """Write the slide (SVS) and ``<stem>.truth.json`` beside it; return the JSON's path.

        Memory grows with a row of tiles only. `OutputError` where they cannot be written.
        """
        truth = path.with_suffix(".truth.json")
        with atomic_write(truth) as stream:
            stream.write(json.dumps({"path": path.name, **self.truth()}, indent=1).encode() + b"\n")
            write_pyramid(
                path,
                self.recipe.columns * TILE,
                self.recipe.rows * TILE,
                self.tile,
                um_px=UM_PX,
                quality=self.quality,
            )
        return truth
