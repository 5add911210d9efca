import json
import math
from io import BytesIO

import numpy as np
import pytest
import torch
from PIL import Image

from mtl_lightning.system.errors import UserError
from mtl_lightning.tasks import Segmentation
from tests.helpers.segmentation import png

CLASSES = ["sky", "road", "car"]


def mask(*values: int) -> torch.Tensor:
    """Return a target of one row of pixels for one image."""
    return torch.tensor([[values]], dtype=torch.uint8)


def loss(name: str, logits: torch.Tensor, target: torch.Tensor) -> float:
    (value,) = Segmentation(CLASSES, loss=name).loss(logits, target).tolist()
    return value


# ------------------------------------------------------------------- masks


def test_values_are_classes_and_0_is_no_class():
    pixels = np.array([[0, 1], [2, 255]])
    assert Segmentation(CLASSES).load_target(png(pixels)).tolist() == [[1, 2], [3, 0]]
    mapped = Segmentation({7: "road", 3: "sky", 9: "road"}, ignore=[0, 4])
    assert mapped.classes == ["road", "sky"]
    assert mapped.load_target(png(np.array([[7, 3], [9, 4], [0, 7]]))).tolist() == [
        [1, 2],
        [1, 0],
        [0, 1],
    ]
    others = Segmentation({7: "road", 300: "sky"}, ignore="others")
    wide = png(np.array([[7, 300, 8, 65535]], dtype=np.uint16))
    assert others.load_target(wide).tolist() == [[1, 2, 0, 0]]


def test_palette_images_and_bitmaps_are_read_by_their_values():
    image = Image.fromarray(np.array([[0, 2], [1, 1]], dtype=np.uint8))
    image.putpalette([9, 9, 9, 200, 0, 0, 0, 200, 0])
    file = BytesIO()
    image.save(file, "png")
    assert Segmentation(CLASSES).load_target(file.getvalue()).tolist() == [[1, 3], [2, 2]]
    bits = BytesIO()
    Image.fromarray(np.array([[True, False]])).save(bits, "png")
    assert Segmentation(CLASSES).load_target(bits.getvalue()).tolist() == [[2, 1]]


def test_what_is_no_mask_says_what_was_expected():
    task = Segmentation(CLASSES, ignore=None)
    for content, message in (
        (png(np.array([[0, 7, 7]])), "value 7 of 2 pixels is no class, expected 0 .sky., 1 .road."),
        (
            png(np.array([[0, 255]])),
            "value 255 of 1 pixels is no class, .* `ignore` names no",
        ),
        (png(np.zeros((2, 2, 3), dtype=np.uint8)), "a picture of colours, expected a grey"),
        (png(np.zeros((2, 2, 4), dtype=np.uint8)), "a PNG file of mode RGBA, expected grey"),
    ):
        with pytest.raises(ValueError, match=message):
            task.load_target(content)


def test_run_length_encoded_masks_are_read_by_their_values():
    task = Segmentation({0: "sky", 1: "road", 7: "car"})
    mask = {"size": [1, 3], "counts": [1, 1, 1]}
    annotations = [{"category_id": 7, "segmentation": mask}]
    for stated, expected in ((mask, [[1, 2, 1]]), (annotations, [[1, 3, 1]])):
        content = json.dumps(stated, indent=1).encode()
        for beginning in (b"", b"\n", b"\xef\xbb\xbf"):
            assert task.load_target(beginning + content).tolist() == expected
    with pytest.raises(ValueError, match=r"value 0 of 2 pixels is no class, expected 1 \(road\)"):
        Segmentation({1: "road", 7: "car"}).load_target(json.dumps(mask).encode())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"classes": ["sky"]}, "classes should be 2 to 254 names. Found 1"),
        ({"classes": ["a", "b", "a"]}, 'classes should be distinct. Found "a" twice'),
        ({"classes": {-1: "a", 2: "b"}}, "values of a mask should be in 0..65535. Found -1"),
        ({"classes": {1: "a", 2: "b"}, "ignore": [2]}, "ignore should not name a value of"),
    ],
)
def test_wrong_arguments(arguments, message):
    with pytest.raises(UserError, match=message):
        Segmentation(**arguments)


def test_classes_and_their_values_are_the_identity():
    assert Segmentation(CLASSES).identity() == {"classes": CLASSES}
    values = {7: "road", 3: "sky"}
    assert Segmentation(values).identity() == {"classes": values}


# ------------------------------------------------------------------- loss


LOGITS = torch.tensor([[[[0.0, 2.0, 0.0, 9.0]], [[1.0, 0.0, 0.0, 9.0]], [[0.0, 0.0, 3.0, -9.0]]]])


def test_cross_entropy_is_the_mean_over_valid_pixels():
    expected = [
        -math.log(math.e / (2 + math.e)),
        -math.log(math.exp(2) / (2 + math.exp(2))),
        -math.log(1 / (2 + math.exp(3))),
    ]
    assert loss("cross_entropy", LOGITS, mask(2, 1, 1, 0)) == pytest.approx(sum(expected) / 3)


def test_dice_is_the_mean_over_the_classes_that_occur():
    chances = LOGITS.softmax(1)[0, :, 0, :3].tolist()
    road = 2 * chances[1][0] / (sum(chances[1]) + 1)
    sky = 2 * (chances[0][1] + chances[0][2]) / (sum(chances[0]) + 2)
    expected = ((1 - road) + (1 - sky)) / 2
    assert loss("dice", LOGITS, mask(2, 1, 1, 0)) == pytest.approx(expected)
    both = expected + loss("cross_entropy", LOGITS, mask(2, 1, 1, 0))
    assert loss("both", LOGITS, mask(2, 1, 1, 0)) == pytest.approx(both)


@pytest.mark.parametrize("name", ["cross_entropy", "dice", "both"])
def test_ignored_pixels_have_no_loss_and_no_gradient(name):
    logits = LOGITS.clone().requires_grad_()
    task = Segmentation(CLASSES, loss=name)
    value = task.loss(logits, mask(0, 1, 3, 0)).sum()
    value.backward()
    assert logits.grad[..., [0, 3]].abs().max() == 0
    assert logits.grad[..., [1, 2]].abs().min() > 0
    other = LOGITS.clone()
    other[..., [0, 3]] = 5.0
    assert loss(name, other, mask(0, 1, 3, 0)) == value.item()
    assert loss(name, LOGITS, mask(0, 0, 0, 0)) == 0


# ------------------------------------------------------------------- metrics and answers


def measured(predicted: list[int], labels: list[int]) -> dict[str, float]:
    task = Segmentation(CLASSES)
    metrics = task.metrics()
    answers = {"classes": torch.tensor([[predicted]])}
    task.update(metrics, answers, mask(*labels), torch.ones(1, dtype=torch.bool))
    return {name: value.item() for name, value in metrics.compute().items()}


def test_iou_is_that_of_all_valid_pixels():
    values = measured([0, 0, 1, 1, 2, 2], [1, 2, 2, 2, 3, 0])
    assert values["iou/sky"] == 1 / 2
    assert values["iou/road"] == pytest.approx(2 / 3)
    assert values["iou/car"] == 1
    assert values["miou"] == pytest.approx((1 / 2 + 2 / 3 + 1) / 3)
    assert values["pixel_accuracy"] == pytest.approx(4 / 5)


def test_a_class_that_never_occurs_has_no_part_in_the_mean():
    values = measured([0, 0, 1, 2], [1, 1, 2, 2])  # car is predicted, and no pixel is one
    assert math.isnan(values["iou/car"])
    assert values["miou"] == pytest.approx((1 + 1 / 2) / 2)


def test_answers_are_masks_that_can_be_read_as_labels():
    logits = torch.randn(2, 3, 4, 5)
    for classes in (CLASSES, {7: "sky", 3: "road", 9: "car"}, {700: "sky", 3: "road", 9: "car"}):
        task = Segmentation(classes)
        answers = task.predict(logits)
        assert torch.equal(answers["classes"], logits.argmax(1))
        torch.testing.assert_close(answers["probabilities"].sum(1), torch.ones(2, 4, 5))
        arrays = {name: values.numpy() for name, values in answers.items()}
        for row, content in enumerate(task.encode_answers(arrays)):
            assert torch.equal(task.load_target(content) - 1, answers["classes"][row])
    palette = Image.open(BytesIO(Segmentation(CLASSES).encode_answers(arrays)[0]))
    assert palette.mode == "P"
    assert palette.getpalette()[:9] == [128, 0, 0, 0, 128, 0, 128, 128, 0]  # VOC's first three


def test_a_summary_has_shares_of_the_pixels_with_a_class():
    targets = [mask(1, 1, 2, 0)[0], mask(1, 0, 0, 0)[0]]
    assert Segmentation(CLASSES).summary(targets) == [
        *("sky 75.0%", "road 25.0%", "car 0.0%"),
        "ignored 50.0% of all",
    ]


def test_labels_and_answers_are_drawn_by_the_same_numbers():
    task = Segmentation(CLASSES)
    collected = task.plot_data()
    collected.see(torch.zeros(1, 3, 1, 4, dtype=torch.uint8))
    answers = {"classes": torch.tensor([[[0, 1, 2, 2]]])}
    collected.update(answers, mask(1, 2, 3, 0), torch.tensor([True]), torch.tensor([5]))
    record = collected.compute()
    assert record.labels[0].tolist() == [[1, 2, 3, 0]]
    assert record.answers[0].tolist() == [[1, 2, 3, 3]]
    assert record.classes == CLASSES


def test_of_several_values_of_a_class_answers_have_the_first():
    task = Segmentation({7: "road", 9: "road", 3: "sky"})
    (content,) = task.encode_answers({"classes": np.array([[[0, 1]]])})
    with Image.open(BytesIO(content)) as image:
        assert np.array(image).tolist() == [[7, 3]]
