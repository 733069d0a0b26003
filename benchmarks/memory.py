"""Peak memory of ``unicas-edge screen`` on a small and a large slide; also a script of its own.

``python benchmarks/memory.py`` prints both and exits 1 where they are more than 10% apart.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from benchmarks.harness import peak_megabytes
from benchmarks.slides import large_slide

SIDES = (20_000, 80_000)
APART = 1.10


#: the command as it is installed, with its default settings
SCREEN = "import sys; from unicas_edge.cli.app import main; sys.exit(main())"


def peaks(folder: Path) -> dict[int, float]:
    """Return {side in pixels: peak MB}; writes the slides to `folder` and removes them again."""
    found = {}
    for side in SIDES:
        slide = large_slide(folder / f"{side}.svs", side)
        output = str(folder / f"out_{side}")
        found[side] = peak_megabytes(SCREEN, "screen", str(slide), "--output", output)
        slide.unlink()
    return found


def main() -> int:
    with tempfile.TemporaryDirectory() as folder:
        found = peaks(Path(folder))
    for side, peak in found.items():
        print(f"{side} x {side}: {peak:.0f} MB")
    apart = max(found.values()) / min(found.values())
    print(f"{apart:.3f} apart, at most {APART}")
    return int(apart > APART)


if __name__ == "__main__":
    sys.exit(main())
