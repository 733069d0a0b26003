"""Whether a slide may have a decision: a reason for every limit of the bundle that it misses.

A slide that was not seen well enough is `unsatisfactory` for every task, whatever its probabilities
say, so that it can never pass for negative.
"""

from __future__ import annotations

from collections.abc import Iterator

from unicas_edge.adequacy.pixels import Looked, pixel_reasons
from unicas_edge.adequacy.reading import Reading
from unicas_edge.adequacy.squamous import Count, count_squamous
from unicas_edge.adequacy.words import apart, percent
from unicas_edge.bundle.knowledge import CELL, KnowledgeSpec
from unicas_edge.errors import SpacingError
from unicas_edge.result import OUTSIDE, Adequacy, SlideInfo

#: Said of a result whose bundle has no knowledge.
PIXELS_ONLY = "adequacy was judged by pixels alone: this bundle does not know what its tiles show"
#: What tiles of a kind do, where its name alone would read badly.
_DO = {
    "bubble": "show bubbles",
    "fold": "show folds",
    "out_of_focus": "are out of focus",
    "not_cytology": "are not cytology",
}


def judge(looked: Looked, reading: Reading | None) -> Adequacy:
    """Return what `looked` and what its tokens show (None: a bundle without knowledge) allow.

    `SpacingError` for a slide that is satisfactory but for its um/px, which the pixels contradict
    by more than the bundle tolerates.
    """
    reasons = list(pixel_reasons(looked))
    cellular, sharp = looked.coverage.encoded, looked.in_focus
    spec = looked.bundle.manifest.knowledge
    if reading is None or spec is None:
        return Adequacy(
            satisfactory=not reasons, reasons=reasons, cellular_tiles=cellular, in_focus_tiles=sharp
        )
    squamous = count_squamous(looked, reading, spec)
    distance, factor = reading.slide_distance, reading.um_px_factor
    reasons += _token_reasons(reading, squamous, spec)
    um_px = None if factor is None else looked.slide.um_px * factor
    if not reasons and um_px is not None and spec.um_px_tolerance is not None:
        _check_spacing(looked.slide, um_px, spec.um_px_tolerance)
    return Adequacy(
        satisfactory=not reasons,
        reasons=reasons,
        cellular_tiles=cellular,
        in_focus_tiles=sharp,
        basis="tokens",
        kinds=reading.counts,
        aggregated=list(spec.aggregated),
        squamous=squamous.record,
        distance=distance,
        distance_limit=spec.distance_limit,
        known=None if distance is None else distance <= spec.distance_limit,
        um_px_estimate=um_px,
    )


def _token_reasons(reading: Reading, squamous: Count, spec: KnowledgeSpec) -> Iterator[str]:
    tiles, cells = len(reading.kind), reading.counts[CELL]
    if not reading.aggregated.any() or cells < spec.min_cell_share * tiles:
        yield _too_few(reading.counts, tiles, spec.min_cell_share)
    if squamous.estimate < squamous.needed:
        yield (
            f"about {squamous.estimate:,} squamous cells, {squamous.how}; "
            f"needed {squamous.needed:,} ({squamous.asked})"
        )
    distance = reading.slide_distance
    if distance is not None and distance > spec.distance_limit:
        far, most = apart(distance, spec.distance_limit)
        yield (
            f"{OUTSIDE}: its tiles lie {far} from what it was trained on, at most {most} is allowed"
        )


def _too_few(counts: dict[str, int], tiles: int, needed: float) -> str:
    """Return that too few tiles show cells, and what most of them show instead."""
    if not tiles:
        return "no tile holds anything that could be a cell"
    least = percent(needed) if needed else "one tile"
    said = f"{counts[CELL]:,} of {tiles:,} tiles show cells ({percent(counts[CELL] / tiles)}"
    most = max((kind for kind in counts if kind != CELL), key=counts.__getitem__)
    do = _DO.get(most, f"show {most.replace('_', ' ')}")
    return f"{said}), {percent(counts[most] / tiles)} {do}; needed {least}"


def _check_spacing(slide: SlideInfo, found: float, tolerance: float) -> None:
    """Raise `SpacingError` where the pixels show another um/px than the slide states."""
    if max(found / slide.um_px, slide.um_px / found) - 1 > tolerance:
        stated, shown = apart(slide.um_px, found)
        raise SpacingError(
            slide.path or slide.name,
            f"states {stated} um/px ({slide.um_px_source}), but its pixels show {shown}; "
            "correct the scanner's setting, or give the right value with --mpp",
        )
