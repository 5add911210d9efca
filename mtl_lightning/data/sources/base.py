"""The base class of sources: tables of rows with a text label, or none, for each task.

A row is usually about an image; it may have columns that the network reads as well, or instead.

Adding a source
---------------
1. Write ``sources/<name>.py`` with a subclass of `Source`. The constructor's arguments are the
   user's settings: annotated, no ``**kwargs``; store them, and read nothing there.
2. ``read(tasks)`` returns a `SourceTable`. Labels and groups are text (`str`), or None; which
   texts are the same is decided in one place for all sources (`tasks.cells`). Tasks without labels
   in the source are left out of ``labels``. Whatever the user can fix is a `UserError` that names
   file, row and column. A storage that cannot be reached is a `SourceError`, or it would count as
   bad images.
3. ``images`` identifies an image across sources: the resolved path of a file (`rooted.rooted`,
   which refuses what is outside of the source's root unless ``allow_outside_root`` is an argument
   of yours and true), or a key of your own such as ``"digits:17"``; for that override `load`
   (and `content`, if what you decode there is a file's content: packs then hold it as it is).
4. ``keys`` decides the random split, so it must be the same on every machine: the path relative
   to the source's root, or your own key.
5. `check_files` may find files that do not exist before anything slow is imported.
6. If the format of its data is distinctive, `recognise` it: then ``init`` proposes the source.
7. Import the class in ``sources/__init__.pyi`` and test it in
   ``tests/data/sources/test_<name>.py``.
"""

from abc import ABC, abstractmethod
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from mtl_lightning.data.dates import Dates
from mtl_lightning.data.images import (
    MAX_PIXELS,
    content_of,
    decode,
    encode,
    file_content,
)
from mtl_lightning.data.intensity import Intensity
from mtl_lightning.system.errors import UserError, quoted, short

Texts: TypeAlias = npt.NDArray[np.object_]
"""A 1-D object array of `str` or None."""


@dataclass(frozen=True)
class SourceTable:
    """The images and labels of a source; every array has one cell per row.

    Attributes:
        origin: The name of the source in messages, such as ``type.csv`` or ``folder photos/``.
        images: `str`: the resolved absolute path, or a unique key such as ``digits:17``.
        keys: `str`: a name of the image that is the same on all machines, see `splits.assign`.
        labels: Task to the labels of its rows, (n,) `str` or None, or (n, columns) where several
            columns answer, the first first. Tasks without a label are left out.
        splits: ``train``, ``val``, ``test`` or None in each row; None for a source without splits.
        groups: `str` or None in each row; None for a source without groups.
        rows: The row as in a spreadsheet (the header is row 1), the line of a JSON Lines file or
            the position in a Parquet file, counted from 1; None if there is no table, where the
            image's key identifies it better.
        columns: Task, or input, to the columns that its cells are from, for messages.
        origins: The name of each row's file in messages, if there are several; None if all rows
            are from ``origin``.
        notes: Notes for the user before training, one line each.
        shards: (n,) int, the number of the file that holds each row's image, if files hold many
            that are best loaded together; None if each image is a file of its own.
        dates: (n,) datetime64[us] or NaT; None for a source without dates.
        inputs: Input to the cells of its rows, (n,) `str` or None, see `Source.inputs_wanted`.
            Inputs that are not in the source are left out.
        slices: Column to the cells of its rows, likewise, see `Source.slices_wanted`.
        without_image: (n,) bool, the rows that have no image, whose ``images`` are only names; None
            if all have one.
    """

    origin: str
    images: Texts
    keys: Texts
    labels: dict[str, Texts]
    splits: Texts | None = None
    groups: Texts | None = None
    rows: npt.NDArray[np.int64] | None = None
    columns: Mapping[str, Sequence[str]] = field(default_factory=dict)
    origins: Texts | None = None
    notes: Sequence[str] = ()
    shards: npt.NDArray[np.int64] | None = None
    dates: Dates | None = None
    inputs: Mapping[str, Texts] = field(default_factory=dict)
    slices: Mapping[str, Texts] = field(default_factory=dict)
    without_image: npt.NDArray[np.bool_] | None = None

    def location(self, i: int, task: str | None = None, column: int | None = None) -> str:
        """Return the place of row ``i`` (a position in the arrays): ``type.csv row 17``.

        With a task, it includes its columns, or the one with the given number.
        """
        if self.rows is None:
            return f"{self.origin} {short(self.keys[i])}"
        names = () if task is None else self.columns.get(task, ())
        if column is not None:
            names = names[column : column + 1]
        place = f", column {' or '.join(map(quoted, names))}" if names else ""
        origin = self.origin if self.origins is None else self.origins[i]
        return f"{origin} row {self.rows[i]}{place}"


@dataclass(frozen=True)
class Recognised:
    """Data in the format of a source.

    Attributes:
        arguments: Arguments of the source's constructor that differ from its defaults.
        labels: The names of all labels of the data.
    """

    arguments: Mapping[str, Any]
    labels: Sequence[str]


class Source(ABC):
    """A collection of images with labels for some of the tasks.

    Attributes:
        max_pixels: Larger images are refused; ``data.max_pixels``, set by the DataModule.
        cover: The (height, width) that images will be scaled down to cover, set by the DataModule:
            a larger image may be loaded at any size that covers it, too.
        intensity: The values of its files that are black and white; an argument of sources that
            read files.
        inputs_wanted: The names of the columns that the network reads, set by the DataModule.
        slices_wanted: The columns whose values divide the results, likewise.
        runs_code: Whether it imports, unpickles or downloads what its arguments name, so that a
            checkpoint alone may not name it. Set it in such a class.
    """

    max_pixels: int = MAX_PIXELS
    cover: tuple[int, int] | None = None
    intensity: Intensity | None = None
    inputs_wanted: Sequence[str] = ()
    slices_wanted: Sequence[str] = ()
    runs_code: bool = False

    @classmethod
    def recognise(cls, path: str) -> Recognised | None:
        """Return how to read a folder or file if it has the format of this source.

        By default, none: ``init`` inspects tables and folders itself.
        """
        del path
        return None

    @property
    def threadsafe(self) -> bool:
        """Whether `load` and `content` may be called by several threads at the same time."""
        return type(self).load is Source.load

    def check_files(self) -> None:  # noqa: B027 - for subclasses
        """Check that the files, folders and columns that the arguments name exist.

        Commands call it before torch is imported, so that a wrong name is found at once: it should
        be quick, and refuse only what `read` refuses, in the same words. By default, nothing is
        checked.

        Raises:
            UserError: For the first that does not exist.
        """

    @abstractmethod
    def read(self, tasks: Sequence[str]) -> SourceTable:
        """Read the labels that this source has for ``tasks``; no image is opened.

        Args:
            tasks: The names of all tasks of the run, and ``task/label`` for each label of a
                multi-label task.

        Returns:
            One row per mentioned image, in a stable order.

        Raises:
            UserError: For whatever the user can fix: a file, column, row or name.
        """

    def missing_images(self) -> dict[int, str]:
        """Return the rows whose image does not exist: their index, and their name in messages.

        Empty if the source does not know; called after `read` has failed.
        """
        return {}

    def read_without(self, rows: Collection[int], tasks: Sequence[str]) -> SourceTable | None:  # noqa: ARG002 - for subclasses
        """Read all rows except some of `missing_images`; None if none is left. See `read`."""
        return None

    def target_files(self, table: SourceTable, task: str) -> Texts:
        """Resolve the files that are the labels of a task which reads its targets from files.

        Args:
            table: What `read` returned.
            task: A task that is in ``table.labels``.

        Returns:
            The resolved absolute paths, or keys for `target_content`, of the shape of the labels;
            None where there is none.

        Raises:
            UserError: If a file is not there or may not be taken; or, as here, if the source names
                no files besides its images.
        """
        del table
        raise UserError(
            f"task {task} reads its targets from files, and {type(self).__name__} names none; name "
            f"them in a column of a TableSource"
        )

    def target_content(self, target: str) -> bytes:
        """Return the content of a target that `target_files` returned: by default of this file.

        Raises:
            Exception: Any, if it cannot be read.
        """
        return file_content(target)

    def load(self, image: str) -> npt.NDArray[np.uint8]:
        """Return the image that `read` named ``image`` as (height, width, 3) RGB, uint8.

        Raises:
            UserError: If the file cannot be read as an image.
            SourceError: If nothing can be loaded, whatever the image.
        """
        return decode(image, self.max_pixels, cover=self.cover, intensity=self.intensity)

    def content(self, image: str) -> bytes:
        """Return the image as a file in one of `images.FORMATS`, with the pixels of `load`.

        By default it is the file that ``image`` names, byte for byte; in a source that overrides
        `load`, or has an `intensity`, a PNG file of the pixels.

        Raises:
            UserError: If the image cannot be read.
            SourceError: See `load`.
        """
        if type(self).load is Source.load and self.intensity is None:
            return content_of(image, self.max_pixels)
        return encode(self.load(image))
