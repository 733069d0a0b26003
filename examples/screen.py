"""Screen one slide; print what each task says, and the tiles that weighed most.

python examples/screen.py slide.svs --output out/slide
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import unicas_edge

TOP = 3


def say(result: unicas_edge.SlideResult) -> None:
    """Print each task's probability and decision, why a slide was refused, and the notices."""
    for task in result.tasks:
        probability = "-" if task.probability is None else f"{task.probability:.4f}"
        print(f"{task.name:<12} {probability:>7}  {task.decision}")
    for reason in result.adequacy.reasons:
        print(f"unsatisfactory: {reason}")
    for notice in result.notices:
        print(f"note: {notice}")


def say_tiles(result: unicas_edge.SlideResult) -> None:
    """Print the tiles with the largest share of each task's attention, in level-0 pixels."""
    for task in result.tasks:
        for tile in task.top_tiles[:TOP]:
            print(
                f"{task.name:<12} tile at ({tile.x}, {tile.y}): {tile.attention:.1%} of attention"
            )


def main() -> int:
    """Return 0 if the slide was read well enough, 1 if it was not, or could not be screened."""
    parser = argparse.ArgumentParser(description="Screen one slide.")
    parser.add_argument("slide", type=Path)
    parser.add_argument("--bundle", type=Path, help="model bundle (default: the embedded one)")
    parser.add_argument("--output", type=Path, help="folder for result.json and the pictures")
    parser.add_argument("--max-tiles", type=int, help="tiles to look at (default: the bundle's)")
    args = parser.parse_args()
    try:
        result = unicas_edge.screen(
            args.slide, args.bundle, output=args.output, max_tiles=args.max_tiles
        )
    except unicas_edge.UnicasError as error:  # names the file, the cause, and what to do next
        print(f"error: {error}", file=sys.stderr)
        return 1
    say(result)
    say_tiles(result)
    return 0 if result.adequacy.satisfactory else 1


if __name__ == "__main__":
    sys.exit(main())
