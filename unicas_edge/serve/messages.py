"""What clients send and get as JSON; OpenAPI is made from these."""

from __future__ import annotations

from typing import Annotated, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from unicas_edge.screening.core import Progress
from unicas_edge.tiles.colour import ColourFit

#: Grey levels, or factors of them.
Coefficient = Annotated[float, Field(ge=-1e6, le=1e6)]
Row = Annotated[list[Coefficient], Field(min_length=4, max_length=4)]
State = Literal["open", "finishing", "done", "failed"]


class Message(BaseModel):
    """A message: numbers must be finite, and fields known."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False, frozen=True)


class Colour(Message):
    """A correction of colours, as ``POST /v1/colour`` fits it.

    `matrix` [3][4] maps (R, G, B, 1) to corrected RGB, in grey levels.
    """

    mode: str = Field(max_length=64)
    matrix: list[Row] = Field(min_length=3, max_length=3)
    pixels_used: int = Field(ge=0, le=2**53)
    warnings: list[str] = Field(default=[], max_length=16)

    @classmethod
    def of(cls, fit: ColourFit) -> Colour:
        """Return the message of a fit."""
        return cls(
            mode=fit.mode,
            matrix=fit.matrix.tolist(),
            pixels_used=fit.pixels_used,
            warnings=list(fit.warnings),
        )

    def fit(self) -> ColourFit:
        """Return the fit."""
        matrix = np.array(self.matrix, np.float64)
        return ColourFit(self.mode, matrix, self.pixels_used, tuple(self.warnings))


class NewSession(Message):
    """A slide that will be pushed: its level-0 frame in pixels, and their size in um.

    `pictures` keeps what overview.jpg and contact.jpg need.
    """

    name: str = Field(default="", max_length=255)
    width: int = Field(ge=1, le=10_000_000)
    height: int = Field(ge=1, le=10_000_000)
    um_px: float = Field(gt=0, le=100)
    max_tiles: int | None = Field(default=None, ge=1)
    colour: Colour | None = None
    pictures: bool = False


class Opened(Message):
    """A session: its `id`, the `token` that its requests must carry, and where its tiles lie.

    Tile (row, column) begins at level-0 x = round(column * step), y = round(row * step); it has
    `tile` x `tile` pixels.
    """

    id: str
    token: str
    rows: int
    columns: int
    step: float
    tile: int


class Counts(Message):
    """Tiles so far; see `Session.progress`."""

    seen: int
    held: int
    ready: int
    encoding: int
    encoded: int

    @classmethod
    def of(cls, progress: Progress) -> Counts:
        """Return the message of a session's progress."""
        return cls(**progress._asdict())


class Status(Message):
    """A session's state, its tiles so far, and why it failed if it did."""

    id: str
    name: str
    state: State
    tiles: Counts
    error: str | None = None


class Failure(Message):
    """A tile that exists and cannot be read."""

    cause: str = Field(max_length=1_000)
    score: float = Field(default=0.0, ge=0)


class Refusal(Message):
    """Why a request was refused; of many records, how many were `taken` before the one it is of."""

    error: str
    message: str
    taken: int | None = None


class Taken(Message):
    """How many records of a message were taken: all."""

    taken: int


class Shared(Message):
    """A segment of shared memory: map the file at `path`, and write up to `bytes` into it."""

    id: str
    path: str
    bytes: int


class Health(Message):
    """That the service answers, and with what it screens."""

    status: Literal["ok"]
    version: str
    bundle: str
    demonstration: bool
    engine: str
    precision: str
    sessions: int
