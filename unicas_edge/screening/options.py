"""What a screening is asked: by the user, and by a profile where the user left something open."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from unicas_edge.engines.options import EngineOptions
from unicas_edge.tiles.grid import Limit

READERS = 2  # decoding a tile takes a fiftieth of encoding it with even a small ViT
#: The settings that a result records, engine's and others in one table, in this order.
RECORDED = (
    "max_tiles",
    "mpp",
    "reader",
    "colour",
    "backend",
    "precision",
    "threads",
    "batch_size",
    "allow_unverified",
    "readers",
    "queue_batches",
    "memory_mb",
    "profile",
)


@dataclass(frozen=True)
class Options:
    """What a user may choose; everything else the bundle decides.

    `max_tiles` "all" screens every tile; it and `colour` None take what the bundle says. `mpp`
    overrides the slide's own um/px. `readers` threads read tiles, `queue_batches` may wait beside
    those being encoded; a profile says both, and what `engine` leaves open. `profile` only names
    it.
    """

    max_tiles: Limit = None
    mpp: float | None = None
    reader: str = "auto"
    colour: str | None = None
    engine: EngineOptions = field(default_factory=EngineOptions)
    readers: int = READERS
    queue_batches: int = 1
    profile: str | None = None

    def recorded(self) -> dict[str, Any]:
        """Return the settings as a result records them: a flat table of `RECORDED`."""
        flat = {**vars(self), **vars(self.engine)}
        return {key: flat[key] for key in RECORDED}
