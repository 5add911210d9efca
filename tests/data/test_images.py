import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import PIL
import pytest
from PIL import Image, ImageFile

from mtl_lightning.data import images
from mtl_lightning.data.images import (
    FORMATS,
    decode,
    suffixes,
)
from mtl_lightning.data.resizing import resize
from mtl_lightning.system.errors import UserError
from tests.helpers.files import bombs

RED, GREEN, WHITE = [255, 0, 0], [0, 255, 0], [255, 255, 255]


def saved(tmp_path: Path, image: Image.Image, name: str = "x.png", **options: object) -> Path:
    image.save(tmp_path / name, **options)
    return tmp_path / name


def test_every_suffix_is_that_of_a_format_that_is_read(tmp_path):
    assert {".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff"} < set(suffixes())
    assert {".jfif", ".avif", ".jp2", ".ppm"} < set(suffixes())
    assert not {".eps", ".pdf", ".heic", ".txt", ".psd"} & set(suffixes())
    for suffix in (".jfif", ".gif", ".tif", ".avif", ".jp2", ".ppm"):
        path = saved(tmp_path, Image.new("RGB", (6, 4), (200, 100, 50)), f"x{suffix}")
        np.testing.assert_allclose(decode(path)[2, 3].astype(int), [200, 100, 50], atol=8)


def test_a_heic_photo_is_named(tmp_path):
    (tmp_path / "x.jpg").write_bytes(b"\0\0\0\x18ftypheic\0\0\0\0mif1heic")
    with pytest.raises(UserError, match=r"a HEIC photo, which is not read; convert it to JPEG"):
        decode(tmp_path / "x.jpg")


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
    np.testing.assert_array_equal(decode("shard:17", content=content), decode(path))
    with pytest.raises(UserError, match="image shard:17 cannot be read"):
        decode("shard:17", content=content[:30])


@pytest.mark.parametrize(
    ("size", "cover", "decoded"),
    [
        ((640, 480), (50, 50), (60, 80)),  # an eighth
        ((640, 480), (60, 60), (60, 80)),
        ((640, 480), (61, 60), (120, 160)),  # an eighth of it would be 60 high
        ((640, 480), (100, 90), (120, 160)),
        ((640, 480), (239, 239), (240, 320)),
        ((640, 480), (241, 10), (480, 640)),
        ((641, 481), (61, 61), (121, 161)),  # 481 is less than 8 x 61
        ((40, 30), (60, 60), (30, 40)),
    ],
)
@pytest.mark.parametrize("turned", [1, 6])
def test_a_large_jpeg_is_decoded_to_a_part_of_its_size_that_covers(
    tmp_path, size, cover, decoded, turned
):
    exif = Image.Exif()
    exif[0x0112] = turned
    smooth = Image.radial_gradient("L").resize(size).convert("RGB")
    path = saved(tmp_path, smooth, "x.jpg", quality=95, exif=exif.tobytes())
    whole, part = decode(path), decode(path, cover=cover)
    expected = decoded if turned == 1 else decoded[::-1]
    assert part.shape == (*expected, 3)
    if min(decoded) >= min(cover):
        one, other = resize(whole, cover), resize(part, cover)
        assert one.shape == other.shape
        assert np.abs(one.astype(int) - other.astype(int)).mean() < 2


def test_other_files_are_decoded_as_they_are(tmp_path):
    path = saved(tmp_path, Image.new("RGB", (640, 480)))
    assert decode(path, cover=(8, 8)).shape == (480, 640, 3)


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
    tiff = saved(tmp_path, Image.fromarray(grey), "x.tiff")
    assert decode(tiff)[0, :, 2].tolist() == [0, 100, 255, 117]


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
    with pytest.raises(UserError, match="has pixels that are floats; set which values are black"):
        decode(saved(tmp_path, Image.new("F", (2, 2), 0.5), "x.tiff"))


def bad_files(folder: Path) -> dict[str, str]:
    """Write a bad file of each kind; return the reason that each is refused with."""
    whole = saved(folder, Image.effect_noise((64, 64), 50), "whole.png").read_bytes()
    contents = {
        "cut.png": (whole[:2000], "image file is truncated"),
        "start.png": (whole[:20], "Truncated File Read"),
        "zero.png": (b"", "an empty file"),
        "zeros.png": (bytes(5000), "not an image, or broken at its start"),
        "text.png": (b"404 not found", "not an image, or broken at its start"),
        "program.jpg": (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "not an image"),
        "no_pixels.png": (bombs.png(0, 5), ""),
    }
    for name, (content, _) in contents.items():
        (folder / name).write_bytes(content)
    (folder / "folder.png").mkdir()
    os.mkfifo(folder / "pipe.png")
    reasons = {name: reason for name, (_, reason) in contents.items()}
    return reasons | {"folder.png": "a folder", "pipe.png": "not a regular file"}


def test_each_bad_file_is_named_with_what_is_wrong(tmp_path):
    for name, reason in bad_files(tmp_path).items():
        with pytest.raises(UserError) as caught:
            decode(tmp_path / name)
        message = str(caught.value)
        assert message.startswith(f"image {tmp_path / name} cannot be read ({reason}")
        assert "; expected an intact JPEG, PNG, WebP, BMP, GIF or TIFF file" in message
        assert "\n" not in message
        assert message.count(str(tmp_path)) == 1


@pytest.mark.parametrize("number", [5, 13, 24])
def test_what_the_system_says_of_a_file_is_passed_on(tmp_path, monkeypatch, number):
    path = saved(tmp_path, Image.new("RGB", (2, 2)))

    def fail(*_: Any) -> None:
        raise OSError(number, os.strerror(number), str(path))

    monkeypatch.setattr("builtins.open", fail)
    with pytest.raises(UserError) as caught:
        decode(path)
    assert str(caught.value) == f"image {path} cannot be read: {os.strerror(number)}"


@pytest.mark.parametrize("kind", ["PNG", "GIF", "TIFF", "WEBP"])
def test_content_decides_and_not_the_name(tmp_path, kind):
    path = saved(tmp_path, Image.new("RGB", (3, 2), tuple(RED)), "x.jpg", format=kind)
    assert decode(path).shape == (2, 3, 3)


def test_the_formats_are_those_of_pillow():
    Image.init()
    assert set(FORMATS) <= set(Image.OPEN)


def test_an_image_over_the_limit_is_refused_before_it_is_decoded(tmp_path, monkeypatch):
    path = saved(tmp_path, Image.new("RGB", (10, 9)))
    assert decode(path, 90).shape == (9, 10, 3)
    monkeypatch.setattr(ImageFile.ImageFile, "load", lambda self: pytest.fail("decoded"))
    for limit in (89, 44, 1):  # Pillow only warns up to twice its limit
        message = f"image {path} has 90 pixels, and data.max_pixels allows {limit}"
        with pytest.raises(UserError, match=re.escape(message)):
            decode(path, limit)


def test_the_limit_is_ours_alone_and_pillows_is_left_as_it_was(tmp_path, monkeypatch):
    path = saved(tmp_path, Image.new("RGB", (10, 9)))
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 7)
    decode(path, 90)
    assert Image.MAX_IMAGE_PIXELS == 7
    with pytest.raises(UserError):
        decode(path, 9)
    assert Image.MAX_IMAGE_PIXELS == 7


MEASURE = """
import importlib.util, json, resource, sys
from pathlib import Path

resource.setrlimit(resource.RLIMIT_AS, (6 << 30, 6 << 30))  # should it fail
spec = importlib.util.spec_from_file_location("images", sys.argv[1])  # without torch
images = importlib.util.module_from_spec(spec)
spec.loader.exec_module(images)
peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
first, *bombs = [Path(name) for name in sys.argv[2:]]
images.decode(first)
found = {}
for bomb in bombs:
    before = peak()
    try:
        message = str(images.decode(bomb).shape)
    except Exception as error:
        message = str(error)
    unit = 1 if sys.platform == "darwin" else 1024
    found[bomb.name] = (peak() - before) * unit / 2**20, message
print(json.dumps(found))
"""


def measured(folder: Path, files: dict[str, Any]) -> dict[str, tuple[float, str]]:
    """Decode files in a process of its own; return by how many MiB each raised its peak."""
    for name, make in files.items():
        (folder / name).write_bytes(make())
    paths = [saved(folder, Image.new("RGB", (4, 4)), "plain.bmp"), *(folder / n for n in files)]
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", MEASURE, images.__file__, *map(str, paths)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found: dict[str, tuple[float, str]] = json.loads(done.stdout)
    return found


def test_memory_does_not_grow_with_a_decompression_bomb(tmp_path):
    found = measured(tmp_path, bombs.BOMBS)
    assert set(found) == set(bombs.BOMBS)
    assert max((tmp_path / name).stat().st_size for name in found) < 3 << 20
    for name, (growth, message) in found.items():
        assert growth < 30, (name, growth, message)
    for name in ("rgb.png", "palette.png", "frame.gif", "canvas.webp", "tile.tiff"):
        assert "pixels, and data.max_pixels allows 89,478,485" in found[name][1], found[name]
    for name in ("text.png", "unicode.png", "profile.png"):
        assert "Decompressed data too large" in found[name][1], found[name]


@pytest.mark.skipif(
    int(PIL.__version__.partition(".")[0]) < 13,
    reason="Pillow 12, the last for Python 3.10, reads tags that overlap as often as they ask",
)
def test_memory_does_not_grow_with_tags_that_overlap(tmp_path):
    for name, (growth, message) in measured(tmp_path, bombs.TAGS).items():
        assert growth < 30, (name, growth, message)


def test_the_limit_holds_while_any_thread_reads():
    before = Image.MAX_IMAGE_PIXELS
    first, second = images.reading("a", 7), images.reading("b", 7)
    first.__enter__()
    second.__enter__()
    first.__exit__(None, None, None)
    assert Image.MAX_IMAGE_PIXELS == 7
    second.__exit__(None, None, None)
    assert before == Image.MAX_IMAGE_PIXELS
