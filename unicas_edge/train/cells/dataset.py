"""Labelled images of regions: where they lie, what they are, and which must stay together.

A group is what two regions share besides their class: the field of a smear that they were cut from.
Splits are made by group, never by region, since cells of one field share stain, focus and patient.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from unicas_edge.core.arrays import UInt8Image
from unicas_edge.errors import RegionError, TrainingError
from unicas_edge.heads.images import SUFFIXES, find_images, read_image
from unicas_edge.train.cells.cric import SIDE, cells_of

#: Above this share of unreadable images a data set is refused.
MOST_UNREADABLE = 0.05
MAX_CLASSES = 1024
_SHOWN = 5
#: The number that orders ComparisonDetector's folders: 08_candida.
_ORDER = re.compile(r"^[0-9]+_")

Indices = NDArray[np.int64]
Layout = Literal["folder", "sipakmed", "comparison-detector", "cric", "cric-grades"]


@dataclass(frozen=True)
class Region:
    """An image file, or the square of `side` pixels around `centre` (x, y) in one."""

    path: Path
    centre: tuple[float, float] | None = None
    side: int = 0


@dataclass(frozen=True)
class Regions:
    """A labelled data set: `labels` int64 [n] into `classes`, `groups` [n] by name.

    `licence` is of the images, `unreadable` says of every image left out what is wrong with it,
    `positive` is the index of the class that is looked for, None where none of them is.
    """

    name: str
    licence: str
    classes: tuple[str, ...]
    regions: tuple[Region, ...]
    labels: Indices
    groups: tuple[str, ...]
    unreadable: tuple[str, ...] = ()
    positive: int | None = None

    def __post_init__(self) -> None:
        """Raise `TrainingError` for a set that nothing can be learnt from."""
        count = len(self.regions)
        if not count:
            raise TrainingError(f"{self.name}: no labelled image; check the folder and its layout")
        if not count == len(self.labels) == len(self.groups):
            raise TrainingError(
                f"{self.name}: {count} images, {len(self.labels)} labels, {len(self.groups)} groups"
            )
        check_labels(self.labels, len(self.classes), self.name)
        if len(np.unique(self.labels)) < 2:
            only = self.classes[int(self.labels[0])]
            raise TrainingError(
                f"{self.name}: every image is of the class {only!r}; a head needs two classes"
            )

    def __len__(self) -> int:
        return len(self.regions)

    @property
    def counts(self) -> dict[str, int]:
        """Images of each class."""
        found = np.bincount(self.labels, minlength=len(self.classes))
        return dict(zip(self.classes, found.tolist(), strict=True))

    def images(self) -> Iterator[UInt8Image]:
        """Yield the pixels of every region, uint8 RGB [h, w, 3], decoded anew.

        `RegionError` for one that cannot be read; `readable` leaves those out.
        """
        for region in self.regions:
            yield pixels(region)

    def take(self, indices: NDArray[Any] | Sequence[int]) -> Regions:
        """Return the regions at `indices`, in that order."""
        chosen = [int(i) for i in indices]
        return replace(
            self,
            regions=tuple(self.regions[i] for i in chosen),
            labels=self.labels[chosen],
            groups=tuple(self.groups[i] for i in chosen),
        )

    def against_rest(self, positive: Sequence[str], called: str | None = None) -> Regions:
        """Return the same regions with two classes: ``rest``, and the classes `positive`, joined.

        `TrainingError` for a class there is not.
        """
        for name in positive:
            if name not in self.classes:
                raise TrainingError(
                    f"{self.name}: no class {name!r}; there are: {', '.join(self.classes)}"
                )
        chosen = [self.classes.index(name) for name in positive]
        labels = np.isin(self.labels, chosen).astype(np.int64)
        both = ("rest", called or "+".join(positive))
        return replace(self, classes=both, labels=labels, positive=1)


def check_labels(labels: ArrayLike, classes: int, name: str) -> Indices:
    """Return `labels` as int64 [n]; `TrainingError` for one that is no class from 0 on."""
    found = np.asarray(labels)
    if found.ndim != 1 or found.dtype.kind not in "iu":
        raise TrainingError(f"{name}: labels are whole numbers [n], not {found.dtype}")
    wrong = np.flatnonzero((found < 0) | (found >= classes))
    if len(wrong):
        raise TrainingError(
            f"{name}: the label of image {wrong[0]} is {found[wrong[0]]}, but there are {classes} "
            f"classes, 0 to {classes - 1}; correct the {len(wrong)} labels out of range"
        )
    checked: Indices = found.astype(np.int64)
    return checked


@lru_cache(maxsize=2)  # cells of one field follow each other
def _field(path: Path) -> UInt8Image:
    image = read_image(path)
    image.flags.writeable = False
    return image


def pixels(region: Region) -> UInt8Image:
    """Return the region's pixels, uint8 RGB [h, w, 3].

    A square that leaves its field goes on there as the field's mirror image, so that no cell is
    seen off its centre. `RegionError` for a field that cannot be read.
    """
    if region.centre is None:
        return read_image(region.path)
    field, side = _field(region.path), region.side
    height, width = field.shape[:2]
    x, y = region.centre
    if not (0 <= x <= width and 0 <= y <= height):
        raise RegionError(f"{region.path}: a centre at ({x:g}, {y:g}) lies outside the image")
    left, top = round(x - side / 2), round(y - side / 2)
    rows = _mirrored(np.arange(top, top + side), height)
    columns = _mirrored(np.arange(left, left + side), width)
    return np.ascontiguousarray(field[rows[:, None], columns])


def _mirrored(indices: NDArray[np.intp], length: int) -> NDArray[np.intp]:
    """Return indices within 0 .. length - 1 as a mirror at both edges maps them there."""
    around = np.mod(indices, 2 * length)
    return np.asarray(np.minimum(around, 2 * length - 1 - around))


def readable(data: Regions, most: float = MOST_UNREADABLE) -> Regions:
    """Return the regions whose images decode in full, and say in `unreadable` why others do not.

    `TrainingError`, listing the first of them, where more than the share `most` do not.
    """
    good, problems = [], []
    for index, region in enumerate(data.regions):
        try:
            pixels(region)
        except RegionError as error:
            problems.append(str(error))
        else:
            good.append(index)
    if len(problems) > most * len(data):
        more = f"; and {len(problems) - _SHOWN} more" if len(problems) > _SHOWN else ""
        raise TrainingError(
            f"{data.name}: {len(problems)} of {len(data)} images cannot be read, more than "
            f"{most:.0%}: {'; '.join(problems[:_SHOWN])}{more}. Repair or remove them"
        )
    return replace(data.take(good), unreadable=(*data.unreadable, *problems))


# ---- layouts ------------------------------------------------------------------------------------


def folder(root: Path) -> Regions:
    """Return ``<class>/**/*.{jpg,png,...}``: each image is a group of its own.

    A folder inside a class is one: its images were cut from one field, slide or patient.
    """
    return _by_class(root, root.name, "not stated", _own_or_folder, str)


def sipakmed(root: Path) -> Regions:
    """Return SIPaKMeD (Plissiti et al., ICIP 2018): ``<class>/<field>_<cell>.jpg``.

    Fields are numbered within each class, so a group is a class and a field.
    """
    return _by_class(root, "SIPaKMeD", "free for research", _by_field, str)


def comparison_detector(root: Path) -> Regions:
    """Return ComparisonDetector's reference crops (Liang et al. 2021): ``<nn>_<class>/<id>.jpg``.

    The set does not say which field a crop is from: each is a group of its own.
    """
    return _by_class(
        root, "ComparisonDetector", "research", _own_or_folder, lambda name: _ORDER.sub("", name)
    )


def cric(root: Path, side: int = SIDE, *, grades: bool = False) -> Regions:
    """Return the cells of CRIC Cervix (Rezende et al., Sci. Data 2021), grouped by field.

    A region is the square of `side` pixels of the field around a nucleus centre (`pixels`). The
    classes are NILM and abnormal (anything else), or with `grades` the Bethesda classes.
    """
    cells = cells_of(root, side)
    names = cells.names if grades else ("NILM", "abnormal")
    labels = cells.grades if grades else (cells.grades > 0).astype(np.int64)
    regions = tuple(
        Region(path, (float(x), float(y)), side)
        for path, (x, y) in zip(cells.paths, cells.centres, strict=True)
    )
    groups = tuple(path.stem for path in cells.paths)
    positive = None if grades else 1
    return Regions("CRIC Cervix", "CC-BY-4.0", names, regions, labels, groups, positive=positive)


def _own_or_folder(kind: str, inside: Path) -> str:
    """Return the group of an image at `inside` its class's folder."""
    own = inside.with_suffix("") if len(inside.parts) == 1 else inside.parent
    return f"{kind}/{own.as_posix()}"


def _by_field(kind: str, inside: Path) -> str:
    field, _, cell = inside.stem.rpartition("_")
    if not field or not cell:
        raise TrainingError(
            f"{inside.name}: its field is not known; call it <field>_<cell>, or use the "
            "layout folder"
        )
    return f"{kind}/{field}"


def _by_class(
    root: Path,
    name: str,
    licence: str,
    group: Callable[[str, Path], str],
    called: Callable[[str], str],
) -> Regions:
    try:
        kinds = sorted(p for p in root.iterdir() if p.is_dir() and not p.name.startswith("."))
    except OSError as error:
        raise TrainingError(f"{root}: cannot be listed: {error.strerror}") from error
    found = [(kind, _images_of(kind)) for kind in kinds]
    found = [(kind, images) for kind, images in found if images]
    if not 0 < len(found) <= MAX_CLASSES:
        raise TrainingError(
            f"{root}: {len(found)} folders with images in it; give one folder per class, each "
            f"with images ({', '.join(sorted(SUFFIXES))}), at most {MAX_CLASSES}"
        )
    pairs = [(label, path) for label, (_, images) in enumerate(found) for path in images]
    return Regions(
        name,
        licence,
        tuple(called(kind.name) for kind, _ in found),
        tuple(Region(path) for _, path in pairs),
        np.array([label for label, _ in pairs], np.int64),
        tuple(group(found[k][0].name, path.relative_to(found[k][0])) for k, path in pairs),
    )


def _images_of(kind: Path) -> list[Path]:
    try:
        return find_images(kind, recursive=True)
    except RegionError:
        return []  # a folder of something else


_BY_CLASS = {"folder": folder, "sipakmed": sipakmed, "comparison-detector": comparison_detector}


def load(layout: Layout, root: Path, side: int = SIDE) -> Regions:
    """Return the data set in `root`, of a named layout; `side` is for those of CRIC."""
    if layout in _BY_CLASS:
        return _BY_CLASS[layout](root)
    return cric(root, side, grades=layout == "cric-grades")
