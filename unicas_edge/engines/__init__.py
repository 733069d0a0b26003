"""Stage 4: engines that turn batches of normalised tiles into CLS tokens.

`registry` says how to add one. Names are imported when first used, so that the command line can
list the engines without loading what they need.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from unicas_edge.engines.base import Candidate as Candidate
    from unicas_edge.engines.base import Encoder as Encoder
    from unicas_edge.engines.choice import choose as choose
    from unicas_edge.engines.opening import open_candidate as open_candidate
    from unicas_edge.engines.opening import open_encoder as open_encoder
    from unicas_edge.engines.options import EngineOptions as EngineOptions

_HOMES = {
    "Candidate": "engines.base",
    "Encoder": "engines.base",
    "EngineOptions": "engines.options",
    "choose": "engines.choice",
    "open_candidate": "engines.opening",
    "open_encoder": "engines.opening",
}

__all__ = [
    "Candidate",
    "Encoder",
    "EngineOptions",
    "choose",
    "open_candidate",
    "open_encoder",
]


def __getattr__(name: str) -> Any:  # noqa: ANN401 - whatever the name stands for
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"unicas_edge.{_HOMES[name]}"), name)
