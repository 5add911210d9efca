"""The names of a config's keys, which are checked before anything heavy is imported."""

from collections.abc import Mapping
from typing import Any

from mtl_lightning.config.values import display
from mtl_lightning.system.errors import UserError, did_you_mean, listed

SECTIONS = ("tasks", "model", "data", "trainer", "checkpoint", "calibration")
TOP_LEVEL = ("seed_everything", "name", "ckpt_path", "weights_only", "report")
OF_COMMANDS: dict[str, tuple[str, ...]] = {
    "fit": (),
    "validate": ("verbose", "bootstrap", "importance"),
    "test": ("verbose", "bootstrap", "importance"),
    "predict": (
        "images",
        "output",
        "resume",
        "allow_outside_root",
        "intensity",
        "return_predictions",
    ),
    "compare": (),
    "export": (),
    "inspect": (),
    "pack": (),
}


def check_names(command: str, config: Mapping[str, Any]) -> None:
    """Check the names of the top-level keys of a config, and that sections are sections.

    Raises:
        UserError: For the first that is wrong.
    """
    known = (*SECTIONS, *TOP_LEVEL, *OF_COMMANDS[command])
    for key, value in config.items():
        if key not in known:
            raise UserError(
                f"{key}: no such key{did_you_mean(key, known)}; a config has {listed(known)}"
            )
        if key in SECTIONS and not isinstance(value, Mapping):
            raise UserError(f"{key} should be entries as `name: ...`. Found {display(value)}")
