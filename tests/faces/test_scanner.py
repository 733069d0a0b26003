"""The simulated scanner: what it pushes gives Python's result, whatever goes wrong on the way."""

from __future__ import annotations

import json
import re
import signal
import subprocess

import numpy as np
import pytest
import simplejpeg

from tests.faces.conftest import COLUMNS, ROWS, SIDE, in_python, places, same, write_ppm
from tests.support.places import ROOT
from unicas_edge import fit_colour

SOURCES = sorted((ROOT / "examples/scanner").glob("*.cpp"))
TROUBLE = ["--lost", 100, "--late", 300, "--twice", 300, "--seed", 5]
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def jpeg(cxx, tmp_path_factory):
    """The flags of a scanner that decodes JPEG, none where libjpeg is not installed."""
    folder = tmp_path_factory.mktemp("jpeg")
    source = folder / "jpeg.cpp"
    source.write_text(
        "#include <cstdio>\n#include <jpeglib.h>\n"
        "int main() { jpeg_error_mgr errors; return !jpeg_std_error(&errors); }\n"
    )
    command = [cxx, source, "-ljpeg", "-o", folder / "jpeg"]
    there = subprocess.run(command, capture_output=True, check=False).returncode == 0
    return ["-DWITH_JPEG", "-ljpeg"] if there else []


@pytest.fixture(scope="module")
def program(build, jpeg):
    return build("scanner", SOURCES, "-O2", *jpeg)


@pytest.fixture(scope="module")
def scan(program, told, bundle, runtime):
    """Run the scanner: (exit code, the result, what it said)."""

    def scan(*options):
        engine = ["--backend", "onnxruntime", "--precision", "fp32", "--runtime", runtime]
        return told(program, bundle.root, *engine, *options)

    return scan


def without_causes(text):
    """A result that does not say why a tile failed."""
    result = json.loads(text)
    for failure in result["coverage"]["failures"]:
        assert failure.pop("cause")
    return json.dumps(result)


def test_its_result_is_python_s(scan, tiles, wanted):
    code, result, said = scan("--tiles", tiles, "--rate", 300)
    assert code == 0, said
    assert same(result, wanted)
    assert "22 pushed, 1 left out, 1 unreadable, 0 lost" in said
    assert re.search(r"push: median [\d.]+ us, p99 [\d.]+ us", said)
    assert re.search(r"last tile to result: [\d.]+ ms", said)


def test_late_and_double_tiles_change_nothing(scan, tiles, wanted):
    code, result, said = scan("--tiles", tiles, "--rate", 0, "--late", 400, "--twice", 400)
    assert code == 0, said
    assert same(result, wanted)
    assert int(re.search(r"(\d+) late", said)[1]) > 0
    assert int(re.search(r"(\d+) refused", said)[1]) > 0


def test_a_pause_changes_nothing(scan, tiles, wanted):
    code, result, said = scan("--tiles", tiles, "--rate", 0, "--pause-after", 9, "--pause", 0.3)
    assert code == 0, said
    assert same(result, wanted)


def test_lost_tiles_are_said_to_be_missing(scan, tiles):
    code, result, said = scan("--tiles", tiles, "--rate", 0, "--lost", 400)
    assert code == 0, said
    lost = int(re.search(r"(\d+) lost", said)[1])
    assert 4 < lost < 20
    coverage = json.loads(result)["coverage"]
    assert coverage["failed"] > 1
    assert "never pushed" in {each["cause"] for each in coverage["failures"]}


@pytest.mark.parametrize("after", [1, 12, 25])
def test_a_scan_that_was_killed_goes_on(scan, tiles, tmp_path, after):
    """Whatever went wrong beside, and however often: the result is that of a scan not killed.

    But for why a tile could not be read, which a spool does not keep.
    """
    options = ["--tiles", tiles, "--rate", 0, *TROUBLE]
    code, whole, said = scan(*options)
    assert code == 0, said
    spool = tmp_path / "slide.spool"
    killed = [*options, "--spool", spool]
    for _ in range(2):
        code, result, said = scan(*killed, "--crash-after", after)
        assert (code, result) == (-signal.SIGKILL, ""), said
        assert spool.exists()
    code, result, said = scan(*killed)
    assert code == 0, said
    assert same(without_causes(result), without_causes(whole))
    assert int(re.search(r"(\d+) from the spool", said)[1]) > 0
    assert not spool.exists()


def test_a_spool_of_another_slide_is_refused(scan, tiles, tmp_path):
    spool = tmp_path / "slide.spool"
    code, *_ = scan("--tiles", tiles, "--rate", 0, "--spool", spool, "--crash-after", 9)
    assert code == -signal.SIGKILL
    code, result, said = scan("--width", 512, "--height", 512, "--spool", spool)
    assert (code, result) == (1, "")
    assert "slide.spool" in said
    assert spool.exists()


def test_who_cancels_has_no_result(scan, tiles, tmp_path):
    spool = tmp_path / "slide.spool"
    code, result, said = scan("--tiles", tiles, "--rate", 0, "--cancel-after", 5, "--spool", spool)
    assert (code, result) == (3, ""), said
    assert said == "scanner: cancelled; there is no result\n"


def test_a_drawn_slide_with_its_colours_corrected(scan, bundle, tmp_path):
    """The tiles that it saved, pushed in Python, in another order."""
    from unicas_edge.tiles.colour import ColourFit

    matrix = np.array([[1.1, 0, 0, -20], [0.02, 1, 0, -10], [0, 0, 0.9, 5.5]])
    numbers = ",".join(map(str, matrix.ravel()))
    size = ["--width", COLUMNS * SIDE, "--height", ROWS * SIDE, "--max-tiles", 16]
    code, result, said = scan(
        *size, "--rate", 0, "--save", tmp_path, "--colour", f"reinhard,{numbers}"
    )
    assert code == 0, said

    def deliver(session):
        for x, y in reversed(places()):
            rgb = (tmp_path / f"{x}_{y}.ppm").read_bytes()[-3 * SIDE * SIDE :]
            session.push(np.frombuffer(rgb, np.uint8).reshape(SIDE, SIDE, 3), x, y)

    colour = ColourFit("reinhard", matrix, 0)
    assert same(result, in_python(bundle, deliver, max_tiles=16, colour=colour))


def test_colours_are_fitted_as_in_python(scan, bundle, tmp_path):
    """On the tiles at the focus points of a drawn slide."""
    options = ["--width", 8 * SIDE, "--height", 4 * SIDE, "--max-tiles", 16, "--colour", "fit"]
    code, result, said = scan(*options, "--rate", 0, "--save", tmp_path)
    assert code == 0, said
    every = [(SIDE * col, SIDE * row) for row in range(4) for col in range(8)]

    def saved(x, y):
        rgb = (tmp_path / f"{x}_{y}.ppm").read_bytes()[-3 * SIDE * SIDE :]
        return np.frombuffer(rgb, np.uint8).reshape(SIDE, SIDE, 3)

    def deliver(session):
        for x, y in every:
            session.push(saved(x, y), x, y)

    size = {"width": 8 * SIDE, "height": 4 * SIDE, "max_tiles": 16}
    colour = fit_colour(bundle, [saved(*place) for place in every])
    assert colour.mode == "reinhard"
    assert same(result, in_python(bundle, deliver, colour=colour, **size))


def test_real_tiles(scan, bundle, data_dir, tmp_path):
    """Of liquid-based cytology, with a mirrored margin: their centres are what the encoder sees."""
    files = sorted((data_dir / "lbc_tiles").glob("*/*.jpg"))[::500][:8]
    assert len(files) == 8
    tiles = {}
    for number, file in enumerate(files):
        real = simplejpeg.decode_jpeg(file.read_bytes())
        margins = [((SIDE - n) // 2, SIDE - n - (SIDE - n) // 2) for n in real.shape[:2]]
        tiles[SIDE * number, 0] = np.pad(real, [*margins, (0, 0)], mode="symmetric")
        write_ppm(tmp_path / f"{SIDE * number}_0.ppm", tiles[SIDE * number, 0])
    code, result, said = scan("--tiles", tmp_path, "--rate", 0)
    assert code == 0, said

    def deliver(session):
        for (x, y), tile in tiles.items():
            session.push(tile, x, y)

    assert same(result, in_python(bundle, deliver, width=8 * SIDE, height=SIDE))
    assert json.loads(result)["adequacy"]["kinds"]["cell"] > 0


def test_tiles_as_jpeg(scan, jpeg, bundle, pixels, tmp_path):
    """Their sizes are their scores; what cannot be decoded failed."""
    if not jpeg:
        pytest.skip("no libjpeg to build with: install libjpeg-dev")
    kept = dict(list(pixels.items())[:8])
    streams = {
        place: simplejpeg.encode_jpeg(tile, 90, "RGB", "444") for place, tile in kept.items()
    }
    streams[0, 0] = streams[0, 0][:-200]
    for (x, y), stream in streams.items():
        (tmp_path / f"{x}_{y}.jpg").write_bytes(stream)
    code, result, said = scan("--tiles", tmp_path, "--rate", 0)
    assert code == 0, said

    def deliver(session):
        for (x, y), stream in streams.items():
            if (x, y) == (0, 0):
                session.fail(x, y, "broken", len(stream))
            else:
                session.push(simplejpeg.decode_jpeg(stream), x, y, len(stream))
        for x, y in places():
            if (x, y) not in streams and y < 2 * SIDE:
                session.skip(x, y)

    in_c, ours = json.loads(result), json.loads(in_python(bundle, deliver, height=2 * SIDE))
    assert in_c["tasks"] == ours["tasks"]
    assert in_c["coverage"]["failed"] == ours["coverage"]["failed"] == 1


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--rate"], "--rate needs a value"),
        (["--speed", 3], "--speed is no option"),
        (["--rate", "fast"], "'fast' is not a possible number"),
        (["--lost", 1001], "'1001' is not a possible number"),
        (["--threads", 1.5], "'1.5' is not a possible whole number"),
        (["--colour", "reinhard,1,2"], "--colour has a mode and twelve numbers"),
    ],
)
def test_a_wrong_command_line_is_said(scan, words, said):
    code, result, error = scan(*words)
    assert (code, result) == (2, "")
    assert error.startswith(f"scanner: {said}\nusage:")


def test_what_is_not_there_is_said(program, scan, told, bundle, tmp_path):
    for words, said in [
        (["--tiles", tmp_path], "holds no tile"),
        (["--tiles", tmp_path / "none"], "none"),
        (["--runtime", "/no/such.so"], "/no/such.so"),
    ]:
        code, result, error = scan("--rate", 0, *words)
        assert (code, result) == (1, "")
        assert said in error
    code, _, error = told(program, tmp_path)
    assert code == 1
    assert "bundle.json" in error
    assert told(program)[0] == 2
