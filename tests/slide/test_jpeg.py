"""JPEG streams: headers, colour markers, and 20,000 mutations of real tiles."""

from __future__ import annotations

import numpy as np
import pytest
import pyvips
import simplejpeg
import tifffile
from hypothesis import given
from hypothesis import strategies as st

from tests.support.slides import encode, encode_rgb, segments, smear, split_tables
from unicas_edge.slide.jpeg import Frame, decode_into, frame_of, prefix_for, without_jfif

MUTATIONS = 8_000
PARTS = 8


def test_frame_headers():
    stream = encode(smear(48, 32))
    frame = frame_of(stream)
    assert (frame.width, frame.height, frame.components, frame.precision) == (48, 32, 3, 8)
    assert frame_of(stream[: frame.end]) == frame
    assert frame_of(stream[:2] + b"\xff\xff" + stream[2:]).width == 48  # fill bytes
    for cut in (0, 1, 2, 3, 20, frame.end - 1):
        with pytest.raises(ValueError, match="JPEG"):
            frame_of(stream[:cut])


@given(st.binary(max_size=400))
def test_any_bytes_have_a_frame_or_an_error(data):
    for stream in (data, b"\xff\xd8" + data, b"\xff\xd8\xff\xc0" + data):
        try:
            assert isinstance(frame_of(stream), Frame)
        except ValueError as error:
            assert "JPEG" in str(error)  # noqa: PT017


def test_scaled_decode_is_the_mean_of_the_block():
    image = smear(256, 256)
    stream = encode(image, 95, "444")
    full = np.empty((256, 256, 3), np.uint8)
    decode_into(stream, full)
    for reduce in (2, 4, 8):
        small = np.empty((256 // reduce, 256 // reduce, 3), np.uint8)
        decode_into(stream, small)
        mean = full.reshape(256 // reduce, reduce, 256 // reduce, reduce, 3).mean((1, 3))
        assert np.abs(small - mean).mean() < 1


def test_sizes_that_do_not_fit_are_refused():
    stream = encode(smear(64, 64))
    for shape in ((64, 128, 3), (128, 32, 3), (50, 50, 3)):
        with pytest.raises(ValueError, match=r"decodes to|buffer|size"):
            decode_into(stream, np.empty(shape, np.uint8))
    bomb = bytearray(stream)
    at = frame_of(stream).end - 2 - 17
    assert bomb[at + 5 : at + 9] == b"\0\x40\0\x40"
    bomb[at + 5 : at + 9] = b"\xff\xff\xff\xff"
    assert frame_of(bytes(bomb)).width == 65535
    with pytest.raises(ValueError):  # noqa: PT011 - simplejpeg's words
        decode_into(bytes(bomb), np.empty((64, 64, 3), np.uint8))


def test_truncated_stream_is_refused():
    stream = encode(smear(64, 64))
    out = np.empty((64, 64, 3), np.uint8)
    for cut in (3, len(stream) // 2, len(stream) - 2):
        with pytest.raises(ValueError):  # noqa: PT011 - simplejpeg's words
            decode_into(stream[:cut], out)


def decoded(stream, size=64):
    out = np.empty((size, size, 3), np.uint8)
    decode_into(stream, out)
    return out.astype(int)


@pytest.mark.parametrize("jfif", [False, True])
def test_rgb_components_without_a_marker(jfif):
    image = smear(64, 64)
    tables, tile = split_tables(encode_rgb(image, jfif=jfif))
    assert b"Adobe" not in tables + tile
    plain = simplejpeg.decode_jpeg(prefix_for(tables, "grey") + tile[2:]).astype(int)
    assert np.abs(plain - image).mean() > 30  # libjpeg's guess: YCbCr
    got = decoded(prefix_for(tables, "rgb") + without_jfif(tile)[2:])
    assert np.abs(got - image).mean() < 2


def test_prefix_keeps_ycbcr_and_refuses_nonsense():
    image = smear(64, 64)
    tables, tile = split_tables(encode(image))
    assert np.array_equal(decoded(prefix_for(tables, "ycbcr") + tile[2:]), decoded(encode(image)))
    assert prefix_for(b"", "grey") == b"\xff\xd8"
    with pytest.raises(ValueError, match="SOI"):
        prefix_for(b"nonsense", "rgb")


def test_segments_helper_splits_what_libjpeg_joins():
    found, scan = segments(encode(smear(16, 16)))
    assert {s[1] for s in found} >= {0xDB, 0xC0, 0xC4}
    assert scan[:2] == b"\xff\xda"


def mutated(rng, stream):
    """Return `stream` with bytes replaced, a bit flipped, a run zeroed, cut out or doubled."""
    data = bytearray(stream)
    kind = rng.integers(5)
    at = int(rng.integers(2, len(data)))
    length = int(rng.integers(1, 64))
    if kind == 0:
        for place in rng.integers(2, len(data), rng.integers(1, 6)):
            data[place] = rng.integers(256)
    elif kind == 1:
        data[at] ^= 1 << int(rng.integers(8))
    elif kind == 2:
        data[at : at + length] = bytes(min(length, len(data) - at))
    elif kind == 3:
        del data[at : at + length]
    else:
        data[at:at] = data[at : at + length]
    return bytes(data)


@pytest.fixture(scope="module")
def tiles(data_dir):
    """Streams of real tiles, complete with their tables, of more than background."""
    path = data_dir / "wsi" / "aperio_CMU-1-Small-Region.svs"
    with tifffile.TiffFile(path) as tiff:
        page = tiff.pages.first
        prefix = prefix_for(page.jpegtables, "rgb")
        places = zip(page.dataoffsets, page.databytecounts, strict=True)
        file = path.read_bytes()
        return [prefix + file[o + 2 : o + n] for o, n in places if n > 6000]


@pytest.mark.parametrize("part", range(PARTS))
def test_mutated_tiles_never_pass_unnoticed(tiles, part):
    rng = np.random.default_rng([20260101, part])
    out = np.empty((240, 240, 3), np.uint8)
    accepted, refused = [], 0
    for _ in range(MUTATIONS // PARTS):
        stream = mutated(rng, tiles[rng.integers(len(tiles))])
        try:
            frame = frame_of(stream)
            decode_into(stream, out)
        except ValueError:
            refused += 1
            continue
        if (frame.width, frame.height, frame.components) == (240, 240, 3):
            accepted.append(stream)
    for stream in accepted:
        image = pyvips.Image.jpegload_buffer(stream, fail_on="warning", access="sequential")
        assert (image.width, image.height, image.bands) == (240, 240, 3)
        image.avg()  # decodes it all; raises on a warning
    assert refused > 0.6 * MUTATIONS / PARTS
    assert accepted  # some mutations change a pixel and break no rule of JPEG


@pytest.mark.parametrize("scans", [100, 80_000])
def test_endless_scans_are_refused_before_they_are_decoded(monkeypatch, scans):
    stream = simplejpeg.encode_jpeg(np.zeros((16, 16, 3), np.uint8))
    scan = b"\xff\xda\x00\x08\x01\x01\x00\x00\x3f\x00\x00\x00"
    monkeypatch.setattr(simplejpeg, "decode_jpeg", lambda *_, **__: pytest.fail("decoded"))
    with pytest.raises(ValueError, match="more than 100 scans"):
        decode_into(stream[:-2] + scan * scans + stream[-2:], np.empty((16, 16, 3), np.uint8))
