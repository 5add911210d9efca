"""Which rows are about the same image."""

from collections.abc import Sequence
from typing import Literal

import numpy as np
from rich.console import Console

from mtl_lightning.data.copies import find_copies
from mtl_lightning.data.sources.base import SourceTable, Texts
from mtl_lightning.system.progress import ProgressBar

SameBy = Literal["path", "content", "key"]
"""What identifies an image: the path of its file, the content of the file, or a key."""


def identities(tables: Sequence[SourceTable], by: SameBy) -> Texts:
    """Return a text for each row of all tables, the same for rows about the same image.

    Args:
        tables: The tables, with N rows in total.
        by: ``path``: the resolved path, or the source's own key. ``content``: the path or key of
            the first file that is the same byte for byte; images that are not files have no copies.
            ``key``: the table's key, which is the path relative to its root unless a column names
            it; a row with neither image nor key is alone.

    Returns:
        (N,) str.
    """
    if by == "key":
        return np.concatenate(
            [
                table.keys
                if table.without_image is None
                else np.where(table.without_image, table.images, table.keys)
                for table in tables
            ]
        )
    images: Texts = np.concatenate([table.images for table in tables])
    if by == "path":
        return images
    distinct = list(dict.fromkeys(images))
    first = {
        distinct[position]: distinct[group[0]]
        for group in find_copies(distinct, ProgressBar(Console(stderr=True)))
        for position in group
    }
    out = np.empty(len(images), dtype=object)
    out[:] = [first.get(image, image) for image in images]
    return out
