"""Sources read one by one, so that an error in one does not hide those in the others."""

import os
from collections.abc import Collection, Mapping, Sequence

import numpy as np
import numpy.typing as npt

from mtl_lightning.audit.findings import Finding, Level
from mtl_lightning.data.labels import LabelTable
from mtl_lightning.data.merged_table import MergedTable
from mtl_lightning.data.sources.base import Source, SourceTable, Texts
from mtl_lightning.data.splits import check_fractions
from mtl_lightning.system.errors import UserError

CONTRADICTIONS = {
    "split": ("images with two splits", "name one split for each image"),
    "date": ("images with two dates", "give each image one date"),
    "group": ("groups in two splits", "keep each group in one split"),
    "doubt": ("columns of labels that could mean two things", "say what they mean in the source"),
}
"""Description and fix by the subject of a contradiction."""


class _ReadSource(Source):
    """A source that has been read already.

    Args:
        source: The source, which still loads the images.
        table: Its table.
    """

    def __init__(self, source: Source, table: SourceTable) -> None:
        self.source, self.table = source, table
        self.intensity = source.intensity

    def read(self, tasks: Sequence[str]) -> SourceTable:
        """Return the table."""
        del tasks
        return self.table

    def target_files(self, table: SourceTable, task: str) -> Texts:
        """Resolve target files as the source does."""
        return self.source.target_files(table, task)

    def target_content(self, target: str) -> bytes:
        """Load a target as the source does."""
        return self.source.target_content(target)

    @property
    def threadsafe(self) -> bool:
        """Whether the source is."""
        return self.source.threadsafe

    def load(self, image: str) -> npt.NDArray[np.uint8]:
        """Load an image as the source does."""
        return self.source.load(image)


def read_all(
    sources: Mapping[str, Source], fields: Sequence[str], file_fields: Collection[str] = ()
) -> tuple[dict[str, Source], list[Finding]]:
    """Read the sources, with a finding for each that cannot be read.

    Of a table of which some images do not exist, the rows whose image exists are kept.

    Args:
        sources: The sources by name.
        fields: See `Source.read`.
        file_fields: Those whose cells name target files, which should exist.
    """
    read: dict[str, Source] = {}
    findings: list[Finding] = []
    for name, source in sources.items():
        try:
            read[name] = _with_targets(_ReadSource(source, source.read(fields)), file_fields)
        except UserError as error:
            missing = source.missing_images()
            if not missing:
                findings.append(Finding(Level.ERROR, f"data.sources.{name}: {error}"))
                continue
            findings.append(_absent(name, str(error), list(missing.values())))
            try:
                table = source.read_without(list(missing), fields)
                if table is not None:
                    read[name] = _with_targets(_ReadSource(source, table), file_fields)
            except UserError as second:
                findings.append(Finding(Level.ERROR, f"data.sources.{name}: {second}"))
    return read, findings


def _with_targets(source: _ReadSource, file_fields: Collection[str]) -> _ReadSource:
    """Return the source, if all target files of its table exist."""
    for field in file_fields:
        if field in source.table.labels:
            source.target_files(source.table, field)
    return source


def _absent(name: str, error: str, missing: list[str]) -> Finding:
    if len(missing) == 1:
        return Finding(Level.ERROR, f"data.sources.{name}: {error}")
    return Finding(
        Level.ERROR,
        f"data.sources.{name}: {len(missing):,} rows name images that do not exist",
        "correct the paths, or `root`, or leave the rows out",
        tuple(missing),
    )


def join(
    sources: Mapping[str, Source], labels: LabelTable
) -> tuple[MergedTable | None, list[Finding]]:
    """Merge the sources, with a finding for each kind of contradiction; the first value holds.

    Args:
        sources: The result of `read_all`.
        labels: The label table, whose options say how to merge.

    Raises:
        UserError: If its fractions are not in 0..1.
    """
    check_fractions(labels.options.fractions)
    if not sources:
        return None, []
    contradictions: dict[str, list[str]] = {}

    def on_contradiction(about: str, message: str) -> None:
        contradictions.setdefault(about, []).append(message.partition("; expected ")[0])

    table = labels.merge(sources, on_contradiction)
    found = [_contradicted(about, messages) for about, messages in contradictions.items()]
    if labels.options.on_conflict != "error":
        found += [Finding(Level.WARNING, line) for line in table.contradicted()]
    return table, found


def _contradicted(about: str, messages: list[str]) -> Finding:
    what, fix = CONTRADICTIONS.get(
        about, (f"images labelled in two ways, {about}", "keep one answer for each image")
    )
    return Finding(Level.ERROR, f"{what}: {len(messages):,}", fix, tuple(messages))


def is_file(image: str) -> bool:
    """Whether an image is the path of a file, and not a key of its source."""
    return os.path.isabs(image)
