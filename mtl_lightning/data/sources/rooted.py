"""The files that rows name, each of which must be there."""

from collections.abc import Callable, Sequence

import numpy as np

from mtl_lightning.data.sources.base import Texts
from mtl_lightning.data.sources.locate import Path, absence, locate
from mtl_lightning.system.errors import UserError


def rooted(
    root: Path,
    paths: Sequence[str],
    location: Callable[[int], str],
    allow_outside_root: bool = False,
    files: str = "images",
) -> Texts:
    """Resolve the files that rows name.

    Args:
        root: The folder that relative paths start from.
        paths: N paths as written, relative or absolute.
        location: Names a row for messages.
        allow_outside_root: Whether files elsewhere than below ``root`` may be taken.
        files: What messages call the files.

    Returns:
        The N resolved absolute paths.

    Raises:
        UserError: If one is not there or may not be taken; names the first, and says how many.
    """
    images, exists = locate(root, paths, allow_outside_root)
    missing = np.flatnonzero(~exists)
    if not missing.size:
        return images
    first = int(missing[0])
    what, remedy = absence(root, paths[first], allow_outside_root)
    count = f"{len(missing):,} of {len(paths):,} {files} do not exist"
    raise UserError(f"{location(first)}: {what} ({count}); {remedy}")
