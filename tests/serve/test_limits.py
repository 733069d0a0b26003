"""What a client may take: places, questions, time, and words that are about its own request."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
import time

import httpx
import pytest
import uvicorn

from tests.serve.test_serve import (
    SERVICE,
    SLIDE,
    finished,
    models,  # noqa: F401 - a fixture
    opened,
    push,
    serving,
)
from tests.support.fake_encoder import FakeEncoder
from unicas_edge.errors import BundleError, EngineError, ServiceError, SlideError, SpacingError
from unicas_edge.screening.session import Session
from unicas_edge.serve import protocol, registry
from unicas_edge.serve.app import make_app
from unicas_edge.serve.following import Following
from unicas_edge.serve.live import Budget
from unicas_edge.serve.messages import NewSession
from unicas_edge.serve.models import Models
from unicas_edge.serve.refusals import words
from unicas_edge.serve.registry import Registry
from unicas_edge.serve.settings import Limits

ASKED = NewSession(width=2048, height=1024, um_px=0.5)


def test_nothing_is_allocated_for_a_session_that_has_no_place(models, monkeypatch):  # noqa: F811
    """40 at once, and 2 places: 2 grids are made, and no more than that at any time."""
    made, both = [], threading.Barrier(2, timeout=20)

    class Counted(Session):
        def __init__(self, *args, **kwargs):
            made.append(1)
            both.wait()
            super().__init__(*args, **kwargs)

    monkeypatch.setattr(registry, "Session", Counted)
    sessions, refused = Registry(models, Limits(sessions=2)), []

    def open_one():
        try:
            sessions.open(ASKED)
        except ServiceError as error:
            refused.append(error.status)

    threads = [threading.Thread(target=open_one) for _ in range(40)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(made) == 2
    assert refused == [503] * 38
    sessions.close()


def test_a_session_that_cannot_be_made_gives_its_place_back(models):  # noqa: F811
    sessions = Registry(models, Limits(sessions=1))
    for _ in range(3):
        with pytest.raises(Exception, match="tiles are more than"):
            sessions.open(ASKED.model_copy(update={"width": 9_000_000, "height": 9_000_000}))
    sessions.open(ASKED)
    sessions.close()


def test_no_session_is_closed_under_the_lock(models, monkeypatch):  # noqa: F811
    """Closing one waits for its encoder; all other requests would wait with it."""
    sessions, locked = Registry(models, Limits(sessions=1)), []
    close = Session.close
    monkeypatch.setattr(
        Session, "close", lambda self: (locked.append(sessions._lock.locked()), close(self))
    )
    for _ in range(3):  # each makes the one before it go
        live, _ = sessions.open(ASKED)
        sessions.finish(live)
        while live.state == "finishing":
            time.sleep(0.01)
    sessions.closed = True
    with pytest.raises(ServiceError):
        sessions.open(ASKED)
    sessions.close()
    assert locked
    assert not any(locked)


def test_estimates_and_files_are_rationed(models):  # noqa: F811
    with serving(models, asks=2.0) as client:
        path, own = opened(client)
        codes = [client.get(f"{path}/estimate", headers=own).status_code for _ in range(5)]
        assert codes[:2] == [200, 200]
        assert 429 in codes
        path, own = opened(client)
        finished(client, path, own)
        answers = [client.get(f"{path}/files/tiles.csv", headers=own) for _ in range(5)]
        assert [answer.status_code for answer in answers[:2]] == [200, 200]
        assert answers[-1].status_code == 429
        assert answers[-1].headers["Retry-After"] == "1"


def test_a_slow_body_keeps_nobody_from_fitting_colours(models):  # noqa: F811
    """Two clients that begin their tiles and stop: a third is served meanwhile."""

    async def ask(app, receive, sent):
        about = {"type": "http", "method": "POST", "path": "/v1/colour", "raw_path": b"/v1/colour"}
        about |= {"query_string": b"", "headers": [], "http_version": "1.1"}

        async def send(message):
            sent.append(message)

        await app(about, receive, send)

    async def run():
        app = make_app(Registry(models, Limits()), None)
        slow = [asyncio.create_task(ask(app, asyncio.Event().wait, [])) for _ in range(4)]
        await asyncio.sleep(0.1)
        sent, body = [], bytes(3 * 256 * 256)

        async def receive():
            return {"type": "http.request", "body": body, "more_body": False}

        await asyncio.wait_for(ask(app, receive, sent), 60)
        for task in slow:
            task.cancel()
        await asyncio.gather(*slow, return_exceptions=True)
        return sent[0]["status"]

    assert asyncio.run(run()) == 200


def test_bodies_on_their_way_have_a_budget(models):  # noqa: F811
    budget = Budget(10, "others")
    with budget.held(7), pytest.raises(ServiceError, match="others hold") as caught:
        budget.take(4)
    assert caught.value.status == 503
    budget.take(10)
    with serving(models, budget_bytes=1000) as client:
        path, own = opened(client)
        assert push(client, path, own, 0, 0, score=1.0).status_code == 503


def test_the_number_of_watchers_holds_before_they_have_begun(models):  # noqa: F811
    sessions = Registry(models, Limits(watchers=2))
    live, token = sessions.open(ASKED)
    following = Following(sessions)

    async def run():
        granted = [await following.events(live.id, token) for _ in range(2)]
        with pytest.raises(ServiceError) as caught:
            await following.events(live.id, token)
        assert caught.value.status == 429

        async def gone():
            return {"type": "http.disconnect"}

        async def send(_):
            raise OSError

        for stream in granted:  # none of them sends a byte
            with contextlib.suppress(Exception):
                await stream({"type": "http", "asgi": {"spec_version": "2.3"}}, gone, send)

    asyncio.run(run())
    assert live.watchers == 0
    sessions.close()


@pytest.mark.parametrize(
    "error",
    [
        BundleError("/secret place/bundle/model.onnx: wrong hash"),
        EngineError("C:\\secret\\model.onnx does not load"),
        SlideError("/secret/a.svs", "is torn"),
        OSError(2, "no such file", "/secret/x"),
        SpacingError("/secret/a.svs", "the pixels show 2 um/px"),
    ],
)
def test_no_path_of_this_computer_is_told(error):
    assert "secret" not in words(error)
    assert words(error)


def test_a_failed_session_tells_no_path(models, caplog):  # noqa: F811
    class Broken(FakeEncoder):
        def encode(self, batch):
            raise OSError(5, "cannot be read", "/secret/model.onnx")

    broken = Models(models.bundle, Broken(192, batch_size=4), models.aggregator, None)
    with serving(broken) as client:
        path, own = opened(client)
        push(client, path, own, 0, 0, score=1.0)
        state = finished(client, path, own)
        answer = client.get(f"{path}/result", headers=own)
    assert state["state"] == "failed"
    assert answer.status_code >= 500
    assert "secret" not in state["error"] + answer.text
    assert "secret" in caplog.text


def test_refusals_carry_the_headers_that_http_asks_for(models):  # noqa: F811
    with serving(models, SERVICE) as client:
        answer = client.post("/v1/sessions", json=SLIDE)
        assert answer.status_code == 401
        assert answer.headers["WWW-Authenticate"].startswith("Bearer")
        answer = client.put("/v1/sessions")
        assert answer.status_code == 405
        assert answer.headers["Allow"] == "POST"
        assert client.get("/nowhere").status_code == 404


# ---- connections --------------------------------------------------------------------------------


@contextlib.contextmanager
def listening(app):
    """Yield the address of a real server, as `run.serve` sets it up."""
    config = uvicorn.Config(app, http=protocol.TimedProtocol, ws="none", log_level="error")
    server = uvicorn.Server(config)
    with socket.create_server(("127.0.0.1", 0)) as bound:
        thread = threading.Thread(target=server.run, kwargs={"sockets": [bound]})
        thread.start()
        try:
            yield bound.getsockname()
        finally:
            server.should_exit = True
            thread.join()


def said(place, *pieces, pause=0.1):
    """Return what a server says to bytes sent with pauses, until it ends the connection."""
    with socket.create_connection(place, timeout=30) as client:
        for piece in pieces:
            with contextlib.suppress(OSError):
                client.sendall(piece)
            time.sleep(pause)
        found = b""
        with contextlib.suppress(ConnectionResetError):
            while part := client.recv(4096):
                found += part
    return found


def test_a_head_that_does_not_end_is_not_waited_for(models, monkeypatch):  # noqa: F811
    monkeypatch.setattr(protocol, "HEAD_SECONDS", 0.5)
    with listening(make_app(Registry(models, Limits()), None)) as place:
        assert said(place) == b""
        dripping = [b"GET /health HTTP/1.1\r\nHost: x\r\n", *([b"X-A: b\r\n"] * 30)]
        begin = time.monotonic()
        assert said(place, *dripping).startswith(b"HTTP/1.1 408")
        assert time.monotonic() - begin < 25
        whole = b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n"
        again = said(place, whole, *dripping)
        assert again.startswith(b"HTTP/1.1 200")
        assert b"HTTP/1.1 408" in again
        with httpx.Client(base_url=f"http://127.0.0.1:{place[1]}") as client:
            for _ in range(3):  # a quick one is not hurried
                time.sleep(0.3)
                assert client.get("/health").status_code == 200


def test_what_is_left_of_a_refused_body_is_not_taken_for_ever(models, monkeypatch):  # noqa: F811
    monkeypatch.setattr(protocol, "HEAD_SECONDS", 0.5)
    with listening(make_app(Registry(models, Limits()), None)) as place:
        head = b"POST /v1/colour HTTP/1.1\r\nHost: x\r\nContent-Length: 999999999\r\n\r\n"
        answer = said(place, head, *([b"x" * 100] * 20))
    assert answer.startswith(b"HTTP/1.1 413")


def test_a_client_that_reads_nothing_is_let_go(models, monkeypatch):  # noqa: F811
    monkeypatch.setattr(protocol, "READ_SECONDS", 0.3)
    gone = threading.Event()

    async def endless(scope, receive, send):
        if scope["type"] != "http":
            return
        await send({"type": "http.response.start", "status": 200, "headers": []})
        asked = asyncio.create_task(receive())
        try:
            for _ in range(10_000):
                await send(
                    {"type": "http.response.body", "body": bytes(1 << 20), "more_body": True}
                )
                if asked.done() and (await receive())["type"] == "http.disconnect":
                    break
        finally:
            asked.cancel()
            gone.set()

    with listening(endless) as place, socket.create_connection(place) as client:
        client.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        assert gone.wait(60)
