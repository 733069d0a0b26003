"""``overview.jpg``: the slide, what could not be used, and one attention map a task."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from unicas_edge.report.pictures import heatmap
from unicas_edge.report.pictures.draw import (
    canvas,
    save_jpeg,
    scale_bar,
    scale_bar_width,
    text_width,
    write,
)
from unicas_edge.report.pictures.layout import (
    BODY,
    FOOTER,
    HEADING,
    MARGIN,
    SMALL,
    draw_footer,
    draw_header,
    draw_verdict,
    header_height,
    set_words,
    spoken,
)
from unicas_edge.report.pictures.palette import BLURRED, FAILED, MUTED, RGB, RULE, task_colour
from unicas_edge.result import SlideResult

#: Longer side of the page, pixels.
MAX_SIDE = 1600
MIN_WIDTH = 900
GAP = 28
CAPTION = 62
#: More of a caption, where a probability has a set.
SET_LINE = 24
LEGEND = 54


@dataclass(frozen=True)
class Page:
    """How panels lie on the page, in pixels: `columns` x `rows` of them, each image `size`."""

    columns: int
    rows: int
    size: tuple[int, int]
    width: int
    top: int
    caption: int

    @property
    def cell(self) -> tuple[int, int]:
        """Width and height of a panel with caption, legend and gap."""
        usable = (self.width - 2 * MARGIN + GAP) // self.columns
        return usable, self.caption + self.size[1] + LEGEND

    @property
    def height(self) -> int:
        """Height of the page."""
        return self.top + self.rows * self.cell[1] + FOOTER

    def place(self, number: int) -> tuple[int, int]:
        """Return where panel `number` begins."""
        row, column = divmod(number, self.columns)
        return MARGIN + column * self.cell[0], self.top + row * self.cell[1]


def arrange(result: SlideResult, panels: int) -> Page:
    """Return the page on which `panels` pictures of the slide are largest."""
    pages = [_page(result, panels, columns) for columns in range(1, panels + 1)]
    return max(pages, key=lambda page: page.size[0] * page.size[1])


def _page(result: SlideResult, panels: int, columns: int) -> Page:
    rows = math.ceil(panels / columns)
    caption = CAPTION + (SET_LINE if any(map(set_words, result.tasks)) else 0)
    top = header_height(result, MAX_SIDE)
    wide = (MAX_SIDE - 2 * MARGIN + GAP) // columns - GAP
    high = (MAX_SIDE - top - FOOTER) // rows - caption - LEGEND
    scale = min(wide / result.slide.width, max(high, 40) / result.slide.height)
    size = max(1, int(result.slide.width * scale)), max(1, int(result.slide.height * scale))
    needed = max(size[0], 260) * columns + GAP * (columns - 1) + 2 * MARGIN
    width = min(MAX_SIDE, max(MIN_WIDTH, needed))
    return Page(columns, rows, size, width, header_height(result, width), caption)


def draw_overview(result: SlideResult, overview: NDArray[np.uint8]) -> Image.Image:
    """Return the page as an RGB picture, its longer side about `MAX_SIDE` at most.

    `overview` is the whole slide at any size, uint8 RGB [h, w, 3].
    """
    page = arrange(result, 1 + len(result.tasks))
    image, draw = canvas(page.width, page.height)
    draw_header(draw, result, page.width, facts(result))
    small = Image.fromarray(overview).resize(page.size, Image.Resampling.LANCZOS)
    _slide_panel(image, draw, page, result, small)
    for number, task in enumerate(result.tasks):
        x, y = page.place(number + 1)
        room = page.cell[0] - GAP
        draw.ellipse((x, y + 8, x + 13, y + 21), fill=task_colour(number))
        write(draw, (x + 22, y + 2), spoken(task.name), HEADING, width=room - 22)
        draw_verdict(draw, (x, y + 32), task, weights=result.bundle, width=room)
        write(draw, (x, y + 32 + SET_LINE), set_words(task), BODY, MUTED, width=room)
        picture, top = heatmap.draw_heat(small, result, task)
        _paste(image, draw, picture, (x, y + page.caption))
        heatmap.draw_colour_bar(draw, (x, y + page.caption + page.size[1] + 8), room, top)
    draw_footer(draw, result, page.width, page.height)
    return image


def facts(result: SlideResult) -> str:
    """Return size, spacing and number of tiles in one line."""
    slide, coverage = result.slide, result.coverage
    size = " x ".join(f"{side * slide.um_px / 1000:.1f}" for side in (slide.width, slide.height))
    return (
        f"{size} mm · {slide.um_px:.4g} um/px ({slide.um_px_source}) · {coverage.encoded} tiles "
        f"encoded of {coverage.planned} planned, {coverage.grid_tiles} in all"
    )


def write_overview(path: Path, result: SlideResult, overview: NDArray[np.uint8]) -> None:
    """Write the page to `path`; `OutputError` where that fails."""
    save_jpeg(path, draw_overview(result, overview))


def _slide_panel(
    image: Image.Image,
    draw: ImageDraw.ImageDraw,
    page: Page,
    result: SlideResult,
    small: Image.Image,
) -> None:
    """Draw the slide with what could not be used, scale bar and legend."""
    x, y = page.place(0)
    room = page.cell[0] - GAP
    write(draw, (x, y + 2), "Slide", HEADING, width=room)
    share = f"{100 * result.coverage.coverage:.1f} % of the planned tiles read"
    write(draw, (x, y + 32), share, BODY, MUTED, width=room)
    picture, failed, blurred = heatmap.draw_marks(small, result)
    _paste(image, draw, picture, (x, y + page.caption))
    um_px = result.slide.um_px * result.slide.width / page.size[0]
    keys = [(FAILED, f"{failed} unreadable"), (BLURRED, f"{blurred} out of focus")]
    _legend(draw, (x, y + page.caption + page.size[1]), room, um_px, keys)


def _legend(
    draw: ImageDraw.ImageDraw,
    place: tuple[int, int],
    room: int,
    um_px: float,
    keys: list[tuple[RGB, str]],
) -> None:
    """Draw scale bar and keys, on two lines where one is too narrow."""
    x, y = place
    limit = min(180, room // 4)
    bar = scale_bar_width(um_px, limit) + 24
    one_line = bar + sum(40 + text_width(label, SMALL) for _, label in keys) <= room
    scale_bar(draw, (x + 1, y + (20 if one_line else 14)), um_px, limit)
    middle = y + (20 if one_line else 38)
    x += bar if one_line else 0
    for colour, label in keys:
        x += _key(draw, (x, middle), colour, label)


def _key(draw: ImageDraw.ImageDraw, place: tuple[int, int], colour: RGB, label: str) -> int:
    """Draw one entry of the legend; return the pixels it takes."""
    x, y = place
    heatmap.draw_mark(draw, (x, y - 6, x + 12, y + 6), colour, crossed=colour == FAILED)
    write(draw, (x + 20, y), label, SMALL, anchor="lm")
    return 40 + text_width(label, SMALL)


def _paste(
    image: Image.Image, draw: ImageDraw.ImageDraw, picture: Image.Image, place: tuple[int, int]
) -> None:
    x, y = place
    image.paste(picture, place)
    draw.rectangle((x - 1, y - 1, x + picture.width, y + picture.height), outline=RULE)
