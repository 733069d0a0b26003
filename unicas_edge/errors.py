"""Every exception this package raises on purpose, in one tree.

::

    UnicasError                 anything below; catch this one to go on with the next slide
    ├── SlideError              a slide file (names the path)
    │   ├── UnsupportedSlideError   no installed reader understands the file
    │   ├── SceneError              it is not clear which image of the file is the slide
    │   ├── SpacingError            the slide does not say how many micrometres a pixel is
    │   └── TileError               one tile cannot be read (carries its level-0 x, y)
    ├── BundleError             a model bundle: schema, missing file, wrong hash
    ├── EngineError             the encoder: not installed, does not load, returns nonsense
    ├── ProfileError            a device profile: unknown, not readable, or a key it cannot have
    ├── CheckpointError         a checkpoint to import: not readable, another architecture, NaN
    ├── AggregatorError         aggregator weights, configuration or tokens
    ├── TrainingError           data, configuration or a checkpoint of training; a loss that is NaN
    ├── RegionError             an image of a region: unreadable, or of an impossible size
    ├── SessionError            tiles pushed in a way the session cannot honour
    └── OutputError             the output folder: unwritable, full, result already there

A message names the file, the cause, and what to do next.
"""

from __future__ import annotations

from pathlib import Path

#: Scenes that one message lists.
_LISTED = 20


class UnicasError(Exception):
    """Base of every error this package raises on purpose."""


class SlideError(UnicasError):
    """A slide cannot be used; the message begins with its path."""

    def __init__(self, path: str | Path, cause: str) -> None:
        super().__init__(f"{path}: {cause}")
        self.path = Path(path)
        self.cause = cause

    def __reduce__(self) -> tuple[object, ...]:
        return type(self), (self.path, self.cause)


class UnsupportedSlideError(SlideError):
    """No installed reader understands the file; the message says which extra might."""


class SpacingError(SlideError):
    """The slide carries no usable micrometres per pixel; the message names ``--mpp``."""


class SceneError(SlideError):
    """A file holds several images that may be the slide; `scenes` describes each.

    The message lists them and names ``--scene``.
    """

    def __init__(self, path: str | Path, cause: str, scenes: tuple[str, ...]) -> None:
        listed = "; ".join(f"{n}: {text}" for n, text in enumerate(scenes[:_LISTED], 1))
        more = f"; and {len(scenes) - _LISTED} more" if len(scenes) > _LISTED else ""
        super().__init__(path, f"{cause} ({listed}{more}); choose one with --scene")
        self.what = cause
        self.scenes = scenes

    def __reduce__(self) -> tuple[object, ...]:
        return type(self), (self.path, self.what, self.scenes)


class TileError(SlideError):
    """One tile cannot be read; `x`, `y` are the level-0 pixels of its top left corner."""

    def __init__(self, path: str | Path, x: int, y: int, cause: str) -> None:
        super().__init__(path, cause)
        self.x = x
        self.y = y

    def __str__(self) -> str:
        return f"{self.path}: tile at ({self.x}, {self.y}): {self.cause}"

    def __reduce__(self) -> tuple[object, ...]:
        return type(self), (self.path, self.x, self.y, self.cause)


class BundleError(UnicasError):
    """A model bundle is not what its manifest says."""


class EngineError(UnicasError):
    """An encoder engine is not installed, does not load, or returned unusable tokens."""


class CheckpointError(UnicasError):
    """A checkpoint cannot be imported: unreadable, unsafe, or not what it should hold."""


class ProfileError(UnicasError):
    """A device profile is unknown, not readable, or says what no profile can."""


class AggregatorError(UnicasError):
    """Aggregator weights, configuration or tokens do not fit together."""


class TrainingError(UnicasError):
    """Training cannot begin or go on: data, configuration, a checkpoint, or a loss that is NaN."""


class RegionError(UnicasError):
    """An image of a region cannot be used; the message begins with its path where it has one."""


class SessionError(UnicasError):
    """Tiles were pushed in a way the session cannot honour."""


class ServiceError(UnicasError):
    """The service cannot be started as asked, or a request is one that it refuses.

    `status` is the HTTP status of the latter (RFC 9110).
    """

    def __init__(self, message: str, status: int = 400) -> None:
        super().__init__(message)
        self.status = status

    def __reduce__(self) -> tuple[object, ...]:
        return type(self), (str(self), self.status)


class OutputError(UnicasError):
    """The output folder cannot take the result."""
