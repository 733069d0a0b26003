"""What a screening is asked: by the user, and by a profile where the user left something open."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from unicas_edge.engines.options import EngineOptions
from unicas_edge.tiles.grid import Limit

#: Seconds for one slide: ten times what `--max-tiles all` takes with the built-in bundle.
TIMEOUT = 3600.0
READERS = 2  # decoding a tile takes a fiftieth of encoding it with even a small ViT
#: The settings that a result records, engine's and others in one table, in this order.
RECORDED = (
    "max_tiles",
    "mpp",
    "reader",
    "scene",
    "colour",
    "backend",
    "precision",
    "threads",
    "batch_size",
    "allow_unverified",
    "readers",
    "queue_batches",
    "memory_mb",
    "max_decode_mb",
    "timeout",
    "profile",
)


@dataclass(frozen=True)
class Options:
    """What a user may choose; everything else the bundle decides.

    `max_tiles` "all" screens every tile; it and `colour` None take what the bundle says. `mpp`
    overrides the slide's own um/px. `readers` threads read tiles, `queue_batches` may wait beside
    those being encoded; a profile says both, and what `engine` leaves open. `profile` only names
    it. `scene`, from 1, chooses where a file holds several. `max_decode_mb` bounds an image without
    tiles, which is decoded as a whole (None: the reader's own limit); `timeout` is in seconds for
    one slide.
    """

    max_tiles: Limit = None
    mpp: float | None = None
    reader: str = "auto"
    colour: str | None = None
    engine: EngineOptions = field(default_factory=EngineOptions)
    readers: int = READERS
    queue_batches: int = 1
    profile: str | None = None
    scene: int | None = None
    max_decode_mb: int | None = None
    timeout: float = TIMEOUT

    def recorded(self) -> dict[str, Any]:
        """Return the settings as a result records them: a flat table of `RECORDED`."""
        flat = {**vars(self), **vars(self.engine)}
        return {key: flat[key] for key in RECORDED}
