from io import BytesIO

import numpy as np
import pytest
import simplejpeg
from PIL import Image
from sklearn.datasets import load_sample_images

from mtl_lightning.data import images, jpeg
from mtl_lightning.data.images import decode

PHOTOGRAPH = load_sample_images().images[0]


def written(mode="RGB", size=(231, 157), orientation=None, **options):
    exif = Image.Exif()
    if orientation is not None:
        exif[0x0112] = orientation
    file = BytesIO()
    image = Image.fromarray(PHOTOGRAPH).resize(size).convert(mode)
    image.save(file, "JPEG", exif=exif.tobytes(), **options)
    return file.getvalue()


def by_pillow(content, cover):
    with Image.open(BytesIO(content)) as image:
        return images.pixels_of(image, 10**6, cover)


def by_us(content, cover=None):
    with BytesIO(content) as file, Image.open(file) as image:
        place = file.tell()
        found = jpeg.decoded(image, file, cover)
        assert file.tell() == place
        return found


@pytest.mark.parametrize("cover", [None, (16, 16), (20, 60), (50, 50), (79, 116), (500, 1)])
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"quality": 30, "progressive": True, "subsampling": 2},
        {"quality": 98, "subsampling": 0, "size": (8, 301)},
        {"mode": "L"},
        {"size": (1, 1)},
        *({"orientation": turned, "size": (160, 90)} for turned in range(10)),
    ],
    ids=str,
)
def test_pixels_are_those_of_pillow(options, cover):
    content = written(**options)
    pixels = by_us(content, cover)
    assert np.array_equal(pixels, by_pillow(content, cover))
    assert pixels.flags.c_contiguous
    assert pixels.flags.writeable
    assert np.array_equal(decode("a name", content=content, cover=cover), pixels)


def test_what_is_not_decoded_here_is_left_to_pillow():
    assert by_us(written(mode="CMYK")) is None
    png = BytesIO()
    Image.fromarray(PHOTOGRAPH).save(png, "PNG")
    assert by_us(png.getvalue()) is None


def test_a_file_with_a_fault_is_left_to_pillow():
    content = written()
    cut = content[: len(content) // 2]
    assert by_us(cut) is None
    junk = content[:-2] + b"\0" * 20 + content[-2:]  # between the picture and its end
    assert np.array_equal(decode("a name", content=junk), decode("a name", content=content))


def test_a_file_of_which_readers_see_two_sizes_is_left_to_pillow(monkeypatch):
    content = written()
    monkeypatch.setattr(
        simplejpeg, "decode_jpeg_header", lambda data: (10**5, 10**5, "YCbCr", "420")
    )
    monkeypatch.setattr(simplejpeg, "decode_jpeg", lambda *_, **__: pytest.fail("was decoded"))
    assert by_us(content) is None
