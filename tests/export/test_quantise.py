"""Other forms of an encoder: what is in the file, what it says, which layers are kept."""

from __future__ import annotations

import xml.etree.ElementTree as ET

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from tests.support.knowledge_case import with_knowledge
from tests.support.quantise_case import FORMS, tiny_bundle
from unicas_edge.adequacy.knowledge import load_knowledge
from unicas_edge.bundle import Bundle
from unicas_edge.bundle.encoder import Gate
from unicas_edge.engines import EngineOptions, open_candidate
from unicas_edge.engines.choice import candidates, reference
from unicas_edge.export.quantise.calibrate import calibration_tiles, split
from unicas_edge.export.quantise.quantise import quantise
from unicas_edge.export.quantise.trial import tokens
from unicas_edge.sample import write_sample
from unicas_edge.verification.verify import cosine


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
    """One of each form, made once, with nothing kept."""
    folder = tmp_path_factory.mktemp("made")
    gate = Gate(min_centred_cosine_mean=0.5)
    return {
        kind: quantise(plain, folder / "-".join(kind), *kind, tiles, gate=gate) for kind in FORMS
    }


def the_form(done):
    """Return the new form as the engines know it."""
    form = done.form
    wanted = (form.backend, form.precision, done.bundle.path(form.file))
    return next(m for m in candidates(done.bundle) if (m.backend, m.precision, m.path) == wanted)


# ---- what the forms say -------------------------------------------------------------------------


@pytest.mark.parametrize("kind", FORMS)
def test_a_form_agrees_with_the_reference_on_tiles_it_was_not_made_from(made, kind, plain, tiles):
    done = made[kind]
    expected = tokens(plain, reference(plain), tiles)
    found = cosine(tokens(done.bundle, the_form(done), tiles), expected)
    assert found.min() > {"fp32": 0.99999, "int8w": 0.999, "int8": 0.99}[kind[1]]
    others = cosine(expected, np.roll(expected, 1, axis=0))
    assert found.mean() > others.mean()  # a form that ignored its input would have that
    assert done.trials[-1].centred_mean > {"fp32": 0.9999, "int8w": 0.99, "int8": 0.9}[kind[1]]
    assert done.reached
    assert done.trials[-1].cosine_mean == pytest.approx(
        cosine(
            tokens(done.bundle, the_form(done), split(tiles, plain).held_out),
            tokens(plain, reference(plain), split(tiles, plain).held_out),
        ).mean(),
        abs=1e-6,
    )


@pytest.mark.parametrize("kind", FORMS)
def test_a_token_does_not_depend_on_its_neighbours(made, kind, tiles):
    done = made[kind]
    encoder = open_candidate(done.bundle, the_form(done), EngineOptions(batch_size=3))
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
            bundle.path(n).stat().st_size
            for n in bundle.manifest.files
            if n.startswith("encoder.") and n != "encoder.onnx"
        )
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
    monkeypatch.setattr("unicas_edge.export.quantise.quantise.SCHEDULE", (0, 32))
    strict = Gate(min_cosine_mean=0.999, min_cosine=0.999)  # with its margin out of reach
    done = quantise(plain, tmp_path / "new", "openvino", "int8", tiles, gate=strict)
    assert not done.reached
    assert [t.kept for t in done.trials] == [0, 17]
    assert len(set(done.form.kept)) == 17  # every product: nothing is left to quantise
    kinds = [e.get("type") for e in ET.parse(done.bundle.path(done.form.file)).iter("layer")]
    assert "FakeQuantize" not in kinds
    assert done.trials[-1].cosine_min > 0.99999


def test_a_form_of_the_same_encoder_keeps_the_knowledge(plain, tiles, tmp_path):
    known = Bundle.load(with_knowledge(plain, tmp_path / "known"))
    done = quantise(known, tmp_path / "new", "openvino", "fp32", tiles)
    assert done.bundle.manifest.knowledge == known.manifest.knowledge
    assert load_knowledge(done.bundle) is not None
