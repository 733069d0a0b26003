"""What an encoder is shown in pre-training, distillation and adaptation."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="the extra `train` (PyTorch) is not installed")

from tests.support.train_case import picture  # noqa: E402
from unicas_edge.train.encoder import augment  # noqa: E402
from unicas_edge.train.encoder.views import (  # noqa: E402
    cell_view,
    crop,
    fine_tuning,
    restained,
    tile_view,
)
from unicas_edge.train.loop.feed import seed_all  # noqa: E402


def tile(side=96):
    return augment.as_tensor(picture(1, side))


@pytest.mark.parametrize(("height", "width"), [(224, 224), (40, 61), (300, 20), (700, 333)])
def test_images_of_any_size_become_tiles(height, width):
    image = augment.as_tensor(np.random.default_rng(0).integers(0, 256, (height, width, 3), "u1"))
    seed_all(1)
    for _ in range(4):
        made = fine_tuning(64)(image)
        assert (made.shape, made.dtype) == ((3, 64, 64), torch.uint8)


def test_the_seed_decides_everything():
    make = fine_tuning(64)

    def drawn(seed):
        seed_all(seed)
        return torch.stack([make(tile()) for _ in range(3)])

    assert torch.equal(drawn(1), drawn(1))
    assert not torch.equal(drawn(1), drawn(2))
    assert not torch.equal(*drawn(1)[:2])


def test_cells_are_seen_at_every_scale_asked_for_and_no_other():
    y, x = np.mgrid[:160, :160] - 79.5
    disc = np.where((y**2 + x**2 < 20**2)[..., None], 60, 235).astype(np.uint8).repeat(3, axis=2)
    seed_all(3)
    make = fine_tuning(96)
    scales = []
    for _ in range(80):
        grey = make(augment.as_tensor(disc)).float().mean(dim=0)
        dark = grey < (grey.min() + grey.max()) / 2
        scales.append((dark.sum().item() / (np.pi * 20**2)) ** 0.5)
    assert 0.57 < min(scales) < 0.68
    assert 1.5 < max(scales) < 1.66


def test_crops_show_the_share_asked_for():
    place = torch.stack([torch.arange(64.0).repeat(64, 1), torch.arange(64.0).repeat(64, 1).T])
    ramp = torch.cat([place * 3, torch.zeros(1, 64, 64)]).to(torch.uint8)
    still = augment.colours(0, 0, 0, 0, 0)
    seed_all(0)
    for scale in ((0.5, 1.0), (0.05, 0.32)):
        made = [crop(32, scale, still)(ramp).float()[:2] / 3 for _ in range(40)]
        shares = [float(np.prod([np.ptp(m.numpy()) + 2 for m in views]) / 64**2) for views in made]
        assert scale[0] * 0.8 < min(shares) < max(shares) < scale[1] * 1.1
        assert {tuple(m.shape) for m in made} == {(2, 32, 32)}


# ---- adaptation ---------------------------------------------------------------------------------


def test_views_have_their_size_and_differ_from_draw_to_draw(rng):
    image = rng.integers(0, 256, (60, 90, 3), np.uint8)
    tile = rng.integers(0, 256, (256, 256, 3), np.uint8)
    for view, of in ((cell_view, image), (tile_view, tile)):
        drawn = [view(of, 44, rng) for _ in range(4)]
        assert {(d.shape, d.dtype.name) for d in drawn} == {((44, 44, 3), "uint8")}
        assert len({d.tobytes() for d in drawn}) == 4


def test_of_a_picture_with_more_around_it_a_view_shows_at_most_that(rng):
    """The region is the dark middle half; a view never leaves it out."""
    image = np.full((80, 80, 3), 250, np.uint8)
    image[20:60, 20:60] = 20
    for _ in range(50):
        shown = cell_view(image, 40, rng, inner=0.5)
        assert (shown.mean(axis=2) < 120).mean() > 0.3


def test_a_tiles_view_keeps_what_lies_in_its_middle(rng):
    tile = np.full((256, 256, 3), 250, np.uint8)
    tile[60:196, 60:196] = 10
    for _ in range(30):
        shown = tile_view(tile, 64, rng)
        assert 0.25 < (shown.mean(axis=2) < 128).mean() < 0.55


def test_restaining_is_drawn_anew_for_each_image_and_from_nothing_to_much(rng):
    image = torch.from_numpy(rng.integers(60, 200, (3, 16, 16), np.uint8))
    found = restained(image.expand(64, -1, -1, -1), rng)
    assert found.dtype == torch.uint8
    change = (found.float() - image.float()).abs().mean((1, 2, 3))
    assert change.min() < 5
    assert change.max() > 20
