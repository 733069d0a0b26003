"""A session under any calls, from outside, against a model of the tiles that must be encoded."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from tests.support.fake_encoder import FakeEncoder
from unicas_edge.aggregator.aggregator import Aggregator
from unicas_edge.errors import SessionError
from unicas_edge.screening import session as session_module
from unicas_edge.screening.session import Session
from unicas_edge.screening.tile_record import Status
from unicas_edge.tiles.plan import plan

ROWS, COLS = 9, 6  # tiles: fields of 4 x 4, the last ones with fewer
TILE_BYTES = 224 * 224 * 3
CELLS = [(row, col) for row in range(ROWS) for col in range(COLS)]
#: One with cells, one without.
CELLULAR, EMPTY = (np.full((256, 256, 3), grey, np.uint8) for grey in (120, 250))
SCORES = st.sampled_from([0.0, 1.0, 2.0, 1e300, -0.0])


class SessionMachine(RuleBasedStateMachine):
    """The model knows of each tile what was said; `plan`, which is Python, chooses among them."""

    bundle = aggregator = None  # set by the test

    @initialize(
        max_tiles=st.sampled_from([1, 3, 16, 20, "all"]),
        held=st.sampled_from([1, 5, 1000]),
        batch=st.sampled_from([1, 3, 8]),
        workers=st.sampled_from([1, 3]),
        queue=st.sampled_from([None, 1]),
    )
    def begin(self, max_tiles, held, batch, workers, queue):
        self.status = dict.fromkeys(CELLS, Status.UNSEEN)
        self.scores = np.zeros((ROWS, COLS))
        self.max_tiles, self.open = max_tiles, True
        encoder = FakeEncoder(self.bundle.manifest.encoder.width, batch, workers)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(session_module, "MAX_PENDING_BYTES", held * TILE_BYTES)
            self.session = Session(
                self.bundle,
                width=COLS * 256,
                height=ROWS * 256,
                um_px=0.5,
                max_tiles=max_tiles,
                encoder=encoder,
                aggregator=self.aggregator,
                queue_batches=queue,
            )

    def say(self, cell, status, score, call):
        """Say something of a tile: refused if it was told of before, or the session has ended."""
        if self.open and self.status[cell] == Status.UNSEEN:
            call()
            self.status[cell] = status
            self.scores[cell] = score
            return
        with pytest.raises(SessionError, match="twice" if self.open else "open a new one"):
            call()

    @rule(cell=st.sampled_from(CELLS), score=SCORES, cellular=st.booleans())
    def push(self, cell, score, cellular):
        place = self.session.grid.origin(cell)
        tile, status = (CELLULAR, Status.ENCODED) if cellular else (EMPTY, Status.BACKGROUND)
        self.say(cell, status, score, lambda: self.session.push(tile, *place, score))

    @rule(row=st.integers(0, ROWS - 1), score=SCORES)
    def push_the_rest_of_a_row(self, row, score):
        for col in range(COLS):
            if self.open and self.status[row, col] == Status.UNSEEN:
                self.push((row, col), score, True)

    @rule(cell=st.sampled_from(CELLS))
    def skip(self, cell):
        place = self.session.grid.origin(cell)
        self.say(cell, Status.SPARSE, 0.0, lambda: self.session.skip(*place))

    @rule(cell=st.sampled_from(CELLS), score=SCORES)
    def fail(self, cell, score):
        place = self.session.grid.origin(cell)
        self.say(cell, Status.FAILED, score, lambda: self.session.fail(*place, "a test", score))

    @rule(
        cell=st.sampled_from(CELLS),
        score=st.sampled_from([-1.0, float("nan"), float("inf"), None, "much"]),
    )
    def push_with_a_wrong_score(self, cell, score):
        place = self.session.grid.origin(cell)
        pushed = {Status.ENCODED, Status.BACKGROUND} & set(self.status.values())
        if score is None and not pushed:
            return  # then the first tile decides that scores are not given
        with pytest.raises(SessionError):
            self.session.push(CELLULAR, *place, score)

    @rule(x=st.sampled_from([-256, 1, COLS * 256, 2**70]))
    def skip_off_the_grid(self, x):
        with pytest.raises(SessionError):
            self.session.skip(x, 0)

    @rule()
    def estimate(self):
        found = self.session.estimate()
        assert set(found) in (set(), {task.name for task in self.bundle.manifest.tasks})
        assert all(0 <= value <= 1 for value in found.values())

    @rule(cell=st.sampled_from(CELLS))
    def came(self, cell):
        came = self.session.came(*self.session.grid.origin(cell))
        assert came == (self.status[cell] != Status.UNSEEN)

    @precondition(lambda self: self.open)
    @rule()
    def finish(self):
        result = self.session.finish()
        self.open = False
        told = np.array([self.status[cell] != Status.UNSEEN for cell in CELLS])
        planned = self.planned(told.reshape(ROWS, COLS))
        wanted = [cell for cell in planned if self.status[cell] == Status.ENCODED]
        rows = result.tiles[result.tiles["token"] >= 0]
        rows = rows[np.argsort(rows["token"])]
        places = zip(rows["minx"].tolist(), rows["miny"].tolist(), strict=True)
        found = [self.session.grid.cell_at(x, y) for x, y in places]
        assert result.coverage.planned == len(planned)
        assert found == wanted
        assert len(result.features) == len(wanted)

    def planned(self, told):
        """Of fields that nobody told of none outranks another: they are as if they scored -1."""
        scores = self.scores.copy()
        for row in range(0, ROWS, 4):
            for col in range(0, COLS, 4):
                field = np.s_[row : row + 4, col : col + 4]
                if not told[field].any():
                    scores[row, col] = -1.0
        limit = None if self.max_tiles == "all" else self.max_tiles
        return plan(self.session.grid, scores, limit)

    @precondition(lambda self: self.open)
    @rule()
    def close(self):
        self.session.close()
        self.open = False

    @precondition(lambda self: not self.open)
    @rule()
    def finish_again(self):
        with pytest.raises(SessionError, match="open a new one"):
            self.session.finish()

    @invariant()
    def progress_adds_up(self):
        seen, held, ready, encoding, encoded = self.session.progress()
        assert seen == sum(status != Status.UNSEEN for status in self.status.values())
        pushed = sum(status == Status.ENCODED for status in self.status.values())
        assert 0 <= ready <= held
        assert held + encoding + encoded <= pushed

    def teardown(self):
        if hasattr(self, "session"):
            self.session.close()


def test_any_calls_come_to_what_the_model_says(untrained_bundle):
    SessionMachine.bundle = untrained_bundle
    SessionMachine.aggregator = Aggregator.load(untrained_bundle, threads=1)
    run_state_machine_as_test(
        SessionMachine, settings=settings(max_examples=40, stateful_step_count=25, deadline=None)
    )
