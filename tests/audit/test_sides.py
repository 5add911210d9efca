import pytest
from torchvision.transforms import v2

from mtl_lightning.audit.sides import findings
from mtl_lightning.data.datamodule import PartialLabels
from mtl_lightning.data.mirroring.mirror import Mirror
from mtl_lightning.tasks import Regression

POSES = {"pose": ["front", "left", "right"]}


def notes(names, **options):
    data = PartialLabels({"size": Regression()}, **options)
    return [finding.line() for finding in findings(data, names)]


def test_a_flip_leaves_classes_that_name_a_side_behind():
    start = "task pose: images are mirrored, and classes that name a side are not: left, right; "
    swap = "data.mirror: {swap: {pose: {left: right}}}"
    assert notes(POSES) == [f"{start}{swap} swaps them"]
    flip = [v2.RandomHorizontalFlip()]
    assert notes(POSES, augmentation=flip) == [
        f"{start}{swap}, in place of RandomHorizontalFlip, swaps them"
    ]
    assert notes(POSES, mirror=Mirror({"other": {"left": "right"}})) == [
        f"{start}{swap} swaps them"
    ]


@pytest.mark.parametrize(
    "options",
    [
        {"augmentation": "none"},
        {"augmentation": [v2.RandomVerticalFlip()]},
        {"mirror": Mirror({"pose": {"right": "left"}})},
        {"mirror": Mirror(probability=0.0)},
    ],
    ids=str,
)
def test_nothing_to_say_where_nothing_is_left_behind(options):
    assert notes(POSES, **options) == []


@pytest.mark.parametrize(
    ("names", "pair"),
    [
        (["on the left", "on the right"], "on the left: on the right"),
        (['"left"', '"right"'], r'"\"left\"": "\"right\""'),
    ],
)
def test_pairs_are_written_as_yaml_has_them(names, pair):
    (line,) = notes({"task": names})
    assert line.endswith(f"; data.mirror: {{swap: {{task: {{{pair}}}}}}} swaps them")


def test_a_side_without_its_other():
    start = "task pose: images are mirrored, and classes that name a side are not: left; "
    names = {"pose": ["left", "front"]}
    fix = "a mirrored image has a wrong label then; see"
    assert notes(names) == [f"{start}{fix} data.augmentation"]
    assert notes(names, mirror=Mirror()) == [f"{start}{fix} data.mirror"]


def test_many_of_them_are_one_line():
    names = [f"{side} {part}" for part in "abcdefg" for side in ("left", "right")]
    (line,) = notes({"part": names})
    assert "left a, right a, left b, right b, left c and 9 more" in line
    assert "left e: right e, ...}}" in line
