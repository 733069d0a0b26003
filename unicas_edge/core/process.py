"""The process that something belongs to: a fork of it has neither its threads nor their locks."""

from __future__ import annotations

import os

from unicas_edge.errors import UnicasError


class Process:
    """The process that this was made in."""

    def __init__(self) -> None:
        self._id = os.getpid()

    @property
    def here(self) -> bool:
        """Whether it is the one that asks, and not a fork of it."""
        return self._id == os.getpid()

    def require(self, error: type[UnicasError], what: str) -> None:
        """Raise `error` about `what`, which belongs to the process, where a fork asks."""
        if not self.here:
            raise error(
                f"{what} was opened before this process was forked, and its threads stayed "
                "behind; open a new one in this process"
            )
