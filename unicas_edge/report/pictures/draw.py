"""Drawing with Pillow alone: type that fits its place, heat colours, scale bars."""

from __future__ import annotations

import functools
import math
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from unicas_edge.core.files import atomic_write
from unicas_edge.report.pictures.palette import HEAT, INK, PAPER, RGB

#: Glyphs of Pillow's embedded font beyond ASCII; it has no micro sign and no dashes.
_EXTRA_GLYPHS = frozenset("©«°±´·»‘’“”…‹›™")
_SUBSTITUTES = str.maketrans({"µ": "u", "μ": "u", "–": "-", "—": "-", "×": "x"})

JPEG_QUALITY = 90
BAR_TYPE = 16


@functools.cache
def font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    """Return Pillow's embedded font at `size` pixels: the same on every machine."""
    return ImageFont.load_default(size)


def printable(text: str) -> str:
    """Return `text` on one line, with a question mark for what the embedded font cannot show."""
    text = " ".join(text.translate(_SUBSTITUTES).split())
    return "".join(c if " " <= c <= "~" or c in _EXTRA_GLYPHS else "?" for c in text)


def text_width(text: str, size: int) -> int:
    """Return the width of `text` in pixels."""
    return math.ceil(font(size).getlength(text))


def fit(text: str, size: int, width: int) -> str:
    """Return `text`, shortened in its middle until it is at most `width` pixels wide."""
    text = printable(text)
    if text_width(text, size) <= width:
        return text
    fitting, too_long = 0, len(text)
    while too_long - fitting > 1:
        kept = (fitting + too_long) // 2
        if text_width(_shortened(text, kept), size) <= width:
            fitting = kept
        else:
            too_long = kept
    return _shortened(text, fitting)


def _shortened(text: str, kept: int) -> str:
    """Return the first and last characters of `text`, `kept` of them in all."""
    tail = kept // 2
    return text[: kept - tail].rstrip() + "…" + (text[-tail:].lstrip() if tail else "")


def wrap(text: str, size: int, width: int, lines: int) -> list[str]:
    """Return `text` as at most `lines` lines no wider than `width`; the last may be shortened."""
    done: list[str] = []
    words = printable(text).split(" ")
    while words and len(done) < lines - 1:
        count = 1
        while count < len(words) and text_width(" ".join(words[: count + 1]), size) <= width:
            count += 1
        done.append(fit(" ".join(words[:count]), size, width))
        words = words[count:]
    return [*done, fit(" ".join(words), size, width)] if words else done


def write(
    draw: ImageDraw.ImageDraw,
    place: tuple[int, int],
    text: str,
    size: int,
    colour: RGB = INK,
    *,
    width: int | None = None,
    anchor: str = "la",
) -> int:
    """Draw `text` at `place`, shortened to `width`; return the pixels it takes to the right."""
    text = printable(text) if width is None else fit(text, size, width)
    draw.text(place, text, font=font(size), fill=colour, anchor=anchor)
    return text_width(text, size)


def heat(share: NDArray[np.float64]) -> NDArray[np.uint8]:
    """Return the heat colour of each value in 0..1, uint8 [..., 3]."""
    stops = np.linspace(0, 1, len(HEAT))
    channels = [np.interp(share, stops, [colour[k] for colour in HEAT]) for k in range(3)]
    return np.rint(np.stack(channels, axis=-1)).astype(np.uint8)


def nice_length(limit_um: float) -> tuple[float, str]:
    """Return the longest 1, 2 or 5 x 10^k micrometres within `limit_um`, and its label."""
    power = 10.0 ** math.floor(math.log10(limit_um))
    length = max(step * power for step in (1, 2, 5) if step * power <= limit_um * (1 + 1e-9))
    return length, f"{length / 1000:g} mm" if length >= 1000 else f"{length:g} um"


def scale_bar(
    draw: ImageDraw.ImageDraw, place: tuple[int, int], um_px: float, limit_px: int
) -> int:
    """Draw a labelled scale bar of at most `limit_px` pixels; return the width of it all.

    `um_px` is micrometres per pixel of the picture; `place` is the left end of the bar's middle.
    """
    pixels, label = _bar(um_px, limit_px)
    x, y = place
    draw.rectangle((x, y - 2, x + pixels, y + 1), fill=INK)
    draw.line((x, y - 6, x, y + 5), fill=INK, width=2)
    draw.line((x + pixels, y - 6, x + pixels, y + 5), fill=INK, width=2)
    write(draw, (x + pixels + 10, y), label, BAR_TYPE, anchor="lm")
    return scale_bar_width(um_px, limit_px)


def scale_bar_width(um_px: float, limit_px: int) -> int:
    """Return the width of a scale bar with its label, in pixels."""
    pixels, label = _bar(um_px, limit_px)
    return pixels + 10 + text_width(label, BAR_TYPE)


def _bar(um_px: float, limit_px: int) -> tuple[int, str]:
    length, label = nice_length(limit_px * um_px)
    return max(2, round(length / um_px)), label


def canvas(width: int, height: int) -> tuple[Image.Image, ImageDraw.ImageDraw]:
    """Return a blank RGB picture and its pen."""
    image = Image.new("RGB", (width, height), PAPER)
    return image, ImageDraw.Draw(image)


def save_jpeg(path: Path, image: Image.Image) -> None:
    """Write `image` to `path` as JPEG without chroma subsampling, for the coloured type."""
    with atomic_write(path) as handle:
        image.save(handle, "JPEG", quality=JPEG_QUALITY, subsampling=0)
