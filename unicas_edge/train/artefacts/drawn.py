"""Pictures that a program draws: text, screens, charts, patterns. None is a slide of anything."""

from __future__ import annotations

import math
import string
from functools import lru_cache
from pathlib import Path

import matplotlib as mpl
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from unicas_edge.core.arrays import UInt8Image
from unicas_edge.train.artefacts.plane import Light, Noise, Rng, Window, grey_of, log_uniform
from unicas_edge.train.compose.sources import TILE

Font = ImageFont.FreeTypeFont
_LETTERS = np.array(list(string.ascii_letters + string.digits + "   .,:-/%()"))


@lru_cache(maxsize=64)
def _font(size: int, family: str) -> Font:
    """Return one of the fonts that matplotlib brings."""
    folder = Path(mpl.get_data_path()) / "fonts" / "ttf"
    return ImageFont.truetype(str(folder / f"{family}.ttf"), size)


def _colour(rng: Rng, low: int = 0, high: int = 256) -> tuple[int, int, int]:
    r, g, b = (int(v) for v in rng.integers(low, high, 3))
    return r, g, b


def _words(rng: Rng, length: int) -> str:
    return "".join(rng.choice(_LETTERS, length))


def text(rng: Rng, family: str = "DejaVuSans") -> UInt8Image:
    """Return a page of text, dark on light or light on dark."""
    dark = rng.random() < 0.25
    page, letters = ((0, 70), (180, 256)) if dark else ((215, 256), (0, 110))
    image = Image.new("RGB", (TILE, TILE), _colour(rng, *page))
    draw, size, fill = ImageDraw.Draw(image), int(log_uniform(rng, 8, 90)), _colour(rng, *letters)
    font = _font(size, family)
    left = int(rng.integers(-size, 20))
    for y in range(int(rng.integers(-size, 10)), TILE, int(size * rng.uniform(1.1, 1.7))):
        draw.text((left, y), _words(rng, 2 + int(2.4 * TILE / size)), fill, font)
    if rng.random() < 0.3:
        image = image.rotate(
            rng.uniform(-45, 45), Image.Resampling.BILINEAR, fillcolor=image.getpixel((0, 0))
        )
    return np.asarray(image)


def screen(rng: Rng) -> UInt8Image:
    """Return a part of a computer's screen: panels, title bars, buttons, rows of a table."""
    image = Image.new("RGB", (TILE, TILE), _colour(rng, 190, 256))
    draw, font = ImageDraw.Draw(image), _font(int(rng.integers(9, 17)), "DejaVuSansMono")
    for _ in range(int(rng.integers(2, 6))):
        x, y = (int(v) for v in rng.integers(-60, TILE - 40, 2))
        wide, high = (int(v) for v in rng.integers(60, 240, 2))
        draw.rectangle((x, y, x + wide, y + high), _colour(rng, 200), _colour(rng, 90, 180))
        draw.rectangle((x, y, x + wide, y + 18), _colour(rng, 30, 170))
        draw.text((x + 5, y + 2), _words(rng, wide // 10), (255, 255, 255), font)
        for line in range(y + 24, y + high - 12, int(rng.integers(14, 26))):
            draw.text((x + 6, line), _words(rng, wide // 10), _colour(rng, 0, 90), font)
            if rng.random() < 0.2:
                draw.rectangle((x + wide - 40, line, x + wide - 6, line + 12), _colour(rng, 60))
    return np.asarray(image)


def chart(rng: Rng) -> UInt8Image:
    """Return a part of a chart: axes, lines, bars, points."""
    image = Image.new("RGB", (TILE, TILE), (255, 255, 255))
    draw = ImageDraw.Draw(image)
    for k in range(0, TILE, int(rng.integers(20, 60))):
        draw.line((0, k, TILE, k), (225, 225, 225))
        draw.line((k, 0, k, TILE), (225, 225, 225))
    for _ in range(int(rng.integers(1, 5))):
        ys = TILE / 2 + np.cumsum(rng.normal(0, log_uniform(rng, 2, 14), TILE // 4))
        line = [(4.0 * k, float(y)) for k, y in enumerate(ys)]
        if rng.random() < 0.6:
            draw.line(line, _colour(rng, 0, 220), int(rng.integers(1, 6)))
        else:
            for x, y in line[:: int(rng.integers(2, 6))]:
                draw.rectangle((x, min(y, TILE), x + 9, TILE), _colour(rng, 40, 240))
    draw.text((8, 8), _words(rng, 12), (0, 0, 0), _font(16, "DejaVuSans"))
    return np.asarray(image)


def gradient(rng: Rng) -> UInt8Image:
    """Return one colour that goes over into another, straight or round; sometimes one alone."""
    frame = Window()
    angle, y, x = rng.uniform(0, 2 * math.pi), *rng.uniform(-100, 356, 2)
    if rng.random() < 0.5:
        share = (frame.y * math.sin(angle) + frame.x * math.cos(angle)) / 360 + rng.uniform(0, 1)
    else:
        share = np.hypot(frame.y - y, frame.x - x) / rng.uniform(120, 500)
    one, other = rng.random(3), rng.random(3)
    if rng.random() < 0.15:
        other = one
    share = np.asarray(share, np.float32).clip(0, 1)[..., None]
    return grey_of((one + (other - one) * share).astype(np.float32))


def noise(rng: Rng) -> UInt8Image:
    """Return clouds of random colours, of any grain down to single pixels."""
    if rng.random() < 0.2:
        return rng.integers(0, 256, (TILE, TILE, 3), np.uint8)
    period, count = log_uniform(rng, 3, 200), int(rng.integers(1, 6))
    window = Window(*(int(v) for v in rng.integers(0, 9999, 2)))
    one = Noise(rng).octaves(window, period, count, rng.uniform(0.4, 0.9))
    if rng.random() < 0.4:
        one = np.sin(one * rng.uniform(2, 9))
    planes = np.stack([one] * 3, axis=-1) * rng.uniform(0.05, 0.35, 3)
    if rng.random() < 0.5:
        planes[..., 1] += 0.2 * Noise(rng).over(window, period)
    return grey_of((planes + rng.uniform(0.2, 0.8, 3)).astype(np.float32))


def voronoi(rng: Rng) -> UInt8Image:
    """Return polygons around random points: flat, or shaded as cells of a honeycomb."""
    points = rng.uniform(-20, TILE + 20, (int(rng.integers(6, 40)), 2)).astype(np.float32)
    frame = Window()
    best = np.full((TILE, TILE), 1e9, np.float32)
    which = np.zeros((TILE, TILE), np.int64)
    for k, (y, x) in enumerate(points):
        distance = (frame.y - y) ** 2 + (frame.x - x) ** 2
        nearer = distance < best
        which[nearer] = k
        np.minimum(best, distance, out=best)
    colours = rng.random((len(points), 3)).astype(np.float32)
    shade = 1 - rng.uniform(0, 0.9) * (np.sqrt(best) / 60).clip(0, 1)
    return grey_of(colours[which] * shade.astype(np.float32)[..., None])


def stripes(rng: Rng) -> UInt8Image:
    """Return stripes, a checkerboard or a grid of dots, sharp or smooth, at any angle."""
    frame, angle = Window(), rng.uniform(0, math.pi)
    width = log_uniform(rng, 2, 120)
    u = (frame.y * math.sin(angle) + frame.x * math.cos(angle)) / width
    v = (frame.y * math.cos(angle) - frame.x * math.sin(angle)) / width
    wave = np.sin(math.pi * u)
    if rng.random() < 0.65:
        wave = wave * np.sin(math.pi * v)
    if rng.random() < 0.7:
        wave = (wave > rng.uniform(-0.3, 0.3)).astype(np.float32) * 2 - 1
    one, other = rng.random(3), rng.random(3)
    share: Light = np.asarray(wave * 0.5 + 0.5, np.float32)[..., None]
    return grey_of((one + (other - one) * share).astype(np.float32))
