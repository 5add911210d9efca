"""Images"""

from collections.abc import Callable
from functools import partial
from io import BytesIO
from pathlib import Path

import numpy as np
from PIL import Image

from mtl_lightning import Classification, PartialLabels, TableSource
from mtl_lightning.data.intensity import Intensity
from tests.bad_inputs import Case
from tests.bad_inputs._shop import first_image
from tests.helpers.files.bombs import png
from tests.helpers.files.tiff import tiff

IMAGE = Path("shop/a.jpg")
ROW = r"error: shop/t\.csv row 2: image /here/shop/a\.jpg "
MEND = r"; data\.on_bad_image: skip continues without such images"
KINDS = "; expected an intact JPEG, PNG, WebP, BMP, GIF or TIFF file"


def encoded(kind: str, mode: str = "RGB") -> bytes:
    """Return a small image that is whole."""
    file = BytesIO()
    Image.new(mode, (64, 48), 128).save(file, kind)
    return file.getvalue()


def loaded(intensity: Intensity | None = None) -> str:
    """Load the image as a training does; say what came."""
    tasks = {"type": Classification(["Dress", "Shirt"])}
    shop = TableSource("shop/t.csv", intensity=intensity)
    return first_image(PartialLabels(tasks, {"shop": shop}, splits={}))


def image(
    name: str,
    content: bytes | Callable[[], object],
    expected: str,
    intensity: Intensity | None = None,
) -> Case:
    """Return the case of an image that a table names; ``content``: what is in it, or makes it."""

    def make() -> None:
        IMAGE.parent.mkdir()
        IMAGE.parent.joinpath("t.csv").write_text("image,type\na.jpg,Dress\n")
        if isinstance(content, bytes):
            IMAGE.write_bytes(content)
        else:
            content()

    return Case(name, make, partial(loaded, intensity), expected)


def unreadable(reason: str) -> str:
    return rf"{ROW}cannot be read \({reason}\){KINDS}{MEND}"


def unknown(pixels: str) -> str:
    return rf"{ROW}has {pixels}; set which values are black and white: `intensity: .*{MEND}"


JPEG = encoded("JPEG")
SIGNED = np.tile(np.array([[-9, 90]], dtype=np.int16), (32, 16))
CASES = [
    image("an empty file", b"", unreadable("an empty file")),
    image("text", b"not an image at all", unreadable("not an image, or broken at its start")),
    image("a JPEG cut in the middle", JPEG[: len(JPEG) // 2], unreadable(".*")),
    image("a PNG cut in the middle", encoded("PNG")[:60], unreadable(".*")),
    image("a JPEG cut after its header", JPEG[:20], unreadable(".*")),
    image("a PNG that is called .jpg", encoded("PNG"), r"handled: \(3, 8, 8\) pixels, mean 43"),
    image("grey, of one channel", encoded("JPEG", "L"), r"handled: \(3, 8, 8\) pixels, mean 128"),
    image("CMYK", encoded("JPEG", "CMYK"), r"handled: \(3, 8, 8\) pixels, mean \d+"),
    image("a TIFF of signed pixels", tiff(SIGNED), unknown("16-bit signed pixels, from -9 to 90")),
    image("a TIFF of floats", tiff(SIGNED.astype(np.float32)), unknown("pixels that are floats")),
    image(
        "a TIFF of 16 bits that holds 12",
        tiff(SIGNED.astype(np.uint16) % 4096),
        unknown("16-bit pixels, none above 4,087, as if of 12 bits or fewer"),
    ),
    image(
        "a TIFF of signed pixels whose range is given",
        tiff(SIGNED),
        r"handled: \(3, 8, 8\) pixels, mean 128",
        Intensity(min=-9, max=90),
    ),
    image(
        "a TIFF of 64-bit floats",
        tiff(SIGNED.astype(np.float64)),
        unreadable("a TIFF file broken at its start, or of a kind that is not read; save it .*"),
    ),
    image("a folder called .jpg", IMAGE.mkdir, r"error: .*there is no file \"a\.jpg\".*"),
    image(
        "a PNG of 40 kB that unpacks to 2.7 GB",
        lambda: IMAGE.write_bytes(png(30_000, 30_000)),
        rf"{ROW}has 900,000,000 pixels, and data\.max_pixels allows [\d,]+{MEND}",
    ),
]
