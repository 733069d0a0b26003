"""The process that screens for a batch: it may crash or hang, and the batch goes on.

`supervisor` starts it. Orders come in by the pipe that was stdin, everything goes back by the one
that was stdout; what native libraries print goes to stderr. It holds no lock and ends as soon as
its supervisor is gone.
"""

from __future__ import annotations

import contextlib
import dataclasses
import faulthandler
import importlib
import os
import queue
import shutil
import signal
import sys
import threading
import time
import traceback
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from unicas_edge.errors import EngineError, UnicasError
from unicas_edge.screening import wire

if TYPE_CHECKING:
    from unicas_edge.screening.job import Job

#: Seconds between two messages about one stage.
_TELL_EVERY = 0.1
_AUTO = "auto"
_WRITING = "unicas_edge.report.writing"


def main(folder: str) -> None:
    """Carry out orders until stdin ends; `folder` is this process's own, for temporary files."""
    home = Path(folder) if folder else None
    _leave_signals_to_the_supervisor()
    orders, replies = _private_streams()
    if home is not None:
        faulthandler.enable((home / wire.DUMP).open("wb"), all_threads=False)
    Worker(orders, replies, home).run()


class Worker:
    """One end of the pipes, and the job at it."""

    def __init__(self, orders: BinaryIO, replies: BinaryIO, home: Path | None) -> None:
        self._orders = orders
        self._replies = replies
        self._home = home
        self._inbox: queue.SimpleQueue[bytes] = queue.SimpleQueue()
        self._sending = threading.Lock()
        self._told = ("", 0.0)
        self._job: Job | None = None

    def run(self) -> None:
        """Load what the first message names, then screen what the others name."""
        threading.Thread(target=self._watch, name="orders", daemon=True).start()
        try:
            self._serve()
        except UnicasError as error:
            self._reply(error)
        except Exception as error:
            traceback.print_exc()
            said = f"{type(error).__name__}: {error}; this is a defect, please report it"
            self._reply(EngineError(f"the model cannot be loaded: {said}"))
        threading.Event().wait()  # the supervisor ends this process when it has read that

    def _serve(self) -> None:
        # heavy, so only now: stdout is private, the end of stdin is watched, the setup on its way
        from unicas_edge.bundle import Bundle  # noqa: PLC0415
        from unicas_edge.engines.choice import choose  # noqa: PLC0415
        from unicas_edge.screening.job import Job  # noqa: PLC0415
        from unicas_edge.screening.profile import profiled  # noqa: PLC0415
        from unicas_edge.screening.screener import Screener  # noqa: PLC0415

        setup = self._next()
        assert isinstance(setup, wire.Setup)  # noqa: S101 - our own supervisor sent it
        bundle = Bundle.load(setup.bundle)
        options = profiled(setup.profile, bundle, setup.options)
        engine = options.engine
        if engine.backend != _AUTO or engine.precision != _AUTO:
            # what cannot be had is said before an output folder is made
            choose(
                bundle,
                engine.backend,
                engine.precision,
                allow_unverified=engine.allow_unverified,
            )
        weights = bundle.manifest
        self._reply(wire.Loaded(weights.trained, weights.demonstration))
        # what writes is imported beside opening the engine, not after it
        threading.Thread(target=importlib.import_module, args=[_WRITING], daemon=True).start()
        with Screener(bundle, options) as screener:
            self._job = Job(screener)
            self._reply(wire.Ready())
            while isinstance(order := self._next(), wire.Order):
                self._screen(self._job, order)

    def _screen(self, job: Job, order: wire.Order) -> None:
        self._tell(wire.OPEN)
        outcome = job.screen(order, self._tell, lambda: self._tell(wire.WRITE))
        if outcome.result is not None:  # what lies in the files need not go through the pipe
            slim = outcome.result.model_copy(update={"features": None, "tiles": None})
            outcome = dataclasses.replace(outcome, result=slim)
        self._reply(outcome)

    def _tell(self, stage: str, done: int = 0, total: int = 0) -> None:
        """Say how far the slide is: each stage's begin and end, and a few times a second."""
        now = time.monotonic()
        with self._sending:
            before, at = self._told
            if stage == before and done != total and now - at < _TELL_EVERY:
                return
            self._told = (stage, now)
            self._write(wire.Stage(stage, done, total))

    def _reply(self, message: object) -> None:
        with self._sending:
            self._told = ("", 0.0)
            self._write(message)

    def _write(self, message: object) -> None:
        try:
            wire.send(self._replies, message)
        except OSError:
            self._end()

    def _next(self) -> object:
        return wire.decoded(self._inbox.get())

    def _watch(self) -> None:
        while (message := wire.receive(self._orders)) is not None:
            self._inbox.put(message)
        self._end()

    def _end(self) -> None:
        """Leave at once, in whatever state: the supervisor closed the pipe, or is gone."""
        with contextlib.suppress(Exception):
            if self._job is not None:
                self._job.withdraw()
        if self._home is not None:
            shutil.rmtree(self._home, ignore_errors=True)
        os._exit(0)


def _leave_signals_to_the_supervisor() -> None:
    """Ignore what a terminal or a service sends to all processes; the supervisor heeds it."""
    ours = [getattr(signal, name, None) for name in ("SIGINT", "SIGTERM", "SIGHUP")]
    for number in filter(None, ours):
        signal.signal(number, signal.SIG_IGN)
    if hasattr(signal, "pthread_sigmask"):  # the supervisor held them back until now
        signal.pthread_sigmask(signal.SIG_UNBLOCK, filter(None, ours))


def _private_streams() -> tuple[BinaryIO, BinaryIO]:
    """Return stdin and stdout under other descriptors; what else is printed goes to stderr."""
    orders, replies = os.dup(0), os.dup(1)
    nowhere = os.open(os.devnull, os.O_RDWR)
    os.dup2(nowhere, 0)
    try:
        os.dup2(2, 1)
    except OSError:  # stderr is closed
        os.dup2(nowhere, 1)
    sys.stdout = sys.stderr
    return os.fdopen(orders, "rb"), os.fdopen(replies, "wb")
