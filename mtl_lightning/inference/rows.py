"""What a network is given: images of any kind, rows of columns, or both."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import islice
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from torch import Tensor

from mtl_lightning.data.input_columns import read_inputs
from mtl_lightning.data.sources.tabular import TableFile
from mtl_lightning.data.unlabelled import UnlabelledImages
from mtl_lightning.inference.description import Description
from mtl_lightning.inference.images import AnyImage, ImageReader
from mtl_lightning.inference.values import IMAGES, PREFIX, WITH_IMAGE, Values
from mtl_lightning.models.inputs import HAS_IMAGE, IMAGE
from mtl_lightning.system.errors import UserError, did_you_mean, listed, quoted

Row = Mapping[str, Any]
"""Column to its cell: text, a number, a date, or None; and ``image`` to an image of any kind."""

Given = AnyImage | Row | pd.Series | pd.DataFrame | Iterable[AnyImage | Row | pd.Series]


class InputReader:
    """Turns images, or rows with columns, into what a network is given.

    Args:
        description: The facts about the network.
    """

    def __init__(self, description: Description) -> None:
        self.inputs = description.built_inputs()
        self.reads = description.reads
        self._size = description.image_size
        self._images = ImageReader(description)

    def batches(self, given: Given, batch_size: int) -> Iterator[Values]:
        """Yield batches of values for `Run`.

        Args:
            given: Images, see `ImageReader`; or, for a network that reads columns, one row or
                several (a dict or a Series each), or a DataFrame.
            batch_size: The number of rows in each.

        Raises:
            UserError: If an image or a cell cannot be read, or a row lacks a column.
        """
        if not self.inputs:
            images = self._images(given)  # type: ignore[arg-type]  # rows are refused there
            while some := list(islice(images, batch_size)):
                yield {IMAGES: np.stack(some)}
            return
        columns, count = _columns(given, list(self.inputs))
        table = TableFile("the given rows,", list(columns), np.arange(count), columns.__getitem__)
        cells = {name: table.column(name) for name in self.inputs}
        values = read_inputs(self.inputs, cells, table.location, "None")
        for start in range(0, count, batch_size):
            part = slice(start, start + batch_size)
            batch: Values = {f"{PREFIX}{name}": own[part].numpy() for name, own in values.items()}
            if IMAGE in self.reads:
                given_images = columns.get(IMAGE, [None] * count)[part]
                batch |= self._with_images(given_images, np.arange(count)[part])
            yield batch

    def of_files(self, images: UnlabelledImages) -> Callable[[NDArray[np.int64]], Values]:
        """Return a function from row numbers to the values of these images, or rows of a table.

        Raises:
            UserError: If a cell cannot be read; by the function, if an image cannot.
        """
        columns = read_inputs(self.inputs, images.inputs, images.location_of_input)

        def read(rows: NDArray[np.int64]) -> Values:
            values: Values = {f"{PREFIX}{n}": own[rows].numpy() for n, own in columns.items()}
            if IMAGE in self.reads:
                values |= self._with_images([images.paths[row] or None for row in rows], rows)
            return values

        return read

    def _with_images(self, images: list[Any], rows: NDArray[np.int64]) -> Values:
        """Return images and which of them there are; others are black."""
        has = np.array([not _is_missing(image) for image in images], dtype=bool)
        if HAS_IMAGE not in self.reads and not has.all():
            row = int(rows[~has][0])
            raise UserError(
                f'the given rows, row {row} should have an image in "image". Found none'
            )
        pixels = np.zeros((len(images), 3, *self._size), dtype=np.uint8)
        for place in np.flatnonzero(has):
            name = f"the given rows, row {rows[place]}: image"
            pixels[place] = self._images.one(images[place], name)
        return {IMAGES: pixels} | ({WITH_IMAGE: has} if HAS_IMAGE in self.reads else {})


def _columns(given: Any, wanted: list[str]) -> tuple[dict[str, list[Any]], int]:
    """Return the cells of each column, ``image`` among them if it is there, and how many.

    Raises:
        UserError: If a row lacks a column, or is no row, or a cell is not a single value.
    """
    if isinstance(given, pd.DataFrame):
        names = _checked(given.columns, wanted, "the given table")
        found = {name: list(given.iloc[:, place]) for name, place in names.items()}
        count = len(given)
    else:
        one = isinstance(given, Mapping | pd.Series | str | bytes) or not isinstance(
            given, Iterable
        )
        rows = [_row(row, n, wanted) for n, row in enumerate([given] if one else given)]
        found = {name: [row.get(name) for row in rows] for name in [*wanted, IMAGE]}
        count = len(rows)
    cells = {name: [_cell(c, n, name) for n, c in enumerate(found[name])] for name in wanted}
    return ({IMAGE: found[IMAGE]} if IMAGE in found else {}) | cells, count


def _row(row: Any, number: int, wanted: list[str]) -> dict[str, Any]:
    """Return the cells of a row that are read, by name."""
    where = f"the given rows, row {number}"
    if not isinstance(row, Mapping | pd.Series):
        raise UserError(
            f"{where} should be a dict with {listed(wanted)}, which the network reads. Found "
            f"{type(row).__name__}"
        )
    values = list(row.values()) if isinstance(row, Mapping) else list(row)
    return {name: values[place] for name, place in _checked(row.keys(), wanted, where).items()}


def _checked(names: Iterable[Any], wanted: list[str], where: str) -> dict[str, int]:
    """Return the places of the columns that are read, and of the image if there is one.

    Raises:
        UserError: If one is missing, or there twice.
    """
    names = list(map(str, names))
    for name in wanted:
        if name not in names:
            raise UserError(
                f"{where} should have a column {quoted(name)}, which the network reads (None if it "
                f"is missing). Found {listed(names) or 'none'}{did_you_mean(name, names)}"
            )
    places = {name: names.index(name) for name in [*wanted, IMAGE] if name in names}
    for name in places:
        if names.count(name) > 1:
            raise UserError(f"{where} should have a column {quoted(name)} once. Found it twice")
    return places


def _cell(cell: Any, row: int, name: str) -> Any:
    """Return a cell as `TableFile` reads it.

    Raises:
        UserError: If it is not a single value.
    """
    if _is_missing(cell):
        return None
    if isinstance(cell, np.ndarray | Tensor) and cell.ndim == 0:
        return _cell(cell.item(), row, name)
    if isinstance(cell, np.ndarray | Tensor | bytes | Iterable) and not isinstance(cell, str):
        raise UserError(
            f"the given rows, row {row}, column {quoted(name)} should be a text, a number or a "
            f"date. Found {type(cell).__name__}; give a dict for each row"
        )
    return cell


def _is_missing(value: Any) -> bool:
    if value is None or value is pd.NA or value is pd.NaT:
        return True
    return isinstance(value, float) and value != value
