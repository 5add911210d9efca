"""How a checkpoint comes to the disk: whole or not at all."""

import os
from pathlib import Path
from typing import Any

import torch
from lightning_fabric.plugins import TorchCheckpointIO

from mtl_lightning.system.files import atomic_path


class AtomicCheckpointIO(TorchCheckpointIO):
    """Writes a checkpoint beside the one that it replaces, and then in its place.

    (Lightning's stages in the system's temporary folder, from where a file is copied if that is
    another file system, and holds a second copy in memory.)
    """

    def save_checkpoint(
        self,
        checkpoint: dict[str, Any],
        path: str | os.PathLike[str],
        storage_options: Any | None = None,
    ) -> None:
        """Write a checkpoint.

        Args:
            checkpoint: What ``torch.save`` takes.
            path: A file; one that is there stays intact until the new one is complete.
            storage_options: None; this takes none.

        Raises:
            OSError: If it cannot be written: no space, no permission.
        """
        if storage_options is not None:
            raise TypeError("storage_options: a local file takes none")
        with atomic_path(Path(path)) as part, open(part, "wb") as file:
            try:
                torch.save(checkpoint, file)
            except RuntimeError as error:
                # torch's own error is about its format; behind it is the system's.
                if isinstance(error.__context__, OSError):
                    raise error.__context__ from None
                raise
