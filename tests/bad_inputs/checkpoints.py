"""Checkpoints"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import nn

from mtl_lightning.commands.prepare import prepare
from tests.bad_inputs import Case
from tests.helpers.files import checkpoints

LAST = Path("runs/shop/version_0/checkpoints/last.ckpt")
X = "error: checkpoint runs/shop/version_0/checkpoints/last.ckpt: "
GOOD = "; the newest good one is runs/shop/version_0/checkpoints/best.ckpt \\(epoch 3, step 120\\)"
OURS = X + "was not written by `mtl-lightning fit`"
PACKAGES = "mtl_lightning, torch, torchvision, timm or torchjd"
NONE_OF = f"which is not a class of {PACKAGES}; if you trust it, .*"
EVIL = {"class_path": "evil.Thing"}


def read(command: str) -> Callable[[], str]:
    """Return what prepares a command, and tells that nothing of a stranger's ran."""

    def run() -> str:
        try:
            prepare(command, ["--ckpt_path", str(LAST)])
        finally:
            assert not Path("ran").exists()
        return "nothing of it was imported"

    return run


def broken(name: str, make: Callable[[], object], message: str, command: str = "test") -> Case:
    """Return the case of a ``last.ckpt`` that cannot be read, next to a ``best.ckpt`` that can."""

    def both() -> None:
        checkpoints.write(LAST.with_name("best.ckpt"))
        make()

    return Case(name, both, read(command), f"{message}{GOOD}")


def rogue(name: str, changes: dict[str, Any], message: str, command: str = "test") -> Case:
    """Return the case of a ``last.ckpt`` that asks for a module of the folder it came in."""

    def make() -> None:
        checkpoints.write(LAST, changes)
        for file in ("evil.py", "timm.py"):
            Path(file).write_text("open('ran', 'w')")
        for file in ("VGG16", "evil.yaml"):
            Path(file).write_text("class_path: evil.Thing")

    return Case(name, make, read(command), message)


def saved(content: Any) -> Callable[[], object]:
    """Return what saves anything as ``last.ckpt``."""
    return lambda: torch.save(content, LAST)


def written(changes: dict[str, Any] | None = None, **parts: Any) -> Callable[[], object]:
    """Return what writes a checkpoint that is odd in some way as ``last.ckpt``."""
    return lambda: checkpoints.write(LAST, changes, **parts)


def cut(keep: Callable[[int], int]) -> Callable[[], object]:
    """Return what cuts ``last.ckpt`` short."""

    def make() -> None:
        content = checkpoints.write(LAST).read_bytes()
        LAST.write_bytes(content[: keep(len(content))])

    return make


def damaged() -> None:
    """Lose a page in the middle."""
    content = checkpoints.write(LAST).read_bytes()
    half = len(content) // 2
    LAST.write_bytes(content[:half] + bytes(64) + content[half + 64 :])


def picture() -> None:
    """Write a picture by the name of a checkpoint."""
    Image.new("RGB", (8, 8)).save(LAST, "JPEG")


NOT_WHOLE = [
    broken("no bytes", cut(lambda size: 0), X + "cannot be read; it is empty"),
    *(
        broken(name, cut(keep), X + "cannot be read; it is cut short")
        for name, keep in (
            ("three bytes", lambda size: 3),
            ("half of it", lambda size: size // 2),
            ("all but its last thousand bytes", lambda size: size - 1000),
            ("all but its last byte", lambda size: size - 1),
        )
    ),
    broken(
        "lost bytes in the middle",
        damaged,
        X + "cannot be read; it is damaged \\(checksum of .*\\)",
    ),
]

FOREIGN = [
    broken("a picture", picture, X + "cannot be read; it is of another kind"),
    broken("a text", lambda: LAST.write_text("hello"), X + "cannot be read; it is of another kind"),
    broken("a state dict", saved({"a.weight": torch.ones(1)}), OURS),
    broken("a checkpoint of another Lightning module", written(hyper_parameters={"n": 1}), OURS),
    broken(
        "weights alone, to train on",
        saved({k: v for k, v in checkpoints.GOOD.items() if k != "optimizer_states"}),
        X + "holds only weights, and no training can be resumed from it; .*",
        "fit",
    ),
    broken("a folder", LAST.mkdir, X + "should be a checkpoint file. Found a folder"),
]

HOSTILE = [
    broken(
        "a pickle that runs a command",
        written(callbacks={"a": checkpoints.Payload()}),
        X + "is not read; it holds \\w+.system, and loading that would run it",
    ),
    broken(
        "a pickled network",
        saved(nn.ReLU()),
        X + "is not read; it holds torch.nn.modules.activation.ReLU, and .*",
    ),
    broken(
        "an `_instantiator`",
        written({"model._instantiator": "os.system"}),
        OURS + "; it asks for os.system to be called",
    ),
    rogue(
        "a class of a module next to it",
        {"model.backbone": EVIL},
        X + 'model.backbone names the class "evil.Thing", ' + NONE_OF,
    ),
    rogue(
        "a task of the standard library",
        {"model.tasks.ink.class_path": "subprocess.Popen"},
        X + 'tasks.ink names the class "subprocess.Popen", ' + NONE_OF,
    ),
    rogue(
        "a function behind a module of ours",
        {"model.sharing.class_path": "mtl_lightning.system.files.os.system"},
        X + 'model.sharing names the class "mtl_lightning.system.files.os.system", ' + NONE_OF,
    ),
    rogue(
        "a function that loads code",
        {"model.backbone.class_path": "torch.hub.load"},
        X + 'model.backbone.class_path: "torch.hub.load" is not a Backbone',
    ),
    rogue(
        "a source of a module next to it",
        {"data.sources.shop": EVIL},
        X + 'data.sources.shop names the class "evil.Thing", ' + NONE_OF,
    ),
    rogue(
        "such a source, to predict",
        {"data.sources.shop": EVIL},
        "handled: nothing of it was imported",
        "predict",
    ),
    rogue(
        "a file for a class",
        {"model.backbone": "evil.yaml"},
        X + 'model.backbone names the class "evil.yaml", ' + NONE_OF,
    ),
    rogue(
        "an optimizer of a module next to it, to train on",
        {"model.optimizer": EVIL},
        X + 'model.optimizer names the class "evil.Thing", ' + NONE_OF,
        "fit",
    ),
    rogue(
        "such an optimizer, to test",
        {"model.optimizer": EVIL},
        "handled: nothing of it was imported",
    ),
    rogue(
        "a function as a learning rate",
        {
            "model.lr_scheduler.class_path": "torch.optim.lr_scheduler.LambdaLR",
            "model.lr_scheduler.init_args": {"lr_lambda": "os.system"},
        },
        X + 'model.lr_scheduler.init_args.lr_lambda: "os.system" could be the name of .*',
        "fit",
    ),
    rogue(
        "hyper-parameters that are not plain values",
        {"model.dropout": torch.ones(1)},
        X + "its hyper-parameters should be texts, numbers, lists and mappings. Found a Tensor",
    ),
]

CASES = [*NOT_WHOLE, *FOREIGN, *HOSTILE]
