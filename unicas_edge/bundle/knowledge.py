"""What ``bundle.json`` says of the bundle's knowledge: what tokens show, and how far it goes."""

from __future__ import annotations

from typing import Annotated, Self

from pydantic import Field, model_validator

from unicas_edge.core.values import Calibration, Kind, RelativePath, Sha256, Share, Sparse, Strict

#: The kind of tile that squamous cells are counted by, always the first.
CELL = "cell"
Positive = Annotated[float, Field(gt=0)]


class KnowledgeSpec(Sparse):
    """Linear readings of the encoder's tokens, and the limits that a slide's must keep.

    `file` holds the weights (`adequacy.knowledge` says which), for the encoder of
    `encoder_sha256` alone. A tile shows one of `kinds`; tiles of the kinds `aggregated` may carry a
    decision, all others never reach the aggregator. `calibration` is of the kinds' logits.

    Below `min_cell_share` of the encoded tiles that show cells, or below `min_squamous_cells` on a
    preparation of `preparation_mm2` (Bethesda 2014, 3rd ed. 2015, chapter 1: 5,000 on the whole
    preparation, counted as density times area), a slide is unsatisfactory; so it is when its tiles
    lie farther than `distance_limit` from those the bundle was made of. A spacing that the pixels
    contradict by more than `um_px_tolerance` is an error; without one they do not tell.
    `cell_error` is the relative error of the count, as measured.
    """

    SPARSE = ("um_px_tolerance", "cell_error")

    file: RelativePath
    encoder_sha256: Sha256
    kinds: Annotated[tuple[Kind, ...], Field(min_length=2, max_length=64)]
    aggregated: Annotated[tuple[Kind, ...], Field(min_length=1, max_length=64)]
    calibration: Calibration
    min_cell_share: Share
    min_squamous_cells: Annotated[int, Field(ge=0, le=1_000_000_000)]
    preparation_mm2: Annotated[float, Field(gt=0, le=1_000_000)]
    distance_limit: Positive
    um_px_tolerance: Positive | None = None
    cell_error: Annotated[float, Field(ge=0, le=1_000)] | None = None

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        for key, names in (("kinds", self.kinds), ("aggregated", self.aggregated)):
            if len(set(names)) != len(names):
                raise ValueError(f"{key}: two have the same name")
        if self.kinds[0] != CELL:
            raise ValueError(f"kinds: the first must be {CELL!r}, not {self.kinds[0]!r}")
        if unknown := [name for name in self.aggregated if name not in self.kinds]:
            raise ValueError(f"aggregated: {unknown[0]!r} is not one of kinds")
        if CELL not in self.aggregated:
            raise ValueError(f"aggregated: lacks {CELL!r}")
        return self

    def check_encoder(self, digest: str) -> None:
        """Raise `ValueError` unless `digest` is of the encoder whose tokens the knowledge reads."""
        if digest != self.encoder_sha256:
            raise ValueError(
                "knowledge was made for another encoder; fit it again on this one, or leave "
                "`knowledge` out"
            )


class ConformalSpec(Strict):
    """When a task's prediction set holds which class, as set on `slides` that were left out.

    The positive class from `positive_from` on, the other one up to `negative_to`: each limit is
    that of one class, so that each class is in its set with probability `coverage` (class-
    conditional split conformal prediction: Vovk, Conditional validity of inductive conformal
    predictors, ACML 2012). Between the limits the set holds both classes or none.
    """

    coverage: Share
    slides: Annotated[int, Field(ge=1, le=1_000_000)]
    positive_from: Share
    negative_to: Share
