import os
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from mtl_lightning.commands.prepare import prepare
from mtl_lightning.runs.checkpoint_reading import read_checkpoint, saved_config
from mtl_lightning.system.errors import UserError
from tests.helpers.files import checkpoints

RUN = Path("runs/shop")
OURS = "was not written by `mtl-lightning fit`"


def refused(path: str | Path, resume: bool = False) -> str:
    with pytest.raises(UserError) as error:
        read_checkpoint(Path(path), resume)
    assert "\n" not in str(error.value)
    assert not Path("ran").exists()
    return str(error.value).removeprefix(f"checkpoint {path}: ")


def damage(path: Path) -> None:
    """Lose a page of the file, as a disk does: it stays as long as it was."""
    content = path.read_bytes()
    where = content.index(torch.arange(1000.0).numpy().tobytes()[400:800])
    path.write_bytes(content[:where] + bytes(400) + content[where + 400 :])


def test_what_is_read_is_what_was_written():
    content = read_checkpoint(checkpoints.write("x.ckpt"), resume=True)
    assert content["hyper_parameters"] == checkpoints.GOOD["hyper_parameters"]
    assert torch.equal(content["state_dict"]["network.weight"], torch.arange(1000.0))


def test_what_is_remembered():
    found = saved_config(checkpoints.write("x.ckpt"))
    assert found["tasks"] == checkpoints.TASKS
    assert list(found["model"]) == [
        *("backbone", "sharing", "loss_reduction", "optimizer", "lr_scheduler")
    ]
    assert list(found["data"]) == ["sources", "augmentation", "image_size"]


# --------------------------------------------------------------------- not whole


@pytest.mark.parametrize("kept", [0, 1, 3, 4, 100, 0.5, 0.9, -100, -22, -4, -1])
def test_a_file_that_is_cut_short(kept):
    path = checkpoints.write("x.ckpt")
    content = path.read_bytes()
    path.write_bytes(content[: int(kept * len(content)) if isinstance(kept, float) else kept])
    assert refused(path) == f"cannot be read; it is {'cut short' if kept else 'empty'}"


def test_a_file_that_lost_a_page():
    path = checkpoints.write("x.ckpt")
    damage(path)
    torch.load(path, weights_only=True)  # which does not notice
    assert refused(path) == "cannot be read; it is damaged (checksum of x/data/0)"


# --------------------------------------------------------------------- of another kind


def jpeg(path: Path) -> None:
    Image.fromarray(np.zeros((8, 8, 3), np.uint8)).save(path, "JPEG")


def archive(path: Path) -> None:
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("a.txt", "text")


def bomb(path: Path) -> None:
    """A checkpoint with a part beside it that takes long to unpack, if somebody does."""
    checkpoints.write(path)
    with zipfile.ZipFile(path, "a") as file:
        file.writestr("x/data/bomb", bytes(1_000_000), zipfile.ZIP_DEFLATED)


FOREIGN = {
    "a picture": (jpeg, "cannot be read; it is of another kind"),
    "a text": (lambda p: p.write_text("hello"), "cannot be read; it is of another kind"),
    "an old checkpoint of torch": (
        lambda p: torch.save({"a": 1}, p, _use_new_zipfile_serialization=False),
        "cannot be read; it is of another kind",
    ),
    "another archive": (archive, "cannot be read; it is damaged, or of another kind"),
    "a bomb": (bomb, "cannot be read; it is of another kind"),
    "a whole network": (
        lambda p: torch.save(nn.ReLU(), p),
        "is not read; it holds torch.nn.modules.activation.ReLU, and loading that would run it",
    ),
    "something to run": (
        lambda p: checkpoints.write(p, callbacks={"x": checkpoints.Payload()}),
        f"is not read; it holds {os.name}.system, and loading that would run it",
    ),
    "weights": (lambda p: torch.save({"a.weight": torch.ones(2)}, p), OURS),
    "a list": (lambda p: torch.save([1], p), OURS),
    "a checkpoint of another module": (
        lambda p: checkpoints.write(p, hyper_parameters={"n": 1}),
        OURS,
    ),
    "hyper-parameters of another kind": (
        lambda p: checkpoints.write(p, hyper_parameters=[1]),
        OURS,
    ),
    "tasks of another kind": (
        lambda p: checkpoints.write(p, {"model.tasks": {"a": "evil.A"}}),
        OURS,
    ),
    "no tasks": (lambda p: checkpoints.write(p, {"data.tasks": {}}), OURS),
    "a step of another kind": (lambda p: checkpoints.write(p, global_step="x"), OURS),
    "something to call": (
        lambda p: checkpoints.write(p, {"model._instantiator": "os.system"}),
        OURS + "; it asks for os.system to be called",
    ),
    "something to call with the data": (
        lambda p: checkpoints.write(p, {"data._instantiator": "evil.make"}),
        OURS + "; it asks for evil.make to be called",
    ),
    "a folder": (lambda p: p.mkdir(), "should be a checkpoint file. Found a folder"),
    "a pipe": (os.mkfifo, "should be a checkpoint file. Found no file"),
}


@pytest.mark.parametrize(("make", "message"), FOREIGN.values(), ids=list(FOREIGN))
def test_what_is_no_checkpoint(make, message):
    make(Path("x.ckpt"))
    assert refused("x.ckpt").startswith(message)


@pytest.mark.parametrize("part", ["state_dict", "epoch", "pytorch-lightning_version"])
def test_a_part_that_is_not_there(part):
    content = {key: value for key, value in checkpoints.GOOD.items() if key != part}
    torch.save(content, "x.ckpt")
    assert refused("x.ckpt") == OURS


def test_next_to_a_folder_that_is_called_like_a_checkpoint_there_may_be_one():
    checkpoints.write(RUN / "version_0/checkpoints/best.ckpt")
    path = RUN / "version_0/checkpoints/last.ckpt"
    path.mkdir()
    assert refused(path).endswith("checkpoints/best.ckpt (epoch 3, step 120)")


def test_weights_alone_can_be_tested_but_not_trained_on():
    content = {k: v for k, v in checkpoints.GOOD.items() if k != "optimizer_states"}
    torch.save(content, "x.ckpt")
    assert read_checkpoint(Path("x.ckpt"))
    assert refused("x.ckpt", resume=True) == (
        "holds only weights, and no training can be resumed from it; to start with its weights "
        "give it as model.backbone.weights"
    )


# --------------------------------------------------------------------- which one is good


def broken(path: str | Path, content: bytes = b"PK") -> Path:
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def test_the_newest_good_one_of_the_run_is_named():
    folder = RUN / "version_1/checkpoints"
    path = broken(folder / "last.ckpt")
    checkpoints.write(folder / "best.ckpt")
    checkpoints.write(folder / "step-80.ckpt", global_step=80)
    broken(folder / "newer.ckpt")
    damage(checkpoints.write(folder / "step-200.ckpt", global_step=200))
    assert refused(path) == (
        f"cannot be read; it is cut short; the newest good one is {folder}/best.ckpt (epoch 3, "
        f"step 120)"
    )


def test_an_older_version_is_named_where_this_one_has_none():
    path = broken(RUN / "version_2/checkpoints/last.ckpt")
    broken(RUN / "version_1/checkpoints/last.ckpt")
    checkpoints.write(RUN / "version_0/checkpoints/last.ckpt", epoch=7)
    checkpoints.write(RUN / "version_3/checkpoints/last.ckpt", epoch=9)
    older = RUN / "version_0/checkpoints/last.ckpt"
    assert refused(path).endswith(f"short; the newest good one is {older} (epoch 7, step 120)")


def test_one_to_go_on_from_is_named_where_a_training_is_to_go_on():
    folder = RUN / "version_0/checkpoints"
    path = broken(folder / "last.ckpt")
    torch.save({k: v for k, v in checkpoints.GOOD.items() if k != "loops"}, folder / "best.ckpt")
    assert refused(path).endswith("best.ckpt (epoch 3, step 120)")
    assert refused(path, resume=True).endswith("it is cut short")


@pytest.mark.parametrize("folder", ["runs/shop/version_0", "runs/shop/version_0/checkpoints"])
def test_a_folder_s_own_checkpoint_is_named(folder):
    checkpoints.write(RUN / "version_0/checkpoints/best.ckpt")
    assert refused(folder) == (
        "should be a checkpoint file. Found a folder; the newest good one is "
        "runs/shop/version_0/checkpoints/best.ckpt (epoch 3, step 120)"
    )


@pytest.mark.parametrize("command", ["fit", "validate", "test", "predict"])
@pytest.mark.parametrize("spec", ["last", "runs/shop/version_0/checkpoints/last.ckpt"])
def test_each_command_says_so_before_anything_else(command, spec):
    folder = RUN / "version_0/checkpoints"
    broken(folder / "last.ckpt", b"")
    checkpoints.write(folder / "best.ckpt")
    with pytest.raises(UserError) as error:
        prepare(command, ["--name", "shop", "--ckpt_path", spec])
    assert str(error.value) == (
        f"checkpoint {folder}/last.ckpt: cannot be read; it is empty; the newest good one is "
        f"{folder}/best.ckpt (epoch 3, step 120)"
    )
