"""From the survey of a TIFF to the scene that is read, and what the file says of its spacing."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from unicas_edge.errors import SlideError
from unicas_edge.slide.base import Slide
from unicas_edge.slide.same_content import same_content
from unicas_edge.slide.spacing import Hints, described, described_magnification, resolution
from unicas_edge.slide.tiff.layout import Layout, Scene, arrange, candidates, chosen
from unicas_edge.slide.tiff.ome import OmeImage, image_of, ome_images
from unicas_edge.slide.tiff.picture import (
    RESOLUTION_UNIT,
    X_RESOLUTION,
    Y_RESOLUTION,
    Picture,
    Survey,
)
from unicas_edge.slide.tiff.survey import MAX_TEXT_BYTES

#: A slide of one image of the file, in a frame of its own.
Opener = Callable[[Picture], Slide]
_INCH = 2


@dataclass(frozen=True)
class Found:
    """The scene to read, and what is said of it."""

    scene: Scene
    hints: Hints
    warnings: tuple[str, ...]


def only_fast(survey: Survey) -> bool:
    """Return whether the fast path decodes every image that may be the slide."""
    found = candidates(survey.pictures, _ome(survey))
    return bool(found) and all(picture.fast for picture in found)


def find_scene(path: Path, survey: Survey, scene: int | None, opener: Opener) -> Found:
    """Return the scene of a surveyed TIFF that is the slide, or scene number `scene` (from 1).

    `opener` opens one image so that contents can be compared. `SceneError` where it is not clear
    which it is; `SlideError` where none can be.
    """
    ome = _ome(survey)
    layout = arrange(survey.pictures, ome, _matcher(opener))
    found = chosen(path, layout, scene)
    hints = _hints(found.base, ome)
    return Found(found, hints, tuple(_notes(layout, found)))


def _ome(survey: Survey) -> tuple[OmeImage, ...]:
    """Return what OME-XML says, which is in the first image and ends within the limit."""
    text = survey.first.description
    return ome_images(text) if len(text) < MAX_TEXT_BYTES else ()


def _matcher(opener: Opener) -> Callable[[Picture, Picture], bool | None]:
    def match(large: Picture, small: Picture) -> bool | None:
        try:
            with opener(large) as one, opener(small) as other:
                return same_content(one, other)
        except SlideError:
            return None  # whoever reads the image says so

    return match


def _hints(base: Picture, ome: tuple[OmeImage, ...]) -> Hints:
    """Return what the tags of the image that is read say about spacing."""
    image = image_of(ome, base) if ome else None
    text = base.description
    x, y = (base.ratios.get(code, 0.0) for code in (X_RESOLUTION, Y_RESOLUTION))
    unit = base.number(RESOLUTION_UNIT, _INCH)
    return Hints.of(
        image.spacing if image is not None else None,
        described(text),
        resolution(x, y, unit, text),
        described_magnification(text),
    )


def _notes(layout: Layout, found: Scene) -> list[str]:
    """Return what a reader of the result must know about the choice."""
    notes = []
    if found.planes > 1:
        notes.append(
            f"{found.planes} images of {found.base}: a stack of focal planes, of which the first "
            "is read"
        )
    if len(layout.scenes) > 1:
        number = layout.scenes.index(found) + 1
        notes.append(f"scene {number} of {len(layout.scenes)} is read, as asked")
    return notes
