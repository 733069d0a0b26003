"""The spool: a killed session goes on where it was, and nothing else is taken for its file."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.dense_aggregator import config_of, weights_of
from tests.support.fake_encoder import FakeEncoder
from tests.support.places import ROOT
from unicas_edge.aggregator.aggregator import Aggregator
from unicas_edge.errors import SessionError
from unicas_edge.screening.core import Core, Limits, Spool
from unicas_edge.screening.session import Session
from unicas_edge.tiles.grid import Grid
from unicas_edge.tiles.normalise import Normaliser

WIDTH, BATCH = 6, 4
HEADER, ENTRY = 4096, 32


@pytest.fixture(scope="module")
def aggregator():
    config = config_of()
    return Aggregator(weights_of(config), config, threads=1)


class Scan:
    """A small slide of which any tile may be pushed, skipped or failed; and its core's face."""

    def __init__(self, aggregator, seed: int, grid: Grid, cap: int | None, held: int) -> None:
        rng = np.random.default_rng(seed)
        self.aggregator, self.grid, self.cap = aggregator, grid, cap
        self.limits = Limits(0, held * 3 * grid.crop**2, 1 << 20)
        count = grid.rows * grid.cols
        self.kinds, self.scores = rng.integers(4, size=count), rng.integers(3, size=count)
        self.tiles = rng.integers(0, 255, (count, 10, 10, 3), np.uint8)
        self.order = rng.permutation(count)

    def open(self, path: Path | None, key: bytes = bytes(32)) -> Core:
        normaliser = Normaliser([0, 0, 0], [1, 1, 1])
        spool = Spool(path, key) if path else None
        encoder = SimpleNamespace(batch_size=BATCH)
        return Core(self.grid, self.cap, self.aggregator, encoder, normaliser, self.limits, spool)

    def enter(self, core: Core, number: int) -> None:
        place = self.grid.origin(divmod(int(number), self.grid.cols))
        if core.native.came(*place):
            return
        score = float(self.scores[number])
        if self.kinds[number] < 2:
            core.native.push(self.tiles[number], *place, score, True)
        elif self.kinds[number] == 2:
            core.native.fail(*place, score)
        else:
            core.native.skip(*place)
        if not core.native.room(0) or number % 7 == 0:
            self.encode(core)

    def encode(self, core: Core, deliver: bool = True) -> bool:
        planes = np.zeros((BATCH, 3, self.grid.crop, self.grid.crop), np.float32)
        numbers = np.zeros(BATCH, np.uint32)
        count = core.native.take(planes, numbers, 0)
        if count and deliver:
            tokens = planes[:count].reshape(count, -1)[:, :WIDTH] + 1
            core.native.deliver(numbers[:count], np.ascontiguousarray(tokens))
        return bool(count)

    def result(self, core: Core):
        core.native.end()
        while self.encode(core):
            pass
        planned = core.planned()
        encoded = core.encoded(planned)
        found = core.explain(encoded)
        parts = [] if found is None else [found.logits, found.attention]
        return planned, encoded, [core.tokens(encoded), core.seen(), *parts]


def same(a, b) -> None:
    assert a[:2] == b[:2]
    assert all(np.array_equal(one, other) for one, other in zip(a[2], b[2], strict=True))


scans = st.fixed_dictionaries(
    {
        "seed": st.integers(0, 10**6),
        "grid": st.builds(Grid, st.integers(1, 150), st.integers(1, 150)).map(
            lambda g: Grid(g.width, g.height, 1.0, 10, 8, 3)
        ),
        "cap": st.one_of(st.none(), st.integers(1, 60)),
        "held": st.sampled_from([1, 10, 10**6]),
    }
)


@given(scans, st.lists(st.integers(0, 225), max_size=4), st.booleans())
def test_a_session_that_is_taken_up_again_ends_as_one_that_never_stopped(
    aggregator, scan, stops, taken
):
    """`taken`: a batch was on its way through the encoder when the process ended."""
    scan = Scan(aggregator, **scan)
    whole = scan.open(None)
    for number in scan.order:
        scan.enter(whole, number)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "spool"
        for stop in sorted(stops):
            core = scan.open(path)
            for number in scan.order[:stop]:
                scan.enter(core, number)
            if taken:
                scan.encode(core, deliver=False)
            del core
        core = scan.open(path)
        came = sum(core.native.came(*scan.grid.origin(cell)) for cell in cells(scan.grid))
        assert came == core.progress().seen == min(max(stops, default=0), len(scan.order))
        for number in scan.order:
            scan.enter(core, number)
        same(scan.result(whole), scan.result(core))


def cells(grid: Grid):
    return [(row, col) for row in range(grid.rows) for col in range(grid.cols)]


@given(st.integers(0, 99), st.data())
def test_damage_is_refused_or_mended_by_scanning_again(aggregator, seed, data):
    scan = Scan(aggregator, seed, Grid(100, 90, 1.0, 10, 8, 3), 20, 10**6)
    whole = scan.open(None)
    for number in scan.order:
        scan.enter(whole, number)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "spool"
        core = scan.open(path)
        for number in scan.order[:60]:
            scan.enter(core, number)
        del core
        held = bytearray(path.read_bytes())
        at = data.draw(st.integers(0, len(held) - 1))
        held[at] ^= data.draw(st.integers(1, 255))
        path.write_bytes(held[: data.draw(st.one_of(st.just(len(held)), st.integers(1, at + 1)))])
        try:
            core = scan.open(path)
        except SessionError:
            return
        for number in scan.order:
            scan.enter(core, number)
        same(scan.result(whole), scan.result(core))


def test_only_the_same_session_goes_on(aggregator, tmp_path):
    scan = Scan(aggregator, 0, Grid(100, 90, 1.0, 10, 8, 3), 20, 10)
    path = tmp_path / "spool"
    first = scan.open(path)
    scan.enter(first, 0)
    with pytest.raises(SessionError, match="another program uses it"):
        scan.open(path)
    del first
    with pytest.raises(SessionError, match="another slide, another bundle or other settings"):
        scan.open(path, bytes(31) + b"1")
    scan.cap = 21
    with pytest.raises(SessionError, match="other settings"):
        scan.open(path)
    assert oct(path.stat().st_mode & 0o777) == "0o600"


@pytest.mark.parametrize("text", [b"notes of mine", b"x" * 5000])
def test_another_file_is_never_written_over(aggregator, tmp_path, text):
    scan = Scan(aggregator, 0, Grid(100, 90, 1.0, 10, 8, 3), 20, 10)
    path = tmp_path / "notes"
    path.write_bytes(text)
    with pytest.raises(SessionError, match="is no spool file"):
        scan.open(path)
    assert path.read_bytes() == text


def test_no_place_to_write_is_said(aggregator, tmp_path):
    scan = Scan(aggregator, 0, Grid(100, 90, 1.0, 10, 8, 3), 20, 10)
    for path in (tmp_path, tmp_path / "no" / "spool"):
        with pytest.raises(SessionError, match="cannot be opened"):
            scan.open(path)
    (tmp_path / "link").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(SessionError, match="cannot be opened"):
        scan.open(tmp_path / "link")
    assert not (tmp_path / "elsewhere").exists()
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(SessionError, match="no regular file"):
        scan.open(tmp_path / "pipe")


def test_the_file_of_another_user_is_not_trusted(aggregator, tmp_path):
    scan = Scan(aggregator, 0, Grid(100, 90, 1.0, 10, 8, 3), 20, 10)
    path = tmp_path / "spool"
    path.touch()
    path.chmod(0o666)
    core = scan.open(path)
    assert oct(path.stat().st_mode & 0o777) == "0o600"
    scan.enter(core, 0)
    del core
    if os.geteuid() != 0:
        pytest.skip("only root can give a file away")
    os.chown(path, 12345, -1)
    with pytest.raises(SessionError, match="belongs to another user"):
        scan.open(path)


@pytest.mark.parametrize(
    "name", ["sp\udcff\udcfeool", "n\u00f6" * 90 + "\u00f6", "x" + "\u00f6" * 90]
)
def test_a_name_in_any_letters_is_told_of(aggregator, tmp_path, name):
    """The sentence has a limit of bytes, which may lie within a letter."""
    scan = Scan(aggregator, 0, Grid(100, 90, 1.0, 10, 8, 3), 20, 10)
    path = tmp_path / name / name / name / name
    with pytest.raises(SessionError, match=re.escape(str(tmp_path))):
        scan.open(path)


def test_a_name_is_not_cut_at_a_nul(aggregator, tmp_path):
    scan = Scan(aggregator, 0, Grid(100, 90, 1.0, 10, 8, 3), 20, 10)
    with pytest.raises(SessionError, match="NUL"):
        scan.open(tmp_path / "spool\0of another")
    assert not (tmp_path / "spool").exists()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
@pytest.mark.parametrize("end", ["let go", "destroy"])
def test_a_fork_does_not_keep_the_file(aggregator, tmp_path, end):
    scan = Scan(aggregator, 0, Grid(100, 90, 1.0, 10, 8, 3), 20, 10)
    path = tmp_path / "spool"
    core = scan.open(path)
    hold, go = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(go)
        os.read(hold, 1)
        os._exit(0)
    try:
        if end == "destroy":
            del core
        else:
            core.native.let_go()
        scan.enter(scan.open(path), 0)
    finally:
        os.close(go)
        os.waitpid(child, 0)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_a_fork_does_not_give_the_file_away(aggregator, tmp_path):
    scan = Scan(aggregator, 0, Grid(100, 90, 1.0, 10, 8, 3), 20, 10)
    held = [scan.open(tmp_path / "spool")]
    child = os.fork()
    if child == 0:
        held[0].native.let_go()
        held.clear()
        os._exit(0)
    os.waitpid(child, 0)
    with pytest.raises(SessionError, match="another program uses it"):
        scan.open(tmp_path / "spool")


def test_the_file_takes_no_more_room_than_memory(aggregator, tmp_path):
    """4,000 tiles of 192 bytes come; no more wait at a time than two rows of them hold."""
    scan = Scan(aggregator, 0, Grid(1000, 400, 1.0, 10, 8, 2), 8, 40)
    scan.kinds[:] = 0
    path = tmp_path / "spool"
    core = scan.open(path)
    for number in range(4000):
        scan.enter(core, number)
    fixed = HEADER + 4000 * (ENTRY + 8 + 4 * WIDTH)
    assert path.stat().st_size <= fixed + 200 * (16 + 192)


def test_a_session_removes_its_spool_once_it_is_done_and_closed(untrained_bundle, tmp_path):
    path = tmp_path / "spool"

    def session() -> Session:
        encoder = FakeEncoder(untrained_bundle.manifest.encoder.width)
        return Session(
            untrained_bundle, width=600, height=300, um_px=0.5, encoder=encoder, spool=path
        )

    with session() as one:
        one.fail(0, 0, "a scratch")
        assert one.came(0, 0)
        assert not one.came(256, 0)
    assert path.exists()
    with session() as one:
        assert one.came(0, 0)
        for cell in cells(one.grid)[1:]:
            one.skip(*one.grid.origin(cell))
        result = one.finish()
        assert path.exists()  # until the result is stored
    assert not path.exists()
    assert "started again" in result.coverage.failures[0].cause
    other = untrained_bundle
    with session() as one:
        one.skip(0, 0)
    with pytest.raises(SessionError, match="another slide"):
        Session(other, width=600, height=300, um_px=0.25, spool=path)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_a_fork_does_not_remove_the_file_of_a_result_that_is_not_stored_yet(
    untrained_bundle, tmp_path
):
    path = tmp_path / "spool"
    encoder = FakeEncoder(untrained_bundle.manifest.encoder.width)
    with Session(
        untrained_bundle, width=256, height=256, um_px=0.5, encoder=encoder, spool=path
    ) as session:
        session.skip(0, 0)
        session.finish()
        child = os.fork()
        if child == 0:
            session.close()
            os._exit(0)
        os.waitpid(child, 0)
        assert path.exists()
    assert not path.exists()


_HOST = """
import os, signal, sys
import numpy as np
from tests.screening.test_session import cells_of, open_session, shuffled, tile_at
from unicas_edge.bundle import Bundle

bundle, spool, calls = Bundle.load(sys.argv[1]), sys.argv[2], int(sys.argv[3])
with open_session(bundle, max_tiles=24, spool=spool or None) as session:
    for cell in shuffled(cells_of(session)):
        place = session.grid.origin(cell)
        if session.came(*place):
            continue
        session.push(tile_at(cell), *place, float(cell[0] * 31 % 17 + cell[1] * 7 % 5))
        calls -= 1
        if not calls:
            os.kill(os.getpid(), signal.SIGKILL)
    np.save(sys.argv[4], session.finish().tiles, allow_pickle=True)
"""


@pytest.mark.slow
def test_a_host_killed_at_every_20th_call_loses_nothing(untrained_bundle, tmp_path):
    def host(spool: str, calls: int, output: str) -> int:
        arguments = [str(untrained_bundle.root), spool, str(calls), str(tmp_path / output)]
        command = [sys.executable, "-c", _HOST, *arguments]
        return subprocess.run(command, cwd=ROOT, check=False).returncode

    assert host("", 0, "whole.npy") == 0
    ends = []
    while not ends or ends[-1]:
        ends.append(host(str(tmp_path / "spool"), 20, "killed.npy"))
        assert len(ends) < 10
    assert ends == [-9] * 6 + [0]
    whole, killed = (np.load(tmp_path / name) for name in ("whole.npy", "killed.npy"))
    assert np.array_equal(whole, killed)
    assert not (tmp_path / "spool").exists()
