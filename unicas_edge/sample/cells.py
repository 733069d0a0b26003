"""What lies on a cervical smear, one drawing function a kind, stained after Papanicolaou.

Sizes after the usual cytology texts: intermediate squamous cells 35-60 um with nuclei of 7-9 um,
superficial ones with pyknotic nuclei of 5-6 um; low-grade lesions have nuclei three times that
area, often two, in a halo; high-grade ones are small cells with large, dark, uneven nuclei; candida
is filaments 2-3 um wide with yeasts of 3-4 um; clue cells are squamous cells stippled with
coccobacilli of about 1 um. Colours were set by eye and by the percentiles of real liquid-based
preparations.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from unicas_edge.sample.canvas import (
    Canvas,
    Float,
    Rng,
    Stain,
    angular_outline,
    round_outline,
    turned,
)

CYAN: Stain = (0.24, 0.115, 0.085)
SLATE: Stain = (0.23, 0.185, 0.105)
PINK: Stain = (0.035, 0.29, 0.145)
EOSIN: Stain = (0.05, 0.34, 0.20)
ORANGE: Stain = (0.02, 0.20, 0.30)
CHROMATIN: Stain = (0.36, 0.50, 0.22)
BACTERIA: Stain = (0.26, 0.25, 0.10)
HYPHA: Stain = (0.13, 0.26, 0.20)
HAEMATOXYLIN: Stain = (0.50, 0.46, 0.22)


@dataclass(frozen=True)
class Kind:
    """A kind of object: how it is drawn, how many different drawings there are, and its truth.

    `task` is the diagnosis it stands for, or "" where it stands for none.
    """

    name: str
    side_um: float
    variants: int
    draw: Callable[[Canvas], None]
    task: str = ""


def _mixed(rng: Rng, *stains: Stain) -> Stain:
    """Return a random mixture of stains, a little lighter or darker."""
    share = rng.dirichlet(np.full(len(stains), 0.6))
    red, green, blue = (share @ np.asarray(stains)) * rng.uniform(0.75, 1.25)
    return float(red), float(green), float(blue)


def _cytoplasm(canvas: Canvas, mask: Float, *, folds: float, stain: Stain, depth: float) -> None:
    """Stain a flat cell body: uneven thickness, fine grain, creases, a slightly denser edge."""
    rng = canvas.rng
    thickness = 0.8 + 0.16 * canvas.noise(14) + 0.05 * canvas.noise(1.5)
    where = (canvas.noise(18) + 0.3).clip(0, 1)
    creases = canvas.ridges(22, 8, 2.5) + 0.6 * canvas.ridges(9, 7, 3)
    edge = mask - canvas.blur(mask, 2.0) * mask
    thickness += folds * 0.9 * creases * where
    thickness += rng.uniform(0.2, 0.7) * edge * (canvas.noise(25) + 0.6).clip(0, 1.6)
    canvas.stain(depth * thickness.clip(0.25, None) * mask, stain)


def _nucleus(
    canvas: Canvas,
    outline: NDArray[np.float64],
    at: NDArray[np.float64],
    *,
    depth: float,
    coarse: float = 1.3,
) -> None:
    """Stain a nucleus: chromatin of a given coarseness (um) and a denser membrane."""
    mask = canvas.polygon(outline + at)
    inner = canvas.blur(mask, 0.8)
    grain = 1 + 0.22 * canvas.noise(coarse) + 0.10 * canvas.noise(0.7)
    membrane = (mask * (1 - inner)).clip(0, 1)
    amount = mask * (0.78 * grain + 0.75 * membrane)
    canvas.stain(depth * canvas.blur(amount.clip(0, None), 0.35), CHROMATIN)


def _near_middle(rng: Rng, radius: float) -> NDArray[np.float64]:
    return rng.normal(0, radius * 0.18, 2).clip(-radius * 0.4, radius * 0.4)


def intermediate(canvas: Canvas) -> None:
    """Large, thin, blue-green polygon; vesicular nucleus of 7-9 um."""
    rng = canvas.rng
    radius = rng.uniform(20, 29)
    mask = canvas.polygon(angular_outline(rng, radius, rng.uniform(0.65, 1)))
    stain = _mixed(rng, CYAN, CYAN, SLATE)
    _cytoplasm(canvas, mask, folds=rng.uniform(0.1, 1.1), stain=stain, depth=rng.uniform(0.5, 1))
    nucleus = round_outline(rng, rng.uniform(3.4, 4.5), rng.uniform(0.72, 1))
    _nucleus(canvas, nucleus, _near_middle(rng, radius), depth=rng.uniform(0.65, 0.95))


def superficial(canvas: Canvas) -> None:
    """Large pink or orange polygon; pyknotic nucleus of 5-6 um."""
    rng = canvas.rng
    radius = rng.uniform(19, 28)
    mask = canvas.polygon(angular_outline(rng, radius, rng.uniform(0.6, 1)))
    stain = _mixed(rng, PINK, PINK, EOSIN, ORANGE)
    _cytoplasm(canvas, mask, folds=rng.uniform(0.1, 0.9), stain=stain, depth=rng.uniform(0.5, 1.2))
    nucleus = round_outline(rng, rng.uniform(2.4, 3.1), rng.uniform(0.75, 1))
    _nucleus(canvas, nucleus, _near_middle(rng, radius), depth=rng.uniform(1, 1.3), coarse=3)


def folded(canvas: Canvas) -> None:
    """Squamous cell crumpled in preparation: narrow, dense, streaked."""
    rng = canvas.rng
    radius = rng.uniform(17, 27)
    mask = canvas.polygon(angular_outline(rng, radius, rng.uniform(0.25, 0.5)))
    pink = rng.random() < 0.3
    stain = _mixed(rng, EOSIN, PINK) if pink else _mixed(rng, CYAN, SLATE, SLATE)
    _cytoplasm(canvas, mask, folds=rng.uniform(0.8, 1.6), stain=stain, depth=rng.uniform(0.9, 1.7))
    nucleus = round_outline(rng, rng.uniform(3, 4), rng.uniform(0.5, 0.8))
    _nucleus(canvas, nucleus, rng.normal(0, 1, 2), depth=rng.uniform(0.6, 1))


def parabasal(canvas: Canvas) -> None:
    """Small, round, dense cell with a central nucleus of 7-9 um."""
    rng = canvas.rng
    mask = canvas.polygon(round_outline(rng, rng.uniform(8, 12), rng.uniform(0.75, 1)))
    stain = _mixed(rng, CYAN, SLATE)
    _cytoplasm(canvas, mask, folds=0.1, stain=stain, depth=rng.uniform(1, 1.5))
    nucleus = round_outline(rng, rng.uniform(3.6, 4.6), rng.uniform(0.8, 1))
    _nucleus(canvas, nucleus, rng.normal(0, 0.8, 2), depth=rng.uniform(0.7, 0.95))


def low_grade(canvas: Canvas) -> None:
    """Mature cell, one or two nuclei three times the normal area, often in a sharp halo (LSIL)."""
    rng = canvas.rng
    radius = rng.uniform(20, 27)
    mask = canvas.polygon(angular_outline(rng, radius, rng.uniform(0.75, 1)))
    middle = _near_middle(rng, radius * 0.5)
    if rng.random() < 0.7:  # koilocyte
        halo = round_outline(rng, radius * rng.uniform(0.5, 0.62), 0.85, 0.06) + middle
        mask = mask * (1 - 0.72 * canvas.blur(canvas.polygon(halo), 0.6))
    stain = _mixed(rng, CYAN, SLATE, PINK)
    _cytoplasm(canvas, mask, folds=0.3, stain=stain, depth=rng.uniform(0.9, 1.3))
    count = 2 if rng.random() < 0.4 else 1
    for k in range(count):
        shift = turned(rng, np.array([[4.6, 0.0]]))[0] if count == 2 else np.zeros(2)
        outline = round_outline(rng, rng.uniform(5.2, 7.5), rng.uniform(0.65, 0.95), 0.06)
        place = middle + shift * (1 - 2 * k)
        _nucleus(canvas, outline, place, depth=rng.uniform(0.9, 1.25), coarse=1.8)


def high_grade(canvas: Canvas) -> None:
    """Small cell nearly filled by a dark, uneven nucleus of 9-13 um (HSIL); one or a few."""
    rng = canvas.rng
    for _ in range(int(rng.integers(1, 5))):
        at = rng.normal(0, 8, 2).clip(-14, 14)
        nucleus = rng.uniform(4.6, 6.6)
        body = round_outline(rng, nucleus * rng.uniform(1.25, 1.7), rng.uniform(0.7, 1), 0.05)
        stain = _mixed(rng, CYAN, SLATE)
        mask = canvas.polygon(body + at)
        _cytoplasm(canvas, mask, folds=0.1, stain=stain, depth=rng.uniform(0.8, 1.2))
        outline = round_outline(rng, nucleus, rng.uniform(0.6, 0.92), 0.11)
        _nucleus(canvas, outline, at, depth=rng.uniform(1.15, 1.6), coarse=2.2)


def clue_cell(canvas: Canvas) -> None:
    """Squamous cell whose face and border are stippled with coccobacilli."""
    rng = canvas.rng
    radius = rng.uniform(20, 27)
    outline = angular_outline(rng, radius, rng.uniform(0.7, 1))
    mask = canvas.polygon(outline)
    stain = _mixed(rng, CYAN, SLATE, PINK)
    _cytoplasm(canvas, mask, folds=0.1, stain=stain, depth=rng.uniform(0.5, 0.8))
    nucleus = round_outline(rng, rng.uniform(3.4, 4.4), rng.uniform(0.75, 1))
    _nucleus(canvas, nucleus, _near_middle(rng, radius), depth=0.8)
    face = rng.uniform(-radius, radius, (int(rng.integers(700, 1300)), 2))
    border = np.repeat(outline, 3, axis=0)
    border = border * rng.normal(1, 0.045, (len(border), 1)) + rng.normal(0, 0.5, border.shape)
    points = np.concatenate([face, border])
    coat = canvas.dots(points, rng.uniform(0.6, 1.15, len(points)))
    reach = canvas.blur(mask, 1.4).clip(0, 0.6) / 0.6
    patches = (0.7 + 0.5 * canvas.noise(9)).clip(0.1, 1.4)
    canvas.stain(canvas.blur(coat, 0.25) * reach * patches * 1.15, BACTERIA)


def neutrophil(canvas: Canvas) -> None:
    """Polymorph: two to four small dark lobes in a faint body of 9-11 um."""
    rng = canvas.rng
    body = canvas.polygon(round_outline(rng, rng.uniform(4.5, 5.5), 0.9, 0.06))
    canvas.stain(0.5 * body, SLATE)
    angle = rng.uniform(0, 2 * np.pi)
    for k in range(int(rng.integers(2, 5))):
        turn = angle + k * rng.uniform(1.2, 1.9)
        at = 2.1 * np.array([np.cos(turn), np.sin(turn)])
        lobe = round_outline(rng, rng.uniform(1.5, 2.1), rng.uniform(0.7, 1), 0.08)
        _nucleus(canvas, lobe, at, depth=rng.uniform(1.0, 1.35), coarse=3)


def candida(canvas: Canvas) -> None:
    """Branching pseudohyphae 2-3 um wide with constrictions, among yeasts of 3-4 um."""
    rng = canvas.rng
    for _ in range(int(rng.integers(2, 5))):
        _hypha(canvas, rng.normal(0, 9, 2), rng.uniform(0, 2 * np.pi), depth=2)
    count = int(rng.integers(4, 16))
    yeasts = rng.normal(0, 14, (count, 2)).clip(-44, 44)
    wall = canvas.dots(yeasts, rng.uniform(2.8, 4.2, count))
    canvas.stain((wall - 0.45 * canvas.blur(wall, 0.9)).clip(0, 1) * 1.5, HYPHA)


def _hypha(canvas: Canvas, start: NDArray[np.float64], angle: float, depth: int) -> None:
    """Draw one filament, segment by segment, and its branches; it stays within the canvas."""
    rng = canvas.rng
    limit = canvas.side * canvas.um_px / 2 - 6
    points = [start]
    for _ in range(int(rng.integers(4, 9))):
        angle += rng.normal(0, 0.16)
        length = rng.uniform(7, 15)
        step = points[-1] + length * np.array([np.cos(angle), np.sin(angle)])
        if np.abs(step).max() > limit:
            break
        if depth and rng.random() < 0.22:
            _hypha(canvas, step, angle + rng.choice([-1, 1]) * rng.uniform(0.4, 0.9), depth - 1)
        points.append(step)
    if len(points) < 2:
        return
    tube = canvas.path(np.asarray(points), rng.uniform(2.1, 2.9))
    septa = canvas.dots(np.asarray(points), np.full(len(points), 2.2))
    hollow = (tube - 0.5 * canvas.blur(tube, 0.7)).clip(0, 1)
    canvas.stain(hollow * 1.7 + 0.4 * septa, HYPHA)


def debris(canvas: Canvas) -> None:
    """Granular, ragged, violet-grey matter: lysed cells and stain deposit."""
    rng = canvas.rng
    window = canvas.polygon(round_outline(rng, rng.uniform(6, 13), rng.uniform(0.4, 1), 0.25))
    clumps = (canvas.noise(3.5) + 0.5 * canvas.noise(1.1) - 0.1).clip(0, 2)
    canvas.stain(canvas.blur(window, 1.5) * clumps * rng.uniform(0.3, 0.7), HAEMATOXYLIN)


def mucus(canvas: Canvas) -> None:
    """Faint, drawn-out strands."""
    rng = canvas.rng
    window = canvas.polygon(round_outline(rng, rng.uniform(40, 62), rng.uniform(0.15, 0.5), 0.12))
    strands = canvas.ridges(10, 3, 6) * 0.5 + 0.2 * canvas.ridges(4, 3, 8)
    stain = _mixed(rng, SLATE, PINK, CYAN)
    canvas.stain(canvas.blur(window, 7) * strands * rng.uniform(0.3, 0.8), stain)


#: in the order in which layout numbers them
KINDS = (
    Kind("intermediate", 66, 40, intermediate),
    Kind("superficial", 66, 28, superficial),
    Kind("folded", 62, 28, folded),
    Kind("parabasal", 32, 8, parabasal),
    Kind("neutrophil", 16, 10, neutrophil),
    Kind("debris", 40, 12, debris),
    Kind("mucus", 150, 6, mucus),
    Kind("LSIL", 66, 14, low_grade, "cancer"),
    Kind("HSIL", 54, 14, high_grade, "cancer"),
    Kind("candida", 110, 10, candida, "candidiasis"),
    Kind("clue_cell", 66, 12, clue_cell, "cluecell"),
)
