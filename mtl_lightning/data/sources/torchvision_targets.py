"""Targets of torchvision's data sets as columns of text."""

import os
import pickle
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from torchvision import datasets

from mtl_lightning.data.sources.base import Texts
from mtl_lightning.data.sources.locate import texts
from mtl_lightning.tasks.cells import text_of


def targets_of(part: Any) -> dict[str, Texts]:
    """Return the targets of each image of a data set, by name; no image is decoded if possible."""
    if isinstance(part, datasets.CIFAR100):
        coarse, names = _coarse(part)
        return {"fine": _named(part.targets, part.classes), "coarse": _named(coarse, names)}
    if isinstance(part, datasets.CelebA):
        answers = np.array(["no", "yes"], dtype=object)[part.attr.numpy()]
        # The header of its file ends in a blank, which gives an extra name.
        named = dict(zip(filter(None, part.attr_names), answers.T, strict=True))
        return named | {"identity": _named(part.identity[:, 0].tolist(), None)}
    if isinstance(part, datasets.OxfordIIITPet):
        return {
            "category": _named(part._labels, part.classes),
            "binary-category": _named(part._bin_labels, part.bin_classes),
        }
    found = _listed_targets(part)
    first = found[0] if found else None
    if isinstance(first, Mapping):
        return {str(key): _named([each[key] for each in found], None) for key in first}
    if isinstance(first, tuple):
        return {str(i): _named(own, None) for i, own in enumerate(zip(*found, strict=True))}
    return {"target": _named(found, getattr(part, "classes", None))}


def _coarse(part: datasets.CIFAR100) -> tuple[list[int], list[str]]:
    """Return the coarse classes of CIFAR-100's images, and their names."""

    def content(name: str) -> dict[str, Any]:
        # The class has read this very file, after comparing its checksum.
        with open(os.path.join(part.root, part.base_folder, name), "rb") as file:
            return dict(pickle.load(file, encoding="latin1"))

    files = part.train_list if part.train else part.test_list
    coarse = [code for name, _ in files for code in content(name)["coarse_labels"]]
    return coarse, content(part.meta["filename"])["coarse_label_names"]


def _listed_targets(part: Any) -> list[Any]:
    """Return the targets that a data set returns with each image."""
    for name in ("targets", "_labels", "labels"):
        found = getattr(part, name, None)
        if found is not None and len(found) == len(part) and _agree(part, found):
            return list(found)
    return [part[i][1] for i in range(len(part))]


def _agree(part: Any, found: Sequence[Any]) -> bool:
    """Whether a list holds the targets of a data set, which may have several kinds."""
    try:
        return all(_text(found[i]) == _text(part[i][1]) for i in {0, len(part) - 1})
    except (TypeError, IndexError):  # it returns tuples or the like, or nothing
        return False


def _named(targets: Sequence[Any], names: Any) -> Texts:
    """Return targets as text, with names instead of numbers of classes."""
    found = [_text(target) for target in targets]
    if isinstance(names, Sequence) and all(isinstance(name, str) for name in names):
        by_number = {str(number): name for number, name in enumerate(names)}
        if all(text is None or text in by_number for text in found):
            found = [None if text is None else by_number[text] for text in found]
    return texts(found)


def _text(target: Any) -> str | None:
    value = target.item() if hasattr(target, "item") else target
    return text_of(value)
