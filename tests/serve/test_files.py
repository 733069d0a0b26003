"""The files of a finished session by their addresses: as `screen` writes them, with tags."""

from __future__ import annotations

import io
import time

import numpy as np
import pytest
from PIL import Image

from tests.serve.test_serve import (
    finished,
    models,  # noqa: F401 - a fixture
    opened,
    push,
    push_all,
    serving,
    tile_at,
)
from unicas_edge.serve.files import MEDIA_TYPES, NAMES, PICTURES
from unicas_edge.serve.pictures import Pictures
from unicas_edge.serve.registry import Registry
from unicas_edge.tiles.grid import Grid


def test_every_file_that_screen_writes_can_be_had(models):  # noqa: F811
    with serving(models, asks=100.0) as client:
        path, own = opened(client, pictures=True)
        push_all(client, path, own)
        finished(client, path, own)
        tags = set()
        for name in NAMES:
            answer = client.get(f"{path}/files/{name}", headers=own)
            assert answer.status_code == 200, answer.text
            assert answer.headers["content-type"].split(";")[0] in MEDIA_TYPES
            tag = answer.headers["etag"]
            tags.add(tag)
            for asked in (tag, f'"other", W/{tag}', "*"):
                again = client.get(f"{path}/files/{name}", headers=own | {"If-None-Match": asked})
                assert (again.status_code, again.content) == (304, b"")
                assert again.headers["etag"] == tag
            other = client.get(f"{path}/files/{name}", headers=own | {"If-None-Match": '"x"'})
            assert other.content == answer.content
        assert len(tags) == len(NAMES)
        part = client.get(f"{path}/files/features.h5", headers=own | {"Range": "bytes=0-3"})
        assert (part.status_code, part.content) == (206, b"\x89HDF")
        for name in PICTURES:
            answer = client.get(f"{path}/files/{name}", headers=own)
            assert Image.open(io.BytesIO(answer.content)).width > 800
        assert client.get(f"{path}/files/../x", headers=own).status_code == 404
        assert client.get(f"{path}/files/overview.jpg").status_code == 404


def test_pictures_are_only_of_sessions_that_kept_pixels(models):  # noqa: F811
    with serving(models) as client:
        path, own = opened(client)
        push_all(client, path, own)
        finished(client, path, own)
        answer = client.get(f"{path}/files/overview.jpg", headers=own)
        assert answer.status_code == 404
        assert '"pictures": true' in answer.json()["message"]


def test_the_small_slide_and_the_tiles_are_those_that_were_pushed(tmp_path):
    grid = Grid(2048, 1024, 1.0)
    pictures = Pictures(tmp_path, grid, 1 << 20)
    for row in range(4):
        for col in range(8):
            pictures.keep(tile_at(row, col), 256 * col, 256 * row, None)
    whole = np.vstack([np.hstack([tile_at(row, col) for col in range(8)]) for row in range(4)])
    small = np.asarray(Image.fromarray(whole).resize((1600, 800), Image.Resampling.BOX))
    assert pictures.overview().shape == (800, 1600, 3)
    assert np.abs(pictures.overview().astype(int) - small).mean() < 8
    assert np.abs(pictures.tile(512, 256).astype(int) - tile_at(1, 2)).mean() < 12
    with pytest.raises(KeyError):
        pictures.tile(1, 1)
    pictures.close()
    assert list(tmp_path.iterdir()) == []


def test_tiles_past_the_limit_are_said_not_to_be_kept(tmp_path):
    pictures = Pictures(tmp_path, Grid(2048, 1024, 1.0), 30_000)
    for col in range(8):
        pictures.keep(tile_at(0, col), 256 * col, 0, None)
    assert (tmp_path / "tiles.bin").stat().st_size <= 30_000
    pictures.tile(0, 0)
    with pytest.raises(KeyError):
        pictures.tile(1792, 0)
    assert (pictures.overview()[:200] != 255).any()
    pictures.close()


def test_a_full_disk_costs_pictures_and_no_tile(models, monkeypatch):  # noqa: F811
    said: list[str] = []

    def full(*_):
        raise OSError(28, "No space left on device")

    with serving(models) as client:
        path, own = opened(client, pictures=True)
        monkeypatch.setattr("unicas_edge.serve.pictures.os.write", full)
        monkeypatch.setattr(
            "unicas_edge.serve.pictures._log.warning", lambda text, *_: said.append(text)
        )
        assert push(client, path, own, 0, 0, score=1.0).status_code == 204
        assert push(client, path, own, 0, 1, score=1.0).status_code == 204
        monkeypatch.undo()
        finished(client, path, own)
        assert client.get(f"{path}/files/contact.jpg", headers=own).status_code == 200
    assert said == ["the tiles for pictures cannot be kept: %s"]


@pytest.mark.parametrize("ends", ["delete", "idle", "outnumbered", "stop"])
def test_files_go_with_their_session(models, ends):  # noqa: F811
    with serving(models, sessions=1, idle_seconds=0.5 if ends == "idle" else 100) as client:
        scratch = sorted_scratch(client)
        path, own = opened(client, pictures=True)
        push_all(client, path, own)
        finished(client, path, own)
        assert client.get(f"{path}/files/contact.jpg", headers=own).status_code == 200
        assert len(sorted_scratch(client)) == len(scratch) + 1
        if ends == "delete":
            client.delete(path, headers=own)
        if ends == "idle":
            time.sleep(0.6)
            client.get("/health")
        if ends in {"idle", "outnumbered"}:
            second, token = opened(client)
            client.delete(second, headers=token)
        if ends != "stop":
            assert sorted_scratch(client) == scratch
        folder = registry_of(client).scratch.path
    assert not folder.exists()


def registry_of(client) -> Registry:
    return client.app.state.registry


def sorted_scratch(client):
    return sorted(path.name for path in registry_of(client).scratch.path.iterdir())
