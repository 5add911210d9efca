"""The images themselves: sizes from their headers, and whether a sample can be decoded."""

from dataclasses import dataclass
from hashlib import blake2b

import numpy as np
import numpy.typing as npt
from PIL import Image

from mtl_lightning.audit.findings import Finding, Level
from mtl_lightning.audit.shapes import CROPPED, cropped, fitting_size
from mtl_lightning.audit.survey import is_file
from mtl_lightning.data.images import Pixels
from mtl_lightning.data.merged_table import MergedTable
from mtl_lightning.data.resizing import Resize
from mtl_lightning.system.errors import UserError, image_error
from mtl_lightning.system.hardware import cores
from mtl_lightning.system.progress import ProgressBar

SIZED, DECODED = 10_000, 500
"""Numbers of images whose header is read, and that are decoded, unless all are."""
UPSCALED = 0.25
"""Share of images smaller than the network's input above which there is a finding."""
SMALLEST = 32
"""Pixels below which most backbones refuse an image, so that scans of digits must be enlarged."""
_ORIENTATION, _TURNED = 274, (5, 6, 7, 8)
_WITH_EXIF_FIRST = ("JPEG", "MPO", "WEBP")
"""Formats whose orientation is known without decoding."""


@dataclass(frozen=True)
class ImageSurvey:
    """Sizes and errors of images.

    Attributes:
        total: Number of images.
        rows: (n,) the rows whose size is known, in order.
        sizes: (n, 2) their heights and widths, in pixels.
        decoded: Number of images that were decoded.
        unreadable: Row to the error.
        equal: Groups of rows with the same pixels, among the decoded that are not files.
    """

    total: int
    rows: npt.NDArray[np.int64]
    sizes: npt.NDArray[np.int64]
    decoded: int
    unreadable: dict[int, str]
    equal: list[list[int]]

    def upscaled(self, size: tuple[int, int]) -> float:
        """Return the share of images that are smaller than (height, width) in any dimension."""
        return float((self.sizes < np.array(size)).any(axis=1).mean()) if len(self.rows) else 0.0

    def extremes(self) -> tuple[int, int]:
        """Return the positions in ``rows`` of the image with the fewest and the most pixels."""
        area = self.sizes.prod(axis=1)
        return int(area.argmin()), int(area.argmax())


def survey_images(
    table: MergedTable, seed: int, everything: bool, progress: ProgressBar
) -> ImageSurvey:
    """Read the sizes of images, and decode a sample.

    Args:
        table: The images.
        seed: The seed of the sample.
        everything: Decode all of them instead.
        progress: The progress bar.

    Raises:
        SourceError: If a source fails as a whole.
    """
    there = np.flatnonzero(table.has_image)
    order = there[np.random.default_rng(seed).permutation(len(there))]
    sized = order if everything else order[:SIZED]
    decoded = set((order if everything else order[:DECODED]).tolist())
    files = [int(row) for row in sorted(sized) if is_file(table.images[row])]
    threads = cores()
    headers = progress.map(
        read_size, [table.images[row] for row in files], "reading sizes", threads
    )
    sizes = {row: size for row, size in zip(files, headers, strict=True) if size is not None}
    doubtful = [row for row in files if row not in sizes]  # decoding them gives the error
    rows = sorted(decoded.union(doubtful))
    threads = threads if all(source.threadsafe for source in table.sources) else 1
    looked = progress.map(lambda row: _try(table, row), rows, "decoding images", threads)
    unreadable: dict[int, str] = {}
    contents: dict[bytes, list[int]] = {}
    for row, result in zip(rows, looked, strict=True):
        if isinstance(result, str):
            unreadable[row] = result
            sizes.pop(row, None)
        else:
            sizes[row], content = result
            contents.setdefault(content, []).append(row)
    contents.pop(b"", None)
    known = sorted(sizes)
    return ImageSurvey(
        total=len(there),
        rows=np.array(known, dtype=np.int64),
        sizes=np.array([sizes[row] for row in known], dtype=np.int64).reshape(-1, 2),
        decoded=len(rows),
        unreadable=unreadable,
        equal=[same for same in contents.values() if len(same) > 1],
    )


def read_size(path: str) -> tuple[int, int] | None:
    """Return (height, width) of a file, orientation applied; None if its header is unreadable."""
    try:
        with Image.open(path) as image:
            width, height = image.size
            if image.format in _WITH_EXIF_FIRST and image.getexif().get(_ORIENTATION) in _TURNED:
                return width, height
            return height, width
    except Exception:  # Pillow's readers raise errors of any type for a broken file
        return None


def _try(table: MergedTable, row: int) -> tuple[tuple[int, int], bytes] | str:
    """Return (height, width) and a hash of the pixels, empty for a file; or the error."""
    try:
        pixels = table.load(row)
    except UserError as error:
        return image_error(error)
    except Exception as error:  # a user's own source may raise anything
        return f"{table.location(row)}: {type(error).__name__}: {' '.join(str(error).split())}"
    height, width = pixels.shape[:2]
    return (height, width), b"" if is_file(table.images[row]) else _hash(pixels)


def _hash(pixels: Pixels) -> bytes:
    shape = np.array(pixels.shape, dtype=np.int64).tobytes()
    return blake2b(shape + pixels.tobytes(), digest_size=16).digest()


def thumbnail(table: MergedTable, row: int, side: int) -> Image.Image | None:
    """Return an image in a square of ``side`` pixels, None if it cannot be read."""
    try:
        image = Image.fromarray(table.load(row))
    except Exception:  # `_try` gives the error, if it is in the sample
        return None
    image.thumbnail((side, side), Image.Resampling.LANCZOS, reducing_gap=2.0)
    return image


def findings(survey: ImageSurvey, size: tuple[int, int], mode: Resize = "cover") -> list[Finding]:
    """Return images that cannot be read, and whether many would be enlarged or lose their sides.

    Args:
        survey: The survey of the images.
        size: The (height, width) of the network's input.
        mode: How images get that size, see `resizing.resize`.
    """
    found = []
    if survey.unreadable:
        part = survey.decoded < survey.total
        found.append(
            Finding(
                Level.ERROR,
                f"{len(survey.unreadable):,} of the {survey.decoded:,} images that were "
                f"decoded cannot be read",
                "replace them, or take their rows out" + (" (--all tries every one)" * part),
                tuple(survey.unreadable.values()),
            )
        )
    crop = _crop_finding(survey, size) if mode == "cover" else []
    share = survey.upscaled(size)
    if share > UPSCALED and min(size) > SMALLEST:
        found.append(
            Finding(
                Level.WARNING,
                f"{share:.0%} of the images are smaller than {size[0]} x {size[1]} and would be "
                f"enlarged",
                "a smaller data.image_size trains faster"
                + " and loses nothing of them" * (not crop),
            )
        )
    return found + crop


def _crop_finding(survey: ImageSurvey, size: tuple[int, int]) -> list[Finding]:
    """Warn if the centre crop of evaluation loses much of most images."""
    removed = float(np.median(cropped(survey.sizes, size))) if len(survey.rows) else 0.0
    if removed <= CROPPED:
        return []
    better = fitting_size(survey.sizes, min(size))
    other = f", and data.image_size: {list(better)} has the shape of most" * (better != size)
    return [
        Finding(
            Level.WARNING,
            f"the centre crop of {size[0]} x {size[1]} removes {removed:.0%} of the median image",
            f"data.resize: contain keeps whole images (between black bars), stretch too{other}",
        )
    ]
