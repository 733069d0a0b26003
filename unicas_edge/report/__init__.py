"""Stage 7: a result becomes files, each written whole or not at all.

Names are imported when first used: who keeps the summary of a batch needs no HDF5 and no pictures.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from unicas_edge.report.pictures.contact import TilePixels as TilePixels
    from unicas_edge.report.pictures.contact import top_places as top_places
    from unicas_edge.report.result_json import load_result as load_result
    from unicas_edge.report.writing import write_result as write_result

_HOMES = {
    "TilePixels": "pictures.contact",
    "load_result": "result_json",
    "top_places": "pictures.contact",
    "write_result": "writing",
}

__all__ = ["TilePixels", "load_result", "top_places", "write_result"]


def __getattr__(name: str) -> Any:  # noqa: ANN401 - whatever the name stands for
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
