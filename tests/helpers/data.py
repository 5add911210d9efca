"""Sources of made-up images and labels."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from mtl_lightning.data.sources import Source, SourceTable
from mtl_lightning.data.sources.locate import texts


class Rows(Source):
    """A source of given rows: (image, labels, split, group)."""

    def __init__(self, *rows: Any, name: str = "rows") -> None:
        self.rows, self.name = rows, name

    def read(self, tasks: Sequence[str]) -> SourceTable:
        images, labels, splits, groups = (texts(c) for c in zip(*self.rows, strict=True))
        return SourceTable(
            self.name,
            images,
            images,
            {t: texts([row.get(t) for row in labels]) for t in tasks},
            splits,
            groups,
            np.arange(2, len(images) + 2),
        )


def row(image: str, split: str | None = None, group: str | None = None, **labels: Any) -> Any:
    return image, labels, split, group


class Filed(Source):
    """Images that lie in shards, if ``shards`` says in which."""

    def __init__(self, name: str, shards: list[int] | None) -> None:
        self.name, self.shards = name, shards

    def read(self, tasks: Sequence[str]) -> SourceTable:
        keys = texts([f"{self.name}:{i}" for i in range(3)])
        labels = {task: texts(["a", None, "b"]) for task in tasks}
        shards = None if self.shards is None else np.array(self.shards)
        return SourceTable(self.name, keys, keys, labels, shards=shards)
