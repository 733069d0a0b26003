"""The service among clients and neighbours that are slow, greedy or in its place."""

from __future__ import annotations

import signal
import socket
import threading

import httpx
import numpy as np
import pytest
import simplejpeg

from tests.serve.test_serve import begin, opened, wait_for
from unicas_edge.errors import ServiceError
from unicas_edge.serve import run
from unicas_edge.serve.pixels import JPEG, tile_of
from unicas_edge.serve.settings import MOST_TOKEN, Listen

unix = pytest.mark.skipif(not hasattr(socket, "AF_UNIX"), reason="no Unix sockets here")


def scans_added(jpeg: bytes, count: int) -> bytes:
    """Return a JPEG with so many more scans: each makes libjpeg pass over all coefficients."""
    scan = b"\xff\xda\x00\x08\x01\x01\x00\x00\x3f\x00\x00\x00"
    return jpeg[:-2] + scan * count + jpeg[-2:]


@pytest.mark.parametrize("count", [101, 80_000])
def test_a_jpeg_of_endless_scans_is_not_decoded(monkeypatch, count):
    """80,000 scans in a megabyte kept a processor busy for four seconds."""
    jpeg = simplejpeg.encode_jpeg(np.zeros((256, 256, 3), np.uint8))
    assert tile_of(jpeg, JPEG, 256, "rgb").shape == (256, 256, 3)
    monkeypatch.setattr(simplejpeg, "decode_jpeg", lambda *_: pytest.fail("it was decoded"))
    with pytest.raises(ServiceError, match="scans"):
        tile_of(scans_added(jpeg, count), JPEG, 256, "rgb")


@pytest.mark.parametrize(
    "token", ["x" * (MOST_TOKEN + 1), "a tok\u00e9n of the service", "x" * 20 + "\n"]
)
def test_a_token_that_no_request_can_carry_is_refused(token):
    with pytest.raises(ServiceError, match="the token"):
        Listen(token=token).check()


@unix
def test_the_socket_of_the_next_service_stays(tmp_path):
    """One that still finishes results does not listen any more; the next one takes its place."""
    place = tmp_path / "s"
    with run._bound(Listen(socket=place)) as (first, _):
        first.close()
        following = run._bound(Listen(socket=place))
        following.__enter__()
    assert place.exists()
    following.__exit__(None, None, None)
    assert not place.exists()


@unix
def test_a_socket_whose_service_is_busy_is_not_taken(tmp_path):
    """Its queue is full: a connection to it neither succeeds nor is refused."""
    place = tmp_path / "s"
    waiting = []
    with socket.socket(socket.AF_UNIX) as busy:
        busy.bind(str(place))
        busy.listen(0)
        for _ in range(3):
            client = socket.socket(socket.AF_UNIX)
            client.setblocking(False)
            client.connect_ex(str(place))
            waiting.append(client)
        with pytest.raises(ServiceError, match="another service"):
            run._remove_stale(place)
        for client in waiting:
            client.close()
    assert place.exists()
    run._remove_stale(place)
    assert not place.exists()


@unix
def test_one_who_follows_a_session_is_told_of_the_end(tmp_path):
    """SIGTERM while a session is open and followed; the stream is not cut, but ends."""
    place = tmp_path / "s"
    service = begin("--socket", place)
    lines = []
    try:
        wait_for("listening", service)
        transport = httpx.HTTPTransport(uds=str(place))
        with httpx.Client(transport=transport, base_url="http://x", timeout=60) as client:
            path, own = opened(client)
            begun = threading.Event()

            def follow():
                with client.stream("GET", f"{path}/events", headers=own) as answer:
                    for line in answer.iter_lines():
                        lines.append(line)
                        begun.set()

            following = threading.Thread(target=follow)
            following.start()
            assert begun.wait(60)
            service.send_signal(signal.SIGTERM)
            following.join()
        assert "event: end" in lines
        assert service.wait(60) in {0, 130, -signal.SIGTERM}
    finally:
        service.kill()
        service.communicate()
