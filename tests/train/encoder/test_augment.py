"""Augmentation: what it may change, and by how much; seeded, for images of any size."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="the extra `train` (PyTorch) is not installed")

from tests.support.train_case import one_thread, picture  # noqa: E402
from unicas_edge.train.encoder import augment  # noqa: E402
from unicas_edge.train.loop.feed import seed_all  # noqa: E402


@pytest.fixture(autouse=True)
def _threads():
    with one_thread():
        yield


def tile(side=96):
    return augment.as_tensor(picture(1, side))


@pytest.mark.parametrize(("height", "width"), [(224, 224), (40, 61), (300, 20), (700, 333)])
def test_images_of_any_size_become_tiles(height, width):
    image = augment.as_tensor(np.random.default_rng(0).integers(0, 256, (height, width, 3), "u1"))
    seed_all(1)
    for _ in range(4):
        made = augment.fine_tuning(64)(image)
        assert (made.shape, made.dtype) == ((3, 64, 64), torch.uint8)


def test_the_seed_decides_everything():
    make = augment.fine_tuning(64)

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
    make = augment.fine_tuning(96)
    scales = []
    for _ in range(80):
        grey = make(augment.as_tensor(disc)).float().mean(dim=0)
        dark = grey < (grey.min() + grey.max()) / 2
        scales.append((dark.sum().item() / (np.pi * 20**2)) ** 0.5)
    assert 0.57 < min(scales) < 0.68
    assert 1.5 < max(scales) < 1.66


def test_stains_change_in_amount_and_white_stays_white():
    white = torch.full((3, 8, 8), 255, dtype=torch.uint8)
    seed_all(0)
    jitter = augment.StainJitter(0.3, 0.0)
    for _ in range(5):
        assert torch.equal(jitter(white), white)
    still = augment.StainJitter(0.0, 0.0)(tile())
    assert (still.int() - tile().int()).abs().max() <= 1
    # a pixel of nothing but haematoxylin keeps its direction in optical density
    density = 0.7 * augment.StainJitter().stains[0]
    pixel = ((-density).exp() * 256 - 1).round().to(torch.uint8)[:, None, None]
    found = {tuple(jitter(pixel).flatten().tolist()) for _ in range(50)}
    assert len(found) > 20
    for colour in found:
        other = -((torch.tensor(colour).float() + 1) / 256).log()
        cosine = torch.cosine_similarity(other, density, dim=0)
        assert cosine > 0.999
        assert 0.68 < other.norm() / density.norm() < 1.32


@pytest.mark.parametrize(("length", "side"), [(5, 12), (12, 5), (7, 40), (6, 6), (8, 13)])
def test_the_middle_goes_on_as_its_mirror_image(length, side):
    image = torch.arange(length, dtype=torch.uint8).expand(3, 4, length)
    made = augment.Middle(side)(image)[0, 0].numpy()
    margin = 10 * length
    padded = np.pad(np.arange(length), margin, mode="symmetric")
    begin = margin + length // 2 - side // 2
    np.testing.assert_array_equal(made, padded[begin : begin + side])


def test_turns_are_quarters():
    image = torch.arange(12, dtype=torch.uint8).reshape(3, 2, 2)
    seed_all(0)
    seen = {tuple(augment.QuarterTurn()(image).flatten().tolist()) for _ in range(60)}
    assert seen == {tuple(np.rot90(image, k, (1, 2)).ravel().tolist()) for k in range(4)}


def test_jpeg_loses_more_at_lower_quality():
    image = tile()
    seed_all(0)
    low, high = (
        (augment.Jpeg((q, q))(image).float() - image.float()).abs().mean() for q in (20, 95)
    )
    assert 0 < high < low < 20


def test_crops_show_the_share_asked_for():
    place = torch.stack([torch.arange(64.0).repeat(64, 1), torch.arange(64.0).repeat(64, 1).T])
    ramp = torch.cat([place * 3, torch.zeros(1, 64, 64)]).to(torch.uint8)
    still = augment.colours(0, 0, 0, 0, 0)
    seed_all(0)
    for scale in ((0.5, 1.0), (0.05, 0.32)):
        made = [augment.crop(32, scale, still)(ramp).float()[:2] / 3 for _ in range(40)]
        shares = [float(np.prod([np.ptp(m.numpy()) + 2 for m in views]) / 64**2) for views in made]
        assert scale[0] * 0.8 < min(shares) < max(shares) < scale[1] * 1.1
        assert {tuple(m.shape) for m in made} == {(2, 32, 32)}


def test_pixels_are_normalised_as_an_encoder_takes_them():
    grey = torch.full((2, 3, 4, 4), 51, dtype=torch.uint8)
    made = augment.normalise((0.1, 0.2, 0.3), (0.5, 0.25, 0.1))(grey)
    torch.testing.assert_close(made[1, :, 0, 0], torch.tensor([0.2, 0.0, -1.0]))
