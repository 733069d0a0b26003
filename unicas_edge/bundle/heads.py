"""What ``bundle.json`` says of region heads: small classifiers of single images by CLS token."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, StringConstraints, model_validator

from unicas_edge.core.values import Calibration, Count, Name, RelativePath, Share, Strict

#: What of a region the encoder is shown. cell: all of it, resized to the encoder's crop, so that a
#: cut-out cell fills it; tile: its centre at the bundle's um/px, as of a slide's tile.
View = Literal["cell", "tile"]
NAME = r"^[a-z][a-z0-9_]{0,63}$"


class HeadSpec(Strict):
    """A region head: two linear layers with a ReLU between them, on the encoder's CLS token.

    `file` is a safetensors file with ``fc1.weight`` [hidden, width], ``fc1.bias`` [hidden],
    ``fc2.weight`` [classes, hidden] and ``fc2.bias`` [classes]. A head with a `positive` class
    calls a region positive where its probability is at least `threshold`; one without names the
    most probable class, and has no threshold.
    """

    name: Annotated[str, StringConstraints(pattern=NAME)]
    file: RelativePath
    classes: Annotated[tuple[Name, ...], Field(min_length=2, max_length=1024)]
    hidden: Count
    view: View
    positive: Annotated[int, Field(ge=0)] | None
    threshold: Share | None
    calibration: Calibration

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if len(set(self.classes)) != len(self.classes):
            raise ValueError("two classes have the same name")
        if (self.positive is None) != (self.threshold is None):
            raise ValueError("give both positive and threshold, or null for both")
        if self.positive is not None and self.positive >= len(self.classes):
            raise ValueError(f"positive {self.positive} is not one of {len(self.classes)} classes")
        return self
