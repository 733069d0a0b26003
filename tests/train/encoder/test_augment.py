"""Augmentation: what it may change, and by how much; seeded, for images of any size."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

torch = pytest.importorskip("torch", reason="the extra `train` (PyTorch) is not installed")

from tests.support.train_case import picture  # noqa: E402
from unicas_edge.train.encoder import augment  # noqa: E402
from unicas_edge.train.loop.feed import seed_all  # noqa: E402


def tile(side=96):
    return augment.as_tensor(picture(1, side))


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


def test_pixels_are_normalised_as_an_encoder_takes_them():
    grey = torch.full((2, 3, 4, 4), 51, dtype=torch.uint8)
    made = augment.normalise((0.1, 0.2, 0.3), (0.5, 0.25, 0.1))(grey)
    torch.testing.assert_close(made[1, :, 0, 0], torch.tensor([0.2, 0.0, -1.0]))


def test_a_picture_is_spoilt_by_as_much_as_is_asked(rng):
    image = Image.fromarray(rng.integers(0, 256, (60, 40, 3), np.uint8))

    def detail(changed):
        assert (changed.size, changed.mode) == ((40, 60), "RGB")
        return np.abs(np.diff(np.asarray(changed).astype(int), axis=1)).mean()

    for spoil, little, much in (
        (augment.blurred, 0.3, 1.8),
        (augment.coarser, 0.8, 0.4),
        (augment.compressed, 95, 5),
    ):
        assert detail(image) > detail(spoil(image, little)) > 1.2 * detail(spoil(image, much))


def test_turning_and_mirroring_shows_all_eight_ways_to_lie():
    image = np.arange(12, dtype=np.uint8).reshape(2, 2, 3)
    seen = {augment.turned(image, k, mirrored=m).tobytes() for k in range(4) for m in (True, False)}
    assert len(seen) == 8
    again = augment.turned(image, 1, mirrored=True)
    np.testing.assert_array_equal(again, np.rot90(image)[:, ::-1])
