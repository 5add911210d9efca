"""Labels from the names of folders."""

import os
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field

from mtl_lightning.data.images import suffixes
from mtl_lightning.data.intensity import Intensity
from mtl_lightning.data.sources.base import Source, SourceTable, Texts
from mtl_lightning.data.sources.columns import Columns
from mtl_lightning.data.sources.locate import (
    Path,
    check_inside,
    locate,
    texts,
)
from mtl_lightning.data.splits import SPELLINGS
from mtl_lightning.system.errors import (
    UserError,
    did_you_mean,
    listed,
    quoted,
    short,
)

_HEIC = {".heic", ".heif", ".hif"}


@dataclass
class PassedOver:
    """Files and folders that are skipped, except hidden ones.

    Attributes:
        suffixes: Number of files by suffix that is not an image's.
        folders: Folders without an image.
        images: Images that are in no folder of a class.
    """

    suffixes: Counter[str] = field(default_factory=Counter)
    folders: list[str] = field(default_factory=list)
    images: list[str] = field(default_factory=list)

    def add(self, name: str) -> None:
        """Count a file."""
        self.suffixes[os.path.splitext(name)[1].lower()] += 1

    def notes(self) -> list[str]:
        """Return notes on what was skipped, one line for each kind."""
        notes = []
        if self.folders:
            notes.append(f"folders without images, skipped: {listed(sorted(self.folders))}")
        if self.images:
            first = f"{len(self.images):,}, first {short(self.images[0])}"
            notes.append(f"images in no class folder, skipped: {first}")
        if self.suffixes:
            notes.append(f"files that are not images, skipped: {self._counted()}")
        return notes

    def instead(self) -> str:
        """Return what was expected and found, for an error about a folder without images."""
        found = f". Found {self._counted()}" if self.suffixes else ""
        return f"files such as .jpg, .png or .tif{found}"

    def _counted(self) -> str:
        counts = [f"{n:,} {suffix or 'without a suffix'}" for suffix, n in self._most_first()]
        heic = bool(_HEIC & set(self.suffixes))
        return listed(counts) + "; HEIC photos are not read, convert them to JPEG" * heic

    def _most_first(self) -> list[tuple[str, int]]:
        return sorted(self.suffixes.items(), key=lambda item: (-item[1], item[0]))


def check_folder(path: str) -> None:
    """Raise a `UserError` unless there is such a folder."""
    if not os.path.isdir(path):
        raise UserError(f"folder {path} does not exist or is not a folder")


class FolderSource(Source):
    """A folder per class: ``<path>/<class>/**/<image>``, or ``<path>/<split>/<class>/...``.

    If all folders at the top that hold images are named like splits (train, val, test and their
    usual spellings), they are splits; two such next to others are an error. Hidden files and
    folders are skipped, and so are, with a note, other files and folders without an image.

    Args:
        path: The folder of folders.
        task: The task whose labels are the folders' names.
        allow_outside_root: Whether links may lead out of ``path``; only for a folder that
            you trust.
        intensity: The values of the image files that are black and white, see `Intensity`: ``{min:
            -1000, max: 2000}`` or ``{percentiles: [1, 99]}``; by default those of the format, and
            an image whose format does not define them (signed, float, 12 bits in 16) is refused.
        missing: Folders whose images are not labelled, such as ``unknown``.
    """

    def __init__(
        self,
        path: Path,
        task: str,
        allow_outside_root: bool = False,
        intensity: Intensity | None = None,
        missing: list[str] | None = None,
    ) -> None:
        self.path = os.path.expanduser(path)
        self.task = task
        self.allow_outside_root = allow_outside_root
        self.intensity = intensity
        self.missing = missing or []

    def check_files(self) -> None:
        """Check the folder; see `Source.check_files`."""
        check_folder(self.path)

    def read(self, tasks: Sequence[str]) -> SourceTable:
        """List the images; see `Source.read`."""
        if self.task not in tasks:
            raise UserError(
                f'folder {self.path} is for the task "{self.task}", expected one of '
                f"{listed(tasks)}{did_you_mean(self.task, tasks)}"
            )
        check_folder(self.path)
        passed = PassedOver()
        by_split, classes = self._classes(passed)
        layout = "<split>/<class>/<image>" if by_split else "<class>/<image>"
        if not classes and not (passed.folders or passed.suffixes):
            raise UserError(f"folder {self.path} has no folder per class; expected {layout}")
        found = [
            (key, label, SPELLINGS.get(split.lower()))
            for (split, label), keys in classes.items()
            for key in keys
        ]
        if not found:
            raise UserError(
                f"folder {self.path} has no image in a folder of a class; expected {layout} with "
                f"{passed.instead()}"
            )
        keys, labels, splits = (texts(column) for column in zip(*found, strict=True))
        origin = f"folder {self.path.rstrip('/')}/"
        columns = Columns(origin, [self.task], lambda _: labels, lambda i, _: f"{origin} {keys[i]}")
        return SourceTable(
            origin=origin,
            images=found_below(self.path, keys.tolist(), self.allow_outside_root),
            keys=keys,
            labels=columns.labels({self.task: [self.task]}, tasks, missing=self.missing),
            splits=splits if by_split else None,
            notes=[*(f"{origin}: {note}" for note in passed.notes()), *columns.notes],
        )

    def _classes(self, passed: PassedOver) -> tuple[bool, dict[tuple[str, str], list[str]]]:
        """Return whether there are splits, and (split or ``""``, class) to images, as keys."""
        self._skip_files("", passed)
        names = self._subfolders("")
        named = [name for name in names if name.lower() in SPELLINGS]
        top = self._with_images("", [name for name in names if name not in named], passed)
        if named and not top:
            # Their classes are listed and not they: a network drive takes long to list anything.
            splits = {name: self._split(name, passed) for name in named}
            return True, {(s, c): keys for s, own in splits.items() for c, keys in own.items()}
        top |= self._with_images("", named, passed)
        are_splits(self.path, top)  # no: others hold images; an error if that is not clear
        return False, {("", name): top[name] for name in sorted(top)}

    def _split(self, name: str, passed: PassedOver) -> dict[str, list[str]]:
        """Return the classes of a split with their images, none if it holds no image at all."""
        own = PassedOver()
        self._skip_files(name, own)
        classes = self._with_images(name, self._subfolders(name), own)
        passed.suffixes += own.suffixes
        if classes or own.images:
            passed.folders += own.folders
            passed.images += own.images
        else:
            passed.folders.append(name)
        return classes

    def _skip_files(self, folder: str, passed: PassedOver) -> None:
        """Count the files in ``folder``."""
        with os.scandir(os.path.join(self.path, folder)) as entries:
            files = sorted(e.name for e in entries if e.is_file() and not e.name.startswith("."))
        for name in files:
            if name.lower().endswith(suffixes()):
                passed.images.append(os.path.join(folder, name))
            else:
                passed.add(name)

    def _with_images(
        self, folder: str, names: Sequence[str], passed: PassedOver
    ) -> dict[str, list[str]]:
        """Return those of the folders in ``folder`` that hold images, and these; skip the rest."""
        found = {}
        for name in names:
            inside = os.path.join(folder, name)
            keys = list(images_below(self.path, inside, self.allow_outside_root, passed))
            if keys:
                found[name] = keys
            else:
                passed.folders.append(inside)
        return found

    def _subfolders(self, folder: str) -> list[str]:
        with os.scandir(os.path.join(self.path, folder)) as entries:
            names = sorted(e.name for e in entries if e.is_dir() and not e.name.startswith("."))
        for name in names:
            if not self.allow_outside_root:
                check_inside(self.path, os.path.join(folder, name))
            if name != name.encode("utf-8", "replace").decode():
                raise UserError(
                    f"folder {self.path}: {quoted(name)} is not a name in UTF-8; rename it"
                )
        return names


def are_splits(path: str, folders: Collection[str]) -> bool:
    """Whether the folders at the top of ``path`` that hold images are splits, and not classes.

    Raises:
        UserError: If several are named like splits and others are next to them.
    """
    named = [name for name in folders if name.lower() in SPELLINGS]
    others = [name for name in folders if name.lower() not in SPELLINGS]
    if len(named) > 1 and others:
        raise UserError(
            f"folder {path} has folders that are named like splits ({listed(named)}) next to "
            f"others with images ({listed(others)}), so that it is not clear which are the "
            f"classes; move the others elsewhere, or rename them"
        )
    return bool(named) and not others


def found_below(root: str, keys: Sequence[str], allow_outside_root: bool = False) -> Texts:
    """Resolve the images listed by `images_below`, whose links may lead anywhere.

    Raises:
        UserError: If one leads to nothing, or out of ``root``, unless that is allowed.
    """
    images, exists = locate(root, keys, allow_outside_root)
    if not exists.all():
        key = texts(keys)[~exists][0]
        if not allow_outside_root:
            check_inside(root, key)
        raise UserError(f"folder {root}: {short(key)} links to nothing")
    return images


def images_below(
    root: str,
    folder: str,
    allow_outside_root: bool = False,
    passed: PassedOver | None = None,
) -> Iterator[str]:
    """Yield the images below ``root/folder``, relative to ``root``, sorted, links followed.

    Args:
        root: The folder of the source.
        folder: Below it.
        allow_outside_root: Whether links may lead out of ``root``.
        passed: Counts the other files.

    Raises:
        UserError: If a folder is a link out of ``root``, unless that is allowed; it is not listed.
            Or if a folder cannot be listed.
    """
    above: set[str] = set()  # a link to a folder already seen would never end
    if os.path.normpath(folder) != ".":
        above.add(os.path.realpath(root))
    if not allow_outside_root:
        check_inside(root, folder)
    walk = os.walk(os.path.join(root, folder), followlinks=True, onerror=_refuse)
    for path, folders, files in walk:
        real = os.path.realpath(path)
        if real in above:
            folders.clear()
            continue
        above.add(real)
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        inside = os.path.relpath(path, root).replace(os.sep, "/")
        for name in () if allow_outside_root else folders:
            if os.path.islink(os.path.join(path, name)):
                check_inside(root, f"{inside}/{name}")
        for name in sorted(files):
            if name.startswith("."):
                continue
            if name.lower().endswith(suffixes()):
                yield f"{inside}/{name}"
            elif passed is not None:
                passed.add(name)


def _refuse(error: OSError) -> None:
    raise UserError(f"folder {error.filename} cannot be listed: {error.strerror}")
