"""UTKFace: faces with age, gender and race in their file names."""

import os
import re
from collections.abc import Sequence
from itertools import islice

from mtl_lightning.data.sources.base import Recognised, Source, SourceTable
from mtl_lightning.data.sources.columns import Labels
from mtl_lightning.data.sources.filename import Unmatched, match_names
from mtl_lightning.data.sources.folder import check_folder, images_below
from mtl_lightning.data.sources.locate import Path, texts

_NAME = re.compile(r"(?:.*/)?(?P<age>\d{1,3})_(?P<gender>[01])_(?P<race>[0-4])_[^/]*")
_TYPICAL = re.compile(r"(?:.*/)?\d{1,3}_[01]_[0-4]_\d{14,17}\D[^/]*")
"""With date and time, since other names may start with three numbers, too."""
_MEANINGS = {
    "gender": {"0": "male", "1": "female"},
    "race": {"0": "White", "1": "Black", "2": "Asian", "3": "Indian", "4": "Others"},
}
_MOST, _FIRST = 0.9, 200
"""Least share of typical names, of all and of the first so many: a folder may have millions."""


class UTKFaceSource(Source):
    """The 23,708 faces of UTKFace, named ``[age]_[gender]_[race]_[date&time].jpg``.

    Zhang, Song and Qi, "Age Progression/Regression by Conditional Adversarial Autoencoder", CVPR
    2017; https://susanqq.github.io/UTKFace. There are three kinds of labels: ``age`` in years (0
    to 116), ``gender`` (``male``, ``female``) and ``race`` (``White``, ``Black``, ``Asian``,
    ``Indian``, ``Others``), as the authors call them. There is no official split.

    A few names lack a part, such as ``39_1_20170116174525125.jpg.chip.jpg``; the meaning of
    the others is then uncertain.

    Args:
        path: The folder ``UTKFace``, or one above the folders ``part1`` to ``part3``.
        labels: Task to one of the three kinds; by default the tasks of these names.
        malformed: ``error`` if a name is not as above, or ``skip``: these images are left out,
            with a note of how many.
        allow_outside_root: Whether links may lead out of ``path``; only for a folder that
            you trust.
    """

    def __init__(
        self,
        path: Path,
        labels: Labels | None = None,
        malformed: Unmatched = "error",
        allow_outside_root: bool = False,
    ) -> None:
        self.path = os.path.expanduser(path)
        self.labels = labels
        self.malformed = malformed
        self.allow_outside_root = allow_outside_root

    @classmethod
    def recognise(cls, path: str) -> Recognised | None:
        """Recognise a folder by the names of its images."""
        if not os.path.isdir(path):
            return None
        below = images_below(path, ".")
        names = list(islice(below, _FIRST))
        if not _are_typical(names):
            return None
        names += below
        if not _are_typical(names):
            return None
        strange = any(_NAME.fullmatch(name) is None for name in names)
        arguments = {"path": path, **({"malformed": "skip"} if strange else {})}
        return Recognised(arguments, ("age", *_MEANINGS))

    def check_files(self) -> None:
        """Check the folder; see `Source.check_files`."""
        check_folder(self.path)

    def read(self, tasks: Sequence[str]) -> SourceTable:
        """List the images and read their names; see `Source.read`."""
        found = match_names(self.path, _NAME, self.malformed, "malformed", self.allow_outside_root)
        for group, meanings in _MEANINGS.items():
            found.groups[group] = texts([meanings[code] for code in found.groups[group]])
        columns = found.columns()
        return SourceTable(
            origin=found.origin,
            images=found.images,
            keys=found.keys,
            labels=columns.labels(columns.of_tasks(tasks, self.labels), tasks),
            notes=found.notes,
        )


def _are_typical(names: Sequence[str]) -> bool:
    typical = sum(_TYPICAL.fullmatch(name) is not None for name in names)
    return typical > 0 and typical >= _MOST * len(names)
