"""Images"""

from collections.abc import Callable
from io import BytesIO
from pathlib import Path

from PIL import Image

from mtl_lightning import Classification, PartialLabels, TableSource
from tests.bad_inputs import Case
from tests.bad_inputs._shop import first_image
from tests.helpers.bombs import png

IMAGE = Path("shop/a.jpg")
ROW = r"error: shop/t\.csv row 2: image /here/shop/a\.jpg "
MEND = r"; data\.on_bad_image: skip goes on without such images"
KINDS = "; expected an intact JPEG, PNG, WebP, BMP, GIF or TIFF file"


def encoded(kind: str, mode: str = "RGB") -> bytes:
    """Return a small image that is whole."""
    file = BytesIO()
    Image.new(mode, (64, 48), 128).save(file, kind)
    return file.getvalue()


def loaded() -> str:
    """Load the image as a training does; say what came."""
    tasks = {"type": Classification(["Dress", "Shirt"])}
    return first_image(PartialLabels(tasks, {"shop": TableSource("shop/t.csv")}, splits={}))


def image(name: str, content: bytes | Callable[[], object], expected: str) -> Case:
    """Return the case of an image that a table names; ``content``: what is in it, or makes it."""

    def make() -> None:
        IMAGE.parent.mkdir()
        IMAGE.parent.joinpath("t.csv").write_text("image,type\na.jpg,Dress\n")
        if isinstance(content, bytes):
            IMAGE.write_bytes(content)
        else:
            content()

    return Case(name, make, loaded, expected)


def unreadable(reason: str) -> str:
    return rf"{ROW}cannot be read \({reason}\){KINDS}{MEND}"


JPEG = encoded("JPEG")
CASES = [
    image("an empty file", b"", unreadable("an empty file")),
    image("text", b"not an image at all", unreadable("not an image, or broken at its start")),
    image("a JPEG cut in the middle", JPEG[: len(JPEG) // 2], unreadable(".*")),
    image("a PNG cut in the middle", encoded("PNG")[:60], unreadable(".*")),
    image("a JPEG cut after its header", JPEG[:20], unreadable(".*")),
    image("a PNG that is called .jpg", encoded("PNG"), r"handled: \(3, 8, 8\) pixels, mean 43"),
    image("grey, of one channel", encoded("JPEG", "L"), r"handled: \(3, 8, 8\) pixels, mean 128"),
    image("CMYK", encoded("JPEG", "CMYK"), r"handled: \(3, 8, 8\) pixels, mean \d+"),
    image("a folder called .jpg", IMAGE.mkdir, r"error: .*there is no file \"a\.jpg\".*"),
    image(
        "a PNG of 40 kB that unpacks to 2.7 GB",
        lambda: IMAGE.write_bytes(png(30_000, 30_000)),
        rf"{ROW}has 900,000,000 pixels, and data\.max_pixels allows [\d,]+{MEND}",
    ),
]
