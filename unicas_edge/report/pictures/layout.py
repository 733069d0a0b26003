"""What every picture has in common: header, notices, footer, and how panels share the page."""

from __future__ import annotations

import math
from dataclasses import dataclass

from PIL import ImageDraw

from unicas_edge.report.pictures.draw import text_width, wrap, write
from unicas_edge.report.pictures.palette import (
    AMBER,
    AMBER_INK,
    DECISIONS,
    INK,
    MUTED,
    PLATE,
    RGB,
    RULE,
)
from unicas_edge.result import (
    DEMONSTRATION,
    NOTICE,
    OUTSIDE,
    UNTRAINED,
    SlideResult,
    TaskResult,
    Weights,
    caution,
    notices,
)

MARGIN = 28
TITLE, HEADING, BODY, SMALL = 30, 21, 17, 15
HEADER = 88
BAND_LINE = 25
FOOTER = 44
#: What stands before a decision that is none.
_WORDS = {UNTRAINED: "untrained", DEMONSTRATION: "demonstration"}


@dataclass(frozen=True)
class Band:
    """A full-width remark: its lines and its colours."""

    lines: list[str]
    ground: RGB
    ink: RGB

    @property
    def height(self) -> int:
        """Pixels, with the gap below."""
        return BAND_LINE * len(self.lines) + 16 + 10


def bands(result: SlideResult, width: int) -> list[Band]:
    """Return the remarks a reader must not miss, set to `width` pixels."""
    room = width - 2 * MARGIN - 32
    said = [_sentence(notice) for notice in notices(result) if notice != NOTICE]
    found = [Band(wrap(text, BODY + 2, room, 2), AMBER, AMBER_INK) for text in said]
    if result.adequacy.known is False:
        found.append(Band([_sentence(OUTSIDE)], AMBER, AMBER_INK))
    if not result.adequacy.satisfactory:
        reasons = "; ".join(result.adequacy.reasons) or "see result.json"
        text = f"Unsatisfactory for evaluation: {reasons}"
        found.append(Band(wrap(text, BODY + 2, room, 4), PLATE, INK))
    return found


def header_height(result: SlideResult, width: int) -> int:
    """Return how many pixels `draw_header` takes."""
    return HEADER + sum(band.height for band in bands(result, width))


def draw_header(draw: ImageDraw.ImageDraw, result: SlideResult, width: int, facts: str) -> int:
    """Draw the slide's name, `facts` and the remarks; return the y below them."""
    room = width - 2 * MARGIN
    write(draw, (MARGIN, 20), result.slide.name, TITLE, width=room)
    write(draw, (MARGIN, 58), facts, BODY, MUTED, width=room)
    y = HEADER
    for band in bands(result, width):
        bottom = y + band.height - 10
        draw.rounded_rectangle((MARGIN, y, width - MARGIN, bottom), 6, fill=band.ground)
        for number, line in enumerate(band.lines):
            middle = y + 8 + BAND_LINE * number + BAND_LINE // 2
            write(draw, (MARGIN + 16, middle), line, BODY + 2, band.ink, anchor="lm")
        y = bottom + 10
    return y


def draw_footer(draw: ImageDraw.ImageDraw, result: SlideResult, width: int, height: int) -> None:
    """Draw the line that says what made the picture, and what it is not for."""
    y = height - FOOTER
    draw.line((MARGIN, y, width - MARGIN, y), fill=RULE)
    notice = _sentence(NOTICE)
    left = width - 2 * MARGIN - text_width(notice, SMALL) - 24
    write(draw, (MARGIN, y + 22), made_by(result), SMALL, MUTED, width=left, anchor="lm")
    write(draw, (width - MARGIN, y + 22), notice, SMALL, INK, anchor="rm")


def made_by(result: SlideResult) -> str:
    """Return program, bundle, engine and time in one line."""
    bundle, engine = result.bundle, result.engine
    return (
        f"unicas-edge {result.unicas_edge_version} · bundle {bundle.name} {bundle.version} · "
        f"{engine.name} {engine.precision} · {result.created}"
    )


def draw_verdict(
    draw: ImageDraw.ImageDraw,
    place: tuple[int, int],
    task: TaskResult,
    *,
    weights: Weights,
    width: int,
    words: str = "",
) -> None:
    """Draw decision, probability, threshold and `words` of `task` on one line of `width` pixels.

    With a caution a decision has no colour: cut out of the page, it must not look like one.
    """
    x, y = place
    said = caution(weights)
    colour = MUTED if said else DECISIONS[task.decision]
    word = f"{_WORDS[said]}: {task.decision}" if said else task.decision.upper()
    taken = write(draw, (x, y), word, BODY, colour, width=width) + 12
    fitting = [form for form in verdicts(task, words) if text_width(form, BODY) <= width - taken]
    if fitting:
        write(draw, (x + taken, y), fitting[0], BODY, MUTED)


def set_words(task: TaskResult) -> str:
    """Return which classes a task's probability leaves, "" where nothing is said of it."""
    return task.confidence.words if task.confidence else ""


def verdicts(task: TaskResult, words: str = "") -> list[str]:
    """Return probability, threshold and `words` as text, the longest form first."""
    if task.probability is None:
        return ["no probability"]
    value = f"{task.probability:.3f}"
    forms = [f"probability {value} · threshold {task.threshold:.3f}", f"probability {value}", value]
    return [f"{form} · {words}" for form in forms if words] + forms


def spoken(name: str) -> str:
    """Return the name of a task as a reader would write it."""
    return name.replace("_", " ")


def percent(share: float) -> str:
    """Return a share as a percentage with about two significant digits."""
    value = 100 * share
    if value == 0:
        return "0 %"
    digits = max(0, 1 - math.floor(math.log10(abs(value))))
    return f"{value:.{min(digits, 4)}f} %"


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:]
