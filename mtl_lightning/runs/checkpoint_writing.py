"""Writing checkpoints atomically."""

import os
from pathlib import Path
from typing import Any

import torch
from lightning_fabric.plugins import TorchCheckpointIO

from mtl_lightning.system.files import atomic_path


class AtomicCheckpointIO(TorchCheckpointIO):
    """Writes a checkpoint next to the one that it replaces, then moves it there.

    (Lightning's version writes to the system's temporary folder, from which a file is copied if it
    is on another file system, and holds a second copy in memory.)
    """

    def save_checkpoint(
        self,
        checkpoint: dict[str, Any],
        path: str | os.PathLike[str],
        storage_options: Any | None = None,
    ) -> None:
        """Write a checkpoint.

        Args:
            checkpoint: Anything that ``torch.save`` takes.
            path: A file; an existing one stays intact until the new one is complete.
            storage_options: None; there are none for local files.

        Raises:
            OSError: If it cannot be written: no space, no permission.
        """
        if storage_options is not None:
            raise TypeError("storage_options: a local file takes none")
        with atomic_path(Path(path)) as part, open(part, "wb") as file:
            try:
                torch.save(checkpoint, file)
            except RuntimeError as error:
                # torch's own error is about its format; the system's is its context.
                if isinstance(error.__context__, OSError):
                    raise error.__context__ from None
                raise
