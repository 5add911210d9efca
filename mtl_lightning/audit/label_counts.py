"""Labelled images by source, task and split."""

import numpy as np
from numpy.typing import NDArray

from mtl_lightning.data.labels import LabelTable
from mtl_lightning.data.splits import SPLITS
from mtl_lightning.runs.facts import LabelCounts, MergedCounts


def label_counts(labels: LabelTable) -> MergedCounts:
    """Count the labelled images of each source and of all sources."""
    merged = labels.table
    counts = merged.counts({task: labels.fields(task) for task in labels.tasks})
    sources = {
        name: LabelCounts(
            images={split: counts.images[name, split] for split in SPLITS},
            labelled={
                task: {split: counts.labelled[name, task, split] for split in SPLITS}
                for task in labels.tasks
                if (name, task, SPLITS[0]) in counts.labelled
            },
        )
        for name in merged.names
    }

    def by_split(rows: NDArray[np.bool_]) -> dict[str, int]:
        return {split: int((rows & (merged.splits == i)).sum()) for i, split in enumerate(SPLITS)}

    total = LabelCounts(
        images=by_split(np.ones(len(merged.splits), dtype=bool)),
        labelled={task: by_split(labels.has_label(task)) for task in labels.tasks},
    )
    return MergedCounts(sources, total)
