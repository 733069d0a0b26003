"""Which image of a TIFF is the slide, which are its levels, and which are neither.

A scene is one field at one or more resolutions. An image is a level of another only on evidence:
its place (SubIFD), its flag (reduced) or its size (a whole-number fraction), and then its content.
What carries the name of a label, macro or thumbnail, or is a mask, is never a scene. Of what
remains one must be the slide beyond doubt, or the user chooses (``--scene``).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from unicas_edge.errors import SceneError, SlideError
from unicas_edge.slide.tiff.ome import OmeImage, image_of
from unicas_edge.slide.tiff.picture import SUBFILE, Picture

#: Does the smaller picture show what the larger one shows? None: that cannot be told.
Match = Callable[[Picture, Picture], "bool | None"]

#: Comparisons of content; a file of many images has them compared until then.
MAX_COMPARISONS = 64
#: Pixel rounding of a level's size, in its own pixels.
_ROUNDING = 1.5
#: A scene this much smaller than a pyramid, and none itself, is no rival to it.
_MINOR = 1 / 4
_SHOWN = 8

_NAMES = r"(label|macro|thumbnail|thumb|overview|preview|barcode)(?:[\W_]+image)?"
#: A description begins with it (Philips and others), or its second line does (Aperio).
_DESCRIBED = re.compile(
    rf"^(?:Aperio[^\n]*\n)?[\W_]*(?:slide[\W_]+)?{_NAMES}(?![\w-])", re.IGNORECASE
)
#: An OME image ends with it: "label image", "slide.svs [macro]".
_NAMED = re.compile(rf"(?:^|[\W_]){_NAMES}[\W_]*(?:\d+[\W_]*)?$", re.IGNORECASE)
_APERIO_LEVEL = re.compile(r"->\s*([0-9]{1,9})x([0-9]{1,9})\b")


@dataclass(frozen=True)
class Scene:
    """A field: its largest image, the smaller ones that show it, and how many focal planes."""

    base: Picture
    levels: tuple[Picture, ...] = ()
    planes: int = 1

    @property
    def pictures(self) -> tuple[Picture, ...]:
        """All resolutions, finest first."""
        return (self.base, *self.levels)

    def __str__(self) -> str:
        return f"{self.base}, {len(self.pictures)} level{'s' if self.levels else ''}"


@dataclass(frozen=True)
class Layout:
    """The scenes of a file, the likeliest first, and what is none, with the reason."""

    scenes: tuple[Scene, ...]
    aside: tuple[tuple[Picture, str], ...]


def candidates(pictures: Sequence[Picture], ome: tuple[OmeImage, ...] = ()) -> list[Picture]:
    """Return the images that may be a slide or a level of one."""
    return [picture for picture, reason in _sorted_out(pictures, ome) if reason is None]


def arrange(pictures: Sequence[Picture], ome: tuple[OmeImage, ...], match: Match) -> Layout:
    """Return which images are scenes and levels. `match` compares contents."""
    told = _sorted_out(pictures, ome)
    aside = [(picture, reason) for picture, reason in told if reason is not None]
    scenes: list[Scene] = []
    compare = _counted(match)
    for picture in sorted((p for p, reason in told if reason is None), key=_order):
        if not _placed(picture, scenes, compare):
            if picture.reduced or picture.is_sub:
                aside.append((picture, "a smaller image of nothing else in the file"))
            else:
                scenes.append(Scene(picture))
    scenes, minor = _rivals(scenes)
    return Layout(tuple(scenes), (*aside, *((s.base, "a small image of its own") for s in minor)))


def chosen(path: Path, layout: Layout, scene: int | None) -> Scene:
    """Return the scene to read; `scene` counts from 1.

    `SceneError` where the file leaves it open, or has no scene of that number; `SlideError` where
    none can be a slide.
    """
    if not layout.scenes:
        found = "; ".join(f"{p}: {why}" for p, why in layout.aside[:_SHOWN]) or "no image"
        raise SlideError(path, f"holds no image that can be a slide ({found})")
    if scene is not None and not 1 <= scene <= len(layout.scenes):
        raise SceneError(path, f"has no scene {scene}", _listed(layout))
    if scene is None and len(layout.scenes) > 1:
        raise SceneError(path, f"holds {len(layout.scenes)} scenes", _listed(layout))
    read = layout.scenes[(scene or 1) - 1]
    if read.base.grey and read.planes > 1:
        raise SlideError(
            path,
            f"holds {read.planes} greyscale images of {read.base}: channels of fluorescence, or "
            "colours stored apart; save it with red, green and blue in one image",
        )
    return read


def _listed(layout: Layout) -> tuple[str, ...]:
    return tuple(str(scene) for scene in layout.scenes)


def _order(picture: Picture) -> tuple[bool, int, tuple[int, int]]:
    """Sort what stands for itself before what says it is smaller, large before small."""
    return picture.reduced or picture.is_sub, -picture.area, picture.place or (0, 0)


def _sorted_out(
    pictures: Sequence[Picture], ome: tuple[OmeImage, ...]
) -> list[tuple[Picture, str | None]]:
    """Return each image with the reason why it can be no slide, None where it can."""
    told = [(p, _reason(p, ome)) for p in pictures if p.place is not None]
    told = _beside(told, lambda p: p.grey, "greyscale, beside an image in colour")
    told = _beside(told, lambda p: not p.tiled, "without tiles, beside an image with them")
    left = [p for p, reason in told if reason is None]
    if left and all(p.reduced for p in left):  # a writer that marks all of them
        alone = {id(p): _standing(p) for p in left if not p.is_sub}
        told = [(alone.get(id(p), p), reason) for p, reason in told]
    return told


def _beside(
    told: list[tuple[Picture, str | None]], odd: Callable[[Picture], bool], reason: str
) -> list[tuple[Picture, str | None]]:
    """Set aside, with `reason`, the odd ones of those left, unless all are."""
    if all(odd(picture) for picture, other in told if other is None):
        return told
    return [(p, reason if other is None and odd(p) else other) for p, other in told]


def _standing(picture: Picture) -> Picture:
    """Return the picture without its flag of a reduced image."""
    return replace(picture, numbers={k: v for k, v in picture.numbers.items() if k != SUBFILE})


def _reason(picture: Picture, ome: tuple[OmeImage, ...]) -> str | None:
    """Return why an image says of itself that it is no slide."""
    if picture.apart:
        return "a mask or macro by its flag"
    if min(picture.size) < 1:
        return None  # a lie; the index says so
    image = image_of(ome, picture) if ome and not picture.is_sub else None
    if image is not None:
        found = _NAMED.search(image.name[:200])
    else:
        found = _DESCRIBED.search(picture.description[:4096])
    return f"{found[1].lower()} by its description" if found else None


def _placed(picture: Picture, scenes: list[Scene], compare: Match) -> bool:
    """Add an image to the scene that it is a level or a focal plane of; return whether it is."""
    for number, scene in enumerate(scenes):
        if picture.is_sub and _page(picture) != _page(scene.base):
            continue
        if picture.size == scene.base.size and _alike(picture, scene.base):
            # channels of one field need not look alike, and are refused together
            alike = picture.grey or compare(scene.base, picture) is not False
            if alike and not picture.is_sub:
                scenes[number] = replace(scene, planes=scene.planes + 1)
                return True
        elif any(picture.size == level.size for level in scene.levels):
            continue  # of another focal plane
        elif _is_level(picture, scene.base, compare):
            scenes[number] = replace(scene, levels=(*scene.levels, picture))
            return True
    return False


def _page(picture: Picture) -> int | None:
    return None if picture.place is None else picture.place[0]


def _is_level(picture: Picture, base: Picture, compare: Match) -> bool:
    """Return whether an image is a resolution of `base`: kind, size and content speak for it."""
    if not (_alike(picture, base) and fits(picture.size, base.size, strict=_unmarked(picture))):
        return False
    if _aperio_level(picture):
        return True
    return compare(base, picture) is not False


def _unmarked(picture: Picture) -> bool:
    return not (picture.reduced or picture.is_sub or _aperio_level(picture))


def _aperio_level(picture: Picture) -> bool:
    """Return whether Aperio's description says that this is the slide at this very size."""
    text = picture.description
    found = _APERIO_LEVEL.search(text[:4096]) if text.startswith("Aperio") else None
    return found is not None and (int(found[1]), int(found[2])) == picture.size


def _alike(picture: Picture, base: Picture) -> bool:
    """Return whether two images are stored as levels of one pyramid are."""
    return picture.tiled == base.tiled and picture.grey == base.grey


def fits(size: tuple[int, int], base: tuple[int, int], *, strict: bool) -> bool:
    """Return whether `size` is `base` made smaller; `strict`: by a whole number.

    Writers drop or add the last row and column, so that sizes agree to a pixel or two.
    """
    if min(*size, *base) < 1 or size[0] >= base[0]:
        return False
    across, down = (b / s for b, s in zip(base, size, strict=True))
    factor = (across + down) / 2
    if strict:
        factor = round(factor)
    return all(abs(b / factor - s) <= _ROUNDING for b, s in zip(base, size, strict=True))


def _rivals(scenes: list[Scene]) -> tuple[list[Scene], list[Scene]]:
    """Return the scenes that may be the slide, and small single images beside a pyramid."""
    pyramids = [scene for scene in scenes if scene.levels]
    if not pyramids:
        return scenes, []
    largest = max(scene.base.area for scene in pyramids)
    minor = [s for s in scenes if not s.levels and s.base.area < _MINOR * largest]
    return [scene for scene in scenes if scene not in minor], minor


def _counted(match: Match) -> Match:
    """Return `match` for the first `MAX_COMPARISONS` calls; after that nothing can be told."""
    left = iter(range(MAX_COMPARISONS))

    def compare(large: Picture, small: Picture) -> bool | None:
        return match(large, small) if next(left, None) is not None else None

    return compare
