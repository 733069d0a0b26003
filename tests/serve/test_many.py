"""Many sessions: one after another, at once, and more than anybody may have."""

from __future__ import annotations

import gc
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.serve.test_serve import (
    RAW,
    SLIDE,
    finished,
    models,  # noqa: F401 - a fixture
    opened,
    serving,
    tile_at,
)
from unicas_edge.result import SlideResult

STATUS = Path("/proc/self/status")
#: Bytes that may be more in use after 40 more sessions: a session's own are far more.
SLACK = 24 << 20


def screened(client, number: int) -> SlideResult:
    """Return the result of a slide of its own."""
    path, own = opened(client)
    for row in range(4):
        for col in range(8):
            place = {"x": 256 * col, "y": 256 * row, "score": row + col}
            body = tile_at(row + number, col).tobytes()
            client.put(
                f"{path}/tile", params=place, content=body, headers=own | RAW
            ).raise_for_status()
    finished(client, path, own)
    result = SlideResult.model_validate_json(client.get(f"{path}/result", headers=own).content)
    client.delete(path, headers=own)
    return result


def told(result: SlideResult) -> tuple:
    return result.tasks, result.coverage, result.adequacy


def test_eight_sessions_at_once_give_what_each_gives_alone(models):  # noqa: F811
    with serving(models) as client:
        alone = [told(screened(client, number)) for number in range(8)]
        with ThreadPoolExecutor(8) as pool:
            at_once = list(pool.map(lambda number: screened(client, number), range(8)))
    assert [told(result) for result in at_once] == alone
    assert len({str(one) for one in alone}) > 1


def memory() -> int:
    """Return this process's bytes in memory."""
    gc.collect()
    line = next(line for line in STATUS.read_text().splitlines() if line.startswith("VmRSS"))
    return int(line.split()[1]) << 10


@pytest.mark.slow
@pytest.mark.skipif(not STATUS.exists(), reason="no /proc here")
def test_sessions_one_after_another_take_no_more_memory(models):  # noqa: F811
    with serving(models) as client:
        for _ in range(10):
            screened(client, 0)
        before = memory()
        for _ in range(40):
            screened(client, 0)
        grown = memory() - before
    assert grown < SLACK


@pytest.mark.skipif(not STATUS.exists(), reason="no /proc here")
def test_a_client_that_opens_thousands_of_sessions_gets_few(models):  # noqa: F811
    """Of 4 million tiles each: their tables alone would take gigabytes."""
    large = SLIDE | {"width": 500_000, "height": 500_000}
    with serving(models, sessions=2) as client:
        for _ in range(2):
            assert client.post("/v1/sessions", json=large).status_code == 201
        before, threads = memory(), threading.active_count()
        for _ in range(1_000):
            assert client.post("/v1/sessions", json=large).status_code == 503
        assert memory() - before < SLACK
        assert threading.active_count() <= threads + 1
        assert 'unicas_edge_refused_total{status="503"} 1000.0' in client.get("/metrics").text
