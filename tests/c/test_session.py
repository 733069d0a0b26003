"""The whole session in C: the result that Python's session gives, from any order and thread."""

from __future__ import annotations

import json
import shutil
import subprocess

import numpy as np
import pytest

from tests.c.test_aggregator import ADDRESS, THREAD, build
from tests.support.encoder_program import LINK, environment, library
from tests.support.knowledge_case import KINDS, change_manifest, weights_for, with_knowledge
from tests.support.places import ROOT
from unicas_edge.bundle import Bundle
from unicas_edge.config import include_dir
from unicas_edge.config import library as library_of_package
from unicas_edge.engines import EngineOptions, open_encoder
from unicas_edge.screening.session import Session

__all__ = ["build", "environment"]  # fixtures
pytestmark = pytest.mark.slow

SIDE, UM_PX = 256, 0.5
ROWS, COLS = 7, 9
WIDTH, HEIGHT = COLS * SIDE - 100, ROWS * SIDE  # the last column reaches past the slide
MAX_TILES = 48
NOTHING, BROKEN, JPEG, NO_SCORE = -2, -3, -4, -1


class SomePixels:
    """The encoder of test_session.c: a token is some of the tile's numbers."""

    name, version, precision, device = "some-pixels", "1", "fp32", "cpu"
    unverified = None
    batch_size = 4
    workers = threads = 2
    dtype = np.dtype("float32")

    def __init__(self, width, crop):
        self.width, self._places = width, np.arange(width) * 97 % (3 * crop * crop)

    def encode(self, batch):
        return batch.reshape(len(batch), -1)[:, self._places]

    def close(self):
        pass


# ---- tiles --------------------------------------------------------------------------------------


def drawn(score_of, seed=3):
    """Rows of (x, y, score, tile); some tiles are empty, torn, or never there."""
    rng = np.random.default_rng(seed)
    rows = []
    for number in range(ROWS * COLS):
        y, x = divmod(number, COLS)
        coarse = rng.integers(60, 255, (16, 16, 3))
        tile = np.kron(coarse, np.ones((16, 16, 1), int)) - rng.integers(0, 40, (SIDE, SIDE, 3))
        if number % 11 == 4:
            tile[:] = 255
        score = {7: NOTHING, 13: BROKEN}.get(number % 17, score_of(number, rng))
        if number != 20:
            rows.append((x * SIDE, y * SIDE, score, np.clip(tile, 0, 255).astype(np.uint8)))
    return rows


def own_scores(number, rng):
    return NO_SCORE


def given_scores(number, rng):
    return float(rng.integers(5, 9))  # ties


def store(rows, path):
    with path.open("wb") as file:
        for x, y, score, tile in rows:
            file.write(np.array([x, y], "<i8").tobytes() + np.float64(score).tobytes())
            file.write(tile.tobytes())
    return path


def in_python(folder, rows, encoder=None, **options):
    bundle = Bundle.load(folder)
    manifest = bundle.manifest
    encoder = encoder or SomePixels(manifest.encoder.width, manifest.tile.crop_px)
    with Session(
        bundle, width=WIDTH, height=HEIGHT, um_px=UM_PX, encoder=encoder, **options
    ) as session:
        for x, y, score, tile in rows:
            if score == NOTHING:
                session.skip(x, y)
            elif score == BROKEN:
                session.fail(x, y, 'torn \N{REPLACEMENT CHARACTER} "page"\n')
            else:
                session.push(tile, x, y, None if score == NO_SCORE else score)
        return told(session.finish().model_dump_json())


def told(text):
    """A result without what differs from run to run."""
    found = json.loads(text)
    del found["created"], found["timings_seconds"], found["unicas_edge_version"]
    return found


@pytest.fixture
def run(build, environment, tmp_path):
    """Run the host: (exit code, what it prints)."""

    def run(folder, rows, *, flags=ADDRESS, threads=1, spool="-", stop_after="-", runtime="-"):
        program = build("test_session.c", flags, link=LINK)
        tiles = store(rows, tmp_path / "tiles")
        frame = (WIDTH, HEIGHT, UM_PX, MAX_TILES, spool, stop_after, runtime)
        command = [program, folder, tiles, threads, *frame]
        done = subprocess.run(
            [str(part) for part in command],
            capture_output=True,
            text=True,
            encoding="utf-8",
            env=environment,
            check=False,
        )
        assert done.stderr == ""
        return done.returncode, done.stdout

    return run


def result(run, folder, rows, **how):
    code, said = run(folder, rows, **how)
    assert code == 0, said
    return told(said)


# ---- bundles ------------------------------------------------------------------------------------


def random_weights(width, seed=0):
    """Knowledge by which every kind is some tile's."""
    rng = np.random.default_rng(seed)
    root = rng.standard_normal((width, width)) / width
    return weights_for(
        width,
        kinds_weight=rng.standard_normal((len(KINDS), width)),
        tokens_covariance=root @ root.T + np.eye(width),
        cells_weight=rng.standard_normal(width),
        scale_weight=rng.standard_normal(width) / 1e5,
    )


LENIENT = {
    "min_cell_share": 0.0,
    "min_squamous_cells": 0,
    "aggregated": ["cell", "bubble"],
    "cell_error": 0.2,
}
STRICT_LIMITS = {"min_cell_share": 0.99, "distance_limit": 0.01, "min_squamous_cells": 10**9}


def relax(content):
    """Let every slide pass by its pixels."""
    content["adequacy"] |= {
        "min_coverage": 0.0,
        "min_cellular_tiles": 1,
        "min_in_focus_share": 0.0,
        "focus_floor": 0.0,
    }


@pytest.fixture
def knowing(untrained_bundle, tmp_path):
    def knowing(tasks=None, **changes):
        weights = random_weights(untrained_bundle.manifest.encoder.width)
        return with_knowledge(untrained_bundle, tmp_path / "b", weights, tasks, **changes)

    return knowing


# ---- the same result ----------------------------------------------------------------------------


@pytest.mark.parametrize("scores", [own_scores, given_scores])
def test_c_gives_the_result_of_python(run, untrained_bundle, scores):
    rows = drawn(scores)
    found = result(run, untrained_bundle.root, rows)
    assert found == in_python(untrained_bundle.root, rows, max_tiles=MAX_TILES)
    assert found["coverage"]["planned"] == MAX_TILES
    assert {failure["cause"] for failure in found["coverage"]["failures"]}


def test_knowledge_is_read_and_judged_alike(run, knowing):
    rows = drawn(given_scores)
    tasks = {"conformal": {"coverage": 0.9, "slides": 20, "positive_from": 0.3, "negative_to": 0.7}}
    folder = knowing(tasks, **LENIENT)
    change_manifest(folder, relax)
    found = result(run, folder, rows)
    assert found == in_python(folder, rows, max_tiles=MAX_TILES)
    assert found["adequacy"]["basis"] == "tokens"
    assert all(task["decision"] != "unsatisfactory" for task in found["tasks"])
    assert all(task["confidence"] for task in found["tasks"])
    assert len(set(found["adequacy"]["kinds"].values())) > 1


def test_every_reason_is_said_alike(run, knowing):
    rows = drawn(given_scores)
    folder = knowing(**STRICT_LIMITS)
    found = result(run, folder, rows)
    assert found == in_python(folder, rows, max_tiles=MAX_TILES)
    said = " ".join(found["adequacy"]["reasons"])
    assert "squamous cells" in said
    assert "outside what this bundle knows" in said
    assert "show cells" in said


def test_a_spacing_that_the_pixels_contradict_is_refused(run, untrained_bundle, tmp_path):
    weights = weights_for(untrained_bundle.manifest.encoder.width, scale_bias=np.ones(1))
    adequacy = {"min_squamous_cells": 0, "aggregated": list(KINDS)}
    folder = with_knowledge(untrained_bundle, tmp_path / "b", weights, **adequacy)
    change_manifest(folder, relax)
    code, said = run(folder, drawn(given_scores))
    assert (code, said.split()[:2]) == (3, ["refused", "22"])
    assert "states 0.5 um/px (session), but its pixels show 1;" in said


@pytest.mark.parametrize("flags", [ADDRESS, THREAD])
def test_neither_order_nor_threads_change_it(run, knowing, flags):
    rows = drawn(own_scores)
    folder = knowing(**LENIENT)
    first = result(run, folder, rows, flags=flags)
    mixed = [rows[k] for k in np.random.default_rng(1).permutation(len(rows))]
    assert result(run, folder, mixed, flags=flags, threads=6) == first


def test_a_jpeg_has_its_size_as_score(run, untrained_bundle):
    rows = drawn(lambda number, rng: JPEG)
    sized = [(x, y, tile.size if score == JPEG else score, tile) for x, y, score, tile in rows]
    assert result(run, untrained_bundle.root, rows) == result(run, untrained_bundle.root, sized)


def test_the_embedded_bundle_gives_the_same_with_its_own_encoder(run):
    runtime, rows = library("onnxruntime"), drawn(own_scores)
    bundle = Bundle.load()
    options = EngineOptions(backend="onnxruntime", precision="fp32", threads=2)
    encoder = open_encoder(bundle, options)
    wanted = in_python(bundle.root, rows, encoder, max_tiles=MAX_TILES)
    encoder.close()
    assert result(run, bundle.root, rows, runtime=runtime) == wanted


# ---- a killed host ------------------------------------------------------------------------------


def test_a_killed_host_goes_on_where_it_was(run, knowing, tmp_path):
    rows, spool = drawn(own_scores), tmp_path / "spool"
    folder = knowing(**LENIENT)
    whole = result(run, folder, rows)
    for stop_after in (8, 20, 37):
        assert run(folder, rows, spool=spool, stop_after=stop_after)[0] == 9
    found = result(run, folder, rows, spool=spool)
    for failure in found["coverage"]["failures"] + whole["coverage"]["failures"]:
        failure.pop("cause")
    assert found == whole


def test_a_spool_of_another_bundle_is_refused(run, knowing, untrained_bundle, tmp_path):
    rows, spool = drawn(own_scores), tmp_path / "spool"
    assert run(knowing(**LENIENT), rows, spool=spool, stop_after=8)[0] == 9
    code, said = run(untrained_bundle.root, rows, spool=spool)
    assert code == 4
    assert "another" in said


# ---- other ends ---------------------------------------------------------------------------------


@pytest.mark.parametrize("flags", [ADDRESS, THREAD])
def test_sessions_end_otherwise(build, environment, flags):
    """Cancelled, finished by three threads, with a broken encoder, forked."""
    program = build("test_session_lives.c", flags, link=LINK)
    done = subprocess.run(
        [program, Bundle.load().root], capture_output=True, text=True, env=environment, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_valgrind_finds_nothing(tmp_path):
    """As shipped: the library beside the package, the embedded bundle, two threads."""
    valgrind, cc = shutil.which("valgrind"), shutil.which("gcc")
    if not valgrind or not cc:
        pytest.skip("no valgrind, or no gcc: apt-get install valgrind gcc")
    flags = ["-std=c11", "-g", f"-I{include_dir()}", f"-I{ROOT / 'tests/c'}"]
    linked = [library_of_package(), f"-Wl,-rpath,{library_of_package().parent}", "-lpthread", "-lm"]
    source = ROOT / "tests/c/test_session.c"
    subprocess.run([cc, *flags, source, *linked, "-o", tmp_path / "host"], check=True)
    tiles = store(drawn(own_scores), tmp_path / "tiles")
    asked = ["--leak-check=full", "--errors-for-leak-kinds=definite", "--error-exitcode=99"]
    how = [tmp_path / "host", Bundle.load().root, tiles, 2, WIDTH, HEIGHT, UM_PX, 20, "-", "-", "-"]
    command = [valgrind, "-q", *asked, *map(str, how)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


# ---- any calls in any order ---------------------------------------------------------------------


def test_fuzzer(build, environment):
    program = build("fuzz_session.c", ADDRESS, link=LINK)
    done = subprocess.run(
        [program, Bundle.load().root, "150"],
        capture_output=True,
        text=True,
        env=environment,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert int(done.stdout.split()[0]) > 50  # came to a result
