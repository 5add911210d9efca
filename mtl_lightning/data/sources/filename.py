"""Labels from the parts of file names, by a regular expression."""

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

from mtl_lightning.data.intensity import Intensity
from mtl_lightning.data.sources.base import Source, SourceTable, Texts
from mtl_lightning.data.sources.columns import Columns, Labels, Values
from mtl_lightning.data.sources.folder import PassedOver, check_folder, found_below, images_below
from mtl_lightning.data.sources.locate import Path, texts
from mtl_lightning.system.errors import (
    UserError,
    quoted,
    short,
)

Unmatched: TypeAlias = Literal["error", "skip"]


class FilenameSource(Source):
    r"""Images whose names contain their labels, such as ``Dress_kids_0017.png``.

    The pattern's groups named like a task, or like a label of a multi-label task, hold its labels;
    ``split`` and ``group`` hold splits and groups, unless they are tasks. A group that is empty or
    takes no part in the match means "not labelled".

    Args:
        path: The folder; all images below it are used, except hidden ones.
        pattern: A regular expression of the *whole* path of a file below the folder, its suffix
            included, such as ``(?P<type>[A-Za-z]+)_(?P<audience>kids|adults|)_.*``.
        labels: Task to the group that holds its labels, if their names differ; see
            `TableSource`.
        values: Meanings of texts, see `TableSource`.
        missing: Further texts that mean "not labelled", like the empty one.
        unmatched: What happens to names that do not match the pattern: ``error``, or ``skip``:
            these images are left out, with a note of how many.
        allow_outside_root: Whether links may lead out of ``path``; only for a folder that
            you trust.
        intensity: The values of the image files that are black and white, see `Intensity`: ``{min:
            -1000, max: 2000}`` or ``{percentiles: [1, 99]}``; by default those of the format, and
            an image whose format does not define them (signed, float, 12 bits in 16) is refused.
    """

    def __init__(
        self,
        path: Path,
        pattern: str,
        labels: Labels | None = None,
        values: Values | None = None,
        missing: list[str] | None = None,
        unmatched: Unmatched = "error",
        allow_outside_root: bool = False,
        intensity: Intensity | None = None,
    ) -> None:
        self.path = os.path.expanduser(path)
        try:
            self.pattern = re.compile(pattern)
        except re.error as error:
            raise UserError(
                f"pattern should be a regular expression. Found an error: {error}"
            ) from None
        if not self.pattern.groupindex:
            raise UserError("pattern has no named group; expected one such as (?P<type>[a-z]+)")
        self.labels = labels
        self.values = values
        self.missing = missing or []
        self.unmatched = unmatched
        self.allow_outside_root = allow_outside_root
        self.intensity = intensity

    def check_files(self) -> None:
        """Check the folder; see `Source.check_files`."""
        check_folder(self.path)

    def read(self, tasks: Sequence[str]) -> SourceTable:
        """List the images and match their names; see `Source.read`."""
        found = match_names(
            self.path, self.pattern, self.unmatched, "unmatched", self.allow_outside_root
        )
        columns = found.columns()
        chosen = columns.of_tasks(tasks, self.labels)
        taken = {name for names in chosen.values() for name in names}
        return SourceTable(
            origin=found.origin,
            images=found.images,
            keys=found.keys,
            labels=columns.labels(chosen, tasks, self.values, self.missing),
            splits=columns.splits(None, taken),
            groups=columns.optional(None, "group", taken),
            slices=columns.slices(self.slices_wanted),
            notes=[*found.notes, *columns.notes],
        )


@dataclass(frozen=True)
class Names:
    """The images of a folder whose names match a pattern.

    Attributes:
        origin: The name of the folder in messages.
        keys: Their paths below the folder.
        images: Their resolved paths.
        groups: Named group to its match in each name, None if there is none.
        notes: Notes for the user.
    """

    origin: str
    keys: Texts
    images: Texts
    groups: dict[str, Texts]
    notes: list[str]

    def columns(self) -> Columns:
        """Return the groups as columns of labels."""
        return Columns(
            self.origin,
            list(self.groups),
            lambda name: self.groups[name].copy(),
            lambda i, name: f"{self.origin} {short(self.keys[i])}, group {quoted(name)}",
            kind="group",
        )


def match_names(
    path: str,
    pattern: re.Pattern[str],
    unmatched: Unmatched,
    option: str,
    allow_outside_root: bool = False,
) -> Names:
    """Match the names of the images below a folder.

    Args:
        path: The folder.
        pattern: A pattern for the whole path below the folder, with named groups.
        unmatched: What happens to other names, see `FilenameSource`.
        option: The user's name for ``unmatched``.
        allow_outside_root: Whether links may lead out of the folder.

    Raises:
        UserError: If there is no image, a name does not match, or an image links to nothing, or
            out of the folder without permission.
    """
    check_folder(path)
    passed = PassedOver()
    found = images_below(path, ".", allow_outside_root, passed)
    names = [name.removeprefix("./") for name in found]
    if not names:
        raise UserError(f"folder {path} has no image; expected {passed.instead()}")
    origin = f"folder {path.rstrip('/')}/"
    matches = [pattern.fullmatch(name) for name in names]
    keys = [name for name, match in zip(names, matches, strict=True) if match]
    strays = [name for name, match in zip(names, matches, strict=True) if not match]
    message = f"{origin}: {len(strays):,} of {len(names):,} file names do not match"
    if strays and (unmatched == "error" or not keys):
        remedy = f"; rename them, or leave these images out: `{option}: skip`" if keys else ""
        raise UserError(f"{message}, first {quoted(strays[0])}; expected {pattern.pattern}{remedy}")
    images = found_below(path, keys, allow_outside_root)
    groups = {
        name: texts([(match[name] or "").strip() or None for match in matches if match])
        for name in pattern.groupindex
    }
    notes = [f"{message} and are left out, first {quoted(strays[0])}"] if strays else []
    notes += [f"{origin}: {note}" for note in passed.notes()]
    return Names(origin, texts(keys), images, groups, notes)
