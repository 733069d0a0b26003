"""JSON in which every key is given once: of two values, readers disagree about which counts."""

from __future__ import annotations

import json
from typing import Any


def check_once(text: bytes | str) -> None:
    """Raise `ValueError`, naming the key, if an object of the JSON `text` has a key twice.

    Also where it is no JSON, or holds a number longer than Python reads.
    """
    loads_once(text)


def loads_once(text: bytes | str) -> Any:  # noqa: ANN401 - whatever it holds
    """Return the value of the JSON `text` (UTF-8); errors as `check_once`."""
    content = text.decode("utf-8") if isinstance(text, bytes) else text
    try:
        return json.loads(content, object_pairs_hook=_once)
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        keys = [key for key, _ in pairs]
        twice = next(key for key in found if keys.count(key) > 1)
        raise ValueError(f"the key {twice[:100]!r} is given twice")
    return found
