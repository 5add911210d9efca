"""Public data sets as downloaded, recognised by their sources."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import pandas as pd

from mtl_lightning.commands.proposal.columns import Column
from mtl_lightning.config.classes import concrete_subclasses
from mtl_lightning.data.sources.base import Recognised, Source, Texts
from mtl_lightning.system.errors import UserError


@dataclass
class Download:
    """A data set, recognised and read.

    Attributes:
        path: The path as the user wrote it.
        class_path: The source that reads it.
        arguments: Arguments of the source, without its labels.
        images: Existing images: paths, or the source's own keys.
        labels: The cells of each kind of label that may be a task.
        has_splits: Whether the source names a split for any image.
        notes: Notes of the source for the user.
        left_out: The reason for each other kind.
        maps: The kinds whose cells name files, none of which is recognised so far.
    """

    path: str
    class_path: str
    arguments: Mapping[str, Any]
    images: list[str]
    labels: dict[str, Texts]
    has_splits: bool
    notes: list[str]
    left_out: dict[str, str]
    maps: dict[str, Column] = field(default_factory=dict)


def recognise(path: str) -> Download | None:
    """Ask each source whether it recognises a folder or file, and read it with the first that does.

    Raises:
        UserError: If the source that recognises it cannot read it.
    """
    for name, classes in sorted(concrete_subclasses((Source,)).items()):
        for cls in classes:
            found = cls.recognise(path) if issubclass(cls, Source) else None
            if found is not None:
                return _read(path, name, cls(**found.arguments), found)
    return None


def _read(path: str, name: str, source: Source, found: Recognised) -> Download:
    try:
        table = source.read(found.labels)
    except UserError as error:
        raise UserError(f"{path} looks like data of {name}, but {error}") from None
    filled = {kind for kind, cells in table.labels.items() if pd.notna(cells).any()}
    return Download(
        path,
        name,
        found.arguments,
        table.images.tolist(),
        {kind: cells for kind, cells in table.labels.items() if kind in filled},
        table.splits is not None and bool(pd.notna(table.splits).any()),
        list(table.notes),
        {kind: "it is empty" for kind in table.labels if kind not in filled},
    )
