from io import BytesIO
from typing import Any

import numpy as np
import pytest
from PIL import Image

from mtl_lightning.data.images import decode
from mtl_lightning.data.intensity import Intensity, scaled
from mtl_lightning.system.errors import UserError
from tests.helpers.files.tiff import COLOURS, WHITE_IS_ZERO, tiff

CT = np.array([[-1000, -500, 500, 2000]], dtype=np.int16)
RANGE = Intensity(min=-1000, max=2000)


def grey(content: bytes, intensity: Intensity | None = None) -> list[int]:
    """Return the grey values of the first row of an image."""
    pixels = decode("x.tif", content=content, intensity=intensity)
    assert pixels.dtype == np.uint8
    assert pixels.flags.writeable
    assert (pixels == pixels[..., :1]).all()
    return pixels[0, :, 0].tolist()


def png(pixels: np.ndarray) -> bytes:
    file = BytesIO()
    Image.fromarray(pixels).save(file, "png")
    return file.getvalue()


def refused(content: bytes, intensity: Intensity | None = None) -> str:
    with pytest.raises(UserError) as error:
        decode("x.tif", content=content, intensity=intensity)
    return str(error.value)


MEND = (
    "; set which values are black and white: `intensity: {min: 0, max: 4095}` or `intensity: "
    "{percentiles: [1, 99]}` of its source (--intensity of predict)"
)


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize(
    ("pixels", "message"),
    [
        (CT, "16-bit signed pixels, from -1,000 to 2,000"),
        (CT.astype(np.int32), "32-bit signed pixels, from -1,000 to 2,000"),
        (CT.astype(np.float32), "pixels that are floats"),
        ((CT // 20).astype(np.int8), "8-bit signed pixels, from -50 to 100"),
        (CT.astype(np.uint16) % 1024, "16-bit pixels, none above 976, as if of 12 bits or fewer"),
        (CT.astype(np.uint16) % 4096, "16-bit pixels, none above 3,596, as if of 12 bits or fewer"),
    ],
)
def test_a_range_that_nobody_knows_is_refused(order, pixels, message):
    assert refused(tiff(pixels, order=order)) == f"image x.tif has {message}{MEND}"


def test_unsigned_pixels_of_32_bits():
    deep = tiff(np.array([[0, 3_000_000_000, 4_000_000_000]], dtype=np.uint32))
    assert "32-bit unsigned pixels, from 0 to 4,000,000,000" in refused(deep)
    assert grey(deep, Intensity(min=2e9, max=4e9)) == [0, 128, 255]


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("kind", [np.int16, np.int32, np.float32])
def test_with_a_range_every_kind_of_number_is_read(order, kind):
    assert grey(tiff(CT.astype(kind), order=order), RANGE) == [0, 42, 128, 255]


def test_signed_bytes():
    assert grey(tiff(np.array([[-100, 0, 100]], np.int8)), Intensity(-100, 100)) == [0, 128, 255]


def test_what_is_outside_of_the_range_is_black_or_white():
    assert grey(tiff(CT), Intensity(min=-500, max=500)) == [0, 0, 255, 255]
    holes = np.array([[np.nan, -np.inf, 0, np.inf]], dtype=np.float32)
    assert grey(tiff(holes), RANGE) == [0, 0, 85, 255]


def test_percentiles_are_those_of_each_image():
    dark, bright = CT[0].astype(np.float32), CT[0] * 100.0
    for values in (dark, bright):
        content = tiff(values[None].astype(np.float32))
        assert grey(content, Intensity(percentiles=[0, 100])) == [0, 42, 128, 255]
    many = np.arange(-50, 51, dtype=np.int16)[None]
    found = grey(tiff(many), Intensity(percentiles=[10, 90]))
    assert found[:11] == [0] * 11
    assert found[90:] == [255] * 11
    assert found[50] == 128
    holes = np.array([[np.nan, 0, 1]], dtype=np.float32)
    assert grey(tiff(holes), Intensity(percentiles=[0, 100])) == [0, 0, 255]
    nothing = np.full((1, 2), np.nan, dtype=np.float32)
    assert grey(tiff(nothing), Intensity(percentiles=[0, 100])) == [0, 0]


def test_an_image_of_one_value_is_black():
    assert grey(tiff(np.full((1, 2), 7, np.int16)), Intensity(percentiles=[1, 99])) == [0, 0]


def test_sixteen_bits_without_a_range_are_scaled_as_before():
    values = np.arange(65536, dtype=np.uint16)[None]
    expected = ((values.astype(np.int64) + 128) // 257)[0].tolist()
    for content in (tiff(values), tiff(values, order=">"), png(values)):
        assert grey(content) == expected
    assert grey(tiff(values), Intensity(min=0, max=65535)) == expected
    assert grey(png(np.zeros((1, 2), dtype=np.uint16))) == [0, 0]


def test_a_file_of_twelve_bits_says_so():
    values = [0, 1, 2048, 4095]
    bits = "".join(f"{value:012b}" for value in values)
    data = bytes(int(bits[i : i + 8], 2) for i in range(0, len(bits), 8))
    assert grey(tiff(np.zeros((1, 4), np.uint16), packed=(12, data))) == [0, 0, 128, 255]
    pgm = b"P5 2 1 4095 " + np.array([0, 2048], ">u2").tobytes()
    assert grey(pgm) == [0, 128]


@pytest.mark.parametrize("kind", [np.uint8, np.uint16])
def test_white_is_zero(kind):
    white = np.iinfo(kind).max
    values = np.array([[0, white // 5, white]], dtype=kind)
    assert grey(tiff(values, WHITE_IS_ZERO)) == [255, 204, 0]
    half = Intensity(min=0, max=white // 2)
    assert grey(tiff(values, WHITE_IS_ZERO), half)[::2] == [255, 0]
    assert abs(grey(tiff(values, WHITE_IS_ZERO), half)[1] - 153) <= 1


def test_white_is_zero_of_floats():
    values = np.array([[0, 0.25, 1]], dtype=np.float32)
    assert grey(tiff(values, WHITE_IS_ZERO), Intensity(0, 1)) == [255, 191, 0]


def test_white_is_zero_of_a_kind_that_is_not_read():
    message = refused(tiff(CT, WHITE_IS_ZERO))
    assert (
        "(a TIFF file broken at its start, or of a kind that is not read; save it with" in message
    )


def test_images_of_eight_bits_have_the_range_too():
    ramp = np.array([[0, 50, 100, 200]], dtype=np.uint8)
    assert grey(png(ramp), Intensity(min=50, max=150)) == [0, 0, 128, 255]
    colours = np.stack([ramp, ramp // 2, ramp * 0], axis=-1)
    found = decode("x", content=png(colours), intensity=Intensity(min=0, max=100))
    assert found[0, :, 0].tolist() == [0, 128, 255, 255]
    assert found[0, :, 1].tolist() == [0, 64, 128, 255]
    joint = decode("x", content=png(colours), intensity=Intensity(percentiles=[0, 100]))
    assert joint[0, 3].tolist() == [255, 128, 0]


def test_percentiles_of_a_jpeg_are_those_of_all_its_pixels():
    file = BytesIO()
    Image.radial_gradient("L").resize((640, 480)).save(file, "jpeg")
    own = Intensity(percentiles=[1, 99])
    whole = decode("x", content=file.getvalue(), intensity=own)
    part = decode("x", content=file.getvalue(), intensity=own, cover=(8, 8))
    np.testing.assert_array_equal(part, whole)


def test_colours_of_sixteen_bits():
    full = np.full((1, 2, 3), 30_000, dtype=np.uint16)
    assert grey(tiff(full, COLOURS)) == [117, 117]
    message = refused(tiff(full // 8, COLOURS))
    assert (
        "(its colours have 16 bits and stay below 3,840, as if of 12 bits; save it with" in message
    )
    assert "so that `intensity` cannot apply; save it" in refused(tiff(full, COLOURS), RANGE)
    assert grey(tiff(full * 0, COLOURS)) == [0, 0]


@pytest.mark.parametrize(
    ("given", "written"),
    [
        ({}, "{}"),
        ({"min": 1}, "{min: 1}"),
        ({"min": 2, "max": 1.5}, "{min: 2, max: 1.5}"),
        ({"min": 0, "max": float("inf")}, "{min: 0, max: inf}"),
        ({"percentiles": [1, 101]}, "{percentiles: [1, 101]}"),
        ({"percentiles": [99, 1]}, "{percentiles: [99, 1]}"),
        ({"percentiles": [1]}, "{percentiles: [1]}"),
        ({"percentiles": [1, 99], "min": 0}, "{min: 0, percentiles: [1, 99]}"),
    ],
)
def test_a_range_that_is_none(given: dict[str, Any], written: str):
    with pytest.raises(UserError) as error:
        Intensity(**given)
    assert str(error.value) == (
        "intensity should be {min: ..., max: ...} with min below max, or {percentiles: [1, 99]}, "
        f"rising in 0..100. Found {written}"
    )


def test_scaled_keeps_the_whole_numbers_of_32_bits_apart():
    values = np.array([2**31, 2**31 + 255], dtype=np.uint32)
    assert scaled(values, 2**31, 2**31 + 255).tolist() == [0, 255]
