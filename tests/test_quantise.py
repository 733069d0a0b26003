"""Other forms of an encoder: what is in the file, what it says, and what is refused."""

from __future__ import annotations

import builtins
import hashlib
import json
import os
import subprocess
import sys
import xml.etree.ElementTree as ET
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper
from PIL import Image

from tests.bundle_case import fingerprint, make_bundle, three_tasks
from unicas_edge.bundle import Bundle
from unicas_edge.engines import Model, open_model
from unicas_edge.engines.choice import models, reference
from unicas_edge.errors import BundleError, EngineError, OutputError, SlideError
from unicas_edge.export import vit
from unicas_edge.export.calibrate import calibration_tiles, split
from unicas_edge.export.quantise import quantise, tokens
from unicas_edge.export.untrained import draw
from unicas_edge.manifest_encoder import Gate
from unicas_edge.sample import write_sample
from unicas_edge.verify import cosine

FORMS = [("openvino", "fp32"), ("openvino", "int8w"), ("openvino", "int8"), ("onnxruntime", "int8")]
TINY = vit.ViT(width=64, depth=2, heads=2)
OUTLIER = 3000.0


def tiny_bundle(folder, *, outlier=False, data=None):
    """A bundle with a ViT of two blocks.

    With an `outlier` one hidden channel of the first MLP is always `OUTLIER` and weighs next to
    nothing: the range it needs leaves int8 no levels for the others.
    """
    shapes = vit.parameter_shapes(TINY)
    weights = {key: draw(key, shape) for key, shape in shapes.items()}
    if outlier:
        weights["blocks.0.mlp.fc1.weight"][0] = 0
        weights["blocks.0.mlp.fc1.bias"][0] = OUTLIER
        weights["blocks.0.mlp.fc2.weight"][:, 0] /= OUTLIER
        weights["blocks.0.mlp.fc2.weight"][:, 1:] *= 8
    make_bundle(folder, three_tasks(embed_dim_in=64))
    model = vit.build(TINY, weights.__getitem__)
    onnx.save_model(
        model, folder / "encoder.onnx",
        **({"save_as_external_data": True, "location": data} if data else {}),
    )  # fmt: skip
    manifest = json.loads((folder / "bundle.json").read_text())
    for name in ("encoder.onnx", *([data] if data else [])):
        manifest["files"][name] = hashlib.sha256((folder / name).read_bytes()).hexdigest()
    (folder / "bundle.json").write_text(json.dumps(manifest))
    return Bundle.load(folder)


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


@pytest.fixture(scope="module")
def made(plain, tiles, tmp_path_factory):
    """One of each form, made once."""
    folder = tmp_path_factory.mktemp("made")
    return {
        kind: quantise(plain, folder / "-".join(kind), *kind, tiles) for kind in FORMS
    }  # fmt: skip


def the_form(done):
    """Return the new form as the engines know it."""
    form = done.form
    wanted = (form.backend, form.precision, done.bundle.path(form.file))
    return next(m for m in models(done.bundle) if (m.backend, m.precision, m.path) == wanted)


# ---- what the forms say -------------------------------------------------------------------------


@pytest.mark.parametrize("kind", FORMS)
def test_a_form_agrees_with_the_reference_on_tiles_it_was_not_made_from(made, kind, plain, tiles):
    done = made[kind]
    expected = tokens(plain, reference(plain), tiles)
    found = cosine(tokens(done.bundle, the_form(done), tiles), expected)
    assert found.min() > {"fp32": 0.99999, "int8w": 0.999, "int8": 0.99}[kind[1]]
    others = cosine(expected, np.roll(expected, 1, axis=0))
    assert found.mean() > others.mean()  # a form that ignored its input would have that
    assert done.reached
    assert done.trials[-1].cosine_mean == pytest.approx(
        cosine(
            tokens(done.bundle, the_form(done), split(tiles, plain).held_out),
            tokens(plain, reference(plain), split(tiles, plain).held_out),
        ).mean(), abs=1e-6,
    )  # fmt: skip


@pytest.mark.parametrize("kind", FORMS)
def test_a_token_does_not_depend_on_its_neighbours(made, kind, tiles):
    done = made[kind]
    encoder = open_model(done.bundle, the_form(done), batch_size=3)
    quiet = encoder.encode(tiles[:3])
    for row in range(3):
        batch = tiles[:3] * 50 + 7  # a scale over the batch would follow these
        batch[row] = tiles[row]
        np.testing.assert_array_equal(encoder.encode(batch)[row], quiet[row])
        np.testing.assert_array_equal(
            encoder.encode(np.roll(batch, 1, axis=0))[row - 2], quiet[row]
        )
    encoder.close()


@pytest.mark.parametrize("kind", FORMS)
def test_a_form_is_recorded_and_the_rest_of_the_bundle_is_linked(made, kind, plain):
    done = made[kind]
    (form,) = done.bundle.manifest.encoder.forms
    assert (form.backend, form.precision) == kind
    assert form.calibration_tiles == (18 if kind[1] == "int8" else 0)
    assert form.kept == ()
    assert form.format == ("onnx" if kind[0] == "onnxruntime" else "openvino")
    for name in plain.manifest.files:
        assert done.bundle.path(name).samefile(plain.path(name))
    on_disk = {p.relative_to(done.bundle.root).as_posix() for p in done.bundle.root.rglob("*.*")}
    assert on_disk == {"bundle.json", *done.bundle.manifest.files}
    assert Bundle.load(done.bundle.root).digest == done.bundle.digest


def test_forms_are_as_small_as_they_say(made, plain):
    whole = plain.path("encoder.onnx").stat().st_size
    for kind, share in zip(FORMS, (0.55, 0.4, 0.45, 0.45), strict=True):
        bundle = made[kind].bundle
        weights = max(
            bundle.path(n).stat().st_size for n in bundle.manifest.files
            if n.startswith("encoder.") and n != "encoder.onnx"
        )  # fmt: skip
        assert weights < share * whole, kind


def test_the_qdq_graph_is_symmetric_with_a_dynamic_batch_and_whole_norms(made):
    done = made["onnxruntime", "int8"]
    graph = onnx.load(done.bundle.path(done.form.file)).graph
    onnx.checker.check_model(onnx.load(done.bundle.path(done.form.file)), full_check=True)
    constants = {t.name: numpy_helper.to_array(t) for t in graph.initializer}
    steps = [n for n in graph.node if n.op_type in ("QuantizeLinear", "DequantizeLinear")]
    zeros = [constants[n.input[2]] for n in steps]
    assert all(z.dtype == np.int8 and (z == 0).all() for z in zeros)
    weights = [n for n in steps if n.input[0] in constants]
    assert len(weights) == 1 + 2 * 6  # the patches; q, k, v, proj, fc1, fc2 of two blocks
    assert all(constants[n.input[0]].dtype == np.int8 for n in weights)  # no int32 bias
    assert all(constants[n.input[1]].ndim == 1 for n in weights)  # a scale a channel
    assert {constants[n.input[1]].ndim for n in steps if n not in weights} == {0}
    assert graph.input[0].type.tensor_type.shape.dim[0].dim_param
    assert sum(n.op_type == "LayerNormalization" for n in graph.node) == 2 * 2 + 1
    made_by = {o: n.op_type for n in graph.node for o in n.output}
    products = [n for n in graph.node if n.op_type in ("MatMul", "Conv")]
    assert len(products) == 1 + 2 * 8
    assert all(made_by[i] == "DequantizeLinear" for n in products for i in n.input[:2])


# ---- layers that resist -------------------------------------------------------------------------


def resisting(bundle):
    """Return the name of the product with the second matrix of the first MLP."""
    graph = onnx.load(bundle.path("encoder.onnx")).graph
    return next(n.name for n in graph.node if "blocks.0.mlp.fc2.weight" in n.input)


def test_the_layer_that_resists_is_found_and_kept_in_onnxruntime(tmp_path, tiles):
    source = tiny_bundle(tmp_path / "source", outlier=True)
    done = quantise(source, tmp_path / "new", "onnxruntime", "int8", tiles)
    first, last = done.trials[0], done.trials[-1]
    assert (first.kept, last.kept) == (0, 4)
    assert first.cosine_mean < Gate().min_cosine_mean < last.cosine_mean
    assert done.reached
    assert done.form.kept[0] == resisting(source)
    graph = onnx.load(done.bundle.path(done.form.file)).graph
    made_by = {o: n.op_type for n in graph.node for o in n.output}
    for node in (n for n in graph.node if n.op_type in ("MatMul", "Conv")):
        rounded = [made_by.get(i) == "DequantizeLinear" for i in node.input[:2]]
        assert rounded == [node.name not in done.form.kept] * 2


def test_a_kept_layer_is_floating_point_in_openvino(tmp_path, plain, tiles, monkeypatch):
    monkeypatch.setattr("unicas_edge.export.quantise.SCHEDULE", (0, 32))
    strict = Gate(min_cosine_mean=0.999, min_cosine=0.999)  # with its margin out of reach
    done = quantise(plain, tmp_path / "new", "openvino", "int8", tiles, gate=strict)
    assert not done.reached
    assert [t.kept for t in done.trials] == [0, 17]
    assert len(set(done.form.kept)) == 17  # every product: nothing is left to quantise
    kinds = [e.get("type") for e in ET.parse(done.bundle.path(done.form.file)).iter("layer")]  # noqa: S314
    assert "FakeQuantize" not in kinds
    assert done.trials[-1].cosine_min > 0.99999


# ---- calibration tiles --------------------------------------------------------------------------


def test_tiles_are_those_a_screening_would_encode(slide, plain):
    from unicas_edge.normalise import Normaliser, centre_crop
    from unicas_edge.slide import open_slide
    from unicas_edge.tiles import grid_for

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
    with pytest.raises(EngineError, match=r"no slides to calibrate on; name some with --calibrate"):
        calibration_tiles([], plain, 32)
    with pytest.raises(EngineError, match="8 calibration tiles; ask for 16 to 1024"):
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
    with pytest.raises(EngineError, match="int8 is calibrated on tiles of yours; name slides"):
        quantise(plain, tmp_path / "new", "openvino", "int8")


# ---- refused ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("backend", "precision", "cause"),
    [
        ("openvino", "bf16", "bf16 needs no form: openvino runs the reference file in it"),
        ("onnxruntime", "int8w", "no form for onnxruntime in int8w can be made; there are: openv"),
        ("openvino", "fp16", "no form for openvino in fp16"),
        ("tflite", "int8", "no form for tflite"),
    ],
)
def test_a_form_that_cannot_be_is_refused(tmp_path, plain, backend, precision, cause):
    with pytest.raises(EngineError, match=cause):
        quantise(plain, tmp_path / "new", backend, precision)
    assert list(tmp_path.iterdir()) == []


def test_a_form_is_made_once_but_others_may_be_added(tmp_path, made):
    has = made["openvino", "int8w"].bundle
    with pytest.raises(BundleError, match="has a form for openvino in int8w already"):
        quantise(has, tmp_path / "new", "openvino", "int8w")
    both = quantise(has, tmp_path / "new", "openvino", "fp32").bundle
    assert [f.precision for f in both.manifest.encoder.forms] == ["int8w", "fp32"]
    for precision in ("int8w", "fp32"):
        path = both.path(f"encoder.openvino-{precision}.xml")
        open_model(both, Model("openvino", precision, path)).close()


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
    open_model(done.bundle, reference(done.bundle)).close()
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
from unicas_edge.export.quantise import quantise
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

    from unicas_edge.cli_quantise import quantise as command

    app = Typer()
    app.command()(command)
    arguments = [plain.root, "-o", tmp_path / "new", "--backend", "onnxruntime", "--precision",
                 "int8", "--calibrate", slide, "--tiles", 16]  # fmt: skip
    done = CliRunner().invoke(app, [str(a) for a in arguments])
    assert done.exit_code == 0, done.output
    assert f"{tmp_path / 'new'}: onnxruntime int8, 0." in done.stdout
    assert "0 layers kept: cosine with fp32 0.99" in done.stdout
    assert "unicas-edge verify" in done.stdout
    assert "UNTRAINED" in done.stderr.upper()
    assert Bundle.load(tmp_path / "new").manifest.encoder.forms[0].calibration_tiles == 12
