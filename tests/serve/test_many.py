"""Many sessions: one after another, at once, and more than anybody may have."""

from __future__ import annotations

import gc
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
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
from tests.support.places import ROOT
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


CODE = """
import threading
from tests.serve.test_many import memory, tables
from unicas_edge.serve.memory import give_large_blocks_back
give_large_blocks_back()
tables()
before = memory()
for _ in range(20):
    threads = [threading.Thread(target=tables) for _ in range(4)]
    [thread.start() for thread in threads]
    [thread.join() for thread in threads]
print(memory() - before)
"""


def tables() -> None:
    """Allocate and free what a large session has, in sizes that grow."""
    held = [np.ones(size << 20, np.uint8) for size in (5, 9, 15, 25, 31)]
    del held[::2]
    held.append(np.ones(12 << 20, np.uint8))


@pytest.mark.skipif(sys.platform != "linux", reason="glibc's malloc")
def test_what_sessions_had_goes_back_to_the_system():
    """Without `give_large_blocks_back` more than a hundred megabytes stay."""
    done = subprocess.run(
        [sys.executable, "-c", CODE], cwd=ROOT, check=True, capture_output=True, text=True
    )
    assert int(done.stdout) < SLACK
