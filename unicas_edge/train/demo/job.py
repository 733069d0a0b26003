"""What every step of making the default bundle is told."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Job:
    """Where runs are kept, what is random, how tokens are computed, and who is told.

    What is finished in `work` is taken from there. `engine` is the backend and the precision that
    compute tokens; the reference is onnxruntime in fp32.
    """

    work: Path
    seed: int = 0
    engine: tuple[str, str] = ("onnxruntime", "fp32")
    tell: Callable[[str], None] = lambda _: None
