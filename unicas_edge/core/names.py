"""Folder names for slides: unique in a list, the same on every run, harmless on every system."""

from __future__ import annotations

import hashlib
import os
import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Sequence
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


#: Whether a name is held by the slide of an absolute path: None where it is free.
Held = Callable[[str, str], bool | None]


def safe_name(text: str) -> str:
    """Return `text` as one path component that Linux, macOS and Windows all accept.

    NFC; forbidden, control and unprintable characters become an underscore; never empty, hidden,
    ``..``, a Windows device, or longer than `MAX_BYTES`.
    """
    text = _cut(_printable(text), MAX_BYTES)
    if text.split(".")[0].strip().casefold() in _DEVICES:
        text = "_" + text
    return text or "slide"


def slide_names(paths: Sequence[Path], held: Held = lambda _name, _path: None) -> list[str]:
    """Return a folder name for each of `paths`, in their order.

    The stem where it is whole and the only one of its kind, in a list, whatever the case of its
    letters, and free; otherwise ``<stem>-<8 hex of the SHA-256 of its absolute path>``. A slide
    that holds one of its two names already, from an earlier run, keeps it. A path that occurs again
    gets ``<name>-again-2``, so that its row does not hide the first one.
    """
    absolute = [os.path.abspath(path) for path in paths]  # noqa: PTH100 - no links resolved, no I/O
    stems = {path: _stem(path) for path in dict.fromkeys(absolute)}
    plain = {path: safe_name(stem) for path, stem in stems.items()}
    hashed = {path: _with(plain[path], f"-{_digest(path)}") for path in stems}
    crowd = Counter(key(name) for name in plain.values())
    suffixes = {key(name) for name in hashed.values()}

    def name_of(path: str) -> str:
        name = plain[path]
        taken = held(name, path)
        if taken or held(hashed[path], path):
            return name if taken else hashed[path]
        # a slide may be called what another one would be renamed to
        shared = crowd[key(name)] > 1 or key(name) in suffixes
        whole = len(_printable(stems[path]).encode()) <= MAX_BYTES
        return name if whole and not shared and taken is None else hashed[path]

    names = {path: name_of(path) for path in stems}
    return _tell_repeats([names[path] for path in absolute])


def readable(name: str | Path) -> str:
    """Return a file name as text that any file can hold; bytes that are no UTF-8 are escaped."""
    return os.fsencode(name).decode("utf-8", errors="backslashreplace")


def _printable(text: str) -> str:
    """Return `text` without what a system or a spreadsheet may trip over, at its full length."""
    text = unicodedata.normalize("NFC", text)
    text = "".join("_" if unicodedata.category(c)[0] == "C" else c for c in text)
    text = _FORBIDDEN.sub("_", text)
    return "_" + text[1:] if text[:1] and text[0] in _LEADING else text


def _cut(text: str, size: int) -> str:
    return text.encode()[:size].decode(errors="ignore").rstrip(". ")


def _with(name: str, suffix: str) -> str:
    """Return a name with a suffix, the name cut where both are too long together."""
    return _cut(name, MAX_BYTES - len(suffix)) + suffix


def _tell_repeats(names: list[str]) -> list[str]:
    """Return `names` with each later occurrence of one marked."""
    seen: Counter[str] = Counter()
    told: list[str] = []
    for name in names:
        seen[name] += 1
        again = f"-again-{seen[name]}"
        if len(name.encode()) + len(again) > MAX_BYTES:
            again = f"-{_digest(name)}{again}"
        told.append(name if seen[name] == 1 else _with(name, again))
    return told


def _stem(path: str) -> str:
    """Return the name without its extension; a folder of fields has none to lose."""
    place = Path(path)
    return place.name if place.is_dir() else place.stem


def key(name: str) -> str:
    """Return what two names have in common that a file system may take for one."""
    return unicodedata.normalize("NFC", name.casefold())


def _digest(path: str) -> str:
    return hashlib.sha256(os.fsencode(path)).hexdigest()[:8]
