"""Modules that need an extra: imported when a command needs them, with advice if they cannot be."""

from __future__ import annotations

import importlib
import importlib.util
from typing import Any

from unicas_edge.errors import CheckpointError, ServiceError, TrainingError, UnicasError

#: What each extra is for, and the error when a package of it is missing.
_EXTRAS: dict[str, tuple[str, type[UnicasError]]] = {
    "export": ("exporting", CheckpointError),
    "train": ("training", TrainingError),
    "serve": ("serving", ServiceError),
}


def late_module(extra: str, name: str) -> Any:  # noqa: ANN401 - a module
    """Return the module `name` of ``unicas_edge.<extra>``.

    `TrainingError`, `CheckpointError` or `ServiceError` where a package that the extra installs is
    missing.
    """
    try:
        return importlib.import_module(f"unicas_edge.{extra}.{name}")
    except ModuleNotFoundError as error:
        if (error.name or "").startswith("unicas_edge"):
            raise
        raise _missing(extra, str(error.name)) from error


def need_train(*packages: str) -> None:
    """Raise `TrainingError` where one of `packages` of the extra `train` is not installed."""
    for package in packages:
        if importlib.util.find_spec(package) is None:
            raise _missing("train", package)


def _missing(extra: str, package: str) -> UnicasError:
    what, kind = _EXTRAS[extra]
    return kind(
        f"{what} needs the package {package}, which is not installed; "
        f"run: pip install 'unicas-edge[{extra}]'"
    )
