"""``config.yaml``: the complete config of a run, as it was used."""

from pathlib import Path

from jsonargparse import Namespace
from pytorch_lightning import LightningModule, Trainer
from pytorch_lightning.cli import LightningArgumentParser, SaveConfigCallback

from mtl_lightning.system.files import atomic_write


class SavedConfig(SaveConfigCallback):
    """Writes ``config.yaml`` for ``fit`` and ``config_<command>.yaml`` for the other commands.

    A resumed ``fit`` writes ``config_resumed.yaml``; the first config stays as it was.

    Args:
        parser: The command's parser.
        config: The command's config.
        run: The folder to write to.
        command: The command.
    """

    def __init__(
        self, parser: LightningArgumentParser, config: Namespace, run: Path, command: str
    ) -> None:
        super().__init__(parser, config, save_to_log_dir=False)
        resumed = command == "fit" and config.get("ckpt_path") is not None
        suffix = "_resumed" if resumed else "" if command == "fit" else f"_{command}"
        self.path = run / f"config{suffix}.yaml"

    def save_config(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Write the file, on the first rank."""
        with atomic_write(self.path) as file:
            file.write(self.parser.dump(self.config, skip_none=False))
