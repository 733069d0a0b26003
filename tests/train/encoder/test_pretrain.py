"""DINOv2 pre-training: its losses against plain sums, its teacher, its rates, and its encoder."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="the extra `train` (PyTorch) is not installed")

from typer.testing import CliRunner  # noqa: E402

from tests.support.train_case import pretrain_config, toml_of  # noqa: E402
from unicas_edge.bundle import Bundle  # noqa: E402
from unicas_edge.cli.train import train_app  # noqa: E402
from unicas_edge.engines import EngineOptions, open_encoder  # noqa: E402
from unicas_edge.errors import CheckpointError, TrainingError  # noqa: E402
from unicas_edge.export.encoder import export_encoder  # noqa: E402
from unicas_edge.train.encoder.files import load_encoder, save_encoder, start_from  # noqa: E402
from unicas_edge.train.encoder.pretrain import SelfDistillation, Views, pretrain  # noqa: E402
from unicas_edge.train.encoder.runs import middles  # noqa: E402
from unicas_edge.train.loop.feed import seed_all  # noqa: E402
from unicas_edge.train.loop.fit import LAST  # noqa: E402


def made(source, config=None, seed=0):
    """The model, and a batch of 6 tiles."""
    config = config or pretrain_config()
    seed_all(seed)
    views = Views(source, config, 6)
    return SelfDistillation(config, middles(source, 8, 64)), views(0)


# ---- batches ------------------------------------------------------------------------------------


def test_a_batch_holds_two_large_views_of_each_tile_then_the_small_ones(source):
    _, batch = made(source)
    assert batch["global"].shape == (12, 3, 64, 64)
    assert batch["local"].shape == (18, 3, 32, 32)
    assert (batch["mask"].shape, batch["mask"].dtype) == ((12, 4, 4), torch.bool)
    masked = batch["mask"].flatten(1).sum(1)
    assert (masked > 0).sum() == 6  # half of the crops
    assert masked.max() <= 8  # half of their patches
    # the two views of one tile are more alike in colour than two tiles, whatever the jitter
    assert batch["global"].std() > 0.3


def test_some_patch_is_masked_whatever_is_drawn(source):
    config = pretrain_config(dino={"mask_share": 0.0})
    _, batch = made(source, config)
    assert batch["mask"].sum() == 1


# ---- losses -------------------------------------------------------------------------------------


def softmax(x):
    e = np.exp(x - x.max(axis=-1, keepdims=True))
    return e / e.sum(axis=-1, keepdims=True)


def test_the_losses_are_the_sums_of_the_papers(source):
    """DINO and iBOT: cross-entropy with the teacher's centred and sharpened softmax; KoLeo."""
    model, batch = made(source)
    with torch.no_grad():
        for parameter in model.student.parameters():  # student and teacher apart
            parameter.add_(0.05 * torch.randn_like(parameter))
        model.token.weight.normal_()
    for name in ("tile", "patch"):
        center = model.losses[name].center
        center = center if name == "tile" else center.center
        center.normal_(std=0.1)
    centres = [
        model.losses["tile"].center.numpy().ravel().copy(),
        model.losses["patch"].center.center.numpy().ravel().copy(),
    ]
    found = {key: value.item() for key, value in model.loss(batch, 1).items()}
    flat = batch["mask"].flatten(1)
    with torch.no_grad():
        told, told_patches = model.teacher.forward_features(batch["global"])
        said, said_patches = model.student.forward_features(
            batch["global"], flat, model.token.weight
        )
        small, _ = model.student.forward_features(batch["local"])
        teacher = model.teacher_heads.tile(told).double().numpy().reshape(2, 6, -1)
        student = model.heads.tile(torch.cat([said, small])).double().numpy().reshape(5, 6, -1)
        patch_teacher = model.teacher_heads.patches(told_patches).double().numpy()
        patch_student = model.heads.patches(said_patches).double().numpy()
    temperature = 0.04 + (0.07 - 0.04) / 3
    target = softmax((teacher - centres[0]) / temperature)
    logs = np.log(softmax(student / 0.1))
    pairs = [-(target[t] * logs[s]).sum(-1).mean() for t in range(2) for s in range(5) if s != t]
    assert found["tile"] == pytest.approx(np.mean(pairs), rel=1e-4)
    target = softmax((patch_teacher - centres[1]) / temperature)
    each = -(target * np.log(softmax(patch_student / 0.1))).sum(-1)
    masked = flat.numpy()
    rows = [each[i][masked[i]].mean() for i in range(12) if masked[i].any()]
    assert found["patch"] == pytest.approx(np.sum(rows) / 12, rel=1e-4)
    koleo = 0.0
    for half in said.double().numpy().reshape(2, 6, -1):
        unit = half / np.linalg.norm(half, axis=1, keepdims=True)
        gaps = np.linalg.norm(unit[:, None] - unit[None], axis=-1) + 9 * np.eye(6)
        koleo -= np.log(gaps.min(axis=1)).mean()
    assert found["koleo"] == pytest.approx(koleo, rel=1e-3)
    total = found["tile"] + found["patch"] + 0.1 * found["koleo"]
    assert found["loss"] == pytest.approx(total, rel=1e-5)


def test_centres_move_towards_what_the_teacher_says(source):
    model, batch = made(source)
    with torch.no_grad():
        told = model.teacher_heads.tile(model.teacher(batch["global"]))
    model.loss(batch, 0)
    torch.testing.assert_close(model.losses["tile"].center.ravel(), 0.1 * told.mean(0))


def test_only_the_student_learns_and_all_of_it(source):
    model, batch = made(source)
    with torch.no_grad():
        for name, parameter in model.student.named_parameters():
            if name.endswith("gamma"):
                parameter.fill_(1)
    model.loss(batch, 3)["loss"].backward()
    for name in ("student", "heads", "mask_token"):
        for key, parameter in model.modules[name].named_parameters():
            if parameter.requires_grad:
                assert parameter.grad.abs().max() > 0, key
    for name in ("teacher", "teacher_heads"):
        assert all(p.grad is None for p in model.modules[name].parameters())


def test_the_teacher_is_the_moving_average_of_the_student(source):
    model, _ = made(source)
    before = {k: v.clone() for k, v in model.teacher.state_dict().items()}
    assert all(torch.equal(v, model.student.state_dict()[k]) for k, v in before.items())
    with torch.no_grad():
        for parameter in model.student.parameters():
            parameter.add_(1.0)
    model.after_step(0)  # momentum 0.9
    for key, value in model.teacher.state_dict().items():
        torch.testing.assert_close(value, before[key] + 0.1, atol=1e-5, rtol=0)
    held = {k: v.clone() for k, v in model.teacher.state_dict().items()}
    model.after_step(5)  # the last step: 1.0
    assert all(torch.equal(v, held[k]) for k, v in model.teacher.state_dict().items())


def test_rates_follow_dinov2s_rules(source):
    config = pretrain_config(dino={"layer_decay": 0.5})
    model, _ = made(source, config)
    groups = model.parameters()
    everything = [
        p
        for name in ("student", "heads", "mask_token")
        for p in model.modules[name].parameters()
        if p.requires_grad
    ]
    grouped = [p for group in groups for p in group["params"]]
    assert sorted(map(id, grouped)) == sorted(map(id, everything))

    def rule(parameter):
        group = next(g for g in groups if any(p is parameter for p in g["params"]))
        return group["lr_scale"], group["wd_scale"], group["frozen_steps"]

    student = model.student
    assert rule(student.patch_embed.proj.weight) == (0.5**3 * 0.2, 1.0, 0)
    assert rule(student.pos_embed) == (0.5**3, 0.0, 0)
    assert rule(student.blocks[0].attn.qkv.weight) == (0.5**2, 1.0, 0)
    assert rule(student.blocks[1].mlp.fc1.bias) == (0.5, 0.0, 0)
    assert rule(student.norm.weight) == (1.0, 0.0, 0)
    assert rule(model.heads.tile.last_layer.weight_v) == (1.0, 1.0, 1)
    assert rule(model.token.weight) == (1.0, 0.0, 0)


# ---- runs ---------------------------------------------------------------------------------------


def test_an_interrupted_and_resumed_run_equals_an_uninterrupted_one(source, tmp_path, monkeypatch):
    config = pretrain_config()
    pretrain(config, source, tmp_path / "whole", device="cpu")
    real = Views.__call__

    def stopping(self, step):
        if step == 5:
            raise TrainingError("stop")
        return real(self, step)

    with monkeypatch.context() as patch:
        patch.setattr(Views, "__call__", stopping)
        with pytest.raises(TrainingError, match="stop"):
            pretrain(config, source, tmp_path / "cut", device="cpu")
    history = pretrain(config, source, tmp_path / "cut", device="cpu", resume=True)
    assert [step for step, _ in history.validations] == [2, 5]
    assert all(1 <= figures["rank"] <= 8 for _, figures in history.validations)
    for name in ("encoder.safetensors", "best.safetensors", "log.jsonl", "curves.json"):
        whole, cut = ((tmp_path / run / name).read_bytes() for run in ("whole", "cut"))
        assert whole == cut, name
    other = pretrain_config(dino={"koleo_weight": 0.2})
    with pytest.raises(TrainingError, match=r"pretrain\.dino\.koleo_weight: 0\.1 there, 0\.2 here"):
        pretrain(other, source, tmp_path / "cut", device="cpu", resume=True)


def test_the_student_learns_what_a_teacher_says_that_stays(source):
    """One batch, over and over, with teacher and centres held: each part of the loss falls."""
    model, batch = made(source, pretrain_config(dino={"koleo_weight": 0.0}))
    model.losses["tile"].kept = model.losses["patch"].center.kept = 1.0
    with torch.no_grad():
        for parameter in [*model.student.parameters(), *model.heads.parameters()]:
            parameter.add_(0.2 * torch.randn_like(parameter))
    optimiser = torch.optim.AdamW(model.parameters(), lr=3e-3)
    losses = []
    for _ in range(60):
        parts = model.loss(batch, 3)
        optimiser.zero_grad()
        parts["loss"].backward()
        optimiser.step()
        losses.append((parts["tile"].item(), parts["patch"].item()))
    for first, last in zip(losses[0], losses[-1], strict=True):
        assert last < 0.5 * first, losses[:: len(losses) - 1]


def test_bf16_leaves_losses_and_weights_in_float32(source, tmp_path):
    config = pretrain_config(optimisation={"steps": 2, "precision": "bf16"})
    history = pretrain(config, source, tmp_path, device="cpu")
    state = torch.load(tmp_path / LAST, weights_only=True)["modules"]
    assert {t.dtype for t in state["teacher"].values()} == {torch.float32}
    assert state["losses"]["tile.center"].dtype == torch.float32
    exact = pretrain_config(optimisation={"steps": 2})
    other = pretrain(exact, source, tmp_path / "fp32", device="cpu")
    first, second = next(history.records())["loss"], next(other.records())["loss"]
    assert first != second
    assert first == pytest.approx(second, rel=0.02)


def test_a_run_begins_with_a_checkpoint_of_its_shape_alone(source, tmp_path):
    model, _ = made(source)
    save_encoder(tmp_path, model.student, "test")
    path = tmp_path / "encoder.safetensors"
    vit = pretrain_config().encoder.vit
    begun = start_from(path, vit)
    assert all(torch.equal(v, model.student.state_dict()[k]) for k, v in begun.state_dict().items())
    still = pretrain_config(optimisation={"lr": 1e-12, "steps": 1})
    pretrain(still, source, tmp_path / "run", start=path, device="cpu")
    again = start_from(tmp_path / "run" / "encoder.safetensors", vit)
    for key, value in again.state_dict().items():
        torch.testing.assert_close(value, model.student.state_dict()[key], atol=1e-6, rtol=1e-5)
    with pytest.raises(CheckpointError, match="the configuration's encoder"):
        start_from(path, pretrain_config(encoder={"depth": 3}).encoder.vit)
    with pytest.raises(CheckpointError, match="is not one of the encoders"):
        load_encoder(path)


def test_the_command_makes_an_encoder_that_export_imports(images, tmp_path):
    """A whole ViT-Ti/16 for one step on small crops; its tokens come out of the bundle the same."""
    config = pretrain_config(
        encoder={"size": None, "width": None, "depth": None, "heads": None, "hidden": None},
        optimisation={"batch": 2, "steps": 7},
        dino={"rank_tiles": 2},
        crops={"local_count": 1},
    )
    path = toml_of(config, tmp_path / "mine.toml")
    run = tmp_path / "run"
    told = CliRunner().invoke(
        train_app,
        [
            "pretrain",
            str(path),
            "-o",
            str(run),
            "--images",
            str(images),
            "--steps",
            "1",
            "--device",
            "cpu",
        ],
    )
    assert told.exit_code == 0, told.output
    assert "12 tiles to draw from" in told.output
    assert "next: unicas-edge export encoder" in told.output
    assert {"curves.png", "curves.json", "log.jsonl", LAST} <= {p.name for p in run.iterdir()}
    export_encoder(run / "encoder.safetensors", tmp_path / "bundle")
    bundle = Bundle.load(tmp_path / "bundle")
    assert bundle.manifest.encoder.architecture == "vit-ti16"
    encoder, kind, name = load_encoder(run / "encoder.safetensors")
    assert (name, kind.vit.depth) == ("vit-ti16", 12)
    tiles = torch.randn(1, 3, 224, 224)
    engine = open_encoder(bundle, EngineOptions("onnxruntime", batch_size=1, threads=1))
    with torch.no_grad():
        np.testing.assert_allclose(engine.encode(tiles.numpy()), encoder(tiles), atol=1e-4)
    engine.close()


def test_the_command_needs_data(tmp_path):
    told = CliRunner().invoke(train_app, ["pretrain", "pretrain-tiny", "-o", str(tmp_path / "run")])
    assert isinstance(told.exception, TrainingError)
    assert "give --images or --slides" in str(told.exception)
    assert not (tmp_path / "run").exists()
