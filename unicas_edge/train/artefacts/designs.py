"""Designs of slides on which nothing can be judged: one artefact, or several in one picture."""

from __future__ import annotations

from collections.abc import Callable

from unicas_edge.train.artefacts import bubble, debris, fold, ink
from unicas_edge.train.artefacts.plane import Layer, log_uniform
from unicas_edge.train.artefacts.scene import Ground, Scene, fading, lamp

Design = Callable[[Scene], Ground]


def _ink(scene: Scene, colour: str, *, strokes: int, least: float = 0.9) -> Layer:
    return scene.noted(
        f"ink/{colour}", ink.ink(scene.rng, scene.side, colour, strokes, least=least)
    )


def _large(scene: Scene, least: int, most: int) -> Layer:
    count = int(scene.rng.integers(least, most))
    return scene.noted("bubble/large", bubble.large(scene.rng, scene.side, count))


def _particles(scene: Scene, *kinds: str, most: float) -> list[Layer]:
    return [
        scene.noted(
            f"debris/{kind}",
            debris.particles(scene.rng, scene.side, kind, log_uniform(scene.rng, most / 4, most)),
        )
        for kind in kinds
    ]


def _hypocellular(scene: Scene) -> Ground:
    return scene.few(scene.rng.uniform(0.01, 0.03))


def _bubbles(scene: Scene) -> Ground:
    share = scene.rng.uniform(0.2, 0.8)
    many = bubble.many(scene.rng, scene.side, sizes=(15, 300), share=share)
    return scene.over(scene.glass(), scene.noted("bubble/many", many))


def _foam(scene: Scene) -> Ground:
    many = bubble.many(scene.rng, scene.side, sizes=(8, 60), share=1.6)
    return scene.over(_hypocellular(scene), scene.noted("bubble/many", many))


def _one_bubble(scene: Scene) -> Ground:
    """Return air under nearly all of the cover slip: droplets in it, and few cells."""
    droplets = bubble.many(scene.rng, scene.side, sizes=(2, 20), share=0.04)
    return scene.over(scene.few(0.03), _large(scene, 1, 4), scene.noted("bubble/many", droplets))


def _inked_cells(scene: Scene) -> Ground:
    """Return a slide that a pen covered: little light comes through it anywhere."""
    colours = ("violet", "black", "blue", "green")
    colour = colours[int(scene.rng.integers(len(colours)))]
    return scene.over(scene.cells(), _ink(scene, colour, strokes=14, least=1.6))


def _ink_on_few(scene: Scene) -> Ground:
    strokes = _ink(scene, "orange", strokes=12)
    return scene.over(_hypocellular(scene), fading(strokes, scene.rng, 0.6))


def _unfocused(scene: Scene) -> Ground:
    return scene.over(scene.cells(), scene.layer("out_of_focus/disc"))


def _mostly_unfocused(scene: Scene) -> Ground:
    cells, blur = scene.cells(), scene.layer("out_of_focus/moved")
    share = scene.rng.uniform(0.93, 0.98)
    return scene.mostly(share, scene.over(cells, blur), scene.glass(0.92))


def _folds(scene: Scene) -> Ground:
    bands = [
        scene.noted("fold/band", fold.band(scene.rng, scene.side, (60, 500))) for _ in range(12)
    ]
    ground = scene.over(_hypocellular(scene), scene.layer("debris/strand"))
    return scene.over(ground, *bands, scene.layer("fold/wrinkles"))


def _thirds(scene: Scene) -> Ground:
    """Return three slides in one: histology, a pen's ink, and glass."""
    inked = scene.over(scene.glass(), _ink(scene, "violet", strokes=9))
    rest = scene.mostly(0.5, inked, scene.over(scene.glass(), scene.layer("debris/strand")))
    return scene.mostly(0.35, scene.picture("histology/cmu", 1.3), rest)


def _colours(source: str) -> Design:
    return lambda scene: scene.impossible(source)


def _picture(source: str, low: float | None = None, high: float = 1.0) -> Design:
    def ground(scene: Scene) -> Ground:
        factor = None if low is None else log_uniform(scene.rng, low, high)
        return scene.picture(source, factor)

    return ground


def _drawn(source: str) -> Design:
    return lambda scene: scene.drawn(source)


def _on_glass(*sources: str) -> Design:
    return lambda scene: scene.over(scene.glass(), *(scene.layer(s) for s in sources))


def _littered(*kinds: str, most: float) -> Design:
    return lambda scene: scene.over(_hypocellular(scene), *_particles(scene, *kinds, most=most))


DESIGNS: dict[str, Design] = {
    "bubbles on glass": _bubbles,
    "foam": _foam,
    "outlines of bubbles": _on_glass("bubble/rings"),
    "air under the cover slip": _one_bubble,
    "large bubbles": lambda scene: scene.over(scene.few(0.02), _large(scene, 20, 60)),
    "inked cells": _inked_cells,
    "ink on glass": lambda scene: scene.over(scene.glass(), _ink(scene, "violet", strokes=6)),
    "ink on few cells": _ink_on_few,
    "frosted glass": _on_glass("glass/frosted"),
    "frosted and inked": lambda scene: scene.over(
        scene.glass(), scene.layer("glass/frosted"), _ink(scene, "black", strokes=3)
    ),
    "empty glass": lambda scene: scene.glass(0.75),
    "tinted glass": _on_glass("glass/tinted", "glass/shaded"),
    "dried fluid": _on_glass("glass/dried", "glass/dusty"),
    "edges of cover slips": lambda scene: scene.over(
        scene.glass(), *(scene.layer("glass/edge") for _ in range(5)), scene.layer("glass/dusty")
    ),
    "out of focus": _unfocused,
    "stage moved": _mostly_unfocused,
    "hypocellular": lambda scene: scene.over(
        _hypocellular(scene), *_particles(scene, "dust", "precipitate", most=1.5)
    ),
    "dust and crystals": _littered("dust", "crystal", most=8),
    "blood": _littered("blood", most=90),
    "pollen, talc and starch": _littered("pollen", "talc", "starch", most=3),
    "pigment and precipitate": _littered("pigment", "precipitate", most=6),
    "fibres and scratches": _on_glass("debris/fibre", "debris/fibre", "debris/scratch"),
    "mucus": _on_glass("debris/strand", "debris/strand", "debris/dust"),
    "folds": _folds,
    "a photograph": _picture("photograph/flower"),
    "photographs": _picture("photograph/flower", 0.7, 4),
    "histology, enlarged": _picture("histology/camelyon", 2.0, 6.0),
    "histology": _picture("histology/cmu", 0.8, 1.6),
    "fluorescence": _picture("fluorescence/dapi", 0.8, 1.6),
    "pages of text": _drawn("drawn/serif"),
    "screens": _drawn("drawn/screen"),
    "clouds": _drawn("drawn/noise"),
    "polygons": _drawn("drawn/voronoi"),
    "inverted colours": _colours("impossible/inverted"),
    "swapped colours": _colours("impossible/swapped"),
    "no colours": _colours("impossible/grey"),
    "solarised colours": _colours("impossible/solarised"),
    "lamp off": lambda scene: scene.over(scene.cells(), lamp(scene.rng, 0.02, 0.1)),
    "overexposed": lambda scene: scene.over(scene.cells(), lamp(scene.rng, 4, 12)),
    "three in one": _thirds,
}
#: designs that need a picture that an installation may not read: they are passed over without it
NEEDS = {
    "a photograph": "photograph/flower",
    "photographs": "photograph/flower",
    "histology, enlarged": "histology/camelyon",
    "histology": "histology/cmu",
    "fluorescence": "fluorescence/dapi",
    "three in one": "histology/cmu",
}
