"""The embedded weights on real cells and slides composed of them: they are what their card says.

Most of these pictures were among what the weights were trained on: what is tested is that these
are the weights, not how good they are, which the card says of others that had not seen them.
"""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from unicas_edge.aggregator.aggregator import Aggregator
from unicas_edge.bundle import Bundle
from unicas_edge.engines import open_encoder
from unicas_edge.heads.classifier import RegionClassifier
from unicas_edge.train.aggregator.bags import MISSING
from unicas_edge.train.cells import dataset as regions_data
from unicas_edge.train.compose.recipe import Recipe
from unicas_edge.train.compose.set import token_bags
from unicas_edge.train.compose.slide import Composer
from unicas_edge.train.compose.sources import load_sources


@pytest.fixture(scope="module")
def bundle():
    return Bundle.load()


def some(data, count, seed=0):
    """As many of each class, drawn at random."""
    rng = np.random.default_rng(seed)
    chosen = [
        rng.permutation(np.flatnonzero(data.labels == k))[:count] for k in range(len(data.classes))
    ]
    return data.take(np.concatenate(chosen))


@pytest.mark.parametrize(
    ("head", "folder", "layout", "positive"),
    [
        ("cell_type", "sipakmed", "sipakmed", None),
        ("abnormality", "cric", "cric", None),
        ("candidiasis", "comparison_detector_refs", "comparison-detector", "candida"),
        ("cluecell", "comparison_detector_refs", "comparison-detector", "flora"),
    ],
)
def test_heads_know_the_cells_they_were_made_of(bundle, data_dir, head, folder, layout, positive):
    side = 128 if layout == "cric" else 100
    data = regions_data.load(layout, data_dir / folder, side)
    data = some(data.against_rest([positive]) if positive else data, 20)
    with RegionClassifier(bundle, [head]) as classifier:
        shares = classifier.classify(data.images())[head]
    if len(data.classes) == 2:
        assert roc_auc_score(data.labels, shares[:, 1]) > 0.9
    else:
        assert (shares.argmax(axis=1) == data.labels).mean() > 0.85


@pytest.mark.slow
def test_composed_slides_are_told_apart(bundle, data_dir):
    composer = Composer(load_sources(data_dir))
    recipe = Recipe(rows=16, columns=16, positive=(0.03, 0.05))
    encoder = open_encoder(bundle)
    try:
        bags = token_bags(composer, bundle, encoder, 16, seed=77, recipe=recipe)
    finally:
        encoder.close()
    aggregator = Aggregator.load(bundle.path(bundle.manifest.aggregator.file))
    logits = np.array([aggregator.logits(bags.tokens(k)) for k in range(len(bags))])
    scores, known = logits[..., 1] - logits[..., 0], bags.labels != MISSING
    found = [
        roc_auc_score(bags.labels[known[:, k], k], scores[known[:, k], k])
        for k in range(len(bags.tasks))
    ]
    assert min(found) > 0.7  # 16 slides
    assert np.mean(found) > 0.85
