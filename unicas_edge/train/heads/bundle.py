"""A copy of a bundle with region heads: their weights, figures, and what they were trained on."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save

from unicas_edge.bundle import Bundle
from unicas_edge.bundle.edit import edited_copy
from unicas_edge.bundle.heads import NAME, HeadSpec, View
from unicas_edge.bundle.manifest import Evaluation, Manifest, TrainingData
from unicas_edge.core.values import Calibration
from unicas_edge.errors import TrainingError
from unicas_edge.heads.head import load_heads
from unicas_edge.train.heads.probe import Weights


@dataclass(frozen=True)
class NewHead:
    """A head to be put into a bundle, with its figures and its training data.

    `positive` is the index of the class that `threshold` is for, or None.
    """

    name: str
    classes: tuple[str, ...]
    view: View
    weights: Weights
    data: TrainingData
    evaluation: tuple[Evaluation, ...] = ()
    positive: int | None = None
    threshold: float = 0.5
    temperature: float = 1.0

    @property
    def key(self) -> str:
        """What its figures are listed under, apart from those of tasks."""
        return f"heads.{self.name}"

    @property
    def file(self) -> str:
        """Where its weights lie in the bundle."""
        return f"heads/{self.name}.safetensors"

    def spec(self) -> HeadSpec:
        """Return what the manifest says of it."""
        return HeadSpec(
            name=self.name,
            file=self.file,
            classes=self.classes,
            hidden=len(self.weights["fc1.bias"]),
            view=self.view,
            positive=self.positive,
            threshold=None if self.positive is None else self.threshold,
            calibration=Calibration(temperature=self.temperature),
        )


def check_name(name: str) -> None:
    """Raise `TrainingError` unless `name` can name a head."""
    if not re.fullmatch(NAME, name):
        raise TrainingError(
            f"{name!r} cannot be a head's name: use a letter a-z, then up to 63 of a-z, 0-9 and _"
        )


def write_heads(
    source: Bundle, target: Path, heads: Sequence[NewHead], *, force: bool = False
) -> Bundle:
    """Write a copy of `source` with `heads` into the folder `target`; return it, loaded.

    Heads of the same names are replaced, with their figures; other heads stay. Nothing else of the
    bundle changes. `target` appears whole or not at all; with `force` it replaces a bundle that is
    there. `OutputError` for a target that is in the way or cannot be written.
    """
    with edited_copy(source, target, force=force) as new:
        for head in heads:
            with new.put(head.file) as out:
                out.write(save({key: w.astype(np.float32) for key, w in head.weights.items()}))
        load_heads(new.manifest(_content(source.manifest, heads)))
    return new.bundle


def _content(old: Manifest, heads: Sequence[NewHead]) -> dict[str, Any]:
    content = old.model_dump(mode="json")
    names, keys = {head.name for head in heads}, {head.key for head in heads}
    kept = [spec for spec in content.get("heads", []) if spec["name"] not in names]
    content["heads"] = kept + [head.spec().model_dump(mode="json") for head in heads]
    content["evaluation"] = [
        figure for figure in content["evaluation"] if figure["task"] not in keys
    ] + [figure.model_dump(mode="json") for head in heads for figure in head.evaluation]
    known = {(data["name"], data["licence"]) for data in content["training_data"]}
    for head in heads:
        if (head.data.name, head.data.licence) not in known:
            known.add((head.data.name, head.data.licence))
            content["training_data"].append(head.data.model_dump(mode="json"))
    return content
