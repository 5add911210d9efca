"""A made-up task whose targets are masks in files, from the table to the metrics."""

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from pytorch_lightning import Callback
from torchvision.transforms import v2

from mtl_lightning.data.datamodule import PartialLabels
from mtl_lightning.data.mirroring.mirror import Mirror
from mtl_lightning.data.packing import pack
from mtl_lightning.data.sources import FolderSource, TableSource
from mtl_lightning.system.errors import UserError
from mtl_lightning.system.progress import ProgressBar
from mtl_lightning.tasks import Classification, Segmentation
from mtl_lightning.training.module import MultiTask
from tests.helpers import ranks
from tests.helpers.models import LAYERED, Layered
from tests.helpers.segmentation import (
    VOID,
    RedParts,
    mask_of,
    png,
    segmentation_data,
    segmentation_tasks,
    write_photos,
)
from tests.helpers.training import Batches, fit, largest_difference, make_trainer, weights

BAD = 9
"""A training row with both labels."""


def module() -> MultiTask:
    torch.manual_seed(1)
    options = {"optimizer": lambda p: torch.optim.SGD(p, lr=0.05), "dropout": 0.0, "image_size": 16}
    return MultiTask(segmentation_tasks(), Layered(**LAYERED["rows"]), **options)


@pytest.fixture
def table(tmp_path: Path) -> Path:
    return write_photos(tmp_path / "data")


def run(
    folder: Path,
    table: Path,
    devices: int = 1,
    kind: type[PartialLabels] = PartialLabels,
    callbacks: tuple[Callback, ...] = (),
    **arguments: Any,
) -> dict[str, Any]:
    """Train and validate for two epochs of steps of eight rows."""
    data = segmentation_data(table, batch_size=4 // devices, **arguments)
    data.__class__ = kind
    trained = fit(
        folder,
        data,
        module(),
        devices=devices,
        precision="64-true",
        accumulate_grad_batches=2,
        max_epochs=2,
        callbacks=list(callbacks),
    )
    return {
        "weights": weights(trained),
        "train": trained.results["train"].tasks,
        "val": trained.results["val"].tasks,
        "bad": [(b.image, b.where, b.split, b.reason) for b in data.bad],
    }


def identical(one: dict[str, Any], other: dict[str, Any]) -> None:
    for name, value in one["weights"].items():
        assert torch.equal(value, other["weights"][name]), name
    assert (one["train"], one["val"]) == (other["train"], other["val"])


# ------------------------------------------------------------------- batches


MOVES = [
    v2.RandomHorizontalFlip(),
    v2.RandomVerticalFlip(),
    v2.RandomCrop(16, padding=5),
    v2.RandomApply([v2.RandomAffine(0, (0.2, 0.2))]),
]


@pytest.mark.parametrize("augment_on", ["cpu", "device"])
@pytest.mark.parametrize("mirror", [None, Mirror()])
def test_masks_move_with_their_images(tmp_path, table, augment_on, mirror):
    moves = MOVES if mirror is None else MOVES[2:]
    options = {"augmentation": moves, "mirror": mirror, "augment_on": augment_on}
    batches = Batches()
    data = segmentation_data(table, **options)
    fit(tmp_path, data, module(), callbacks=[batches], max_epochs=2)
    plain, moved = data.labels.table, 0
    for _, batch in batches.seen:
        for i in torch.nonzero(batch.labelled["parts"])[:, 0].tolist():
            image = batch.inputs["image"][i].permute(1, 2, 0).numpy()
            assert np.array_equal(batch.targets["parts"][i], mask_of(image))
            moved += not np.array_equal(image, plain.load(int(batch.rows[i])))
        for i in torch.nonzero(~batch.labelled["parts"])[:, 0].tolist():
            assert (batch.targets["parts"][i] == 0).all()
    assert moved > 30


@pytest.mark.parametrize("augmentation", ["default", MOVES])
def test_both_places_of_augmentation_give_the_same(tmp_path, table, augmentation):
    seen = []
    for place in ("cpu", "device"):
        batches = Batches()
        options = {"augmentation": augmentation, "augment_on": place, "mirror": None}
        fit(tmp_path, segmentation_data(table, **options), module(), callbacks=[batches])
        seen.append(batches.seen)
    for (_, one), (_, other) in zip(*seen, strict=True):
        assert torch.equal(one.inputs["image"], other.inputs["image"])
        assert torch.equal(one.targets["parts"], other.targets["parts"])


def test_evaluation_scales_and_cuts_masks_as_images(tmp_path):
    table = write_photos(tmp_path / "data", rows=12, size=(32, 64))
    data = segmentation_data(table, image_size=16)
    data.trainer = make_trainer(tmp_path)
    data.setup("fit")
    seen = 0
    for batch in data.val_dataloader():
        for i in torch.nonzero(batch.labelled["parts"])[:, 0].tolist():
            pixels = data.labels.table.load(int(batch.rows[i]))
            expected = mask_of(pixels)[::2, ::2][:, 8:24]
            assert np.array_equal(batch.targets["parts"][i], expected)
            seen += 1
    assert seen == 2


@pytest.mark.parametrize("cache", ["memory", "disk"])
def test_images_of_a_cache_have_their_masks(tmp_path, cache):
    table = write_photos(tmp_path / "data", rows=12, size=(32, 64))
    seen = []
    for options in ({}, {"cache": cache, "cache_dir": str(tmp_path / "cache")}):
        batches = Batches()
        data = segmentation_data(table, augmentation="default", **options)
        fit(tmp_path, data, module(), callbacks=[batches])
        seen.append(batches.seen)
    for (_, one), (_, other) in zip(*seen, strict=True):
        assert torch.equal(one.inputs["image"], other.inputs["image"])
        assert torch.equal(one.targets["parts"], other.targets["parts"])


# ------------------------------------------------------------------- training


def test_metrics_are_those_of_all_labelled_pixels(tmp_path, table):
    data = segmentation_data(table)
    trained = fit(tmp_path, data, module(), max_epochs=2)
    found = trained.results["val"].tasks["parts"]
    correct = valid = 0
    for row in data.labels.rows("val"):
        if data.labels.encoded["parts"].labelled[row]:
            image = data.labels.table.load(row)
            with torch.no_grad():
                outputs = trained(torch.from_numpy(image).permute(2, 0, 1)[None])["parts"]
            guess = torch.nn.functional.interpolate(outputs, (16, 16)).argmax(1)[0].numpy()
            mask = mask_of(image)
            correct += (guess == mask)[mask != VOID].sum()
            valid += (mask != VOID).sum()
    assert found["n_labelled"] == 7
    assert found["accuracy"] == pytest.approx(correct / valid)
    assert trained.results["train"].tasks["parts"]["n_labelled"] == 20


class Garbage(Callback):
    """Puts garbage where a target is missing."""

    def on_train_batch_start(self, trainer: Any, pl_module: Any, batch: Any, _: int) -> None:
        holes = ~batch.labelled["parts"]
        assert batch.targets["parts"][holes].numel() == 256 * int(holes.sum())
        batch.targets["parts"][holes] = -(2**62)

    def on_validation_batch_start(self, trainer: Any, pl_module: Any, batch: Any, *_: int) -> None:
        self.on_train_batch_start(trainer, pl_module, batch, 0)


def test_what_lies_in_an_unlabelled_slot_changes_no_bit(tmp_path, table):
    identical(run(tmp_path, table), run(tmp_path, table, callbacks=(Garbage(),)))


# ------------------------------------------------------------------- bad files


def spoilt(table: Path, folder: Path) -> Path:
    """Return a copy of the data in which the mask of a row is broken."""
    shutil.copytree(table.parent, folder)
    (folder / f"masks/{BAD}.png").write_bytes(b"no image")
    return folder / table.name


def without(table: Path) -> Path:
    """Write another table, in which this row has no mask."""
    other = table.with_name("without.csv")
    other.write_text(table.read_text().replace(f"masks/{BAD}.png", ""))
    return other


def test_a_bad_file_stops_a_run_in_one_line(tmp_path, table):
    with pytest.raises(UserError) as caught:
        run(tmp_path, spoilt(table, tmp_path / "spoilt"))
    here = tmp_path / "spoilt"
    message = str(caught.value)
    assert message.startswith(
        f'{here}/photos.csv row 11, column "parts": target {here}/masks/9.png cannot be used for '
        "task parts (not an image, or broken at its start)"
    )
    assert message.endswith("; data.on_bad_image: skip continues without such targets")
    assert "\n" not in message


@pytest.mark.parametrize("workers", [0, 2])
def test_a_row_with_a_bad_file_loses_this_label_alone(tmp_path, table, workers):
    options = {"on_bad_image": "skip", "num_workers": workers}
    skipped = run(tmp_path, spoilt(table, tmp_path / "spoilt"), **options)
    expected = run(tmp_path, without(table), **options)
    identical(skipped, expected)
    assert expected["bad"] == []
    ((image, where, split, reason),) = skipped["bad"]
    assert (Path(image).name, split) == ("9.png", "train")
    assert where.endswith('photos.csv row 11, column "parts"')
    assert reason.startswith("cannot be used for task parts (not an image, or broken at its start)")
    assert skipped["train"]["parts"]["n_labelled"] == 19
    assert skipped["train"]["kind"]["n_labelled"] == 24


def test_bad_targets_count_as_images_that_could_not_be_used(tmp_path, table):
    options = {"on_bad_image": "skip", "max_bad_share": 0.0}
    with pytest.raises(UserError, match=r"^1 of 28 train images could not be used, and data\.max_"):
        run(tmp_path, spoilt(table, tmp_path / "spoilt"), **options)


def test_two_ranks_are_one_process(tmp_path, table):
    here, bad = __name__, spoilt(table, tmp_path / "spoilt")
    cases: list[dict[str, Any]] = [
        {"table": table, "augmentation": "default"},
        {"table": bad, "on_bad_image": "skip"},
    ]
    own = {"folder": tmp_path, "devices": 2}
    both = ranks.run([(f"{here}.run", own | case) for case in cases], tmp_path)
    for case, two in zip(cases, both, strict=True):
        alone = run(tmp_path, **case)
        assert largest_difference(alone["weights"], two["weights"]) < 1e-12
        for split in ("train", "val"):
            for task, values in alone[split].items():
                assert two[split][task] == pytest.approx(values, rel=1e-9)
        assert two["bad"] == alone["bad"]


# ------------------------------------------------------------------- refused before training


def test_files_that_are_not_there_are_found_before_training(tmp_path, table):
    for number in (3, 6):
        (table.parent / f"masks/{number}.png").unlink()
    with pytest.raises(UserError) as caught:
        segmentation_data(table).setup("fit")
    top = table.parent
    assert str(caught.value) == (
        f'data.sources.photos: {table} row 5, column "parts": there is no file "masks/3.png" in '
        f"{top} (2 of 27 target files of task parts do not exist); is `root` the folder that the "
        "paths are relative to?"
    )


def test_other_sources_name_no_files(tmp_path, table):
    for name in ("cat", "dog"):
        (tmp_path / "folder" / name).mkdir(parents=True)
        shutil.copy(table.parent / "photos/0.png", tmp_path / "folder" / name)
    source = FolderSource(str(tmp_path / "folder"), task="parts")
    data = PartialLabels({"parts": RedParts()}, {"f": source}, image_size=16)
    with pytest.raises(UserError) as caught:
        data.setup("fit")
    assert str(caught.value) == (
        "data.sources.f: task parts reads its targets from files, and FolderSource names none; "
        "name them in a column of a TableSource"
    )


def test_what_cannot_carry_targets_refuses_them(tmp_path, table):
    data = segmentation_data(table)
    data.setup("fit")
    with pytest.raises(UserError, match=r"^task parts reads its targets from files, which a pack"):
        pack(data, tmp_path / "pack", 10_000, ProgressBar(None))
    assert not (tmp_path / "pack").exists()
    data = segmentation_data(table, cache_features=1)
    torch.manual_seed(0)
    frozen = MultiTask(segmentation_tasks(), Layered(**LAYERED["rows"]), image_size=16, dropout=0.0)
    for parameter in frozen.network.sharing.parameters():
        parameter.requires_grad = False
    frozen.network.sharing.shared_backbone.trunk.training = False
    with pytest.raises(UserError, match=r"^data\.cache_features: task parts reads targets that"):
        fit(tmp_path, data, frozen)
    with pytest.raises(UserError, match=r"^data\.resize should be cover for .* \(parts\)\. Found"):
        segmentation_data(table, resize="stretch")
    with pytest.raises(UserError, match=r"^data\.mirror\.swap\.parts: RedParts has no classes"):
        segmentation_data(table, mirror=Mirror({"parts": {"left": "right"}})).setup("fit")


def test_mistakes_in_masks_are_found_before_the_first_step(tmp_path, table):
    seven = table.parent / f"masks/{BAD}.png"
    seven.write_bytes(png(np.full((16, 16), 7)))
    tasks = {"parts": Segmentation(["a", "b", "c"])}
    torch.manual_seed(1)
    unread = MultiTask(tasks, Layered(**LAYERED["rows"]), image_size=16)
    with pytest.raises(UserError) as error:
        fit(tmp_path, segmentation_data(table, tasks), unread)
    assert str(error.value) == (
        f'{table} row 11, column "parts": target {seven} cannot be used for task parts '
        "(value 7 of 256 pixels is no class, expected 0 (a), 1 (b), 2 (c), or 255 for pixels to "
        "ignore); data.on_bad_image: skip continues without such targets"
    )


def test_a_mask_whose_pixels_are_all_ignored_is_no_label(tmp_path, table):
    tasks = {
        "kind": Classification(["cat", "dog"]),
        "parts": Segmentation(["a", "b", "c"]),
    }

    def train(folder: Path, table: Path) -> dict[str, Any]:
        torch.manual_seed(1)
        trained = MultiTask(tasks, Layered(**LAYERED["rows"]), image_size=16)
        data = segmentation_data(table, tasks, augmentation="default")
        trained = fit(folder, data, trained, accumulate_grad_batches=2, max_epochs=2)
        results = trained.results["train"].tasks, trained.results["val"].tasks
        return {"weights": weights(trained), "train": results[0], "val": results[1]}

    empty = without(table)
    (table.parent / f"masks/{BAD}.png").write_bytes(png(np.full((16, 16), VOID)))
    found = train(tmp_path, table)
    assert found["train"]["parts"]["n_labelled"] == 19
    identical(found, train(tmp_path, empty))


def test_a_task_left_out_reads_no_files(table):
    shutil.rmtree(table.parent / "masks")
    data = PartialLabels(
        {"kind": Classification(["cat", "dog"])},
        {"photos": TableSource(str(table))},
        left_out={"parts": RedParts()},
        image_size=16,
    )
    data.setup("fit")
    assert len(data.labels.rows("train")) == 24
