"""Configuration files: those of the package hold the paper's numbers, and any slip is named."""

from __future__ import annotations

import pytest

pytest.importorskip("torch", reason="the extra `train` (PyTorch) is not installed")

from tests.support.train_case import distil_config, pretrain_config, toml_of
from unicas_edge.errors import TrainingError
from unicas_edge.models.architectures import ARCHITECTURES
from unicas_edge.train.loop.config import DistilConfig, PretrainConfig, read_config, shipped


def test_the_published_configuration_holds_the_papers_numbers():
    config = read_config("pretrain-vitl16", PretrainConfig)
    assert config.encoder.vit == ARCHITECTURES["unicas"].vit
    crops, now, data = config.crops, config.optimisation, config.data
    assert (crops.global_size, crops.global_scale) == (224, (0.5, 1.0))
    assert (crops.local_size, crops.local_count) == (96, 8)
    assert (now.lr, now.batch, now.steps, now.precision) == (3e-4, 768, 1_000_000, "bf16")
    assert (data.tile_px, data.um_px, data.tiles_per_slide) == (256, 0.5, 4800)
    assert config.dino.koleo_weight == 0.1


@pytest.mark.parametrize("name", shipped())
def test_every_configuration_of_the_package_is_valid(name):
    config = read_config(name, PretrainConfig if name.startswith("pretrain") else DistilConfig)
    settings = config.optimisation.settings()
    assert settings.lr_at(settings.warmup_steps) == settings.lr
    assert settings.lr_at(settings.steps - 1) == pytest.approx(settings.final_lr)


def test_the_package_has_what_the_manual_names():
    assert {"pretrain-vitl16", "pretrain-tiny", "distil-vits16", "distil-vitti16"} <= set(shipped())


def test_a_file_is_read_as_it_was_written(tmp_path):
    config = pretrain_config()
    assert read_config(str(toml_of(config, tmp_path / "a.toml")), PretrainConfig) == config
    other = distil_config()
    assert read_config(str(toml_of(other, tmp_path / "b.toml")), DistilConfig) == other


TEXT = '[encoder]\nlike = "vit-ti16"\n[optimisation]\nbatch = 8\nsteps = 5\nlr = 1e-3\n'


@pytest.mark.parametrize(
    ("text", "named"),
    [
        (TEXT + "momentum = 0.9\n", r"optimisation\.momentum: Extra inputs"),
        (TEXT + "[dinov3]\n", r"dinov3: Extra inputs"),
        (TEXT.replace("batch = 8", ""), r"optimisation\.batch: Field required"),
        (
            TEXT.replace("batch = 8", 'batch = "8"'),
            r"optimisation\.batch: Input should be a valid i",
        ),
        (TEXT.replace("batch = 8", "batch = 1"), r"optimisation\.batch: Input should be greater"),
        (TEXT.replace("1e-3", "nan"), r"optimisation\.lr: Input should be"),
        (TEXT.replace("1e-3", "-1e-3"), r"optimisation\.lr: Input should be greater"),
        (TEXT.replace("vit-ti16", "resnet"), r"encoder: .*'resnet' is not one of unicas"),
        (TEXT.replace('"vit-ti16"', '"conch"'), r"encoder: .*pooler"),
        (TEXT.replace('"vit-ti16"', '"vit-ti16"\nsize = 100'), r"encoder: .*patches must fill"),
        (TEXT + "[crops]\nlocal_size = 100\n", r"multiples of the patch of 16"),
        (TEXT + "[crops]\nglobal_scale = [1.0, 0.5]\n", r"crops: .*global_scale 1\.0, 0\.5 must"),
        (TEXT + "[crops]\nglobal_size = 32\n", r"masks less than one patch"),
        (TEXT + "[crops\n", r"is not a TOML file"),
    ],
)
def test_a_slip_is_named(tmp_path, text, named):
    path = tmp_path / "mine.toml"
    path.write_text(text)
    with pytest.raises(TrainingError, match=rf"mine\.toml: .*{named}"):
        read_config(str(path), PretrainConfig)


def test_a_file_that_is_not_there_names_those_that_are(tmp_path):
    with pytest.raises(TrainingError, match=r"name a file, or one of .*pretrain-tiny"):
        read_config("pretrain-huge", PretrainConfig)
    (tmp_path / "x.toml").write_bytes(b"\xff\xfe")
    with pytest.raises(TrainingError, match="is not a TOML file"):
        read_config(str(tmp_path / "x.toml"), PretrainConfig)
