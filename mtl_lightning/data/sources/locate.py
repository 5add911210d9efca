"""Resolving the paths of a table to files: one listing per folder, no call per row."""

import errno
import os
import re
from collections.abc import Collection, Iterator, Sequence

import numpy as np
import numpy.typing as npt

from mtl_lightning.data.images import suffixes
from mtl_lightning.data.sources.base import Texts
from mtl_lightning.system.errors import UserError, folded, quoted, same_letters, short

Path = str | os.PathLike[str]

LONGEST_PATH = 4096
"""Largest number of characters of a path that any system opens."""
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

    Each distinct folder is resolved and listed once, so a million rows on a network drive cost as
    many calls as there are folders. Links to files are resolved one by one.

    Args:
        root: The folder that relative paths start from.
        paths: N paths as written in a table, relative or absolute.
        allow_outside_root: Whether a file may be outside ``root``, with all links resolved
            (including those of ``root``). Otherwise no folder outside is even listed.

    Returns:
        The N resolved absolute paths (as written if there is no such file), and whether each
        is a file that may be used, bool (N,); `absence` says why one is not.

    Raises:
        UserError: If a folder cannot be listed.
    """
    top = None if allow_outside_root else os.path.realpath(root)
    images, exists = texts(paths), np.zeros(len(paths), dtype=np.bool_)
    for folder, rows, names in _by_folder(paths):
        before, files, links = _files(root, folder, top, set(names))
        if files.issuperset(names):
            images[rows] = texts([*map(before.__add__, names)])
            exists[rows] = True
            continue
        for i, name in zip(rows.tolist(), names, strict=True):
            if file := before + name if name in files else links.get(name):
                images[i], exists[i] = file, True
    return images, exists


def _by_folder(paths: Sequence[str]) -> Iterator[tuple[str, npt.NDArray[np.intp], list[str]]]:
    """Yield each folder, which ends in ``/`` or is "", with the rows and names of its files."""
    folders: dict[str, tuple[list[int], list[str]]] = {}
    for i, path in enumerate(paths):
        cut = path.rfind("/") + 1
        own = folders.get(path[:cut]) or folders.setdefault(path[:cut], ([], []))
        own[0].append(i)
        own[1].append(path[cut:])
    for folder, (rows, names) in folders.items():
        yield folder, np.array(rows), names


def relative_keys(root: Path, paths: Sequence[str]) -> Texts:
    """Return paths relative to a source's root, with the same spelling on all machines.

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
    """Return the resolved target of a path if it is not below ``root``, else ``""``."""
    try:
        real = os.path.realpath(os.path.join(root, path))
    except ValueError:  # a NUL, or not text: there can be no such file
        return ""
    return "" if is_below(real, os.path.realpath(root)) else real


def absence(root: Path, path: str, allow_outside_root: bool = False) -> tuple[str, str]:
    """Return why `locate` finds no file for a path, and how to fix it."""
    name, top = quoted(path), os.path.abspath(root)
    if url(path) or url(root):
        what = f"{name} is a URL" if url(path) else f"the root {quoted(os.fspath(root))} is a URL"
        return what, "download the images and name their folder"
    real = "" if allow_outside_root or len(path) > LONGEST_PATH else outside(root, path)
    if real:
        linked = is_below(os.path.normpath(os.path.join(top, path)), top)
        leads = f"links to {short(real)}," if linked else "is"
        remedy = "put it below, or, if you trust these paths, set `allow_outside_root: true`"
        return f"{name} {leads} outside of the root {top}", remedy
    what = (
        f"there is no file {name} in {top}{'' if os.path.isdir(top) else ', which is not a folder'}"
    )
    if "\\" in path:
        return what, "write / between folders"
    meant = _meant(top, path, allow_outside_root)
    if meant:
        how = same_letters(path, meant) or "upper and lower case, or in its suffix"
        return what, f"there is {quoted(meant)}, which differs in {how}: write the path like that"
    return what, "is `root` the folder that the paths are relative to?"


def _meant(top: str, path: str, allow_outside_root: bool) -> str:
    """Return the file that resembles a path without a file, ``""`` if there is none.

    Each part may differ in case and Unicode normalization, the last part also in its suffix.
    """
    found = os.path.join(top, "") if path.startswith(os.path.join(top, "")) else ""
    if os.path.isabs(path) and not found:
        if not allow_outside_root:
            return ""
        found = "/"
    parts = [part for part in path[len(found) :].split("/") if part not in ("", ".")]
    for number, part in enumerate(parts, start=1):
        here = os.path.join(top, found)
        if ".." in parts or (not allow_outside_root and outside(top, here)):
            return ""
        try:
            names = sorted(os.listdir(here))
        except (OSError, ValueError):
            return ""
        likely = [name for name in names if folded(name) == folded(part)]
        if number == len(parts):
            stem = folded(os.path.splitext(part)[0])
            pictures = [name for name in names if name.lower().endswith(suffixes())]
            likely += [name for name in pictures if folded(os.path.splitext(name)[0]) == stem]
        exact = [part] if part in names else likely
        if not exact:
            return ""
        found = os.path.join(found, exact[0])
    return found if os.path.isfile(os.path.join(top, found)) else ""


def url(path: Path) -> bool:
    """Whether this is the address of something that would have to be downloaded."""
    return re.match(r"[A-Za-z][A-Za-z0-9+.-]*://", os.fspath(path)) is not None


def check_inside(root: Path, path: str) -> None:
    """Raise a `UserError` if a link of a path below ``root`` leads out of it."""
    if outside(root, path):
        what, remedy = absence(root, path)
        raise UserError(f"folder {os.fspath(root)}: {what}; {remedy}")


def is_below(real: str, top: str) -> bool:
    """Whether a resolved path equals another or is below it."""
    return real == top or real.startswith(os.path.join(top, ""))


def _files(
    root: Path, folder: str, top: str | None, wanted: Collection[str]
) -> tuple[str, set[str], dict[str, str]]:
    """Find files in ``folder``, which ends in ``/``.

    Nothing outside ``top`` is listed or used; None allows everything.

    Returns:
        The prefix of the names of the files, those of ``wanted`` that are files, and those that
        are links to files, with their targets.
    """
    files: set[str] = set()
    links: dict[str, str] = {}
    nothing = "", files, links
    if len(folder) > LONGEST_PATH:
        return nothing
    try:
        real = os.path.realpath(os.path.join(root, folder))
        if top is not None and not is_below(real, top):
            return nothing
        with os.scandir(real) as entries:
            for entry in entries:
                if entry.name not in wanted:
                    continue
                if entry.is_file(follow_symlinks=False):
                    files.add(entry.name)
                elif entry.is_symlink() and (file := _resolved(entry, top)):
                    links[entry.name] = file
        return os.path.join(real, ""), files, links
    except ValueError:  # a NUL, or not text
        return nothing
    except OSError as error:
        if error.errno in _NOWHERE:
            return nothing
        raise UserError(f"folder {real} cannot be listed: {error.strerror}") from None


def _resolved(link: "os.DirEntry[str]", top: str | None) -> str:
    """Return the file that a link leads to, or "" if it is none or may not be used."""
    try:
        if not link.is_file():
            return ""
    except OSError:  # a cycle of links
        return ""
    file = os.path.realpath(link.path)
    return file if top is None or is_below(file, top) else ""
