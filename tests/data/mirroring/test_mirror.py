"""Images whose content tells which label they should have, mirrored or not."""

from typing import Any

import numpy as np
import pytest
import torch
from torchvision.transforms import v2

from mtl_lightning.data.batch import PADDING
from mtl_lightning.data.datamodule import PartialLabels
from mtl_lightning.data.mirroring.mirror import Mirror, Mirroring
from mtl_lightning.data.sampling import LabelBalanced
from mtl_lightning.system.errors import UserError
from mtl_lightning.tasks import Classification, MultiLabel, Regression
from mtl_lightning.training.module import MultiTask
from tests.data.test_datamodule import assert_counts_are_those_of_each_step, ready
from tests.helpers import ranks
from tests.helpers.data import Memory, Tags, column
from tests.helpers.models import Small
from tests.helpers.training import Batches, fit, make_module, weights

SIDES = ("left", "right", "front")
SWAP = {"pose": {"left": "right"}, "arms": {"right_arm": "left_arm"}, "votes": {"left": "right"}}


ARMS = {"yes": 120, None: 60, "no": 0}


def arm_of(row: int, arm: int) -> str | None:
    return list(ARMS)[(row + arm) % 3]


class Sided(Memory):
    """Red is the half that ``pose`` names; how green each half is says what of its arm is known.

    Any crop of the default augmentation holds something of both halves.
    """

    def load(self, image):
        row = int(image.rpartition(":")[2])
        pixels = np.full((16, 16, 3), 60, np.uint8)
        for arm, half in enumerate((slice(0, 8), slice(8, 16))):
            pixels[:, half, 0] = 200 if SIDES[row % 3] == SIDES[arm] else 60
            pixels[:, half, 1] = ARMS[arm_of(row, arm)]
        return pixels


def labels(rows: int) -> dict[str, list[Any]]:
    """Every fifth pose is unlabelled; votes are divided."""
    pose = [SIDES[i % 3] for i in range(rows)]
    return {
        "pose": [None if i % 5 == 4 else side for i, side in enumerate(pose)],
        "votes": [None if i % 7 == 3 else f"{side}:3|front:1" for i, side in enumerate(pose)],
        "arms/left_arm": [arm_of(i, 0) for i in range(rows)],
        "arms/right_arm": [arm_of(i, 1) for i in range(rows)],
        "size": [i + 1 for i in range(rows)],
    }


def make_tasks():
    return {
        "pose": Classification(list(SIDES), class_weights="balanced"),
        "votes": Classification(list(SIDES)),
        "arms": MultiLabel(["left_arm", "right_arm"]),
        "size": Regression(),
    }


def make(mirror: Mirror | None = None, train: int = 45, **options: Any) -> PartialLabels:
    splits = ["train"] * train + ["val"] * 6
    fixed = {"image_size": 16, "num_workers": 0, "augmentation": "none", "batch_size": 8}
    mirror = mirror or Mirror(SWAP)
    source = Sided(labels(len(splits)), splits)
    return PartialLabels(make_tasks(), {"m": source}, mirror=mirror, **(fixed | options))


def side_of(image: torch.Tensor) -> str:
    """Return which half of an image is red; crops and colour changes leave it so."""
    left, right = image[0, :, 0].float().mean(), image[0, :, -1].float().mean()
    return "front" if abs(left - right) < 36 else "left" if left > right else "right"


def arms_of(image: torch.Tensor) -> list[str | None]:
    """Return what the halves of an image say of the arms, where its colours are not changed."""
    green = {value: answer for answer, value in ARMS.items()}
    return [green[int(image[1, :, column].float().mean())] for column in (0, -1)]


def assert_labels_fit(batches: list[Any], mirrored: float | None = None, arms: bool = True) -> None:
    """Check each label against its image.

    Args:
        batches: Of training.
        mirrored: About so many of the images should be.
        arms: Whether the colours are what they were.
    """
    flips = []
    for batch in batches:
        for i, row in enumerate(batch.rows.tolist()):
            if row == PADDING:
                continue
            side, was = side_of(batch.inputs["image"][i]), SIDES[row % 3]
            flips += [side != was] if was != "front" else []
            assert bool(batch.labelled["pose"][i]) == (row % 5 != 4)
            if batch.labelled["pose"][i]:
                assert SIDES[int(batch.targets["pose"][i])] == side
            assert bool(batch.labelled["votes"][i]) == (row % 7 != 3)
            if batch.labelled["votes"][i]:
                expected = [0.25 * (name == "front") + 0.75 * (name == side) for name in SIDES]
                assert batch.targets["votes"][i].tolist() == expected
            assert float(batch.targets["size"][i]) == row + 1
            for arm, answer in enumerate(arms_of(batch.inputs["image"][i]) if arms else ()):
                assert bool(batch.labelled["arms"][i, arm]) == (answer is not None)
                if answer is not None:
                    assert bool(batch.targets["arms"][i, arm]) == (answer == "yes")
    if mirrored is not None:
        assert np.mean(flips) == pytest.approx(mirrored, abs=0.25)


def batches_of(data: PartialLabels, **where: Any) -> list[Any]:
    return list(ready(data, **where).train_dataloader())


# ------------------------------------------------------------------- the lot


def test_the_lot_depends_on_seed_epoch_and_row_alone():
    rows = list(range(2000))
    mirroring = Mirroring(0.5, 7, {})
    first = mirroring.mirrored(3, rows)
    torch.manual_seed(1)
    assert first.tolist() == mirroring.mirrored(3, rows).tolist()
    assert first[[5, 9, 700]].tolist() == mirroring.mirrored(3, [5, 9, 700]).tolist()
    for other in (mirroring.mirrored(4, rows), Mirroring(0.5, 8, {}).mirrored(3, rows)):
        assert 0.4 < (first == other).mean() < 0.6


@pytest.mark.parametrize("probability", [0.0, 0.2, 0.5, 1.0])
def test_it_has_its_probability_and_leaves_padding_alone(probability):
    drawn = Mirroring(probability, 0, {}).mirrored(0, [*range(4000), PADDING])
    assert drawn[:-1].mean() == pytest.approx(probability, abs=0.03)
    assert not drawn[-1]
    if probability in (0.0, 1.0):
        assert drawn[:-1].mean() == probability


# ------------------------------------------------------------------- images and their labels


@pytest.mark.parametrize("augmentation", ["none", "default", "list"])
@pytest.mark.parametrize("num_workers", [0, 2])
def test_labels_follow_their_images(augmentation, num_workers):
    if augmentation == "list":
        augmentation = [v2.RandomVerticalFlip(0.0), v2.RandomCrop(14)]
    data = make(augmentation=augmentation, num_workers=num_workers)
    assert_labels_fit(batches_of(data), mirrored=0.5, arms=augmentation != "default")


@pytest.mark.parametrize("probability", [0.0, 1.0])
def test_none_or_all_of_them(probability):
    assert_labels_fit(batches_of(make(Mirror(SWAP, probability))), mirrored=probability)


def test_without_a_swap_only_the_image_is_mirrored():
    plain, mirrored = (batches_of(make(Mirror({}, p))) for p in (0.0, 1.0))
    for one, other in zip(plain, mirrored, strict=True):
        assert torch.equal(one.inputs["image"], other.inputs["image"].flip(-1))
        for task in one.targets:
            assert torch.equal(one.targets[task], other.targets[task])
            assert torch.equal(one.labelled[task], other.labelled[task])


def test_the_default_augmentation_leaves_its_own_flip_out():
    data = make(Mirror(SWAP, 0.0), augmentation="default")
    assert_labels_fit(batches_of(data), mirrored=0.0, arms=False)


def test_evaluation_mirrors_nothing():
    data = make(Mirror(SWAP, 1.0))
    ready(data)
    for batch in data.val_dataloader():
        sides = [side_of(image) for image in batch.inputs["image"]]
        assert sides == [SIDES[row % 3] for row in batch.rows.tolist()]


def test_each_epoch_mirrors_others_and_each_rank_the_same():
    data = make(augmentation="default")
    whole = {row: image for b in batches_of(data) for row, image in rows_of(b)}
    again = {row: image for b in batches_of(data, epoch=1) for row, image in rows_of(b)}
    assert any(side_of(whole[row]) != side_of(again[row]) for row in whole)
    for rank in (0, 1):
        own = batches_of(make(augmentation="default"), world_size=2, rank=rank)
        assert_labels_fit(own, arms=False)
        for batch in own:
            for row, image in rows_of(batch):
                assert torch.equal(image, whole[row])


def rows_of(batch):
    return [
        (row, image)
        for row, image in zip(batch.rows.tolist(), batch.inputs["image"], strict=True)
        if row != PADDING
    ]


@pytest.mark.parametrize("sampling", [None, LabelBalanced()])
def test_the_counts_of_a_step_stay_right(tmp_path, sampling):
    batches, data = Batches(), make(sampling=sampling)
    module = MultiTask(data.tasks, Small(), dropout=0.0, image_size=16)
    fit(tmp_path, data, module, callbacks=[batches], accumulate_grad_batches=2, max_epochs=2)
    assert_counts_are_those_of_each_step(batches, 2)
    assert_labels_fit([batch for _, batch in batches.seen])


# ------------------------------------------------------------------- training


def trained(
    folder: Any, devices: int = 1, kind: type[PartialLabels] = PartialLabels, **options: Any
) -> dict[str, torch.Tensor]:
    plain = make()
    data = kind(
        plain.tasks,
        plain.sources,
        mirror=plain.mirror,
        image_size=16,
        num_workers=0,
        batch_size=8 // devices,
        **options,
    )
    module = make_module(tasks=plain.tasks)
    fit(folder, data, module, devices=devices, precision="64-true", max_epochs=2)
    return weights(module)


WHERE = ("cpu", "device")


def test_two_ranks_equal_one_process(tmp_path):
    """Images are augmented, too, by numbers that know of no rank."""
    cases = [{"folder": tmp_path, "devices": 2, "augment_on": where} for where in WHERE]
    on_ranks = ranks.run([(f"{__name__}.trained", case) for case in cases], tmp_path)
    for two, where in zip(on_ranks, WHERE, strict=True):
        one = trained(tmp_path, augment_on=where)
        for name in one:
            assert torch.allclose(one[name], two[name], rtol=1e-10, atol=1e-12), name


class Garbage(PartialLabels):
    """Puts garbage wherever a label is missing, in mirrored images too."""

    def setup(self, stage: str) -> None:
        super().setup(stage)
        for encoded in (*self.labels.encoded.values(), *self.labels.mirrored.values()):
            holes = np.nonzero(~encoded.labelled)
            garbage = [-100, 2**62] if encoded.targets.dtype == np.int64 else [np.nan, 3e38]
            encoded.targets[holes] = np.resize(np.array(garbage), len(holes[0])).reshape(
                (-1,) + (1,) * (encoded.targets[holes].ndim - 1)
            )


def test_what_lies_in_an_unlabelled_slot_changes_no_bit(tmp_path):
    clean, garbage = trained(tmp_path), trained(tmp_path, kind=Garbage)
    assert all(torch.equal(clean[name], garbage[name]) for name in clean)


def test_weights_balance_what_is_trained_on():
    """``left`` is rare in the table, and as frequent as ``right`` in mirrored images."""
    sides = ["left"] * 2 + ["right"] * 6 + ["front"] * 4
    for probability, expected in ((0.5, [1, 1, 1]), (0.0, [2, 2 / 3, 1]), (1.0, [2 / 3, 2, 1])):
        task = Classification(list(SIDES), class_weights="balanced")
        mirror = Mirror({"pose": {"left": "right"}}, probability)
        source = Memory({"pose": sides}, ["train"] * 12)
        tasks = {"pose": task}
        data = PartialLabels(tasks, {"m": source}, splits={}, image_size=16, mirror=mirror)
        data.setup("fit")
        task.fit_statistics(*data.labels.training_labels("pose"))
        assert task.class_weight.tolist() == pytest.approx(expected)


# ------------------------------------------------------------------- what is wrong


class Forgets(Tags):
    def mirrored(self, encoded, pairs):
        return self.encode(column([None] * len(encoded.targets)))


@pytest.mark.parametrize(
    ("swap", "message"),
    [
        ({"pos": {}}, 'pos: no such task; did you mean "pose"?; known: pose, votes, arms, size'),
        ({"pose": {"lefft": "right"}}, 'pose: there is no class "lefft"; did you mean "left"?'),
        ({"arms": {"left_arm": "arm"}}, 'arms: there is no label "arm"; '),
        ({"size": {"1": "2"}}, "size: Regression has no classes or labels that could swap"),
    ],
)
def test_a_swap_that_cannot_be(swap, message):
    data = make(Mirror(swap))
    for _ in range(2):  # the second time too: nothing half-read is kept
        with pytest.raises(UserError) as error:
            data.setup("fit")
        assert str(error.value).startswith(f"data.mirror.swap.{message}")


def test_a_task_of_ones_own_that_loses_labels_is_refused():
    source = Memory({"tags": ["+-?", "??-"]}, ["train"] * 2)
    mirror = Mirror({"tags": {"a": "b"}})
    data = PartialLabels({"tags": Forgets()}, {"m": source}, mirror=mirror, image_size=16)
    with pytest.raises(UserError, match=r"Forgets\.mirrored changes how many labels an image has"):
        data.setup("fit")


def test_a_swap_of_a_task_that_is_left_out_is_passed_by():
    source = Memory(labels(12), ["train"] * 12)
    left_out = {name: task for name, task in make_tasks().items() if name != "size"}
    data = PartialLabels(
        {"size": Regression()}, {"m": source}, mirror=Mirror(SWAP), image_size=16, left_out=left_out
    )
    data.setup("fit")


@pytest.mark.parametrize("probability", [-0.1, 1.5, float("nan")])
def test_a_probability_that_is_none(probability):
    with pytest.raises(UserError, match=r"data\.mirror\.probability should be in 0\.\.1\. Found"):
        make(Mirror({}, probability))


@pytest.mark.parametrize(
    "augmentation",
    [
        [v2.RandomHorizontalFlip()],
        [v2.RandomApply([v2.Compose([v2.RandomHorizontalFlip()])])],
        [torch.nn.Sequential(v2.RandomHorizontalFlip())],
    ],
)
def test_a_flip_of_ones_own_would_leave_the_labels_behind(augmentation):
    with pytest.raises(UserError, match=r"data\.mirror and a RandomHorizontalFlip in "):
        make(augmentation=augmentation)
    make(augmentation=[v2.RandomVerticalFlip(), v2.RandomApply([v2.ColorJitter(0.1)])])
