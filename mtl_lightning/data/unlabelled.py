"""The images of a prediction: from a folder, a table or a glob, in its order, without labels."""

import glob
import os
from dataclasses import dataclass

from mtl_lightning.data.images import MAX_PIXELS, Pixels, decode
from mtl_lightning.data.sources.folder import EXTENSIONS, images_below
from mtl_lightning.data.sources.table import TableSource
from mtl_lightning.data.sources.tabular import SUFFIXES
from mtl_lightning.errors import UserError, did_you_mean, listed


@dataclass(frozen=True)
class UnlabelledImages:
    """Images by number.

    Attributes:
        names: What each is called in the predictions: as the table writes it, else its path.
        paths: The files.
        max_pixels: Larger images are refused.
    """

    names: list[str]
    paths: list[str]
    max_pixels: int = MAX_PIXELS

    def __len__(self) -> int:
        return len(self.paths)

    def load(self, row: int) -> Pixels:
        """Return an image as (height, width, 3) RGB, uint8."""
        return decode(self.paths[row], self.max_pixels)

    def name(self, row: int) -> str:
        """Return the path of an image."""
        return self.paths[row]

    def where(self, row: int) -> str:
        """Return what a message calls the place that names an image."""
        return f"--images, image {row + 1}"

    @classmethod
    def find(cls, spec: str, max_pixels: int = MAX_PIXELS) -> "UnlabelledImages":
        """Find what ``--images`` means.

        Args:
            spec: A folder (all images below it, sorted), a table with a column ``image`` (in its
                order), a single image, or a glob (sorted).
            max_pixels: Larger images are refused when they are loaded.

        Raises:
            UserError: If there is nothing, or a file of a table is not there.
        """
        spec = os.path.expanduser(spec)
        if os.path.isdir(spec):
            paths = [
                os.path.join(spec, name.removeprefix("./")) for name in images_below(spec, ".")
            ]
            if not paths:
                raise UserError(f"--images {spec}: no image below; expected {listed(EXTENSIONS)}")
            return cls(paths, paths, max_pixels)
        if spec.lower().endswith(SUFFIXES):
            names, files = TableSource(spec).read_images()
            return cls(names.tolist(), files.tolist(), max_pixels)
        paths = sorted(path for path in glob.glob(spec, recursive=True) if os.path.isfile(path))
        if not paths:
            folder, name = os.path.split(spec)
            near = os.listdir(folder or ".") if os.path.isdir(folder or ".") else []
            raise UserError(
                f"--images {spec}: no such file or folder, and nothing matches it as a glob"
                f"{did_you_mean(name, near)}"
            )
        return cls(paths, paths, max_pixels)
