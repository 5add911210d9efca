"""The images of a prediction: from a folder, a table or a glob, in its order, without labels."""

import glob
import os
from dataclasses import dataclass

from mtl_lightning.data.images import Pixels, decode
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
    """

    names: list[str]
    paths: list[str]

    def __len__(self) -> int:
        return len(self.paths)

    def load(self, row: int) -> Pixels:
        """Return an image as (height, width, 3) RGB, uint8."""
        return decode(self.paths[row])

    @classmethod
    def find(cls, spec: str) -> "UnlabelledImages":
        """Find what ``--images`` means.

        Args:
            spec: A folder (all images below it, sorted), a table with a column ``image`` (in its
                order), a single image, or a glob (sorted).

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
            return cls(paths, paths)
        if spec.lower().endswith(SUFFIXES):
            names, files = TableSource(spec).read_images()
            return cls(names.tolist(), files.tolist())
        paths = sorted(path for path in glob.glob(spec, recursive=True) if os.path.isfile(path))
        if not paths:
            folder, name = os.path.split(spec)
            near = os.listdir(folder or ".") if os.path.isdir(folder or ".") else []
            raise UserError(
                f"--images {spec}: no such file or folder, and nothing matches it as a glob"
                f"{did_you_mean(name, near)}"
            )
        return cls(paths, paths)
