"""Screening in a process of its own, so that one slide's crash or hang ends that slide alone.

This side stays thin: it imports no engine and opens no slide. The process is a fresh interpreter,
not forked and not by `multiprocessing`: that is safe beside threads, the same on every system, and
needs nothing of the caller's ``__main__``.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import TYPE_CHECKING, cast

from unicas_edge.core.files import remove_partial
from unicas_edge.errors import EngineError, UnicasError
from unicas_edge.screening import wire
from unicas_edge.screening.attempts import MOST, Attempt
from unicas_edge.screening.process import Process, SilentError

if TYPE_CHECKING:
    from unicas_edge.screening.outcome import Outcome

#: Seconds without any progress after which a slide is given up. An engine has its own limit for a
#: batch, which is shorter.
HANG_SECONDS = 600.0
#: How many times that where there is no progress to tell: hashing over a network, the overview of a
#: slide of one level.
_LONGER = {wire.OPEN: 3, wire.FINISH: 6, wire.WRITE: 3}


class Supervisor:
    """A process that screens, started anew when it is needed; use it as a context manager.

    It starts with the block, and loads while the caller still prepares. `hang_seconds` is how long
    a slide may go without progress.
    """

    def __init__(self, hang_seconds: float = HANG_SECONDS) -> None:
        self._hang_seconds = hang_seconds
        self._process: Process | None = None
        self._setup: wire.Setup | None = None
        self._ready = False

    def __enter__(self) -> Supervisor:
        self._process = Process()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop()

    def begin(self, setup: wire.Setup) -> None:
        """Say what to screen with; the process begins to load it."""
        self._setup = setup
        if self._process is None:
            self._process = Process()
        self._process.send(setup)

    def loaded(self) -> wire.Loaded:
        """Return how far the bundle's weights can be trusted, waiting until it is loaded.

        Once, after `begin`. Raises what `Bundle.load` and `profiled` raise, and `EngineError` if
        the process ends.
        """
        return cast("wire.Loaded", self._loading())

    def ready(self) -> None:
        """Wait until the model is loaded, by a new process if the old one is gone.

        Raises what loading it raises, and `EngineError` if the process ends.
        """
        if self._process is not None and self._process.gone:
            self._stop()
        if self._process is None and self._setup is not None:
            self.begin(self._setup)
        while not self._ready:
            self._ready = isinstance(self._loading(), wire.Ready)

    def screen(self, order: wire.Order, progress: Callable[[str, int, int], None]) -> Outcome:
        """Return what became of a slide, be it that the process ended, or was ended, over it.

        Call `ready` before. On an exception such as KeyboardInterrupt the process is ended, and
        leaves nothing half-written.
        """
        attempt = Attempt(order.marker)
        try:
            ended = self._followed(order, progress)
        except BaseException:
            self._stop()
            _clean(order)
            attempt.withdraw()
            raise
        if not isinstance(ended, str):
            return ended
        self._stop()
        _clean(order)
        return _lost(order, ended, attempt.blame(ended))

    def _followed(
        self, order: wire.Order, progress: Callable[[str, int, int], None]
    ) -> Outcome | str:
        """Return the outcome of an order, or why there is none."""
        process = self._running()
        process.send(order)
        stage = wire.OPEN
        while True:
            limit = self._hang_seconds * _LONGER.get(stage, 1)
            try:
                message = process.next(limit)
            except SilentError:
                return f"no progress for {limit:g} s while {wire.DOING[stage]}"
            if message is None:
                return f"{process.cause()} while {wire.DOING[stage]}{process.place()}"
            if not isinstance(message, wire.Stage):
                return cast("Outcome", message)
            stage = _stage(stage, message)
            if message.name in {wire.RANK, wire.TILES}:
                progress(message.name, message.done, message.total)

    def _loading(self) -> object:
        """Return the next message of a process that loads."""
        process = self._running()
        message = process.next()
        if message is None:
            cause = process.cause()
            self._stop()
            raise EngineError(
                f"the process that screens ended while it loaded the model: {cause}; "
                "free memory, or try another --backend"
            )
        if isinstance(message, UnicasError):
            self._stop()
            raise message
        return message

    def _running(self) -> Process:
        if self._process is None:
            raise EngineError("there is no process that screens: call `begin` and `ready` first")
        return self._process

    def _stop(self) -> None:
        process, self._process, self._ready = self._process, None, False
        if process is not None:
            process.stop()


def _stage(before: str, message: wire.Stage) -> str:
    """Return what is under way after a message: after the last tile no longer the tiles."""
    if message.name != wire.TILES:
        return message.name
    # two threads may tell of the last two tiles in the other order
    return wire.FINISH if before == wire.FINISH or message.done == message.total else wire.TILES


def _clean(order: wire.Order) -> None:
    with contextlib.suppress(UnicasError):  # the next holder of the slide tries again, and tells
        remove_partial(order.folder)


def _lost(order: wire.Order, cause: str, attempts: int) -> Outcome:
    """Return the outcome of a slide over which the process ended."""
    from unicas_edge.screening.outcome import failed  # noqa: PLC0415 - it needs numpy

    then = "--force tries it again" if attempts >= MOST else "a second run tries it once more"
    return failed(order.name, order.path, f"{order.path}: ended the process: {cause}; {then}")
