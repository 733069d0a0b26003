"""Sessions that are forgotten, forked or stuck, each in a process of its own: the host lives on."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
import textwrap
import threading
import time

import pytest

from tests.support.fake_encoder import FakeEncoder
from tests.support.places import ROOT
from unicas_edge.engines.queue import EncodeQueue
from unicas_edge.errors import EngineError, SessionError
from unicas_edge.screening.session import Session
from unicas_edge.tiles.normalise import Normaliser

forks = pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")

_BEGIN = """
import gc, os, sys, threading, time
import numpy as np
from unicas_edge.aggregator.aggregator import Aggregator
from unicas_edge.bundle import Bundle
from unicas_edge.engines import EngineOptions, open_encoder
from unicas_edge.errors import EngineError, SessionError
from unicas_edge.screening.session import Session
from tests.support.fake_encoder import FakeEncoder

bundle = Bundle.load()
rng = np.random.default_rng(0)
TILES = rng.integers(0, 200, (8, 256, 256, 3), dtype="u1")

def open_session(**options):
    return Session(bundle, width=8192, height=8192, um_px=0.5, **options)

def push(session, count):
    for n in range(count):
        session.push(TILES[n % 8], n % 32 * 256, n // 32 * 256)
"""


def run(code: str, code_wanted: int = 0) -> subprocess.CompletedProcess[str]:
    """Run a program in a process of its own; it must end by itself, and say nothing of a crash."""
    done = subprocess.run(
        [sys.executable, "-c", _BEGIN + textwrap.dedent(code)],
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
        cwd=ROOT,
    )
    assert done.returncode == code_wanted, (done.returncode, done.stderr[-3000:])
    assert "terminate called" not in done.stderr
    assert "Fatal Python error" not in done.stderr
    return done


def test_a_session_that_is_dropped_by_an_exception_does_not_abort_the_process():
    done = run(
        """
        def scan():
            session = open_session()
            push(session, 300)
            raise RuntimeError("the scanner stopped")
        scan()
        """,
        code_wanted=1,
    )
    assert done.stderr.strip().endswith("RuntimeError: the scanner stopped")


def test_a_session_still_there_at_the_end_does_not_abort_the_process():
    run("session = open_session(); push(session, 300)")


def test_dropped_sessions_leave_no_threads():
    done = run(
        """
        encoder, aggregator = open_encoder(bundle), Aggregator.load(bundle)
        before = len(os.listdir("/proc/self/task")) if os.path.exists("/proc/self/task") else 0
        for _ in range(30):
            session = open_session(encoder=encoder, aggregator=aggregator)
            push(session, 40)
        del session
        for _ in range(300):
            left = [t for t in threading.enumerate() if t.name.startswith("encode")]
            if not left:
                break
            time.sleep(0.1)
        after = len(os.listdir("/proc/self/task")) if os.path.exists("/proc/self/task") else 0
        print(len(left), after - before)
        """
    )
    assert done.stdout.split() == ["0", "0"]


def test_a_session_that_owns_everything_gives_everything_back():
    done = run(
        """
        def tasks():
            return len(os.listdir("/proc/self/task")) if os.path.exists("/proc/self/task") else 0
        open_session().close()
        before = tasks()
        for _ in range(5):
            session = open_session()
            push(session, 8)
            del session
        time.sleep(1)
        print(tasks() - before)
        """
    )
    assert done.stdout.split() == ["0"]


_FORK = """
session = open_session({options})
push(session, 40)
child = os.fork()
if child == 0:
    for use in (
        lambda: session.push(TILES[0], 256 * 31, 256 * 31),
        lambda: session.skip(256 * 31, 256 * 30),
        lambda: session.fail(256 * 31, 256 * 29, "x"),
        session.finish,
    ):
        try:
            use()
        except SessionError as error:
            assert "forked" in str(error) and "open a new one in this process" in str(error)
        else:
            os._exit(3)
    batch = np.zeros((session.encoder.batch_size, 3, 224, 224), "f4")
    try:
        session.encoder.encode(batch)
    except EngineError as error:
        assert "forked" in str(error)
    else:
        os._exit(4)
    try:
        with open_session(encoder=session.encoder) as other:  # the parent's encoder
            push(other, 40)
            other.finish()
        os._exit(5)
    except EngineError as error:
        assert "forked" in str(error)
    if {again}:
        with open_session() as other:
            push(other, 9)
            assert other.finish().coverage.encoded == 9
    session.close()
    session.close()
    {end}
for _ in range(1200):
    done, status = os.waitpid(child, os.WNOHANG)
    if done:
        break
    time.sleep(0.1)
else:
    os.kill(child, 9)
    sys.exit("the child hangs")
print(os.waitstatus_to_exitcode(status))
push_more = session.skip(256 * 31, 256 * 31)
session.finish()
"""


@forks
@pytest.mark.parametrize("end", ["os._exit(7)", "sys.exit(7)", "del session, other; sys.exit(7)"])
@pytest.mark.parametrize("threads", [1, 3])
def test_a_fork_refuses_the_session_and_ends_by_itself(end, threads):
    """Three threads with memory for one batch alone: onnxruntime then has a pool of its own."""
    options = f"encoder=open_encoder(bundle, EngineOptions('onnxruntime', threads={threads}, "
    options += f"memory_mb={1 if threads == 3 else 512}))"
    done = run(_FORK.format(options=options, again=True, end=end))
    assert done.stdout.split() == ["7"]


@forks
@pytest.mark.skipif(importlib.util.find_spec("openvino") is None, reason="OpenVINO is an extra")
def test_a_fork_ends_by_itself_with_openvino_too():
    options = "encoder=open_encoder(bundle, EngineOptions('openvino', allow_unverified=True))"
    done = run(_FORK.format(options=options, again=False, end="sys.exit(7)"))
    assert done.stdout.split() == ["7"]


@forks
def test_an_aggregator_works_alone_in_a_fork():
    done = run(
        """
        aggregator = Aggregator.load(bundle, threads=4)
        tokens = rng.standard_normal((300, 384), dtype="f4")
        wanted = aggregator.logits(tokens)
        stop = threading.Event()
        def use():
            while not stop.is_set():
                aggregator.logits(tokens)
        user = threading.Thread(target=use)
        user.start()
        codes = []
        for _ in range(5):
            child = os.fork()
            if child == 0:
                same = np.array_equal(aggregator.logits(tokens), wanted)
                del aggregator
                os._exit(0 if same else 1)
            codes.append(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
        stop.set()
        user.join()
        print(*codes)
        """
    )
    assert done.stdout.split() == ["0"] * 5


def test_onnxruntime_reports_to_nobody_and_starts_no_thread():
    done = run(
        """
        def tasks():
            return len(os.listdir("/proc/self/task")) if os.path.exists("/proc/self/task") else 0
        before = tasks()
        import onnxruntime
        print(os.environ["ORT_DISABLE_TELEMETRY"], tasks() - before)
        """
    )
    assert done.stdout.split() == ["1", "0"]


# ---- closed, failed, stuck ----------------------------------------------------------------------


class Stuck(FakeEncoder):
    """A fake encoder that does not return until it may, and says how patient to be."""

    def __init__(self, seconds, **options):
        super().__init__(**options)
        self.batch_seconds = seconds
        self.go = threading.Event()

    def encode(self, batch):
        self.go.wait(60)
        return super().encode(batch)


def queue_of(encoder):
    tokens = {}
    normaliser = Normaliser((0, 0, 0), (1, 1, 1), None, "float32")
    return EncodeQueue(encoder, normaliser, 224, tokens.__setitem__)


def test_a_batch_that_does_not_come_back_is_an_error_and_not_waited_for(rng):
    encoder = Stuck(0.5, batch_size=2)
    queue = queue_of(encoder)
    crop = rng.integers(0, 256, (224, 224, 3), dtype="u1")
    begin = time.monotonic()
    queue.put(0, crop)
    with pytest.raises(EngineError, match=r"not returned a batch of 2 tiles for 0\.5 s"):
        queue.flush()
    with pytest.raises(EngineError, match="not returned a batch"):
        queue.put(1, crop)
    queue.close()
    queue.close()
    assert time.monotonic() - begin < 20
    encoder.go.set()


def test_closing_ends_the_wait_of_another_thread(untrained_bundle, rng):
    encoder = Stuck(300, width=192, batch_size=1)
    session = Session(
        untrained_bundle,
        width=2048,
        height=2048,
        um_px=0.5,
        encoder=encoder,
        max_tiles="all",
        queue_batches=1,
    )
    tile = rng.integers(0, 200, (256, 256, 3), dtype="u1")
    causes = []

    def push():
        try:
            for n in range(8):
                session.push(tile, n * 256, 0)
        except (EngineError, SessionError) as error:
            causes.append(str(error))

    pushing = threading.Thread(target=push)
    pushing.start()
    time.sleep(0.5)
    closing = threading.Thread(target=session.close)
    closing.start()
    pushing.join(30)
    assert causes == ["the session was closed while it waited for the encoder"]
    encoder.go.set()
    closing.join(30)
    assert not closing.is_alive()
    session.close()


def test_after_a_failure_in_finish_the_session_is_finished(untrained_bundle, rng):
    class Broken(FakeEncoder):
        def encode(self, batch):
            raise EngineError("broken")

    tile = rng.integers(0, 200, (256, 256, 3), dtype="u1")
    with Session(
        untrained_bundle, width=512, height=512, um_px=0.5, encoder=Broken(192)
    ) as session:
        session.push(tile, 0, 0)
        with pytest.raises(EngineError, match="broken"):
            session.finish()
        for use in (session.finish, lambda: session.push(tile, 256, 0)):
            with pytest.raises(SessionError, match="open a new one"):
                use()
        session.close()


def test_a_model_that_loops_for_ever_ends_neither_the_slide_nor_the_process_in_silence():
    pytest.importorskip("onnx")
    done = run(
        """
        import tempfile
        from pathlib import Path
        from tests.support.endless import endless_bundle
        with tempfile.TemporaryDirectory() as folder:
            bundle = endless_bundle(Path(folder) / "bundle")
            encoder = open_encoder(bundle, EngineOptions(threads=1, batch_size=1))
            encoder.batch_seconds = 2
            try:
                with Session(bundle, width=512, height=512, um_px=0.5, encoder=encoder) as session:
                    push_one = session.push(TILES[0], 0, 0)
                    session.finish()
            except EngineError as error:
                print(error)
            encoder.close()
        """
    )
    assert "has not returned a batch of 1 tiles for 2 s" in done.stdout
