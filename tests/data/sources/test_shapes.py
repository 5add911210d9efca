import numpy as np
import pytest
import torch

from mtl_lightning.data.sources import ShapesSource
from mtl_lightning.data.sources.shapes import KINDS, MILLIMETRES, SHAPES, render
from mtl_lightning.system.errors import UserError
from mtl_lightning.tasks import DenseRegression, Segmentation


def test_labels_are_those_of_the_rendered_scenes():
    source = ShapesSource(scenes=40, size=32)
    table = source.read(KINDS)
    seg, depth = Segmentation(["none", *SHAPES]), DenseRegression(scale=1 / MILLIMETRES)
    seen = set()
    for row, key in enumerate(table.images):
        scene = render(0, 32, row)
        assert np.array_equal(source.load(key), scene.pixels)
        mask = seg.load_target(source.target_content(table.labels["segmentation"][row]))
        assert np.array_equal(mask - 1, scene.classes())
        metres = depth.load_target(source.target_content(table.labels["depth"][row]))
        torch.testing.assert_close(metres, torch.tensor(scene.depth).float(), atol=6e-4, rtol=0)
        visible = [number for number in range(1, 5) if (scene.owner == number).any()]
        assert table.labels["count"][row] == str(len(visible))
        areas = {number: int((scene.owner == number).sum()) for number in visible}
        largest = max(areas, key=areas.__getitem__)
        assert table.labels["shape"][row] == SHAPES[scene.kinds[largest - 1]]
        for number in visible:  # a shape is in front of what it hides
            assert (scene.depth[scene.owner == number] < 6).all()
        seen |= {table.labels["count"][row], table.labels["shape"][row]}
    assert seen == {"1", "2", "3", "4", *SHAPES}
    assert np.array_equal(source.target_files(table, "depth"), table.labels["depth"])


def test_scenes_depend_on_the_seed_alone():
    one, same, other = (ShapesSource(10, seed=seed) for seed in (1, 1, 2))
    keys = [source.read(["count"]).images[3] for source in (one, same, other)]
    assert keys[0] == keys[1] != keys[2]
    assert np.array_equal(one.load(keys[0]), same.load(keys[0]))
    assert not np.array_equal(one.load(keys[0]), other.load(keys[2]))


def test_training_labels_are_left_out():
    source = ShapesSource(scenes=200, missing={"depth": 0.5, "mask": 0.25}, labels=None)
    with pytest.raises(UserError, match='`missing` names the task "mask"'):
        source.read(["depth"])
    kinds = {"depth": "depth", "mask": "segmentation"}
    table = ShapesSource(200, missing={"depth": 0.5, "mask": 0.25}, labels=kinds).read(
        ["depth", "mask"]
    )
    splits = table.splits.tolist()
    assert [splits.count(split) for split in ("train", "val", "test")] == [140, 20, 40]
    train = table.splits == "train"
    for task, kept in (("depth", 70), ("mask", 105)):
        there = np.array([label is not None for label in table.labels[task]])
        assert there[train].sum() == kept
        assert there[~train].all()
    assert table.labels["mask"][0] == "shapes:0:64:0:segmentation"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"scenes": 9}, "scenes should be at least 10. Found 9"),
        ({"size": 8}, "size should be at least 16. Found 8"),
        ({"seed": -1}, "seed should be at least 0. Found -1"),
    ],
)
def test_wrong_arguments(arguments, message):
    with pytest.raises(UserError, match=f"^shapes: {message}$"):
        ShapesSource(**arguments)


def test_tasks_lack_their_labels_in_different_scenes():
    missing = dict.fromkeys(("segmentation", "depth"), 0.5)
    labels = ShapesSource(scenes=100, size=16, missing=missing).read([*missing]).labels
    one, other = (np.array([cell is None for cell in labels[task]]) for task in missing)
    assert one.sum() == other.sum() == 35
    assert 0 < (one & other).sum() < 35


def test_shapes_that_are_drawn_over_others_are_nearer():
    for number in range(10):
        scene = render(0, 32, number)
        distances = [scene.depth[scene.owner == n][0] for n in np.unique(scene.owner)[1:]]
        assert distances == sorted(distances, reverse=True)
