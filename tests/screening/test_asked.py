"""What a user asks of a slide is done and said in the result: scene, ICC profile, time."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import ImageCms

from tests.support.slides import HALF_MICROMETRE, UNDEFINED, jpeg_ifd, shrink, smear, write_tiff
from unicas_edge.bundle import Bundle
from unicas_edge.errors import SceneError, SlideError, UnsupportedSlideError
from unicas_edge.screening.options import Options
from unicas_edge.screening.screener import Screener

IMAGE = smear(1024, 1024)


def screened(path, **options):
    with Screener(Bundle.load(), Options(**options)) as screener:
        return screener.screen(path).result


def test_a_slide_ends_after_its_time(tmp_path):
    path = write_tiff(tmp_path / "a.tif", [jpeg_ifd(IMAGE, extra=HALF_MICROMETRE)])
    with pytest.raises(SlideError, match=r"longer than 0 s \(tiles: \d of .*--timeout allows more"):
        screened(path, timeout=0.0)


def test_a_scene_is_recorded(tmp_path):
    scenes = [jpeg_ifd(IMAGE, extra=HALF_MICROMETRE)]
    scenes.append(jpeg_ifd(shrink(smear(1024, 1024, 3), 2), extra=HALF_MICROMETRE))
    path = write_tiff(tmp_path / "a.tif", scenes)
    with pytest.raises(SceneError, match="--scene"):
        screened(path)
    result = screened(path, scene=2)
    assert (result.slide.width, result.settings["scene"]) == (512, 2)
    assert "scene 2 of 2 is read, as asked" in result.warnings


def test_the_profile_is_applied_and_recorded(tmp_path):
    data = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    extra = HALF_MICROMETRE | {34675: (UNDEFINED, data)}
    path = write_tiff(tmp_path / "a.tif", [jpeg_ifd(IMAGE, extra=extra)])
    plain, result = screened(path, colour="none"), screened(path, colour="icc")
    assert result.preprocessing.colour_mode == "icc"
    assert plain.preprocessing.colour_mode == "none"
    np.testing.assert_allclose(plain.features, result.features, atol=0.3)  # sRGB to sRGB
    with pytest.raises(SlideError, match="no ICC profile"):
        screened(
            write_tiff(tmp_path / "b.tif", [jpeg_ifd(IMAGE, extra=HALF_MICROMETRE)]), colour="icc"
        )


def test_what_is_no_stain_has_no_diagnosis(tmp_path):
    grey = np.repeat(IMAGE.mean(axis=2, keepdims=True).astype(np.uint8), 3, axis=2)
    path = write_tiff(tmp_path / "a.tif", [jpeg_ifd(grey, extra=HALF_MICROMETRE)])
    with pytest.raises(UnsupportedSlideError, match="colour of a stain"):
        screened(path)
