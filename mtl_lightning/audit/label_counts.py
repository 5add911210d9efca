"""Labelled images by source, task and split."""

import numpy as np
from numpy.typing import NDArray

from mtl_lightning.data.datamodule import PartialLabels
from mtl_lightning.data.splits import SPLITS
from mtl_lightning.runs.facts import LabelCounts, MergedCounts


def label_counts(data: PartialLabels) -> MergedCounts:
    """Count the labelled images of each source and of all sources together."""
    merged = data.merged()
    counts = merged.counts({task: data.fields(task) for task in data.tasks})
    sources = {
        name: LabelCounts(
            images={split: counts.images[name, split] for split in SPLITS},
            labelled={
                task: {split: counts.labelled[name, task, split] for split in SPLITS}
                for task in data.tasks
                if (name, task, SPLITS[0]) in counts.labelled
            },
        )
        for name in merged.names
    }

    def by_split(rows: NDArray[np.bool_]) -> dict[str, int]:
        return {split: int((rows & (merged.splits == i)).sum()) for i, split in enumerate(SPLITS)}

    total = LabelCounts(
        images=by_split(np.ones(len(merged.splits), dtype=bool)),
        labelled={task: by_split(data.has_label(task)) for task in data.tasks},
    )
    return MergedCounts(sources, total)
