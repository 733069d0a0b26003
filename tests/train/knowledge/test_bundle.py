"""Knowledge put into a bundle is that of its encoder, whole, or not there."""

from __future__ import annotations

import numpy as np
import pytest

from tests.support.knowledge_case import KINDS, weights_for
from unicas_edge.adequacy.knowledge import load_knowledge
from unicas_edge.bundle import Bundle
from unicas_edge.errors import BundleError
from unicas_edge.train.knowledge.bundle import knowledge_spec, read_tokens, write_knowledge


def spec_of(bundle):
    manifest = bundle.manifest
    return knowledge_spec(manifest.files[manifest.encoder.file], KINDS, ("cell",))


def test_it_is_written_and_read_again(untrained_bundle, tmp_path):
    tensors = weights_for(untrained_bundle.manifest.encoder.width)
    changes = {"name": "with knowledge"}
    write_knowledge(untrained_bundle, tmp_path / "new", tensors, spec_of(untrained_bundle), changes)
    made = Bundle.load(tmp_path / "new")
    assert made.manifest.name == "with knowledge"
    width = untrained_bundle.manifest.encoder.width
    tokens = np.random.default_rng(0).standard_normal((9, width), dtype="f4")
    read, given = load_knowledge(made).read(tokens), read_tokens(tensors, KINDS, ("cell",), tokens)
    for part in ("kind", "distance", "cells", "octaves"):
        assert np.array_equal(getattr(read, part), getattr(given, part))


@pytest.mark.parametrize("key", ["tokens.covariance", "kinds.weight"])
def test_tensors_that_are_no_knowledge_leave_nothing_behind(untrained_bundle, tmp_path, key):
    tensors = weights_for(untrained_bundle.manifest.encoder.width)
    tensors[key] = tensors[key] * np.float32(np.nan)
    with pytest.raises(BundleError, match=key):
        write_knowledge(untrained_bundle, tmp_path / "new", tensors, spec_of(untrained_bundle))
    assert not list(tmp_path.iterdir())


def test_of_another_encoder_is_refused(untrained_bundle, tmp_path):
    spec = spec_of(untrained_bundle).model_copy(update={"encoder_sha256": "1" * 64})
    tensors = weights_for(untrained_bundle.manifest.encoder.width)
    with pytest.raises(BundleError, match="another encoder"):
        write_knowledge(untrained_bundle, tmp_path / "new", tensors, spec)
    assert not list(tmp_path.iterdir())
