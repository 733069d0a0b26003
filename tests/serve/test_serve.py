"""The service: the result of a session in process, tokens, limits, bad bodies, a graceful end."""

from __future__ import annotations

import asyncio
import json
import re
import signal
import socket
import stat
import struct
import subprocess
import sys
import threading
import time
from pathlib import Path

import httpx
import numpy as np
import pytest
import simplejpeg
from fastapi.testclient import TestClient

from tests.support.fake_encoder import FakeEncoder
from tests.support.places import ROOT
from unicas_edge.aggregator.aggregator import Aggregator
from unicas_edge.errors import ServiceError
from unicas_edge.result import SlideResult
from unicas_edge.screening.session import Session
from unicas_edge.serve.app import make_app
from unicas_edge.serve.models import Models
from unicas_edge.serve.registry import Registry
from unicas_edge.serve.settings import Limits, Listen

SLIDE = {"width": 2048, "height": 1024, "um_px": 0.5, "max_tiles": 20, "name": "a slide"}
RAW = {"Content-Type": "application/octet-stream"}
SERVICE = "a token of the service"


def tile_at(row: int, col: int) -> np.ndarray:
    spots = np.random.default_rng((row, col)).integers(0, 200, (32, 32, 3), np.uint8)
    return spots.repeat(8, axis=0).repeat(8, axis=1)


@pytest.fixture(scope="module")
def models(untrained_bundle):
    encoder = FakeEncoder(untrained_bundle.manifest.encoder.width, batch_size=4)
    return Models(untrained_bundle, encoder, Aggregator.load(untrained_bundle), None)


@pytest.fixture
def client(models):
    with serving(models) as client:
        yield client


def serving(models, token=None, **limits) -> TestClient:
    return TestClient(make_app(Registry(models, Limits(**limits)), token))


def opened(client, **change):
    """Open a session; return its path and its headers."""
    answer = client.post("/v1/sessions", json=SLIDE | change)
    assert answer.status_code == 201, answer.text
    told = answer.json()
    return f"/v1/sessions/{told['id']}", {"Authorization": f"Bearer {told['token']}"}


def push(client, path, own, row, col, **query):
    body = tile_at(row, col).tobytes()
    place = {"x": 256 * col, "y": 256 * row}
    return client.put(f"{path}/tile", params=place | query, content=body, headers=own | RAW)


def push_all(client, path, own):
    for row in range(4):
        for col in range(8):
            answer = push(client, path, own, row, col, score=float(row + col))
            assert answer.status_code == 204, answer.text


def finished(client, path, own):
    assert client.post(f"{path}/finish", headers=own).status_code == 202
    for _ in range(600):
        state = client.get(path, headers=own).json()
        if state["state"] in {"done", "failed"}:
            return state
        time.sleep(0.05)
    pytest.fail("the session does not finish")


def test_the_result_is_that_of_a_session_in_process(client, models):
    path, own = opened(client)
    push_all(client, path, own)
    assert set(client.get(f"{path}/estimate", headers=own).json()) <= {
        task.name for task in models.bundle.manifest.tasks
    }
    state = finished(client, path, own)
    assert state["tiles"]["seen"] == 32
    told = SlideResult.model_validate_json(client.get(f"{path}/result", headers=own).content)
    with Session(
        models.bundle,
        **{key: SLIDE[key] for key in ("width", "height", "um_px", "max_tiles")},
        encoder=models.encoder,
        aggregator=models.aggregator,
    ) as session:
        for row in range(4):
            for col in range(8):
                session.push(tile_at(row, col), 256 * col, 256 * row, float(row + col))
        wanted = session.finish()
    assert told.tasks == wanted.tasks
    assert told.coverage == wanted.coverage
    assert told.slide.name == "a slide"
    files = {
        name: client.get(f"{path}/files/{name}", headers=own)
        for name in ("tiles.csv", "features.h5", "annotations.geojson")
    }
    assert {answer.status_code for answer in files.values()} == {200}
    assert len(files["tiles.csv"].text.splitlines()) == 21
    assert files["features.h5"].content.startswith(b"\x89HDF")
    assert files["annotations.geojson"].json()["type"] == "FeatureCollection"
    assert client.get(f"{path}/files/x.csv", headers=own).status_code == 404
    assert push(client, path, own, 0, 0, score=1.0).status_code == 409
    assert client.post(f"{path}/finish", headers=own).status_code == 409
    assert client.delete(path, headers=own).status_code == 204
    assert client.get(path, headers=own).status_code == 404


def test_jpeg_bgr_skips_and_failures(client):
    path, own = opened(client)
    jpeg = simplejpeg.encode_jpeg(tile_at(0, 0), 90)
    jpeg_type = own | {"Content-Type": "image/jpeg"}
    where = {"x": 0, "y": 0}
    assert client.put(f"{path}/tile", params=where, content=jpeg, headers=jpeg_type).is_success
    swapped = np.ascontiguousarray(tile_at(0, 1)[..., ::-1]).tobytes()
    query = {"x": 256, "y": 0, "order": "bgr", "score": 9.0}
    assert client.put(f"{path}/tile", params=query, content=swapped, headers=own | RAW).is_success
    assert client.put(f"{path}/tile/skip", params={"x": 512, "y": 0}, headers=own).is_success
    lost = client.put(
        f"{path}/tile/fail", params={"x": 768, "y": 0}, json={"cause": "torn"}, headers=own
    )
    assert lost.is_success
    assert client.get(path, headers=own).json()["tiles"]["seen"] == 4
    text = client.get("/metrics").text
    assert 'unicas_edge_tiles_total{kind="pushed"} 2.0' in text
    assert 'unicas_edge_sessions{state="open"} 1.0' in text


def test_colours_are_fitted_and_given_back(client):
    body = b"".join(tile_at(0, col).tobytes() for col in range(3))
    colour = client.post("/v1/colour", content=body)
    assert colour.status_code == 200, colour.text
    opened(client, colour=colour.json())
    for bad in (b"", body[:-1], body * 30):
        assert client.post("/v1/colour", content=bad).status_code in {413, 422}
    wrong = colour.json() | {"matrix": [[1.0, 0.0, 0.0]] * 3}
    assert client.post("/v1/sessions", json=SLIDE | {"colour": wrong}).status_code == 422


@pytest.mark.parametrize(
    ("change", "code", "says"),
    [
        ({"width": 0}, 422, "width"),
        ({"um_px": float("1e-9")}, 422, "not possible"),
        ({"um_px": "NaN"}, 422, "um_px"),
        ({"width": 9_000_000, "height": 9_000_000}, 422, "tiles are more than"),
        ({"max_tiles": 10_001}, 422, "at most 10000"),
        ({"unknown": 1}, 422, "unknown"),
        ({"name": "x" * 300}, 422, "name"),
    ],
)
def test_impossible_slides_are_refused(client, change, code, says):
    answer = client.post("/v1/sessions", json=SLIDE | change)
    assert answer.status_code == code
    assert says in answer.json()["message"]


@pytest.mark.parametrize(
    ("query", "content", "kind", "code"),
    [
        ({"x": 1, "y": 0}, tile_at(0, 0).tobytes(), RAW["Content-Type"], 409),
        ({"x": 2**60, "y": 0}, b"", RAW["Content-Type"], 422),
        ({"x": 0, "y": 0}, b"short", RAW["Content-Type"], 422),
        ({"x": 0, "y": 0}, bytes(2 << 20), RAW["Content-Type"], 413),
        ({"x": 0, "y": 0}, b"no jpeg", "image/jpeg", 422),
        ({"x": 0, "y": 0}, simplejpeg.encode_jpeg(tile_at(0, 0)[:128]), "image/jpeg", 422),
        ({"x": 0, "y": 0}, simplejpeg.encode_jpeg(tile_at(0, 0))[:400], "image/jpeg", 422),
        ({"x": 0, "y": 0}, tile_at(0, 0).tobytes(), "text/plain", 415),
        ({"x": 0, "y": 0, "order": "rbg"}, tile_at(0, 0).tobytes(), RAW["Content-Type"], 422),
        ({"x": 0, "y": 0, "score": -1}, tile_at(0, 0).tobytes(), RAW["Content-Type"], 422),
        ({"x": 0, "y": 0, "score": "nan"}, tile_at(0, 0).tobytes(), RAW["Content-Type"], 422),
    ],
)
def test_bad_tiles_are_refused_and_leave_no_trace(client, query, content, kind, code):
    path, own = opened(client)
    answer = client.put(
        f"{path}/tile", params=query, content=content, headers=own | {"Content-Type": kind}
    )
    assert answer.status_code == code, answer.text
    assert set(answer.json()) == {"error", "message"}
    assert client.get(path, headers=own).json()["tiles"]["seen"] == 0


def test_a_body_without_a_length_is_bounded_too(client):
    path, own = opened(client)

    def endless():
        for _ in range(100):
            yield bytes(1 << 16)

    answer = client.put(
        f"{path}/tile", params={"x": 0, "y": 0}, content=endless(), headers=own | RAW
    )
    assert answer.status_code == 413


def test_a_message_without_a_length_is_bounded_too(client):
    def endless():
        for _ in range(1000):
            yield b" " * 4096

    answer = client.post("/v1/sessions", content=endless(), headers={"Content-Type": "text/json"})
    assert answer.status_code == 413
    assert set(answer.json()) == {"error", "message"}


@pytest.mark.parametrize(
    ("path", "ends"),
    [("/v1/sessions", "hang"), ("/v1/sessions", "gone"), ("/v1/colour", "hang")],
)
def test_a_client_that_stops_in_a_body_is_not_waited_for(models, monkeypatch, path, ends):
    monkeypatch.setattr("unicas_edge.serve.body.SECONDS", 0.05)
    monkeypatch.setattr("unicas_edge.serve.pixels.SECONDS", 0.05)
    registry, answers = Registry(models, Limits()), []
    app = make_app(registry, None)
    messages = [{"type": "http.request", "body": b"{", "more_body": True}]

    async def receive():
        if messages:
            return messages.pop()
        if ends == "hang":
            await asyncio.sleep(60)
        return {"type": "http.disconnect"}

    async def send(message):
        answers.append(message)

    headers = [(b"content-type", b"application/json")]
    about = {
        "type": "http",
        "method": "POST",
        "path": path,
        "query_string": b"",
        "headers": headers,
    }
    begin = time.monotonic()
    asyncio.run(app(about | {"raw_path": path.encode(), "http_version": "1.1"}, receive, send))
    assert time.monotonic() - begin < 30
    assert answers[0]["status"] == {"hang": 408, "gone": 400}[ends]
    counted = TestClient(app).get("/metrics").text
    assert f'unicas_edge_refused_total{{status="{answers[0]["status"]}"}} 1.0' in counted
    registry.close()


def test_a_session_is_its_client_s_alone(client):
    path, own = opened(client)
    other = opened(client)[1]
    for wrong in ({}, other, {"Authorization": "Bearer "}, {"Authorization": "x" * 150}):
        for method, end in (("GET", ""), ("DELETE", ""), ("POST", "/finish"), ("GET", "/result")):
            assert client.request(method, path + end, headers=wrong).status_code == 404
    assert client.get(path, headers=own).status_code == 200
    assert client.get("/v1/sessions/absent", headers=own).status_code == 404


def test_the_service_s_token_opens_sessions(models):
    with serving(models, SERVICE) as client:
        assert client.get("/health").status_code == 200
        assert client.post("/v1/sessions", json=SLIDE).status_code == 401
        assert client.post("/v1/colour", content=b"").status_code == 401
        right = {"Authorization": f"Bearer {SERVICE}"}
        assert client.post("/v1/sessions", json=SLIDE, headers=right).status_code == 201


def test_sessions_rate_and_idleness_are_limited(models):
    with serving(models, sessions=2, rate=3.0, idle_seconds=0.3) as client:
        path, own = opened(client)
        opened(client)
        full = client.post("/v1/sessions", json=SLIDE)
        assert full.status_code == 503
        assert full.headers["Retry-After"] == "1"
        codes = [push(client, path, own, 0, col, score=1.0).status_code for col in range(8)]
        assert codes.count(204) >= 3
        assert 429 in codes
        time.sleep(0.4)
        opened(client)  # the idle ones made room
        assert client.get(path, headers=own).status_code == 404


def test_many_sessions_leave_no_threads_behind(models):
    with serving(models, sessions=3) as client:
        for _ in range(30):
            path, own = opened(client)
            client.post(f"{path}/finish", headers=own)
            for answer in [client.post("/v1/sessions", json=SLIDE) for _ in range(5)]:
                if answer.status_code == 201:
                    told = answer.json()
                    own = {"Authorization": f"Bearer {told['token']}"}
                    client.delete(f"/v1/sessions/{told['id']}", headers=own)
                else:
                    assert answer.status_code == 503
            time.sleep(0.02)
        kept = client.get("/metrics").text
    names = [t.name for t in threading.enumerate() if t.name.startswith(("encode", "finish"))]
    assert not names
    assert 'state="done"' in kept


def test_events_say_how_far_it_is_until_the_end(client):
    path, own = opened(client)
    push_all(client, path, own)
    seen = []

    def follow():
        with client.stream("GET", f"{path}/events", headers=own) as answer:
            seen.extend(line for line in answer.iter_lines() if line)

    follower = threading.Thread(target=follow)
    follower.start()
    finished(client, path, own)
    follower.join(20)
    assert seen[-2] == "event: end"
    assert json.loads(seen[-1].removeprefix("data: "))["state"] == "done"


def test_a_failure_is_told(models):
    class Broken(FakeEncoder):
        def encode(self, batch):
            raise RuntimeError("a defect")

    broken = Models(models.bundle, Broken(192, batch_size=4), models.aggregator, None)
    with serving(broken) as client:
        path, own = opened(client)
        push(client, path, own, 0, 0, score=1.0)
        state = finished(client, path, own)
        assert state["state"] == "failed"
        assert "a defect" in state["error"]
        assert client.get(f"{path}/result", headers=own).status_code == 500


# ---- where it listens ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("listen", "says"),
    [
        ({"host": "0.0.0.0"}, "other machines"),
        ({"host": "::", "token": SERVICE}, "--certificate"),
        ({"host": "example.org"}, "--token-file"),
        ({"token": "short"}, "shorter than 16"),
        ({"certificate": ROOT / "LICENSE"}, "both"),
        ({"certificate": ROOT / "absent", "key": ROOT / "LICENSE"}, "no such file"),
    ],
)
def test_strangers_are_not_let_in(listen, says):
    with pytest.raises(ServiceError, match=says):
        Listen(**listen).check()


@pytest.mark.parametrize("listen", [{}, {"host": "::1"}, {"host": "localhost"}, {"port": 0}])
def test_this_computer_may(listen):
    Listen(**listen).check()


def begin(*words):
    command = [sys.executable, "-m", "unicas_edge", "serve", *map(str, words)]
    return subprocess.Popen(command, stderr=subprocess.PIPE, text=True, cwd=ROOT)


def wait_for(line, service):
    for said in service.stderr:
        if line in said:
            return said
    return pytest.fail(f"the service ended: {service.wait()}")


@pytest.mark.skipif(not hasattr(socket, "AF_UNIX"), reason="no Unix sockets here")
def test_the_command_serves_a_socket_and_ends_gracefully(tmp_path):
    """The embedded bundle, a real engine; SIGTERM while a result is computed."""
    place = tmp_path / "s"
    service = begin("--socket", place)
    try:
        wait_for("listening", service)
        assert stat.S_IMODE(place.stat().st_mode) & 0o077 == 0
        second = begin("--socket", place)
        assert "another service" in second.communicate(timeout=100)[1]
        assert second.returncode == 1
        transport = httpx.HTTPTransport(uds=str(place))
        with httpx.Client(transport=transport, base_url="http://x", timeout=60) as client:
            path, own = opened(client)
            push_all(client, path, own)
            state = finished(client, path, own)
            assert state["state"] == "done"
            told = client.get(f"{path}/result", headers=own).json()
            assert {task["decision"] for task in told["tasks"]} == {"unsatisfactory"}
            path, own = opened(client)
            push_all(client, path, own)
            client.post(f"{path}/finish", headers=own)
        service.send_signal(signal.SIGTERM)
        assert service.wait(60) in {0, 130, -signal.SIGTERM}
        assert not place.exists()
    finally:
        service.kill()
        service.communicate()


def test_the_guide_s_client_runs_as_it_stands():
    text = (ROOT / "docs/guide/serve.md").read_text()
    snippet, shared = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    service = begin("--port", 0)
    try:
        base = wait_for("listening", service).split()[-1]
        names = {"scanner": [(simplejpeg.encode_jpeg(tile_at(0, k)), 256 * k, 0) for k in range(3)]}
        exec(snippet.replace("http://127.0.0.1:8470", base), names)
        assert names["result"]["slide"]["name"] == "slide 7"
        assert names["result"]["coverage"]["encoded"] == 3
        head = struct.pack("<IIqqd", 1, 3 * 256 * 256, 256, 0, 1.0)
        names["scanner_batches"] = [head + tile_at(0, 1).tobytes()]
        with httpx.Client(base_url=base) as names["service"]:
            if Path("/dev/shm").is_dir():
                names["session"], names["own"] = opened(names["service"])
                exec(shared, names)
                told = names["service"].get(names["session"], headers=names["own"]).json()
                assert told["tiles"]["seen"] == 1
    finally:
        service.terminate()
        service.communicate(timeout=60)


def test_a_place_that_is_taken_is_refused(tmp_path):
    (tmp_path / "file").write_text("not a socket")
    for words in (["--socket", tmp_path / "file"], ["--token-file", tmp_path / "absent"]):
        service = begin(*words)
        assert "\nerror: " in "\n" + service.communicate(timeout=100)[1]
        assert service.returncode == 1
    assert (tmp_path / "file").read_text() == "not a socket"
