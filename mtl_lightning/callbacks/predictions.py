"""``predictions.csv``: the answers for each image, in the order of the images, and their maps."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch.distributed as dist
from pytorch_lightning import Callback, LightningModule, Trainer

from mtl_lightning.callbacks.prediction_maps import PredictionMaps
from mtl_lightning.data.batch import PADDING
from mtl_lightning.system.errors import UserError
from mtl_lightning.system.files import atomic_path

WRITERS = (".csv", ".parquet")


def check_output(path: Path) -> None:
    """Raise a ``UserError`` if predictions cannot be written there."""
    if path.suffix.lower() not in WRITERS:
        raise UserError(
            f"--output should be a name that ends in {' or '.join(WRITERS)}. Found {path}"
        )
    if path.is_dir():
        raise UserError(f"--output {path}: this is a folder; give the name of a file in it")


class PredictionsFile(Callback):
    """Collects the predictions of all ranks and writes them as one table.

    The answers for each pixel of an image are a PNG file, which the column of the task names.

    Args:
        images: The name of each image in the table.
        output: A ``.csv`` or ``.parquet`` file, which is replaced if it exists.
        kind: The name of the column of these names: ``image``, or ``row`` of a table.
    """

    def __init__(self, images: list[str], output: Path, kind: str = "image") -> None:
        self.images = images
        self.kind = kind
        self.output = output
        self._parts: list[dict[str, Any]] = []
        self._maps = PredictionMaps(output)

    def on_predict_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Agree on the folder of the maps."""
        self._maps.start(trainer)

    def on_exception(
        self, trainer: Trainer, pl_module: LightningModule, exception: BaseException
    ) -> None:
        """Remove maps that are not complete."""
        self._maps.discard()

    def on_predict_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Keep one batch's columns."""
        columns = {
            f"{task}:{key}" if key else task: values
            for task, answer in outputs["answers"].items()
            for key, values in answer.items()
        }
        names = [
            None if row == PADDING or row in batch.bad else self._file_name(row)
            for row in outputs["rows"].tolist()
        ]
        for task, paths in self._maps.write(outputs["files"], names).items():
            columns[task] = np.array(paths, dtype=object)
        self._parts.append({"rows": outputs["rows"], "columns": columns, "bad": list(batch.bad)})

    def _file_name(self, row: int) -> str:
        """Return a name that no other row has, without folders and suffix."""
        stem = Path(self.images[row]).stem.encode()[:150].decode(errors="ignore")
        return f"{row:06}_{stem}"

    def on_predict_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Gather all ranks, drop padding, restore the order, and write."""
        parts, self._parts = self._parts, []
        if trainer.world_size > 1:
            gathered: list[Any] = [None] * trainer.world_size
            dist.all_gather_object(gathered, parts)
            parts = [part for rank in gathered for part in rank]
        if not trainer.is_global_zero:
            return
        folder = self._maps.finish()
        rows = np.concatenate([part["rows"] for part in parts])
        order = np.argsort(rows, kind="stable")[np.count_nonzero(rows == PADDING) :]
        table = {self.kind: np.asarray(self.images, dtype=object)[rows[order]]}
        for name in parts[0]["columns"]:
            table[name] = np.concatenate([part["columns"][name] for part in parts])[order]
        answers = pd.DataFrame(table)
        skipped = np.isin(rows[order], [row for part in parts for row in part["bad"]])
        for name in answers.columns[1:]:
            answers[name] = answers[name].mask(skipped)
        self._write(answers)
        pl_module.print(f"written: {self.output} ({len(order):,} {self.kind}s)")
        if folder is not None:
            pl_module.print(f"written: {folder}")

    def _write(self, frame: pd.DataFrame) -> None:
        with atomic_path(self.output) as part:
            if self.output.suffix.lower() == ".parquet":
                frame.to_parquet(part, index=False)
            else:
                frame.to_csv(part, index=False)
