"""Many tiles in a message, in its body or in shared memory: framing, refusals in the middle."""

from __future__ import annotations

import contextlib
import math
import mmap
import os
import stat
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
import simplejpeg
from hypothesis import given
from hypothesis import strategies as st

from tests.serve.test_serve import (
    finished,
    models,  # noqa: F401 - a fixture
    opened,
    push_all,
    serving,
    tile_at,
)
from tests.support.places import ROOT
from unicas_edge.errors import ServiceError
from unicas_edge.result import SlideResult
from unicas_edge.serve import segments
from unicas_edge.serve.private import PREFIX, PrivateFolder, remove_stale
from unicas_edge.serve.records import HEAD, MEDIA_TYPE, Kind, parsed
from unicas_edge.serve.registry import Registry
from unicas_edge.serve.segments import SHARED, Segments
from unicas_edge.serve.settings import Limits

MANY = {"Content-Type": MEDIA_TYPE}
SIDE = 256
shared_memory = pytest.mark.skipif(not SHARED.is_dir(), reason="no tmpfs at /dev/shm here")


def record(kind, x, y, score=math.nan, data=b"", size=None):
    return HEAD.pack(kind, len(data) if size is None else size, x, y, score) + data


def row_of_records(row):
    """The eight tiles of a row, as `push_all` pushes them, in each of the ways that there are."""
    tiles = [tile_at(row, col) for col in range(8)]
    bgr = np.ascontiguousarray(tiles[1][..., ::-1])
    rest = [
        record(Kind.RGB, 256 * col, 256 * row, float(row + col), tiles[col].tobytes())
        for col in (0, *range(2, 8))
    ]
    return record(Kind.BGR, 256, 256 * row, 1.0 + row, bgr.tobytes()) + b"".join(rest)


def told(client, path, own):
    finished(client, path, own)
    return SlideResult.model_validate_json(client.get(f"{path}/result", headers=own).content)


def same(first: SlideResult, second: SlideResult) -> bool:
    return (first.tasks, first.coverage, first.adequacy) == (
        second.tasks,
        second.coverage,
        second.adequacy,
    )


def test_many_in_a_message_give_the_result_of_one_by_one(models):  # noqa: F811
    with serving(models) as client:
        path, own = opened(client)
        push_all(client, path, own)
        wanted = told(client, path, own)
        path, own = opened(client)
        for row in range(4):
            answer = client.put(f"{path}/tiles", content=row_of_records(row), headers=own | MANY)
            assert answer.json() == {"taken": 8}
        assert same(told(client, path, own), wanted)
        metrics = client.get("/metrics").text
    assert 'unicas_edge_tiles_total{kind="pushed"} 64.0' in metrics


def test_jpegs_gaps_and_failures_lie_in_one_message_too(models):  # noqa: F811
    jpeg = simplejpeg.encode_jpeg(tile_at(0, 0), 90)
    body = record(Kind.JPEG, 0, 0, data=jpeg) + record(Kind.SKIP, 256, 0)
    body += record(Kind.FAIL, 512, 0, data="zerrissen \u00e4".encode())
    with serving(models) as client:
        path, own = opened(client)
        answer = client.put(f"{path}/tiles", content=body, headers=own | MANY)
        assert answer.json() == {"taken": 3}
        result = told(client, path, own)
    assert "zerrissen ä" in {failure.cause for failure in result.coverage.failures}


RGB = record(Kind.RGB, 0, 0, 1.0, tile_at(0, 0).tobytes())


@pytest.mark.parametrize(
    ("body", "says"),
    [
        (b"", "at least one record"),
        (RGB + b"\1", "record 1: it ends in its head"),
        (RGB[:-1], "record 0: it ends after"),
        (record(9, 0, 0), "kind is 9"),
        (record(Kind.RGB, 0, 0, 1.0, b"short"), "record 0: it has 5 bytes"),
        (record(Kind.RGB, 0, 0, 1.0, size=2**32 - 1), "it ends after 0 of"),
        (record(Kind.SKIP, 0, 0, data=b"x"), "it has 1 bytes"),
        (record(Kind.FAIL, 0, 0, data=b"x" * 1001), "it has 1,001 bytes"),
        (record(Kind.SKIP, 2**60, 0), "too far away"),
        (record(Kind.SKIP, 0, 0, -1.0), "finite and not negative"),
        (record(Kind.SKIP, 0, 0, math.inf), "finite and not negative"),
        (record(Kind.SKIP, 0, 0) * 2001, "at most 2,000 records"),
    ],
)
def test_a_malformed_message_is_refused_before_anything_is_taken(models, body, says):  # noqa: F811
    with serving(models) as client:
        path, own = opened(client)
        answer = client.put(f"{path}/tiles", content=body, headers=own | MANY)
        assert answer.status_code == 422
        assert says in answer.json()["message"]
        assert client.get(path, headers=own).json()["tiles"]["seen"] == 0


def test_a_record_that_is_refused_leaves_those_before_it(models):  # noqa: F811
    other = record(Kind.RGB, 256, 0, 1.0, tile_at(0, 1).tobytes())
    with serving(models) as client:
        path, own = opened(client)
        answer = client.put(f"{path}/tiles", content=RGB + other + RGB + other, headers=own | MANY)
        assert answer.status_code == 409
        assert answer.json()["taken"] == 2
        bad = record(Kind.SKIP, 512, 0) + record(Kind.JPEG, 768, 0, data=b"no jpeg")
        answer = client.put(f"{path}/tiles", content=bad, headers=own | MANY)
        assert (answer.status_code, answer.json()["taken"]) == (422, 1)
        assert client.get(path, headers=own).json()["tiles"]["seen"] == 3
        wrong = client.put(f"{path}/tiles", content=RGB, headers=own | {"Content-Type": "x/y"})
        assert wrong.status_code == 415
        assert 'refused_total{status="409"} 1.0' in client.get("/metrics").text


def test_many_tiles_count_one_by_one_for_the_rate(models):  # noqa: F811
    with serving(models, rate=5.0) as client:
        path, own = opened(client)
        skips = [record(Kind.SKIP, 256 * col, 0) for col in range(8)]
        answer = client.put(f"{path}/tiles", content=b"".join(skips[:4]), headers=own | MANY)
        assert answer.json() == {"taken": 4}
        answer = client.put(f"{path}/tiles", content=b"".join(skips[4:]), headers=own | MANY)
        assert answer.status_code == 429


@given(st.binary(max_size=200), st.integers(0, 8))
def test_any_bytes_are_records_or_refused(tail, count):
    body = record(Kind.SKIP, 0, 0) * count + tail
    view = memoryview(body)
    with contextlib.suppress(ServiceError):
        found = parsed(lambda at, size: view[at : at + size], len(body), SIDE, 100)
        assert sum(HEAD.size + one.size for one in found) == len(body)


# ---- shared memory ------------------------------------------------------------------------------


@shared_memory
def test_tiles_by_shared_memory_give_the_same_result(models):  # noqa: F811
    with serving(models) as client:
        path, own = opened(client)
        push_all(client, path, own)
        wanted = told(client, path, own)
        path, own = opened(client)
        size = len(row_of_records(0))
        made = client.post(f"{path}/segments", params={"bytes": size}, headers=own).json()
        file = Path(made["path"])
        assert stat.S_IMODE(file.stat().st_mode) == 0o600
        assert stat.S_IMODE(file.parent.stat().st_mode) == 0o700
        with file.open("r+b") as handle, mmap.mmap(handle.fileno(), size) as memory:
            for row in range(4):
                memory[:] = row_of_records(row)
                query = {"segment": made["id"], "bytes": size}
                answer = client.put(f"{path}/tiles", params=query, headers=own)
                assert answer.json() == {"taken": 8}, answer.text
        assert same(told(client, path, own), wanted)
        assert not file.exists()


@shared_memory
def test_segments_are_few_small_and_the_session_s_own(models):  # noqa: F811
    with serving(models, segments=2, batch_bytes=1 << 20, idle_seconds=0.3) as client:
        path, own = opened(client)
        other_path, other = opened(client)
        share = [
            client.post(f"{path}/segments", params={"bytes": count}, headers=own)
            for count in (1 << 20, 1, 1, (1 << 20) + 1, 0)
        ]
        assert [answer.status_code for answer in share] == [201, 201, 409, 422, 422]
        made = share[0].json()
        for query, code in (
            ({"segment": made["id"], "bytes": 2 << 20}, 422),
            ({"segment": made["id"], "bytes": 0}, 422),
            ({"segment": "../../etc/passwd", "bytes": 10}, 404),
        ):
            assert client.put(f"{path}/tiles", params=query, headers=own).status_code == code
        query = {"segment": made["id"], "bytes": 10}
        assert client.put(f"{other_path}/tiles", params=query, headers=other).status_code == 404
        gone = client.delete(f"{path}/segments/{made['id']}", headers=own)
        assert gone.status_code == 204
        assert not Path(made["path"]).exists()
        left = Path(share[1].json()["path"])
        assert left.exists()
        time.sleep(0.4)
        opened(client)  # the client of the first is dead; its session goes, and its memory too
        assert not left.exists()


@shared_memory
def test_a_segment_that_changes_or_is_cut_while_it_is_read_harms_nobody(models):  # noqa: F811
    """A mapping of ours would end this process by SIGBUS where the client cuts the file."""
    sessions = Registry(models, Limits())
    found = Segments(sessions._shared.path, 1, 1 << 20)
    number, segment = found.add(1 << 20)
    stop = threading.Event()

    def meddle():
        while not stop.is_set():
            os.truncate(segment.path, 4096)
            os.truncate(segment.path, 1 << 20)
            segment.path.write_bytes(os.urandom(1 << 12))

    meddling = threading.Thread(target=meddle)
    meddling.start()
    seen = set()
    for _ in range(300):
        try:
            with found.reading(number, 1 << 20) as read:
                seen.add(len(read(0, 1 << 20)))
        except ServiceError as error:
            seen.add(error.status)
    stop.set()
    meddling.join()
    assert seen <= {422, 1 << 20}
    assert 422 in seen
    found.close()
    assert not segment.path.exists()
    with pytest.raises(ServiceError):
        found.add(10)
    sessions.close()


@shared_memory
def test_memory_that_is_not_there_is_said_before_a_client_writes_into_it(monkeypatch, tmp_path):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(segments.os, "posix_fallocate", full)
    with pytest.raises(ServiceError, match="not free") as caught:
        Segments(tmp_path, 1, 1 << 20).add(4096)
    assert caught.value.status == 507
    assert list(tmp_path.iterdir()) == []


def test_where_there_is_no_shared_memory_bodies_are_asked_for():
    with pytest.raises(ServiceError, match="bodies") as caught:
        Segments(None, 1, 1).add(1)
    assert caught.value.status == 501


def test_what_a_killed_service_left_is_removed_by_the_next(tmp_path):
    code = (
        "import sys, time; from pathlib import Path\n"
        "from unicas_edge.serve.private import PrivateFolder\n"
        "kept = PrivateFolder(Path(sys.argv[1])); print(kept.path, flush=True); time.sleep(100)"
    )
    command = [sys.executable, "-c", code, str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT) as service:
        left = Path(service.stdout.readline().strip())
        (left / "tile").write_bytes(b"x")
        living = PrivateFolder(tmp_path)
        assert left.exists()
        service.kill()
        service.wait()
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "lock").touch()
    (tmp_path / f"{PREFIX}link").symlink_to(outside)
    remove_stale(tmp_path)
    assert not left.exists()
    assert living.path.exists()
    assert outside.exists()
    living.close()
    assert not living.path.exists()
