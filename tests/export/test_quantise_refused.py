"""Tiles to calibrate on, and forms that cannot be made: what is refused leaves nothing behind."""

from __future__ import annotations

import builtins
import os
import subprocess
import sys

import numpy as np
import onnx
import pytest
from PIL import Image

from tests.support.bundle_case import fingerprint
from tests.support.quantise_case import FORMS, tiny_bundle
from unicas_edge.bundle import Bundle
from unicas_edge.engines import Candidate, open_candidate
from unicas_edge.engines.choice import reference
from unicas_edge.errors import BundleError, EngineError, OutputError, SlideError
from unicas_edge.export.quantise.calibrate import calibration_tiles, split
from unicas_edge.export.quantise.quantise import quantise
from unicas_edge.result import UNTRAINED
from unicas_edge.sample import write_sample


@pytest.fixture(scope="module")
def slide(tmp_path_factory):
    path = tmp_path_factory.mktemp("slide") / "sample.svs"
    write_sample(path, 2048, 2048, seed=1)
    return path


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    return tiny_bundle(tmp_path_factory.mktemp("plain") / "bundle")


@pytest.fixture(scope="module")
def tiles(slide, plain):
    return calibration_tiles([slide], plain, 24)


def test_tiles_are_those_a_screening_would_encode(slide, plain):
    from unicas_edge.slide import open_slide
    from unicas_edge.tiles.grid import grid_for
    from unicas_edge.tiles.normalise import Normaliser, centre_crop

    found = calibration_tiles([slide], plain, 16)
    assert found.shape == (16, 3, 224, 224)
    assert found.dtype == np.float32
    spec = plain.manifest.input
    normaliser = Normaliser(spec.mean, spec.std, None, spec.dtype)
    place, known = np.empty((3, 224, 224), "f4"), set()
    with open_slide(slide) as opened:
        grid = grid_for(plain, opened.width, opened.height, opened.spacing.um_px)
        for cell in np.ndindex(grid.rows, grid.cols):
            tile = opened.read(*grid.origin(cell), grid.tile, grid.downsample)
            normaliser.into(centre_crop(tile, grid.crop), place)
            known.add(place.tobytes())
    assert {tile.tobytes() for tile in found} <= known
    assert len({tile.tobytes() for tile in found}) == 16


def test_tiles_are_shared_among_slides_and_a_folder_of_images_is_one(tmp_path, slide, plain):
    rng = np.random.default_rng(0)
    (tmp_path / "images").mkdir()
    for n in range(12):
        noise = rng.integers(0, 255, (224, 224, 3), np.uint8)
        Image.fromarray(noise).save(tmp_path / "images" / f"{n}.png")
    listed = tmp_path / "slides.csv"
    listed.write_text(f"wsi,mpp\n{tmp_path / 'images'},0.5\n")
    both = calibration_tiles([slide, listed], plain, 24)
    noisy = [np.abs(np.diff(tile, axis=1)).mean() > 0.8 for tile in both]
    assert (len(both), sum(noisy)) == (24, 12)
    parts = split(both, plain)
    assert (len(parts.calibrate), len(parts.held_out)) == (18, 6)


def test_too_few_tiles_and_slides_that_cannot_be_read_are_refused(tmp_path, slide, plain, tiles):
    with pytest.raises(EngineError, match=r"no slides to calibrate on; give some with --calibrate"):
        calibration_tiles([], plain, 32)
    with pytest.raises(EngineError, match="8 calibration tiles; give 16 to 1024"):
        calibration_tiles([slide], plain, 8)
    small = tmp_path / "small.svs"
    write_sample(small, 512, 512, seed=1)
    with pytest.raises(EngineError, match=r"only \d tiles to calibrate on, at least 16"):
        calibration_tiles([small], plain, 32)
    (tmp_path / "broken.svs").write_bytes(slide.read_bytes()[:5000])
    with pytest.raises(SlideError, match=r"broken\.svs"):
        calibration_tiles([slide, tmp_path / "broken.svs"], plain, 32)
    with pytest.raises(EngineError, match=r"float64 \[24, 3, 224, 224\], .* takes float32"):
        quantise(plain, tmp_path / "new", "openvino", "int8", tiles.astype("f8"))
    with pytest.raises(EngineError, match="int8 needs calibration tiles; give slides"):
        quantise(plain, tmp_path / "new", "openvino", "int8")


@pytest.mark.parametrize(
    ("backend", "precision", "cause"),
    [
        ("openvino", "bf16", "bf16 needs no form: openvino runs the fp32 file in bf16"),
        ("onnxruntime", "int8w", "cannot make a form for onnxruntime in int8w; there are: openv"),
        ("openvino", "fp16", "cannot make a form for openvino in fp16"),
        ("tflite", "int8", "cannot make a form for tflite"),
    ],
)
def test_a_form_that_cannot_be_is_refused(tmp_path, plain, backend, precision, cause):
    with pytest.raises(EngineError, match=cause):
        quantise(plain, tmp_path / "new", backend, precision)
    assert list(tmp_path.iterdir()) == []


def test_a_form_is_made_once_but_others_may_be_added(tmp_path, plain):
    has = quantise(plain, tmp_path / "has", "openvino", "int8w").bundle
    with pytest.raises(BundleError, match="has a form for openvino in int8w already"):
        quantise(has, tmp_path / "new", "openvino", "int8w")
    both = quantise(has, tmp_path / "new", "openvino", "fp32").bundle
    assert [f.precision for f in both.manifest.encoder.forms] == ["int8w", "fp32"]
    for precision in ("int8w", "fp32"):
        path = both.path(f"encoder.openvino-{precision}.xml")
        open_candidate(both, Candidate("openvino", precision, path)).close()


@pytest.mark.parametrize(
    ("missing", "kind"),
    [("openvino", FORMS[0]), ("nncf", FORMS[1]), ("nncf", FORMS[2])],
)
def test_a_package_that_is_not_installed_is_named_with_its_extra(
    tmp_path, plain, tiles, monkeypatch, missing, kind
):
    real = builtins.__import__

    def without(name, *rest):
        if name.split(".")[0] == missing:
            raise ImportError(f"No module named {missing!r}")
        return real(name, *rest)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(EngineError, match=rf"{missing} cannot be imported.*unicas-edge\[export\]"):
        quantise(plain, tmp_path / "new", *kind, tiles)
    assert list(tmp_path.iterdir()) == []


def test_weights_in_a_file_of_their_own_are_read_and_never_from_outside(tmp_path, tiles):
    apart = tiny_bundle(tmp_path / "apart", data="encoder.data")
    linked = quantise(apart, tmp_path / "linked", "openvino", "fp32", tiles).bundle
    assert linked.path("encoder.data").stat().st_nlink == 2
    done = quantise(linked, tmp_path / "new", "onnxruntime", "int8", tiles)
    assert done.reached
    open_candidate(done.bundle, reference(done.bundle)).close()
    (tmp_path / "outside.data").write_bytes((apart.root / "encoder.data").read_bytes())
    model = onnx.load(apart.path("encoder.onnx"), load_external_data=False)
    for tensor in model.graph.initializer:
        for entry in tensor.external_data:
            entry.value = "../outside.data" if entry.key == "location" else entry.value
    (tmp_path / "apart" / "encoder.onnx").write_bytes(model.SerializeToString())
    for kind in (FORMS[0], FORMS[3]):
        with pytest.raises(EngineError, match=r"refers to '\.\./outside\.data', which is not"):
            quantise(apart, tmp_path / "foreign", *kind, tiles)
    assert not (tmp_path / "foreign").exists()


def test_what_is_in_the_way_stays(tmp_path, plain):
    (tmp_path / "new").mkdir()
    (tmp_path / "new" / "mine.txt").write_text("mine")
    for force, cause in ((False, "exists; --force replaces it"), (True, r"holds no valid bundle")):
        with pytest.raises(OutputError, match=cause):
            quantise(plain, tmp_path / "new", "openvino", "fp32", force=force)
    assert [p.name for p in tmp_path.rglob("*")] == ["new", "mine.txt"]


CODE = """
import sys, signal, resource
from pathlib import Path
import numpy as np
from unicas_edge.bundle import Bundle
from unicas_edge.errors import OutputError
from unicas_edge.export.quantise.quantise import quantise
source, target, tiles, backend, precision, limit = sys.argv[1:]
resource.setrlimit(resource.RLIMIT_FSIZE, (int(limit), int(limit)))
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
try:
    quantise(Bundle.load(source), Path(target), backend, precision, np.load(tiles), force=True)
except OutputError as error:
    sys.exit(str(error))
"""


@pytest.mark.skipif(os.name != "posix", reason="needs RLIMIT_FSIZE")
@pytest.mark.parametrize("kind", [FORMS[0], FORMS[3]])
def test_a_full_disk_leaves_what_was_there_and_nothing_else(tmp_path, plain, tiles, kind):
    np.save(tmp_path / "tiles.npy", tiles)
    target = quantise(plain, tmp_path / "new", "openvino", "fp32").bundle.root
    before = fingerprint(tmp_path)
    limit = "60000"  # bytes a file may have
    arguments = [str(plain.root), str(target), str(tmp_path / "tiles.npy"), *kind, limit]
    done = subprocess.run(
        [sys.executable, "-c", CODE, *arguments], capture_output=True, text=True, check=False
    )
    assert done.returncode == 1, done.stderr
    assert f"{target}/encoder.{'-'.join(kind)}." in done.stderr
    assert "cannot be written" in done.stderr
    assert "Traceback" not in done.stderr
    assert fingerprint(tmp_path) == before


def test_the_command_says_what_it_made(tmp_path, plain, slide):
    from typer import Typer
    from typer.testing import CliRunner

    from unicas_edge.cli.export import quantise as command

    app = Typer()
    app.command()(command)
    arguments = [
        plain.root,
        "-o",
        tmp_path / "new",
        "--backend",
        "onnxruntime",
        "--precision",
        "int8",
        "--calibrate",
        slide,
        "--tiles",
        16,
    ]
    done = CliRunner().invoke(app, [str(a) for a in arguments])
    assert done.exit_code == 0, done.output
    assert f"{tmp_path / 'new'}: onnxruntime int8, 0." in done.stdout
    assert "0 layers kept: cosine with fp32 0.99" in done.stdout
    assert "unicas-edge verify" in done.stdout
    assert UNTRAINED in done.stderr
    assert Bundle.load(tmp_path / "new").manifest.encoder.forms[0].calibration_tiles == 12
