"""From the paths that a table writes to resolved files: a listing per folder, no call per row."""

import errno
import os
import re
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from mtl_lightning.data.sources.base import Texts
from mtl_lightning.errors import UserError, quoted, short

Path = str | os.PathLike[str]

LONGEST_PATH = 4096
"""Characters of a path; no system opens a longer one."""
_NOWHERE = (errno.ENOENT, errno.ENOTDIR, errno.ENAMETOOLONG, errno.ELOOP)


def texts(values: Sequence[str | None]) -> Texts:
    """Return strings and Nones as a 1-D object array."""
    out = np.empty(len(values), dtype=object)
    out[:] = values
    return out


def locate(
    root: Path, paths: Sequence[str], allow_outside_root: bool = False
) -> tuple[Texts, npt.NDArray[np.bool_]]:
    """Resolve image files.

    Each distinct folder is resolved and listed once, so a million rows on a network drive cost
    as many calls as they have folders. Links to files are resolved one by one.

    Args:
        root: The folder that relative paths start from.
        paths: N paths as written in a table, relative or absolute.
        allow_outside_root: Whether a file may be elsewhere than below ``root``, once all links
            are resolved (those of ``root`` too). Else no folder elsewhere is even listed.

    Returns:
        The N resolved absolute paths (as written where there is no such file), and whether each
        is a file that may be taken, bool (N,); `absence` says why one is not.

    Raises:
        UserError: If a folder may not be listed.
    """
    top = None if allow_outside_root else os.path.realpath(root)
    files: dict[str, str | None] = dict.fromkeys(paths)
    for folder in {path[: path.rfind("/") + 1]: None for path in paths}:
        _list_files(root, folder, top, files)
    images = np.fromiter(map(files.get, paths), dtype=object, count=len(paths))
    exists: npt.NDArray[np.bool_] = images != None  # noqa: E711 (elementwise)
    if not exists.all():
        images[~exists] = texts([path for path in paths if files[path] is None])
    return images, exists


def relative_keys(root: Path, paths: Sequence[str]) -> Texts:
    """Return paths relative to a source's root, in one spelling on every machine.

    ``./a.jpg``, ``b/../a.jpg`` and ``<root>/a.jpg`` all become ``a.jpg``; an absolute path to
    another place stays absolute.
    """
    top = os.path.join(os.path.abspath(root), "")
    odd = ("./", "//", "/.")
    whole = "\n".join(paths)
    if not any(part in whole for part in (top, *odd)):
        return texts(paths)
    return texts(
        [
            os.path.normpath(path).replace(os.sep, "/") if any(o in path for o in odd) else path
            for path in (path.removeprefix(top) for path in paths)
        ]
    )


def outside(root: Path, path: str) -> str:
    """Return what a path leads to, links resolved, if that is not below ``root``; else ``""``."""
    try:
        real = os.path.realpath(os.path.join(root, path))
    except ValueError:  # a NUL, or what is no text: there can be no such file
        return ""
    return "" if is_below(real, os.path.realpath(root)) else real


def absence(root: Path, path: str, allow_outside_root: bool = False) -> tuple[str, str]:
    """Say why `locate` gives no file for a path, and what can be done about it."""
    name, top = quoted(path), os.path.abspath(root)
    if url(path) or url(root):
        what = f"{name} is a URL" if url(path) else f"the root {quoted(os.fspath(root))} is a URL"
        return what, "download the images and say where they are"
    real = "" if allow_outside_root or len(path) > LONGEST_PATH else outside(root, path)
    if real:
        linked = is_below(os.path.normpath(os.path.join(top, path)), top)
        leads = f"leads by a link to {short(real)}," if linked else "is"
        remedy = "put it below, or, if you trust these paths, say `allow_outside_root: true`"
        return f"{name} {leads} outside of the root {top}", remedy
    what = f"there is no file {name} in {top}{'' if os.path.isdir(top) else ', which is no folder'}"
    if "\\" in path:
        return what, "write / between folders"
    return what, "is `root` the folder that the paths are relative to?"


def url(path: Path) -> bool:
    """Whether this is the address of something that would have to be downloaded first."""
    return re.match(r"[A-Za-z][A-Za-z0-9+.-]*://", os.fspath(path)) is not None


def check_inside(root: Path, path: str) -> None:
    """Raise a `UserError` if a path below ``root`` leads out of it by a link."""
    if outside(root, path):
        what, remedy = absence(root, path)
        raise UserError(f"folder {os.fspath(root)}: {what}; {remedy}")


def is_below(real: str, top: str) -> bool:
    """Whether one resolved path is another or below it."""
    return real == top or real.startswith(os.path.join(top, ""))


def _list_files(root: Path, folder: str, top: str | None, files: dict[str, str | None]) -> None:
    """Fill in those of the files that are in ``folder``, which ends in ``/``.

    Nothing that is not below ``top`` is listed or taken; None: wherever it is.
    """
    if len(folder) > LONGEST_PATH:
        return
    try:
        real = os.path.realpath(os.path.join(root, folder))
        if top is not None and not is_below(real, top):
            return
        with os.scandir(real) as entries:
            for entry in entries:
                path = folder + entry.name
                if path not in files:
                    continue
                if entry.is_file(follow_symlinks=False):
                    files[path] = entry.path
                elif entry.is_symlink() and (file := _resolved(entry, top)):
                    files[path] = file
    except ValueError:  # a NUL, or what is no text
        return
    except OSError as error:
        if error.errno not in _NOWHERE:
            raise UserError(f"folder {real} cannot be listed: {error.strerror}") from None


def _resolved(link: "os.DirEntry[str]", top: str | None) -> str:
    """Return where the file is that a link leads to, or "" if it is none or may not be taken."""
    try:
        if not link.is_file():
            return ""
    except OSError:  # it leads in a circle
        return ""
    file = os.path.realpath(link.path)
    return file if top is None or is_below(file, top) else ""
