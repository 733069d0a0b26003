"""DINO, iBOT and KoLeo: against lightly's, which were written by others from the same papers."""

from __future__ import annotations

import random

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="the extra `train` (PyTorch) is not installed")

from torch.nn import functional  # noqa: E402

from unicas_edge.train.encoder.dino import (  # noqa: E402
    PatchLoss,
    ProjectionHead,
    TileLoss,
    block_masks,
    koleo,
)

PROTOTYPES = 40


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)
    random.seed(0)


def close(found, wanted):
    torch.testing.assert_close(found, wanted, rtol=1e-6, atol=1e-6)


def logits(*shape):
    return (3 * torch.randn(*shape, PROTOTYPES)).requires_grad_()


# ---- lightly as the oracle ----------------------------------------------------------------------


@pytest.fixture
def lightly():
    return pytest.importorskip("lightly", reason="lightly, of the extra `test`, is not installed")


def gradient(loss, said):
    (found,) = torch.autograd.grad(loss, said, retain_graph=True)
    return found


@pytest.mark.parametrize("views", [2, 5])
def test_the_loss_of_views_is_lightlys_and_so_is_its_centre(lightly, views):
    from lightly.loss import DINOLoss

    theirs, ours = DINOLoss(PROTOTYPES), TileLoss(PROTOTYPES)
    ours.load_state_dict(theirs.state_dict())  # the same keys: saved runs go on
    for temperature in (0.04, 0.07):
        told, said = logits(2, 6), logits(views, 6)
        wanted = theirs(list(told), list(said), temperature)
        found = ours(told, said, temperature)
        close(found, wanted)
        close(gradient(found, said), gradient(wanted, said))
        close(ours.center, theirs.center)


def test_the_loss_of_patches_is_lightlys_and_so_is_its_centre(lightly):
    from lightly.loss import IBOTPatchLoss

    theirs, ours = IBOTPatchLoss(PROTOTYPES), PatchLoss(PROTOTYPES)
    ours.load_state_dict(theirs.state_dict())
    for temperature in (0.04, 0.07):
        mask = torch.rand(5, 4, 4) < 0.3
        mask[2] = False  # an image without a masked patch
        told, said = logits(int(mask.sum())), logits(int(mask.sum()))
        wanted = theirs(told, said, mask, temperature)
        found = ours(told, said, mask, temperature)
        close(found, wanted)
        close(gradient(found, said), gradient(wanted, said))
        close(ours.center.center, theirs.center.value)


@pytest.mark.parametrize("shape", [(2, 3), (12, 24), (64, 384)])
def test_koleo_is_lightlys(lightly, shape):
    from lightly.loss import KoLeoLoss

    tokens = torch.randn(*shape).requires_grad_()
    wanted, found = KoLeoLoss()(tokens), koleo(tokens)
    close(found, wanted)
    close(gradient(found, tokens), gradient(wanted, tokens))


@pytest.mark.filterwarnings("ignore:`torch.nn.utils.weight_norm` is deprecated")
def test_a_head_with_lightlys_weights_gives_its_logits(lightly):
    from lightly.models.modules import DINOProjectionHead

    theirs, ours = DINOProjectionHead(24, 32, 16, 48), ProjectionHead(24, 32, 16, 48)
    ours.load_state_dict(theirs.state_dict())
    tokens = torch.randn(7, 24)
    close(ours(tokens), theirs(tokens))
    trained = {key for key, p in theirs.named_parameters() if p.requires_grad}
    assert {key for key, p in ours.named_parameters() if p.requires_grad} == trained


@pytest.mark.parametrize("side", [4, 14, 16])
def test_masks_are_drawn_as_lightly_draws_them(lightly, side):
    from lightly.models.utils import random_block_mask

    least = max(1, min(4, int(side**2 * 0.1)))
    random.seed(1)
    wanted = random_block_mask((12, side, side), 0.5, 0.1, 0.5, min_num_masks_per_block=least)
    random.seed(1)
    assert torch.equal(block_masks(12, side, 0.5, (0.1, 0.5), least), wanted)


# ---- what must hold whoever wrote them ----------------------------------------------------------


def test_saying_what_is_told_costs_least():
    told = torch.randn(2, 6, PROTOTYPES)[:1].repeat(2, 1, 1)
    mask = torch.ones(6, 1, 1, dtype=torch.bool)

    def costs(said):
        patch = PatchLoss(PROTOTYPES)(told[0], said[0], mask, 0.1)
        return [TileLoss(PROTOTYPES)(told, said, 0.1).item(), patch.item()]

    entropy = torch.distributions.Categorical(logits=told[0] / 0.1).entropy().mean().item()
    assert costs(told) == pytest.approx([entropy] * 2, rel=1e-5)
    assert min(costs(told + torch.randn_like(told))) > entropy


def test_a_view_is_not_compared_with_itself():
    told = torch.randn(2, 1, PROTOTYPES)
    swapped = told.flip(0)
    loss = TileLoss(PROTOTYPES)
    assert loss(told, swapped, 0.1) < TileLoss(PROTOTYPES)(told, told, 0.1)


def test_an_image_counts_the_same_however_many_patches_it_hides():
    mask = torch.zeros(2, 2, 2, dtype=torch.bool)
    mask[0], mask[1, 0, 0] = True, True
    told, said = logits(5).detach(), logits(5).detach()
    each = functional.cross_entropy(said / 0.1, (told / 0.04).softmax(-1), reduction="none")
    wanted = (each[:4].mean() + each[4]) / 2
    torch.testing.assert_close(PatchLoss(PROTOTYPES)(told, said, mask, 0.04), wanted)


def test_koleo_falls_as_tokens_spread():
    close_by = torch.nn.functional.normalize(torch.tensor([[1.0, 0.0], [1.0, 0.01], [1.0, -0.01]]))
    apart = torch.tensor([[1.0, 0.0], [-0.5, 0.75**0.5], [-0.5, -(0.75**0.5)]])
    assert koleo(apart).item() == pytest.approx(-np.log(3**0.5), abs=1e-5)
    assert koleo(close_by) > koleo(apart) + 4
    assert torch.isfinite(koleo(torch.ones(3, 2)))  # tokens that are the same


def test_directions_of_prototypes_alone_are_learnt():
    head = ProjectionHead(6, 8, 4, 10)
    found = head(torch.randn(50, 6))
    assert found.abs().max() <= 1 + 1e-6  # cosines
    before = head(torch.ones(1, 6))
    with torch.no_grad():
        head.last_layer.weight_v.mul_(3)
    torch.testing.assert_close(head(torch.ones(1, 6)), before)


@pytest.mark.parametrize("side", [4, 16, 37])
def test_masks_hide_the_shares_asked_for_in_half_of_the_images(side):
    masks = block_masks(200, side, 0.5, (0.1, 0.5), 1)
    assert (masks.shape, masks.dtype) == ((200, side, side), torch.bool)
    hidden = masks.flatten(1).float().mean(1)
    assert (hidden > 0).sum() == 100
    assert hidden.max() <= 0.5
    assert hidden[hidden > 0].mean() == pytest.approx(0.3, abs=0.06)
    assert not block_masks(4, side, 0.0, (0.1, 0.5), 1).any()
