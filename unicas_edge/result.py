"""What screening one slide says: the model behind ``result.json`` and its JSON schema."""

from __future__ import annotations

from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray
from pydantic import ConfigDict, Field

from unicas_edge.core.values import KIND_LETTERS, Frozen

SCHEMA_VERSION = 1
UNTRAINED = "untrained weights: probabilities mean nothing"
DEMONSTRATION = "demonstration weights: not for diagnosis"
UNVERIFIED = "unverified engine"
OUTSIDE = "outside what this bundle knows"
NOTICE = "research use only; not a medical device"

Decision = Literal["positive", "negative", "unsatisfactory"]


class Weights(Protocol):
    """What says how far a bundle's weights can be trusted: its manifest, or a result's record."""

    @property
    def trained(self) -> bool:
        """False while any of them are random."""

    @property
    def demonstration(self) -> bool:
        """Whether they were trained to show how the program works."""


def caution(weights: Weights) -> str | None:
    """Return what every output of a bundle must say of its weights; None if there is nothing."""
    if not weights.trained:
        return UNTRAINED
    return DEMONSTRATION if weights.demonstration else None


class Recorded(Frozen):
    """A part of a result. Figures may be NaN or infinite; JSON has neither and says null."""

    model_config = ConfigDict(allow_inf_nan=True, ser_json_inf_nan="null")


class SlideInfo(Recorded):
    """Which pixels were screened. Sizes in level-0 pixels; `sha256` of the file, if it is one.

    `offset_x`, `offset_y` are where our (0, 0) lies in the frame of the file's own format: not
    (0, 0) for slides with bounds (MRXS), which OpenSlide places on a larger canvas.
    """

    path: str
    name: str
    reader: str
    width: int
    height: int
    um_px: float
    um_px_source: str
    offset_x: int = 0
    offset_y: int = 0
    size_bytes: int | None = None
    sha256: str | None = None


class BundleInfo(Recorded):
    """Which model answered: the SHA-256 of every file it consists of."""

    name: str
    version: str
    trained: bool
    demonstration: bool = False
    files: dict[str, str]


class Preprocessing(Recorded):
    """How pixels became model input; `colour_matrix` is 3 x 4, of (R, G, B, 1), in grey levels."""

    tile_px: int
    crop_px: int
    um_px: float
    downsample: float
    colour_mode: str
    colour_matrix: list[list[float]]
    mean: list[float]
    std: list[float]


class Engine(Recorded):
    """What ran the encoder and the kernels.

    `unverified` says why this engine and precision should not have screened, None if they may.
    """

    name: str
    version: str
    precision: str
    device: str
    threads: int
    batch_size: int
    normalise_variant: str
    unverified: str | None = None


class Failure(Recorded):
    """A tile that could not be read: its level-0 place and the cause."""

    x: int
    y: int
    cause: str


class Coverage(Recorded):
    """What became of the planned tiles; planned = encoded + background + sparse + failed.

    `coverage` is the share of planned tiles that were read (or known to be empty).
    """

    grid_tiles: int
    planned: int
    read: int
    encoded: int
    background: int
    sparse: int
    failed: int
    coverage: float
    failures: list[Failure]


class Squamous(Recorded):
    """Squamous cells of the whole slide, as estimated; how many are needed; how both were found."""

    estimate: int
    needed: int
    method: str


class Adequacy(Recorded):
    """Whether enough was seen to say anything, and if not, why.

    `basis` says whether tokens were read, by the bundle's knowledge, or pixels alone; the rest is
    only there for tokens. `kinds` counts the encoded tiles by what they show; those of the kinds
    `aggregated` alone reached the aggregator. `distance` is how far the slide's tiles lie from
    those the bundle was made of (about 1 is usual), `known` whether that is within
    `distance_limit`: False is outside what this bundle knows. `um_px_estimate` is the level-0
    spacing that the pixels show.
    """

    satisfactory: bool
    reasons: list[str]
    cellular_tiles: int
    in_focus_tiles: int
    basis: Literal["pixels", "tokens"] = "pixels"
    kinds: dict[str, int] = Field(default_factory=dict)
    aggregated: list[str] = Field(default_factory=list)
    squamous: Squamous | None = None
    distance: float | None = None
    distance_limit: float | None = None
    known: bool | None = None
    um_px_estimate: float | None = None


class TopTile(Recorded):
    """A tile that carried the decision; level-0 frame, `attention` is its share of the mass."""

    x: int
    y: int
    width: int
    height: int
    attention: float


class Confidence(Recorded):
    """Which `classes` a task's probability leaves: the slide's own is among them in `coverage`.

    Set on `slides` that the bundle's weights had not seen (class-conditional split conformal
    prediction); it holds for slides like those. No class: unlike any of them.
    """

    coverage: float
    slides: int
    classes: list[str]

    @property
    def words(self) -> str:
        """The set as every output says it, in a few words."""
        left = self.classes[0] if len(self.classes) == 1 else "undecided"
        said = left if self.classes else "none (unlike the slides it was set on)"
        return f"{100 * self.coverage:.3g}% set: {said}"


class TaskResult(Recorded):
    """One diagnosis. `probability` is None where no tile may carry a decision.

    `confidence` is None where the bundle sets none, and on a slide that is unsatisfactory.
    """

    name: str
    probability: float | None
    threshold: float
    decision: Decision
    logits: list[float] | None
    top_tiles: list[TopTile]
    confidence: Confidence | None = None


class Detection(Recorded):
    """An abnormal cell, in level-0 pixels."""

    x: int
    y: int
    width: int
    height: int
    label: str
    score: float


class SlideResult(Recorded):
    """The result of one slide.

    `features` float32 [N, D] are the CLS tokens in canonical order; `tiles` has a row for every
    planned tile, with columns as in `TILE_COLUMNS` plus one attention column per task
    (``prob_<task>``). Both stay out of the JSON; they are None on a result loaded from disk.
    """

    model_config = ConfigDict(arbitrary_types_allowed=True)

    schema_version: int = SCHEMA_VERSION
    unicas_edge_version: str
    created: str
    slide: SlideInfo
    bundle: BundleInfo
    preprocessing: Preprocessing
    engine: Engine
    determinism: str
    settings: dict[str, Any]
    coverage: Coverage
    adequacy: Adequacy
    tasks: list[TaskResult]
    detections: list[Detection]
    timings_seconds: dict[str, float]
    warnings: list[str]
    notices: list[str]
    features: NDArray[np.float32] | None = Field(default=None, exclude=True, repr=False)
    tiles: NDArray[np.void] | None = Field(default=None, exclude=True, repr=False)


def notices(result: SlideResult) -> list[str]:
    """Return the notices of `result`, the caution of its bundle first should it not be among them.

    A result may come from a file that somebody edited, or from a caller's own code.
    """
    said = caution(result.bundle)
    if said is None or said in result.notices:
        return result.notices
    return [said, *result.notices]


#: numpy structured dtype of `SlideResult.tiles`, before the attention columns; level-0 frame.
#: status: encoded | background | sparse | failed.
#: focus: Laplacian variance of the green plane; cellular: share of pixels darker than background.
#: rank: place in canonical order (-1: not planned); token: row in `features` (-1: none).
#: kind: what an encoded tile shows ("": no token, or a bundle without knowledge).
TILE_COLUMNS: list[tuple[str, str]] = [
    ("minx", "i8"),
    ("miny", "i8"),
    ("width", "i8"),
    ("height", "i8"),
    ("field", "i8"),
    ("rank", "i8"),
    ("token", "i8"),
    ("score", "f8"),
    ("status", "U10"),
    ("cellular", "f4"),
    ("focus", "f4"),
    ("in_focus", "?"),
    ("kind", f"U{KIND_LETTERS}"),
]
