"""What a model bundle says, how it is loaded and verified, and how a changed copy is written."""

from __future__ import annotations

from unicas_edge.bundle.bundle import Bundle

__all__ = ["Bundle"]
