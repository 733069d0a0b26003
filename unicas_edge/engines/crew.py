"""The threads that encode: they hold what they work on, and nothing that holds them.

So whoever owns a crew can be forgotten, and the threads go too: as soon as it is collected, and at
the latest when the interpreter ends, since a thread that is still inside a runtime's native code
then takes the whole process down (abort). A process made by fork has none of the threads: there a
crew says so instead of waiting for them.
"""

from __future__ import annotations

import atexit
import queue
import threading
import time
import weakref
from collections.abc import Callable
from typing import Any, Generic, Protocol, TypeVar

from unicas_edge.core.process import Process

Job = TypeVar("Job")
Job_co = TypeVar("Job_co", covariant=True)
_POLL_SECONDS = 0.1
#: How long the end of the interpreter waits for a job: more than any batch, less than for ever.
_EXIT_SECONDS = 30.0
#: How long a thread may take to end once it was interrupted.
_GRACE_SECONDS = 2.0


class Source(Protocol[Job_co]):
    """Where a crew's jobs come from, for any number of threads."""

    def take(self) -> Job_co | None:
        """Return the next job, waiting for it; None where no more will come."""

    def stop(self) -> None:
        """Have every `take` return None from now on; never waits."""


class JobQueue(Generic[Job]):
    """A `Source` of jobs that are `put`, for at most `threads` that take them."""

    def __init__(self, threads: int) -> None:
        # A SimpleQueue may be put to while this very thread is inside it: `stop` runs whenever
        # the garbage collector finds an owner gone.
        self._jobs: queue.SimpleQueue[Job | None] = queue.SimpleQueue()
        self._threads = threads

    def put(self, job: Job) -> None:
        """Have a job done by whichever thread is free first."""
        self._jobs.put(job)

    def take(self) -> Job | None:
        """Return the next job; see `Source`."""
        return self._jobs.get()

    def stop(self) -> None:
        """See `Source`."""
        for _ in range(self._threads):
            self._jobs.put(None)


class Crew(Generic[Job]):
    """`count` threads that each call `work(job)` for what `source` gives, one job after another.

    A job that raises, or takes more than `most_seconds`, is a `failure`, after which no more are
    begun. `late(seconds)` makes the error for the latter, and `interrupt(ident)` ends, if it can,
    what the thread of that `threading.get_ident` is doing. Neither `work` nor `source` may hold the
    crew's owner.
    """

    def __init__(
        self,
        count: int,
        source: Source[Job],
        work: Callable[[Job], None],
        most_seconds: float,
        late: Callable[[float], BaseException],
        interrupt: Callable[[int], None],
    ) -> None:
        self._work, self._most_seconds, self._late = work, most_seconds, late
        self._interrupt, self._source = interrupt, source
        self.process = Process()
        self._failure: BaseException | None = None
        self._begun: dict[int, float] = {}  # thread number -> when its job began
        self.stopped = False
        self._threads = [
            threading.Thread(target=self._run, args=(k,), name=f"encode-{k}", daemon=True)
            for k in range(count)
        ]
        _LIVE.add(self)
        for thread in self._threads:
            thread.start()

    def failure(self) -> BaseException | None:
        """Return what stopped the crew, None if nothing did; a job that is late counts."""
        if self._failure is None and self._overdue():
            self._failure = self._late(self._most_seconds)
            self.stop()
            self.interrupt()
        return self._failure

    def interrupt(self) -> None:
        """End what the threads are doing, where the runtime can; never waits."""
        for thread in self._threads if self.process.here else ():
            if thread.ident is not None:
                self._interrupt(thread.ident)

    def stop(self) -> None:
        """Let the threads end after what each is doing; never waits."""
        self.stopped = True
        if self.process.here:
            self._source.stop()

    def join(self, seconds: float = float("inf")) -> None:
        """Wait until the stopped threads have ended: no longer than said, and for late ones hardly.

        Does nothing in a fork, and does not wait for the thread that calls it.
        """
        begin = time.monotonic()
        for thread in self._threads if self.process.here else ():
            while thread.is_alive() and thread is not threading.current_thread():
                waited = time.monotonic() - begin
                if waited > seconds or (waited > _GRACE_SECONDS and self._overdue()):
                    return
                thread.join(_POLL_SECONDS)

    def _overdue(self) -> bool:
        begun = list(self._begun.values())
        return bool(begun) and time.monotonic() - min(begun) > self._most_seconds

    def _run(self, number: int) -> None:
        while (job := self._source.take()) is not None and not self.stopped:
            self._begun[number] = time.monotonic()
            try:
                self._work(job)
            except BaseException as error:  # told to whoever puts or flushes
                self._failure = self._failure or error
                return
            finally:
                self._begun.pop(number, None)
            del job  # while the next one is waited for


_LIVE: weakref.WeakSet[Crew[Any]] = weakref.WeakSet()


@atexit.register
def _end_all() -> None:
    crews = [crew for crew in list(_LIVE) if crew.process.here]
    for crew in crews:
        crew.stop()
    end = time.monotonic() + _EXIT_SECONDS
    for crew in crews:
        crew.join(max(0.0, end - time.monotonic()))
    for crew in crews:
        crew.interrupt()
    for crew in crews:
        crew.join(_GRACE_SECONDS)
