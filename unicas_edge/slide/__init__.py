"""Stage 1: a path becomes an open `Slide`; one module per reader, chosen by content."""

from __future__ import annotations

from unicas_edge.slide.base import Level, Slide, Spacing
from unicas_edge.slide.registry import is_field_folder, open_slide

__all__ = ["Level", "Slide", "Spacing", "is_field_folder", "open_slide"]
