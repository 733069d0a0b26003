"""How slides are composed, and what is noted of everything that was put into one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from unicas_edge.errors import TrainingError
from unicas_edge.train.compose.scanner import Scanner

Background = Literal["lbc", "cric", "mixed", "any"]


@dataclass(frozen=True)
class Recipe:
    """How slides are composed; shares are of all tiles, drawn evenly between their two ends.

    `positive` is what decides a task, or stands for it on a negative slide; `decoys` are on every
    slide, for each task. `stain` is the largest change (natural logarithm) of a slide's density a
    channel, `blur` its largest defocus in pixels, for a third of the slides. `background` is drawn
    for "any"; "mixed" has tiles of LBC slides and of CRIC's fields. The slide is scanned by
    `scanner`, or, with `scanners` above 0, by one drawn so strong for each slide; else by none.
    """

    rows: int = 28
    columns: int = 28
    positive: tuple[float, float] = (0.01, 0.05)
    decoys: tuple[float, float] = (0.0, 0.02)
    background: Background = "any"
    stain: float = 0.2
    blur: float = 0.8
    quality: int = 90
    scanner: Scanner | None = None
    scanners: float = 0.0

    def __post_init__(self) -> None:
        """Raise `TrainingError` for a recipe that no slide can follow."""
        shares = (*self.positive, *self.decoys)
        if not 0 <= min(shares) <= max(shares) <= 0.15 or self.positive[0] > self.positive[1]:
            raise TrainingError(f"shares of tiles must be 0 to 0.15, the smaller one first: {self}")
        if not (1 <= self.rows <= 1024 and 1 <= self.columns <= 1024 and self.tiles >= 9):
            raise TrainingError(
                f"a slide must have at least 9 tiles, at most 1024 per side: {self}"
            )
        if not 0 <= self.scanners <= 3 or (self.scanner is not None and self.scanners):
            raise TrainingError(
                f"give one scanner, or a strength of 0 to 3 to draw one for each slide: {self}"
            )

    @property
    def tiles(self) -> int:
        """How many tiles a slide has."""
        return self.rows * self.columns


@dataclass(frozen=True)
class Insertion:
    """What was put into a tile: its level-0 box and centre in pixels, and where it is from."""

    task: str
    decisive: bool
    kind: str
    origin: str
    source: str
    field: str
    native: bool
    tile: tuple[int, int]
    centre: tuple[float, float]
    box: tuple[int, int, int, int]
