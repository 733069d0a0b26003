"""Folder names for slides: unique in a list, the same on every run, harmless on every system."""

from __future__ import annotations

import hashlib
import os
import re
import unicodedata
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

#: Bytes of UTF-8; leaves room for a suffix within the 255 of Linux and the 260 of a Windows path.
MAX_BYTES = 100

#: What Windows forbids in names, and what a shell or a spreadsheet may take for something else.
_FORBIDDEN = re.compile(r'[<>:"/\\|?*]')
_LEADING = "-=+@~. "

#: Names of devices on Windows, with or without an extension.
_DEVICES = frozenset(
    ["con", "prn", "aux", "nul", "conin$", "conout$"]
    + [f"{port}{n}" for port in ("com", "lpt") for n in "0123456789¹²³"]
)


def safe_name(text: str) -> str:
    """Return `text` as one path component that Linux, macOS and Windows all accept.

    NFC; forbidden, control and unprintable characters become an underscore; never empty, hidden,
    ``..``, a Windows device, or longer than `MAX_BYTES`.
    """
    text = unicodedata.normalize("NFC", text)
    text = "".join("_" if unicodedata.category(c)[0] == "C" else c for c in text)
    text = _FORBIDDEN.sub("_", text)
    if text[:1] in _LEADING:
        text = "_" + text[1:]
    text = text.encode()[:MAX_BYTES].decode(errors="ignore").rstrip(". ")
    if text.split(".")[0].strip().casefold() in _DEVICES:
        text = "_" + text
    return text or "slide"


def slide_names(paths: Sequence[Path]) -> list[str]:
    """Return a folder name for each of `paths`, in their order.

    The stem where it is the only one of its kind, in a list, whatever the case of its letters;
    otherwise every slide of that stem gets ``<stem>-<8 hex of the SHA-256 of its absolute path>``.
    A path that occurs again gets ``<name>-again-2``, so that its row does not hide the first one.
    """
    absolute = [os.path.abspath(path) for path in paths]  # noqa: PTH100 - no links resolved, no I/O
    distinct = list(dict.fromkeys(absolute))
    plain = {path: safe_name(_stem(path)) for path in distinct}
    hashed = {path: f"{plain[path]}-{_digest(path)}" for path in distinct}
    crowd = Counter(_key(name) for name in plain.values())
    suffixes = {_key(name) for name in hashed.values()}
    names = {
        # a slide may be called what another one would be renamed to
        path: hashed[path] if crowd[_key(name)] > 1 or _key(name) in suffixes else name
        for path, name in plain.items()
    }
    return _tell_repeats([names[path] for path in absolute])


def _tell_repeats(names: list[str]) -> list[str]:
    """Return `names` with each later occurrence of one marked."""
    seen: Counter[str] = Counter()
    told: list[str] = []
    for name in names:
        seen[name] += 1
        told.append(name if seen[name] == 1 else f"{name}-again-{seen[name]}")
    return told


def _stem(path: str) -> str:
    """Return the name without its extension; a folder of fields has none to lose."""
    place = Path(path)
    return place.name if place.is_dir() else place.stem


def _key(name: str) -> str:
    """Return what two names have in common that a file system may take for one."""
    return unicodedata.normalize("NFC", name.casefold())


def _digest(path: str) -> str:
    return hashlib.sha256(os.fsencode(path)).hexdigest()[:8]
