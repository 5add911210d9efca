"""The images or rows of a prediction: from a folder, a table or a glob, without labels."""

import glob
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

import numpy as np
import numpy.typing as npt

from mtl_lightning.data.batch import IMAGE
from mtl_lightning.data.images import MAX_PIXELS, Pixels, decode
from mtl_lightning.data.intensity import Intensity
from mtl_lightning.data.sources.base import Texts
from mtl_lightning.data.sources.folder import PassedOver, images_below
from mtl_lightning.data.sources.locate import check_inside, locate, url
from mtl_lightning.data.sources.table import TableSource
from mtl_lightning.data.sources.tabular import SUFFIXES, TableFile, open_table
from mtl_lightning.inputs import Input
from mtl_lightning.system.errors import UserError, did_you_mean, listed, quoted
from mtl_lightning.system.files import as_utf8


@dataclass(frozen=True)
class UnlabelledImages:
    """Images by number, perhaps with columns; or rows of a table without images.

    Attributes:
        names: The name of each image in the predictions: as the table writes it, else its path;
            of a row without image, its number in the table.
        paths: The files; "" for a row without image.
        max_pixels: Larger images are refused.
        cover: See `Source.cover`.
        intensity: See `Source.intensity`.
        notes: Notes for the user, one line each.
        inputs: Input to its cells, (N,) `str` or None.
        table: The table that has the inputs.
    """

    names: list[str]
    paths: list[str]
    max_pixels: int = MAX_PIXELS
    cover: tuple[int, int] | None = None
    intensity: Intensity | None = None
    notes: tuple[str, ...] = ()
    inputs: dict[str, Texts] = field(default_factory=dict)
    table: TableFile | None = None

    def __len__(self) -> int:
        return len(self.paths)

    def load(self, row: int) -> Pixels:
        """Return an image as (height, width, 3) RGB, uint8."""
        return decode(self.paths[row], self.max_pixels, cover=self.cover, intensity=self.intensity)

    def name(self, row: int) -> str:
        """Return the path of an image."""
        return self.paths[row]

    def location(self, row: int) -> str:
        """Return the location of an image for a message."""
        return f"--images, image {row + 1}"

    def location_of_input(self, row: int, name: str) -> str:
        """Return the location of a cell for a message."""
        assert self.table is not None  # or there is no input
        return self.table.location(row, name)

    def cells(self) -> Iterator[str | None]:
        """Yield the cells of all inputs."""
        for column in self.inputs.values():
            yield from column

    @property
    def has_image(self) -> npt.NDArray[np.bool_]:
        """Which rows have an image, (N,)."""
        return np.array([path != "" for path in self.paths], dtype=bool)

    @classmethod
    def find(
        cls,
        spec: str,
        allow_outside_root: bool = False,
        max_pixels: int = MAX_PIXELS,
        inputs: Mapping[str, Input] = MappingProxyType({}),
    ) -> "UnlabelledImages":
        """Find the images of ``--images``.

        Args:
            spec: A folder (all images below it, sorted), a table with a column ``image`` (in its
                order), a single image, or a glob (sorted).
            allow_outside_root: Whether a table's paths, or links in a folder, may lead out of the
                folder.
            max_pixels: Larger images are refused when they are loaded.
            inputs: The columns that the network reads, by name; then ``spec`` has to be a table
                with columns of these names, perhaps without images.

        Raises:
            UserError: If there are no images, or a file of a table does not exist or is outside.
        """
        spec = os.path.expanduser(spec)
        if inputs:
            return cls._rows(spec, allow_outside_root, max_pixels, inputs)
        if os.path.isdir(spec):
            passed = PassedOver()
            paths = _below(spec, allow_outside_root, passed)
            return cls(list(map(as_utf8, paths)), paths, max_pixels, notes=tuple(passed.notes()))
        if spec.lower().endswith(SUFFIXES):
            source = TableSource(spec, allow_outside_root=allow_outside_root)
            names, files = source.read_images()
            return cls(names.tolist(), files.tolist(), max_pixels)
        if url(spec):
            raise UserError(f"--images {spec} is a URL; download the images and name their folder")
        paths = sorted(path for path in glob.glob(spec, recursive=True) if os.path.isfile(path))
        if not paths:
            folder, name = os.path.split(spec)
            near = os.listdir(folder or ".") if os.path.isdir(folder or ".") else []
            raise UserError(
                f"--images {spec}: no such file or folder, and nothing matches it as a glob"
                f"{did_you_mean(name, near)}"
            )
        return cls(list(map(as_utf8, paths)), paths, max_pixels)

    @classmethod
    def _rows(
        cls, spec: str, allow_outside_root: bool, max_pixels: int, inputs: Mapping[str, Input]
    ) -> "UnlabelledImages":
        """Read the rows of a table, and find their images if it has a column `image`."""
        if not spec.lower().endswith(SUFFIXES):
            raise UserError(
                f"--images should be a table with the columns that the network reads "
                f"({listed(inputs)}). Found {spec}"
            )
        table = open_table(spec)
        cells = {name: _column(table, name) for name in inputs}
        image = IMAGE if IMAGE in table.names else None
        source = TableSource(spec, image=image, allow_outside_root=allow_outside_root)
        source.inputs_wanted = list(inputs)
        names, files = source.read_images()
        paths = ["" if file is None else file for file in files.tolist()]
        shown = [
            str(row) if name is None else name
            for row, name in zip(table.rows.tolist(), names.tolist(), strict=True)
        ]
        notes = [note for name in inputs for note in _strange(name, inputs[name], cells[name])]
        return cls(shown, paths, max_pixels, notes=tuple(notes), inputs=cells, table=table)


def _column(table: TableFile, name: str) -> Texts:
    if name not in table.names:
        raise UserError(
            f"--images {table.path} should have a column {quoted(name)}, which the network reads. "
            f"Found {listed(table.names)}{did_you_mean(name, table.names)}"
        )
    return table.column(name)


def _strange(name: str, column: Input, cells: Texts) -> Iterator[str]:
    """Note the cells that training has never seen."""
    found = cells[column.unknown(cells)]
    if len(found):
        examples = listed(map(quoted, dict.fromkeys(found.tolist())), 3)
        yield (
            f"column {quoted(name)}: {len(found):,} of {len(cells):,} cells have a value that no "
            f"training row had ({examples}), and are read as unknown"
        )


def _below(folder: str, allow_outside_root: bool, passed: PassedOver) -> list[str]:
    names = [n.removeprefix("./") for n in images_below(folder, ".", allow_outside_root, passed)]
    if not names:
        raise UserError(f"--images {folder}: no image below; expected {passed.instead()}")
    if not allow_outside_root:
        _, taken = locate(folder, names)
        for row in np.flatnonzero(~taken):
            check_inside(folder, names[row])  # a broken link is found when it is read
    return [os.path.join(folder, name) for name in names]
