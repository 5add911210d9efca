"""The files that rows name, each of which must be there."""

import os
from collections.abc import Callable, Sequence

import numpy as np

from mtl_lightning.data.sources.base import Texts
from mtl_lightning.data.sources.locate import Path, locate
from mtl_lightning.errors import UserError


def rooted(root: Path, paths: Sequence[str], where: Callable[[int], str]) -> Texts:
    """Resolve the image files that rows name.

    Args:
        root: The folder that relative paths start from.
        paths: N paths as written, relative or absolute.
        where: Names a row for messages.

    Returns:
        The N resolved absolute paths.

    Raises:
        UserError: If one is not there; names the first, and says how many.
    """
    images, exists = locate(root, paths)
    missing = np.flatnonzero(~exists)
    if missing.size:
        first = int(missing[0])
        raise UserError(
            f'{where(first)}: there is no file "{paths[first]}" in {os.path.abspath(root)} '
            f"({len(missing)} of {len(paths)} images are not there); is `root` the folder that "
            "the paths are relative to?"
        )
    return images
