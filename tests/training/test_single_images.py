import re

import numpy as np
import pytest

from mtl_lightning.callbacks.unfreeze import Unfreeze
from mtl_lightning.data.plan import StepPlan
from mtl_lightning.models import Soft, Torchvision
from mtl_lightning.system.errors import UserError
from mtl_lightning.tasks import Regression
from mtl_lightning.training.module import MultiTask
from mtl_lightning.training.single_images import check_single_images
from tests.helpers.data import Memory, make_data
from tests.helpers.training import fit


def module(trainable_from=None, size=16):
    backbone = Torchvision("resnet18", weights=None, trainable_from=trainable_from)
    return MultiTask({"size": Regression()}, backbone, image_size=size)


def data(images, batch_size=8, size=16):
    source = Memory({"size": range(images)}, ["train"] * images)
    tasks = {"size": Regression()}
    return make_data(
        tasks=tasks, sources={"m": source}, batch_size=batch_size, splits={}, image_size=size
    )


def test_a_last_batch_of_one_image_is_found_before_training(tmp_path):
    with pytest.raises(
        UserError,
        match=r"at 16 x 16 pixels batch norm \(sharing\.backbone\..*\) sees one pixel.*Found 17 "
        r"training images in batches of 8, the last with one; set data\.batch_size to 7$",
    ):
        fit(tmp_path, data(17), module())
    fit(tmp_path, data(17, batch_size=7), module())


def test_an_image_size_that_helps_is_named(tmp_path):
    with pytest.raises(UserError, match=r"set data\.batch_size to 7 or data.image_size to 64"):
        fit(tmp_path, data(17, size=32), module(size=32))


def test_larger_images_may_stand_alone(tmp_path):
    fit(tmp_path, data(3, batch_size=2, size=64), module(size=64))


def test_batch_norm_that_is_frozen_does_not_mind_until_it_is_unfrozen(tmp_path):
    fit(tmp_path, data(3, batch_size=2), module("heads"))
    with pytest.raises(UserError, match="every step should have two images"):
        fit(tmp_path, data(3, batch_size=2), module("heads"), callbacks=[Unfreeze(1)], max_epochs=2)


@pytest.mark.parametrize(
    ("images", "batch_size", "ranks", "mend"),
    [
        (17, 8, 1, "data.batch_size to 7"),
        (16, 1, 1, "data.batch_size to 2"),
        (1, 8, 1, None),  # one image in all
        (19, 8, 2, "data.batch_size to 7"),  # the last three: two and one
        (17, 8, 2, "data.batch_size to 9"),  # the last one, and padding
        (3, 4, 2, None),
        (33, 16, 1, "data.batch_size to 15"),
    ],
)
def test_what_helps(images, batch_size, ranks, mend):
    plan = StepPlan(np.arange(images), {}, batch_size, ranks)
    devices = " on 2 devices" if ranks == 2 else ""
    mend = f"set {mend}" if mend else "train on more images"
    found = f"Found {images} training images in batches of {batch_size}{devices}, .*; {mend}$"
    with pytest.raises(UserError, match=found) as error:
        check_single_images(module().network, plan, False)
    number = re.search(r"batch_size to (\d+)", str(error.value))
    if number:
        check_single_images(
            module().network, StepPlan(np.arange(images), {}, int(number[1]), ranks), False
        )


@pytest.mark.parametrize(("images", "ranks"), [(16, 1), (18, 1), (16, 2), (20, 2)])
def test_two_images_or_more_on_each_device_are_enough(images, ranks):
    plan = StepPlan(np.arange(images), {}, 8, ranks)
    check_single_images(module().network, plan, False)


def test_an_epoch_that_is_gone_on_with_may_end_in_one_image():
    plan = StepPlan(np.arange(16), {}, 4, resumed=(2, 7))  # 4, 4 and 1 remain
    assert [plan.fewest_rows(epoch) for epoch in (2, 3)] == [1, 4]
    with pytest.raises(UserError, match="the last with one"):
        check_single_images(module().network, plan, False)


def soft(size=32, trainable_from=None):
    backbone = Torchvision("resnet18", weights=None, trainable_from=trainable_from)
    tasks = {"size": Regression(), "age": Regression()}
    return MultiTask(tasks, backbone, sharing=Soft(0.1), image_size=size)


def rare(images, labelled, batch_size=4, size=32):
    """A task with a label in each image, and one with labels in the first of them."""
    ages = [i if i < labelled else None for i in range(images)]
    source = Memory({"size": range(images), "age": ages}, ["train"] * images)
    tasks = {"size": Regression(), "age": Regression()}
    return make_data(
        tasks=tasks, sources={"m": source}, batch_size=batch_size, splits={}, image_size=size
    )


def test_a_single_image_with_a_label_is_found_where_backbones_see_no_other(tmp_path):
    with pytest.raises(
        UserError,
        match=r"task age: no batch should have a single image with its label: Soft .* at 32 x 32 "
        r"pixels batch norm \(sharing\..*\) sees one pixel.*Found such a batch in epoch \d+; set "
        r"data\.image_size to 64 or a larger data\.batch_size, or sharing: Hard$",
    ):
        fit(tmp_path, rare(8, 3), soft())
    fit(tmp_path, rare(8, 3, size=64), soft(64))


def test_it_is_looked_for_in_every_epoch():
    labels = {"size": np.ones(8, int), "age": np.array([1, 1, 0, 0, 0, 0, 0, 0])}
    plan = StepPlan(np.arange(8), labels, 4, shuffle_seed=0)
    first = next(epoch for epoch in range(50) if plan.single_labels(epoch))
    late = next(e for e in range(50) if plan.single_labels(e) and not plan.single_labels(e - 1))
    assert first in (0, late)
    early = StepPlan(np.arange(8), labels, 4, shuffle_seed=0, resumed=(late - 1, 0))
    check_single_images(soft().network, early, False, late)
    with pytest.raises(UserError, match=f"in epoch {late};"):
        check_single_images(soft().network, early, False, late + 1)


def test_labels_do_not_matter_to_a_shared_backbone():
    labels = {"size": np.ones(8, int), "age": np.array([1, 0, 0, 0, 0, 0, 0, 0])}
    check_single_images(module(size=32).network, StepPlan(np.arange(8), labels, 4), False, 3)
    check_single_images(soft(64).network, StepPlan(np.arange(8), labels, 4), False, 3)
