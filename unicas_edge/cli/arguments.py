"""Arguments that name something: checked before a command begins, so that nothing is written.

Each function is the callback of an option: it returns the value, or raises `typer.BadParameter`,
which is exit code 2.
"""

from __future__ import annotations

import glob
from collections.abc import Iterable
from itertools import islice
from pathlib import Path

import typer

#: Paths that the patterns of one command line may stand for.
MAX_MATCHES = 100_000


def known_backend(name: str) -> str:
    """Return the name of an engine, or auto."""
    from unicas_edge.engines.registry import BACKENDS

    return _one_of(name, BACKENDS)


def known_precision(name: str) -> str:
    """Return the name of a number format, or auto."""
    if name == "auto":
        return name
    from unicas_edge.engines.choice import PRECISIONS

    return _one_of(name, PRECISIONS)


def known_reader(name: str) -> str:
    """Return the name of a reader, a plug-in's too, or auto."""
    if name == "auto":
        return name
    from unicas_edge.slide.registry import readers

    return _one_of(name, readers())


def known_colour(name: str | None) -> str | None:
    """Return the name of a colour correction."""
    if name is None:
        return None
    from unicas_edge.tiles.colour import MODES

    return _one_of(name, MODES, others=())


def known_profile(name: str) -> str:
    """Return the name of a built-in profile, an existing file, or auto."""
    if name == "auto" or (Path(name).suffix == ".toml" and Path(name).is_file()):
        return name
    from unicas_edge.screening.profile import NAMES

    if Path(name).suffix == ".toml":
        raise typer.BadParameter(f"{name}: no such file; built-in profiles are {', '.join(NAMES)}")
    return _one_of(name, NAMES, more=" or a file named *.toml")


def possible_mpp(value: float | None) -> float | None:
    """Return um/px that an image can have."""
    if value is None:
        return None
    from unicas_edge.slide.spacing import EXPLICIT_UM_PX

    low, high = EXPLICIT_UM_PX
    if not low <= value <= high:
        raise typer.BadParameter(f"{value:g} is not between {low:g} and {high:g} um/px")
    return value


def bundle_folder(path: Path | None) -> Path | None:
    """Return a folder that holds a bundle's manifest."""
    if path is None:
        return None
    if not path.is_dir():
        raise typer.BadParameter(f"{path}: no such folder")
    if not (path / "bundle.json").exists():
        raise typer.BadParameter(f"{path}: holds no bundle.json, so it is no bundle")
    return path


def existing(path: Path) -> Path:
    """Return a path that exists."""
    if not path.exists() and not path.is_symlink():
        raise typer.BadParameter(f"{path}: no such file or folder")
    return path


def existing_sources(paths: list[Path] | None) -> list[Path]:
    """Return paths that exist; a pattern that no shell expanded stands for what it matches."""
    found = [match for path in paths or [] for match in _matches(path)]
    if len(found) > MAX_MATCHES:
        raise typer.BadParameter(f"more than {MAX_MATCHES:,} paths; name a folder or a list")
    return found


def _matches(path: Path) -> list[Path]:
    """Return the path where it exists as it is written, else what it matches as a pattern."""
    text = str(path)
    if path.exists() or path.is_symlink() or not glob.has_magic(text):
        return [existing(path)]
    matched = islice(glob.iglob(text, recursive=True), MAX_MATCHES + 1)  # noqa: PTH207 - absolute
    if found := sorted(Path(match) for match in matched):
        return found
    raise typer.BadParameter(f"{path}: no such file, and no file matches it as a pattern")


def _one_of(
    name: str, known: Iterable[str], *, others: Iterable[str] = ("auto",), more: str = ""
) -> str:
    names = (*others, *known)
    if name not in names:
        raise typer.BadParameter(f"unknown name {name!r}; there are: {', '.join(names)}{more}")
    return name
