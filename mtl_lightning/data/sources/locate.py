"""From the paths that a table writes to resolved files: a listing per folder, no call per row."""

import os
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pandas as pd

from mtl_lightning.data.sources.base import Texts
from mtl_lightning.errors import UserError

Path = str | os.PathLike[str]


def texts(values: Sequence[str | None]) -> Texts:
    """Return strings and Nones as a 1-D object array."""
    out = np.empty(len(values), dtype=object)
    out[:] = values
    return out


def locate(root: Path, paths: Sequence[str]) -> tuple[Texts, npt.NDArray[np.bool_]]:
    """Resolve image files.

    Each distinct folder is resolved and listed once, so a million rows on a network drive cost
    as many calls as they have folders. Links to files are resolved one by one.

    Args:
        root: The folder that relative paths start from.
        paths: N paths as written in a table, relative or absolute.

    Returns:
        The N resolved absolute paths (as written where there is no such file), and whether each
        is a file, bool (N,).

    Raises:
        UserError: If a folder may not be listed.
    """
    parts = [path.rpartition("/") for path in paths]
    codes, folders = pd.factorize(texts([head + slash for head, slash, _ in parts]))
    names = [name for _, _, name in parts]
    wanted = set(names)
    files = [_files(os.path.join(root, folder), wanted) for folder in folders]
    found = [files[code].get(name) for code, name in zip(codes.tolist(), names, strict=True)]
    exists = np.fromiter((file is not None for file in found), dtype=np.bool_, count=len(found))
    resolved = texts(found)
    missing = np.flatnonzero(~exists).tolist()
    resolved[missing] = texts([paths[i] for i in missing])
    return resolved, exists


def relative_keys(root: Path, paths: Sequence[str]) -> Texts:
    """Return paths relative to a source's root, in one spelling on every machine.

    ``./a.jpg``, ``b/../a.jpg`` and ``<root>/a.jpg`` all become ``a.jpg``; an absolute path to
    another place stays absolute.
    """
    top = os.path.join(os.path.abspath(root), "")
    odd = ("./", "//", "/.")
    return texts(
        [
            os.path.normpath(path).replace(os.sep, "/") if any(o in path for o in odd) else path
            for path in (path.removeprefix(top) for path in paths)
        ]
    )


def _files(folder: str, wanted: set[str]) -> dict[str, str]:
    """Map the names of the wanted files that stand in ``folder`` to their resolved paths."""
    real = os.path.realpath(folder)
    files = {}
    try:
        with os.scandir(real) as entries:
            for entry in entries:
                if entry.name in wanted and entry.is_file():
                    linked = entry.is_symlink()
                    files[entry.name] = os.path.realpath(entry.path) if linked else entry.path
    except (FileNotFoundError, NotADirectoryError):
        return {}
    except OSError as error:
        raise UserError(f"folder {real} cannot be listed: {error.strerror}") from None
    return files
