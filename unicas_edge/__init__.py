"""unicas-edge: screens cervical cytology slides on the computer beside the scanner.

    import unicas_edge
    result = unicas_edge.screen("slide.svs")
    [(task.name, task.decision) for task in result.tasks]

Names are imported when first used, so that ``unicas-edge --help`` answers at once.

Public, and kept from one release to the next: the names in ``__all__`` here; ``Slide``, ``Level``,
``Spacing`` and ``open_slide`` of ``unicas_edge.slide``, and the entry points
``unicas_edge.readers`` (plug-in readers); ``unicas_edge.errors``; ``unicas_edge.result``; the
schemas of ``bundle.json`` and ``result.json`` (``unicas_edge/schemas``); the commands of
``unicas-edge`` and what they write; the C header ``unicas_edge.h``. Every other module may move,
and so may every name that begins with an underscore.
"""

from __future__ import annotations

import importlib
import os
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from unicas_edge.aggregator.aggregator import Aggregator as Aggregator
    from unicas_edge.bundle import Bundle as Bundle
    from unicas_edge.errors import UnicasError as UnicasError
    from unicas_edge.result import SlideResult as SlideResult
    from unicas_edge.screening.screener import screen as screen
    from unicas_edge.screening.session import Session as Session
    from unicas_edge.screening.session_options import fit_colour as fit_colour
    from unicas_edge.slide import open_slide as open_slide

__version__ = "0.1.0"

# onnxruntime (seen with 1.32) otherwise reports its use to its maker from the moment that it is
# imported, on threads for which a forked child waits for ever when it ends. Who wants that sets 0.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

_HOMES = {
    "Aggregator": "aggregator.aggregator",
    "Bundle": "bundle",
    "Session": "screening.session",
    "SlideResult": "result",
    "UnicasError": "errors",
    "fit_colour": "screening.session_options",
    "open_slide": "slide",
    "screen": "screening.screener",
}

__all__ = [
    "Aggregator",
    "Bundle",
    "Session",
    "SlideResult",
    "UnicasError",
    "__version__",
    "fit_colour",
    "open_slide",
    "screen",
]


def __getattr__(name: str) -> Any:  # noqa: ANN401 - whatever the name stands for
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOMES])
