"""The pictures of a result: heat maps over the slide, the tiles that carried it."""

from __future__ import annotations

#: Name of the picture of the whole slide; here, so that who only names it draws nothing.
OVERVIEW = "overview.jpg"
