"""The service beside a session in process: tiles per second, in turn.

    python -m benchmarks.service [--tiles 400] [--rounds 3] [--many 16]

All take the same raw tiles with the embedded bundle; the service on a Unix socket, in a process of
its own, from one client: one tile a message, many in its body, many by shared memory. Time runs
from opening the session to having the result. Client, service and encoder share the cores, so that
the processor's time is given too: it is what the transport costs, whatever else runs here.
"""

from __future__ import annotations

import argparse
import mmap
import os
import statistics
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import httpx
import numpy as np

from benchmarks.harness import machine
from unicas_edge.bundle import Bundle
from unicas_edge.engines import EngineOptions
from unicas_edge.screening.session import Session
from unicas_edge.serve.models import Models
from unicas_edge.serve.records import HEAD, MEDIA_TYPE, Kind

SIDE = 20  # fields and more: 320 of 400 tiles
BYTES = 3 * 256 * 256
Tile = tuple[np.ndarray, int, int, float]


class Spent(NamedTuple):
    """Seconds by the clock, and of the processor in all processes."""

    wall: float
    cpu: float


def tiles(count: int) -> Iterator[Tile]:
    """Yield tiles, their places and scores."""
    rng = np.random.default_rng(0)
    shown = rng.integers(0, 200, (16, 256, 256, 3), np.uint8)
    for number in range(count):
        row, col = divmod(number, SIDE)
        yield shown[number % 16], 256 * col, 256 * row, 1.0 + number % 7


def in_process(models: Models, count: int) -> None:
    """Screen the tiles by a session in process."""
    with Session(
        models.bundle,
        width=256 * SIDE,
        height=256 * -(-count // SIDE),
        um_px=0.5,
        encoder=models.encoder,
        aggregator=models.aggregator,
        knowledge=models.knowledge,
    ) as session:
        for tile, x, y, score in tiles(count):
            session.push(tile, x, y, score)
        session.finish()


def batched(found: Iterator[Tile], count: int) -> Iterator[list[Tile]]:
    """Yield so many tiles at a time."""
    while some := list(islice(found, count)):
        yield some


class Client:
    """A client of the service, which screens as `in_process` does."""

    def __init__(self, http: httpx.Client, many: int) -> None:
        self._http, self._many = http, many

    def screen(self, push: Callable[[str, dict[str, str], int], None], count: int) -> None:
        frame = {"width": 256 * SIDE, "height": 256 * -(-count // SIDE), "um_px": 0.5}
        told = self._http.post("/v1/sessions", json=frame).raise_for_status().json()
        path, own = f"/v1/sessions/{told['id']}", {"Authorization": f"Bearer {told['token']}"}
        push(path, own, count)
        self._http.post(f"{path}/finish", headers=own).raise_for_status()
        with self._http.stream("GET", f"{path}/events", headers=own) as events:
            for _ in events.iter_lines():
                pass  # a client that asks a hundred times a second takes an eighth of two cores
        self._http.get(f"{path}/result", headers=own).raise_for_status()

    def one(self, path: str, own: dict[str, str], count: int) -> None:
        headers = own | {"Content-Type": "application/octet-stream"}
        for tile, x, y, score in tiles(count):
            place = {"x": x, "y": y, "score": score}
            answer = self._http.put(
                f"{path}/tile", params=place, content=tile.tobytes(), headers=headers
            )
            answer.raise_for_status()

    def body(self, path: str, own: dict[str, str], count: int) -> None:
        headers = own | {"Content-Type": MEDIA_TYPE}
        for some in batched(tiles(count), self._many):
            content = b"".join(part for tile in some for part in (head(tile), tile[0].tobytes()))
            self._http.put(f"{path}/tiles", content=content, headers=headers).raise_for_status()

    def shared(self, path: str, own: dict[str, str], count: int) -> None:
        size = self._many * (HEAD.size + BYTES)
        segment = self._http.post(f"{path}/segments", params={"bytes": size}, headers=own)
        made = segment.raise_for_status().json()
        with Path(made["path"]).open("r+b") as file, mmap.mmap(file.fileno(), size) as memory:
            for some in batched(tiles(count), self._many):
                for tile in some:
                    memory.write(head(tile))
                    memory.write(tile[0])
                query = {"segment": made["id"], "bytes": memory.tell()}
                self._http.put(f"{path}/tiles", params=query, headers=own).raise_for_status()
                memory.seek(0)


def head(tile: Tile) -> bytes:
    """Return the head of a tile's record."""
    return struct.pack(HEAD.format, Kind.RGB, BYTES, *tile[1:])


def spent(work: Callable[[], None], other: int) -> Spent:
    """Return what work took, that of the process `other` included."""
    wall, own, theirs = time.perf_counter(), time.process_time(), processor(other)
    work()
    cpu = time.process_time() - own + processor(other) - theirs
    return Spent(time.perf_counter() - wall, cpu)


def processor(process: int) -> float:
    """Return the seconds of the processor that a process has taken so far."""
    found = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    return (int(found[11]) + int(found[12])) / os.sysconf("SC_CLK_TCK")


def measure(client: Client, models: Models, service: int, count: int, rounds: int) -> None:
    """Print the ratios of every round: each way right after the session in process."""
    ways = {"one": client.one, "body": client.body, "shared": client.shared}
    ratios: dict[str, list[Spent]] = {name: [] for name in ways}
    for number in range(rounds + 1):
        for name, push in ways.items():
            own = spent(partial(in_process, models, count), service)
            theirs = spent(partial(client.screen, push, count), service)
            if number == 0:
                continue  # to get warm
            ratios[name].append(Spent(own.wall / theirs.wall, own.cpu / theirs.cpu))
            print(
                f"{name:6} {count / own.wall:.1f} tiles/s in process, {count / theirs.wall:.1f} "
                f"served: {own.wall / theirs.wall:.3f}; of the processor {own.cpu / theirs.cpu:.3f}"
            )
    for name, found in ratios.items():
        wall, cpu = (statistics.median(column) for column in zip(*found, strict=True))
        print(f"{name:6} median ratio {wall:.3f}, of the processor {cpu:.3f}")


def main() -> None:
    """Measure on a service of its own."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tiles", type=int, default=400)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--many", type=int, default=16, help="tiles in a message")
    given = parser.parse_args()
    print(machine())
    models = Models.load(Bundle.load(), EngineOptions())
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder) / "socket"
        command = [sys.executable, "-m", "unicas_edge", "serve", "--socket", str(place)]
        service = subprocess.Popen(command, stderr=subprocess.DEVNULL)
        try:
            while not place.exists():
                time.sleep(0.1)
            transport = httpx.HTTPTransport(uds=str(place))
            with httpx.Client(transport=transport, base_url="http://x", timeout=300) as http:
                client = Client(http, given.many)
                measure(client, models, service.pid, given.tiles, given.rounds)
        finally:
            service.terminate()
            service.wait()
    models.close()


if __name__ == "__main__":
    main()
