"""One artefact tile of a kind and a source: what a gate in front of the decision is taught with.

Kinds are what a tile is called; sources say how it was made ("ink/blue", "histology/cmu"), so that
a gate can be judged on sources that it was not shown.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np

from unicas_edge.core.arrays import UInt8Image
from unicas_edge.errors import TrainingError
from unicas_edge.train.artefacts import bubble, debris, focus, fold, glass, ink
from unicas_edge.train.artefacts.foreign import DRAWN, IMPOSSIBLE, of_picture
from unicas_edge.train.artefacts.material import SLIDES, Material, Rng
from unicas_edge.train.artefacts.particles import SIZES
from unicas_edge.train.artefacts.plane import Layer, Light, Window, grey_of, light_of
from unicas_edge.train.compose.sources import TILE

#: (generator, side of the square of the plane that must show it) -> the artefact
Maker = Callable[[Rng, float], Layer]


def _ink(colour: str) -> Maker:
    return lambda rng, side: (ink.dots if rng.random() < 0.15 else ink.ink)(rng, side, colour)


def _particles(kind: str) -> Maker:
    return lambda rng, side: debris.particles(rng, side, kind)


#: source -> what draws it over a tile; the part before "/" is the kind
LAYERS: dict[str, Maker] = {
    **{f"ink/{colour}": _ink(colour) for colour in ink.INKS},
    "bubble/large": bubble.large,
    "bubble/many": bubble.many,
    "bubble/rings": bubble.rings,
    "fold/band": fold.band,
    "fold/wrinkles": fold.wrinkles,
    **{f"debris/{kind}": _particles(kind) for kind in SIZES},
    "debris/fibre": debris.fibres,
    "debris/scratch": debris.scratches,
    "debris/strand": debris.strands,
    "glass/clean": glass.clean,
    "glass/tinted": glass.tinted,
    "glass/shaded": glass.shaded,
    "glass/dusty": glass.dusty,
    "glass/frosted": glass.frosted,
    "glass/edge": glass.edge,
    "glass/dried": glass.dried,
    "out_of_focus/gaussian": focus.gaussian,
    "out_of_focus/disc": focus.disc,
    "out_of_focus/moved": focus.moved,
}
PICTURES = (*SLIDES, "photograph/china", "photograph/flower", "photograph/hopper")
KINDS = ("ink", "bubble", "fold", "debris", "glass", "out_of_focus", "not_cytology")
#: kind -> its sources
SOURCES: dict[str, tuple[str, ...]] = {
    kind: tuple(source for source in LAYERS if source.startswith(f"{kind}/")) for kind in KINDS
} | {"not_cytology": (*PICTURES, *DRAWN, *IMPOSSIBLE)}
#: What only the slides that judge a gate are made of; training uses the rest.
HELD_OUT = frozenset(
    {
        "ink/violet",
        "ink/orange",
        "bubble/rings",
        "debris/pollen",
        "debris/talc",
        "glass/dried",
        "out_of_focus/moved",
        "histology/camelyon",
        "photograph/flower",
        "drawn/serif",
        "drawn/screen",
        "impossible/solarised",
    }
)
TRAINING_SOURCES = frozenset(s for of in SOURCES.values() for s in of) - HELD_OUT
#: how likely an artefact lies over real cells rather than over glass
_OVER_CELLS = {"ink": 0.7, "bubble": 0.5, "fold": 0.93, "debris": 0.0, "glass": 0.0}
#: debris lies among few cells in this share of its tiles
_FEW_CELLS = 0.3


@dataclass(frozen=True)
class Made:
    """A tile uint8 [256, 256, 3], what it is called, and how it was made."""

    kind: str
    source: str
    pixels: UInt8Image


def sources_of(
    kind: str, material: Material, allowed: Iterable[str] | None = None
) -> tuple[str, ...]:
    """Return the sources of a kind that the material holds and that are allowed (None: all).

    `TrainingError` for an unknown kind, and where no source is left.
    """
    if kind not in SOURCES:
        raise TrainingError(f"no artefact {kind!r}; known: {', '.join(KINDS)}")
    some = set(TRAINING_SOURCES | HELD_OUT if allowed is None else allowed)
    absent = set(PICTURES) - set(material.pictures)
    found = tuple(s for s in SOURCES[kind] if s in some and s not in absent)
    if not found:
        raise TrainingError(f"no source of {kind} is left: {', '.join(SOURCES[kind])}")
    return found


def draw(
    kind: str, rng: Rng, material: Material, allowed: Iterable[str] | None = TRAINING_SOURCES
) -> UInt8Image:
    """Return a tile of a kind, uint8 [256, 256, 3]; the same generator gives the same tile."""
    return make(kind, rng, material, allowed).pixels


def make(
    kind: str, rng: Rng, material: Material, allowed: Iterable[str] | None = TRAINING_SOURCES
) -> Made:
    """Return a tile of a kind with its source, drawn among those that are `allowed` (None: all)."""
    sources = sources_of(kind, material, allowed)
    source = sources[int(rng.integers(len(sources)))]
    return Made(kind, source, make_of(source, rng, material))


def make_of(source: str, rng: Rng, material: Material) -> UInt8Image:
    """Return a tile of one source, uint8 [256, 256, 3]."""
    if source in DRAWN:
        return DRAWN[source](rng)
    if source in IMPOSSIBLE:
        return IMPOSSIBLE[source](material.tile(rng, crowded=True), rng)
    if source in LAYERS:
        kind = source.partition("/")[0]
        light = LAYERS[source](rng, TILE)(_under(kind, rng, material), Window())
        if kind == "out_of_focus":  # a blurred picture without its camera's noise is too easy
            light = light + glass.grain(rng) * np.float32(rng.uniform(0, 0.01))
        return grey_of(light)
    return of_picture(source, rng, material)


def _under(kind: str, rng: Rng, material: Material) -> Light:
    """Return the light of what an artefact is drawn over."""
    if rng.random() < _OVER_CELLS.get(kind, 1.0):
        return light_of(material.tile(rng, crowded=kind in ("fold", "out_of_focus")))
    few = material.few(rng) if kind == "debris" and rng.random() < _FEW_CELLS else None
    return glass.sheet(rng) if few is None else light_of(few)
