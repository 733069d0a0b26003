"""Distillation: any teacher, in torch or in a bundle, and a student that comes to agree with it."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="the extra `train` (PyTorch) is not installed")

from dataclasses import replace  # noqa: E402

from typer.testing import CliRunner  # noqa: E402

from tests.support.encoder_case import module_of, weights_of  # noqa: E402
from tests.support.train_case import distil_config, make_images, toml_of  # noqa: E402
from unicas_edge.bundle import Bundle  # noqa: E402
from unicas_edge.cli.train import train_app  # noqa: E402
from unicas_edge.errors import TrainingError  # noqa: E402
from unicas_edge.export.encoder import export_encoder  # noqa: E402
from unicas_edge.models.architectures import ARCHITECTURES  # noqa: E402
from unicas_edge.train.encoder.distil import (  # noqa: E402
    BundleTeacher,
    Distillation,
    Standard,
    TorchTeacher,
    Views,
    distil,
    open_teacher,
)
from unicas_edge.train.encoder.files import save_encoder, start_from  # noqa: E402
from unicas_edge.train.encoder.pretrain import middles  # noqa: E402
from unicas_edge.train.loop.feed import seed_all  # noqa: E402
from unicas_edge.train.loop.fit import fit  # noqa: E402

LARGE = replace(ARCHITECTURES["vit-ti16"].vit, size=64, width=40, depth=2, heads=4, hidden=64)


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    return make_images(tmp_path_factory.mktemp("data") / "images", count=24)


@pytest.fixture(scope="module")
def published(tmp_path_factory):
    """A ViT-Ti/16 with drawn weights, as a checkpoint and as a bundle."""
    folder = tmp_path_factory.mktemp("teacher")
    vit = ARCHITECTURES["vit-ti16"].vit
    save_encoder(folder, module_of(vit, weights_of(vit)), "drawn at random")
    export_encoder(folder / "encoder.safetensors", folder / "bundle")
    return folder


def teacher_of(vit=LARGE):
    kind = replace(ARCHITECTURES["vit-ti16"], vit=vit)
    return TorchTeacher(module_of(vit, weights_of(vit)), kind, {"encoder": "drawn"})


def taught(config, source, folder, teacher=None):
    seed_all(0)
    tiles = middles(source, 36, 64)
    model = Distillation(config, teacher or teacher_of(), tiles[:24], tiles[24:])
    views = Views(source, config, 6)
    return model, fit(model, views, config.optimisation.settings(), folder)


@pytest.mark.parametrize(("loss", "patch_weight"), [("cosine", 0.0), ("mse", 0.0), ("cosine", 0.5)])
def test_the_student_comes_to_agree_on_tiles_held_out(source, tmp_path, loss, patch_weight):
    config = distil_config(
        optimisation={"steps": 120, "validate_every": 60, "lr": 3e-3, "save_every": 0},
        loss=loss,
        patch_weight=patch_weight,
    )
    _, history = taught(config, source, tmp_path)
    seed_all(0)
    untrained = Distillation(config, teacher_of(), *middles(source, 36, 64).split([24, 12]))
    with torch.no_grad():
        before = untrained.validate()["cosine"]
    after = history.validations[-1][1]["cosine"]
    assert abs(before) < 0.15
    assert after > before + (0.1 if patch_weight else 0.25)
    losses = [record["loss"] for record in history.records() if "loss" in record]
    assert np.mean(losses[-10:]) < 0.9 * np.mean(losses[:10])
    if patch_weight:
        patches = [record["patches"] for record in history.records() if "patches" in record]
        assert np.mean(patches[-10:]) < 0.9 * np.mean(patches[:10])


def test_where_the_widths_agree_nothing_is_projected_and_the_loss_is_the_definition(source):
    config = distil_config(encoder={"width": 40, "heads": 4})
    teacher = teacher_of()
    seed_all(0)
    tiles = middles(source, 36, 64)
    model = Distillation(config, teacher, tiles[:24], tiles[24:])
    assert not list(model.projection.parameters())
    batch = tiles[:6]
    with torch.no_grad():
        reference = teacher(tiles[:24]).tile.double().numpy()
        said = model.student(model.normalise(batch)).double().numpy()
    target = (reference[:6] - reference.mean(0)) / reference.std(0, ddof=1)
    lengths = np.linalg.norm(said, axis=1) * np.linalg.norm(target, axis=1)
    wanted = 1 - ((said * target).sum(1) / lengths).mean()
    assert model.loss(batch, 0)["loss"].item() == pytest.approx(wanted, rel=1e-4)
    mse = Distillation(
        distil_config(encoder={"width": 40, "heads": 4}, loss="mse"),
        teacher,
        tiles[:24],
        tiles[24:],
        model.student,
    )
    assert mse.loss(batch, 0)["loss"].item() == pytest.approx(
        ((said - target) ** 2).mean(), rel=1e-4
    )


def test_only_the_student_learns(source):
    teacher = teacher_of()
    seed_all(0)
    tiles = middles(source, 36, 64)
    model = Distillation(distil_config(), teacher, tiles[:24], tiles[24:])
    model.loss(tiles[:6], 0)["loss"].backward()
    assert all(p.grad is None for p in teacher.module.parameters())
    assert all(p.grad is not None for p in model.student.parameters())
    grouped = [p for group in model.parameters() for p in group["params"]]
    trained = [*model.student.parameters(), *model.projection.parameters()]
    assert sorted(map(id, grouped)) == sorted(map(id, trained))
    plain = model.parameters()[1]["params"]
    assert any(p is model.student.pos_embed for p in plain)
    assert not any(p is model.student.blocks[0].mlp.fc1.weight for p in plain)


def test_a_channel_that_never_moves_divides_nothing_by_zero():
    tokens = torch.stack([torch.arange(4.0), torch.full((4,), 7.0)], dim=1)
    found = Standard(tokens)(tokens)
    assert found.isfinite().all()
    assert found[:, 0].std() == pytest.approx(1)


def test_a_bundle_says_what_its_checkpoint_says(published, source):
    seed_all(0)
    tiles = middles(source, 5, 224)
    bundle, module = (
        open_teacher(published / "bundle"),
        open_teacher(published / "encoder.safetensors"),
    )
    assert bundle.width == module.width == 192
    wanted = module(tiles)
    assert wanted.patches.shape == (5, 196, 192)
    found = bundle(tiles)
    assert found.patches is None
    torch.testing.assert_close(found.tile, wanted.tile, atol=2e-4, rtol=1e-4)
    assert module.identity["encoder"] == "vit-ti16"
    with pytest.raises(TrainingError, match="the teacher takes 224"):
        bundle(tiles[:, :, :64, :64])
    bundle.encoder.close()


def test_tiles_of_another_size_are_resampled_for_a_teacher_in_torch(source):
    teacher = teacher_of()
    seed_all(0)
    large = middles(source, 2, 128)
    small = torch.nn.functional.interpolate(
        large.float(), size=(64, 64), mode="bicubic", antialias=True
    )
    found = teacher(large).tile
    wanted = teacher(small.round().clamp(0, 255).to(torch.uint8)).tile
    assert torch.cosine_similarity(found, wanted).min() > 0.98


def test_patches_that_the_teacher_does_not_give_are_an_error(published, source):
    teacher = BundleTeacher(Bundle.load(published / "bundle"))
    seed_all(0)
    tiles = middles(source, 4, 224)
    config = distil_config(encoder={"size": 224}, patch_weight=1.0)
    with pytest.raises(TrainingError, match="the student's 196 patches; set it to 0"):
        Distillation(config, teacher, tiles[:2], tiles[2:])
    teacher.encoder.close()


def test_the_command_leaves_a_student_and_goes_on_where_it_was_cut(
    published, images, tmp_path, monkeypatch
):
    config = distil_config(
        optimisation={"batch": 3, "steps": 4, "save_every": 1},
        encoder={"size": 224},
        statistics_tiles=6,
        validation_tiles=4,
    )
    path = toml_of(config, tmp_path / "mine.toml")

    def run(folder, *more, teacher=published / "bundle"):
        return CliRunner().invoke(
            train_app,
            [
                "distil",
                str(path),
                "--teacher",
                str(teacher),
                "-o",
                str(folder),
                "--images",
                str(images),
                "--device",
                "cpu",
                *more,
            ],
        )

    told = run(tmp_path / "whole")
    assert told.exit_code == 0, told.output
    assert "after 4 steps: cosine" in told.output
    assert "cannot be exported" in told.output
    real = Views.__call__

    def stopping(self, step):
        if step == 2:
            raise TrainingError("stop")
        return real(self, step)

    with monkeypatch.context() as patch:
        patch.setattr(Views, "__call__", stopping)
        assert str(run(tmp_path / "cut").exception) == "stop"
    assert run(tmp_path / "cut", "--resume").exit_code == 0
    for name in ("encoder.safetensors", "best.safetensors", "log.jsonl"):
        whole, cut = ((tmp_path / run / name).read_bytes() for run in ("whole", "cut"))
        assert whole == cut, name
    start_from(tmp_path / "cut" / "encoder.safetensors", config.encoder.vit)
    other = run(tmp_path / "cut", "--resume", teacher=published / "encoder.safetensors")
    assert "another configuration (teacher." in str(other.exception)


def test_a_teacher_that_is_none_is_an_error(source, tmp_path):
    from unicas_edge.errors import UnicasError

    for teacher in (tmp_path, tmp_path / "missing.pth"):
        with pytest.raises(UnicasError, match=str(teacher)):
            distil(distil_config(), teacher, source, tmp_path / "run", device="cpu")
    assert not (tmp_path / "run").exists()
