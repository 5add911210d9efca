from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mtl_lightning.data.images import decode, image_shape, resize
from mtl_lightning.errors import UserError

RED, GREEN, WHITE = [255, 0, 0], [0, 255, 0], [255, 255, 255]


def saved(tmp_path: Path, image: Image.Image, name: str = "x.png", **options: object) -> Path:
    image.save(tmp_path / name, **options)
    return tmp_path / name


@pytest.mark.parametrize("name", ["x.jpg", "x.png", "x.webp", "x.bmp"])
def test_formats_give_the_same_rgb(tmp_path, name):
    pixels = decode(saved(tmp_path, Image.new("RGB", (6, 4), (200, 100, 50)), name))
    assert pixels.shape == (4, 6, 3)
    assert pixels.dtype == np.uint8
    assert pixels.flags.writeable
    np.testing.assert_allclose(pixels[2, 3].astype(int), [200, 100, 50], atol=4)


def test_a_file_that_lies_elsewhere(tmp_path):
    path = saved(tmp_path, Image.new("RGB", (6, 4), (200, 100, 50)))
    content = path.read_bytes()
    np.testing.assert_array_equal(decode("shard:17", content), decode(path))
    with pytest.raises(UserError, match="image shard:17 cannot be read"):
        decode("shard:17", content[:30])


@pytest.mark.parametrize(("mode", "value"), [("L", 77), ("1", 255)])
def test_grey_and_one_bit(tmp_path, mode, value):
    pixels = decode(saved(tmp_path, Image.new(mode, (2, 2), value)))
    assert (pixels == value).all()


def test_alpha_is_laid_on_white(tmp_path):
    image = Image.new("RGBA", (2, 1), (255, 0, 0, 255))
    image.putpixel((1, 0), (0, 0, 0, 0))
    assert decode(saved(tmp_path, image))[0].tolist() == [RED, WHITE]
    half = decode(saved(tmp_path, Image.new("LA", (1, 1), (0, 128))))
    np.testing.assert_allclose(half[0, 0].astype(int), [127] * 3, atol=1)


def test_palette_with_and_without_transparency(tmp_path):
    image = Image.new("P", (2, 1))
    image.putpalette([*RED, *GREEN])
    image.putpixel((1, 0), 1)
    assert decode(saved(tmp_path, image))[0].tolist() == [RED, GREEN]
    clear = saved(tmp_path, image, transparency=1)
    assert decode(clear)[0].tolist() == [RED, WHITE]
    bytewise = saved(tmp_path, image, transparency=bytes([255, 0]))
    assert decode(bytewise)[0].tolist() == [RED, WHITE]


def test_transparent_colour_of_an_rgb_png(tmp_path):
    image = Image.new("RGB", (2, 1), tuple(RED))
    image.putpixel((1, 0), tuple(GREEN))
    assert decode(saved(tmp_path, image, transparency=(0, 255, 0)))[0].tolist() == [RED, WHITE]


def test_cmyk_jpeg(tmp_path):
    path = saved(tmp_path, Image.new("CMYK", (8, 8), (0, 255, 255, 0)), "x.jpg", quality=95)
    np.testing.assert_allclose(decode(path)[4, 4].astype(int), RED, atol=6)


def test_sixteen_bit_grey_is_scaled_not_clipped(tmp_path):
    grey = np.array([[0, 257 * 100, 65535, 30000]], dtype=np.uint16)
    pixels = decode(saved(tmp_path, Image.fromarray(grey)))
    assert pixels[0, :, 0].tolist() == [0, 100, 255, 117]
    wide = saved(tmp_path, Image.fromarray(grey.astype(np.int32)), "x.tiff")
    assert decode(wide)[0, :, 2].tolist() == [0, 100, 255, 117]


@pytest.mark.parametrize(
    ("orientation", "corner"), [(1, (0, 0)), (3, (3, 5)), (6, (0, 3)), (8, (5, 0))]
)
def test_exif_orientation(tmp_path, orientation, corner):
    pixels = np.zeros((4, 6, 3), dtype=np.uint8)
    pixels[0, 0] = 255
    exif = Image.Exif()
    exif[0x0112] = orientation
    out = decode(saved(tmp_path, Image.fromarray(pixels), exif=exif.tobytes()))
    assert out.shape == ((4, 6, 3) if orientation in (1, 3) else (6, 4, 3))
    assert out[corner].tolist() == WHITE
    assert out.sum() == 3 * 255


def test_broken_files_are_named(tmp_path):
    whole = saved(tmp_path, Image.effect_noise((64, 64), 50), "x.jpg").read_bytes()
    for name, content in {"cut.jpg": whole[:700], "text.jpg": b"hello", "empty.png": b""}.items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(UserError, match=rf"{name} cannot be read") as caught:
            decode(tmp_path / name)
        assert "\n" not in str(caught.value)
    with pytest.raises(UserError, match=r"gone.jpg does not exist"):
        decode(tmp_path / "gone.jpg")
    with pytest.raises(UserError, match="floats of unknown range"):
        decode(saved(tmp_path, Image.new("F", (2, 2), 0.5), "x.tiff"))


def test_image_shape():
    assert image_shape(32) == (32, 32)
    assert image_shape([32, 48]) == (32, 48)
    for wrong in (0, [32], [32, 32, 3], [32, -1], []):
        with pytest.raises(UserError, match=r"image_size is .*expected pixels"):
            image_shape(wrong)


def test_resize_covers_without_distorting():
    random = np.random.default_rng(0)
    for _ in range(30):
        height, width, *size = (int(n) for n in random.integers(5, 90, 4))
        out = resize(np.zeros((height, width, 3), np.uint8), (size[0], size[1]))
        assert out.dtype == np.uint8
        h, w = out.shape[:2]
        assert h >= size[0]
        assert w >= size[1]
        assert h == size[0] or w == size[1]
        scale = max(size[0] / height, size[1] / width)
        assert abs(h - height * scale) <= 0.5
        assert abs(w - width * scale) <= 0.5


def test_resize_is_antialiased_and_keeps_what_fits():
    stripes = np.zeros((64, 64, 3), np.uint8)
    stripes[:, ::2] = 255
    small = resize(stripes, (8, 8))
    assert abs(small.astype(int) - 127).max() < 20
    assert resize(stripes, (64, 32)) is stripes
