import math
from io import BytesIO

import numpy as np
import pytest
import torch

from mtl_lightning.system.errors import UserError
from mtl_lightning.tasks import DenseRegression
from tests.helpers.segmentation import png

ANY = torch.ones(1, dtype=torch.bool)


def npy(values: np.ndarray) -> bytes:
    file = BytesIO()
    np.save(file, values)
    return file.getvalue()


def answered(task: DenseRegression, values: torch.Tensor) -> list[bytes]:
    return task.encode_answers({"value": values.numpy()})


# ------------------------------------------------------------------- targets


def test_numbers_are_read_with_their_scale_and_0_is_no_label():
    stored = np.array([[0, 1500], [65535, 2]], dtype=np.uint16)
    depth = DenseRegression("m", scale=0.001)
    torch.testing.assert_close(
        depth.load_target(png(stored)), torch.tensor([[0, 1.5], [65.535, 0.002]])
    )
    assert DenseRegression().load_target(png(np.array([[0, 7]]))).tolist() == [[0, 7]]
    values = np.array([[np.nan, -1.5, np.inf, -9.0]])
    assert DenseRegression(invalid=-9).load_target(npy(values)).tolist() == [[0, -1.5, 0, 0]]


def test_a_label_of_0_is_a_label():
    target = DenseRegression(invalid=None).load_target(npy(np.array([[0.0, 2.0]])))
    assert (target != 0).all()
    torch.testing.assert_close(target, torch.tensor([[0.0, 2.0]]))
    assert not DenseRegression().has_label(torch.zeros(2, 2))
    assert DenseRegression(invalid=None).has_label(target)


def test_vectors_are_read_as_directions():
    task = DenseRegression(channels=3, loss="cosine")
    stored = np.array([[[0, 0, 0], [255, 127, 128], [0, 255, 0]]])
    target = task.load_target(png(stored))
    third = 1 / math.sqrt(3)
    expected = torch.tensor([[0, 0, 0], [1, 0, 0], [-third, third, -third]]).T[:, None]
    torch.testing.assert_close(target, expected, atol=0.01, rtol=0)
    array = np.array([[[0, 0, 2.0], [0, 0, 0], [np.nan, 0, 1]]])
    assert task.load_target(npy(array))[2].tolist() == [[1, 0, 0]]


def test_what_is_no_target_says_what_was_expected():
    for task, content, message in (
        (
            DenseRegression(),
            png(np.zeros((2, 2, 3))),
            r"shape \(2, 2, 3\), expected \(height",
        ),
        (DenseRegression(channels=3), png(np.zeros((2, 2))), r"expected \(height, width, 3\)"),
        (DenseRegression(), npy(np.array([["a"]])), "an array of <U1, expected numbers"),
        (DenseRegression(), npy(np.array([[1e39]])), "a value of 1e.39, too large"),
        (
            DenseRegression(loss="log"),
            npy(np.array([[-2.0]])),
            "a value of -2, expected numbers",
        ),
        (DenseRegression(), npy(np.array([[None]])), "Object arrays cannot be loaded"),
        (DenseRegression(), b"no image", "cannot identify image file"),
    ):
        with pytest.raises(Exception, match=message):
            task.load_target(content)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"scale": 0}, "scale should be above 0. Found 0"),
        ({"scale": 2, "channels": 3}, "scale should be left out with 3 channels. Found 2"),
        ({"loss": "cosine"}, "loss should be l1 or log with 1 channel. Found cosine"),
        ({"loss": "log", "channels": 3}, "loss should be l1 or cosine with 3 channels. Found log"),
    ],
)
def test_wrong_arguments(arguments, message):
    with pytest.raises(UserError, match=f"^{message}$"):
        DenseRegression(**arguments)


# ------------------------------------------------------------------- statistics and losses


def test_statistics_are_those_of_pixels_with_a_label():
    task = DenseRegression()
    task.fit_targets([torch.tensor([[0.0, 2.0]]), torch.tensor([[4.0], [0.0], [9.0]])])
    assert task.mean.item() == 5
    assert task.std.item() == pytest.approx(math.sqrt((9 + 1 + 16) / 3))
    for nothing, message in (
        ([torch.zeros(2, 2)], r"no pixel of 1 training files has a label; is `invalid` \(0"),
        ([torch.full((2, 2), 3.0)], "every pixel of 1 training files is 3; there is nothing to"),
    ):
        with pytest.raises(UserError, match=message):
            task.fit_targets(nothing)


def test_statistics_of_a_log_loss_are_those_of_logarithms():
    task = DenseRegression(loss="log")
    task.fit_targets([torch.tensor([[1.0, math.e**2, 0.0]])])
    assert (task.mean.item(), task.std.item()) == pytest.approx((1, 1))


def test_statistics_of_large_files_are_of_pixels_all_over_them():
    task = DenseRegression()
    task.fit_targets([torch.arange(1.0, 40_001.0).view(200, 200)])
    assert task.mean.item() == pytest.approx(20_000, rel=1e-3)
    assert task.std.item() == pytest.approx(40_000 / 12**0.5, rel=1e-3)


def test_a_summary_has_the_range_of_the_labels_a_labelled_0_included():
    task = DenseRegression("m", invalid=None)
    assert task.summary([task.load_target(png(np.array([[0, 2], [7, 7]])))]) == [
        "0 to 7 m",
        "labelled 100.0% of the pixels",
    ]


@pytest.mark.parametrize("loss", ["l1", "log"])
def test_losses_are_absolute_errors_in_standard_deviations(loss):
    task = DenseRegression(loss=loss)
    task.fit_targets([torch.tensor([[1.0, 2.0, 4.0, 8.0]])])
    outputs = torch.tensor([[[[0.5, -1.0, 99.0]]]], requires_grad=True)
    target = torch.tensor([[[2.0, 3.0, 0.0]]])
    answer = task.predict(outputs)["value"]
    if loss == "log":
        answer, target = answer.log(), target.log()
    expected = ((answer - target).abs() / task.std)[..., :2].mean()
    found = task.loss(outputs, torch.tensor([[[2.0, 3.0, 0.0]]]))
    assert found.item() == pytest.approx(expected.item(), rel=1e-5)
    found.sum().backward()
    assert outputs.grad[..., 2].item() == 0
    assert task.loss(outputs, torch.zeros(1, 1, 3)).item() == 0


def test_cosine_loss_is_that_of_the_angle():
    task = DenseRegression(channels=3, loss="cosine")
    outputs = torch.tensor([[2.0, 0, 0], [0, 3, 3], [5, 5, 5]]).T[None, :, None]
    target = torch.tensor([[1.0, 0, 0], [0, 0, 1], [0, 0, 0]]).T[None, :, None]
    assert task.loss(outputs, target).item() == pytest.approx((0 + 1 - math.sqrt(0.5)) / 2)
    l1 = DenseRegression(channels=3).loss(outputs, target).item()
    assert l1 == pytest.approx((0 + math.sqrt(0.5) + 1 - math.sqrt(0.5)) / 2)


# ------------------------------------------------------------------- metrics and answers


def test_errors_are_those_of_the_literature():
    task = DenseRegression()
    metrics = task.metrics()
    answers = {"value": torch.tensor([[[2.0, 3.0, 8.0, -1.0, 99.0]]])}
    task.update(metrics, answers, torch.tensor([[[2.2, 4.0, 4.0, 4.0, 0.0]]]), ANY)
    found = {name: value.item() for name, value in metrics.compute().items()}
    assert found == pytest.approx(
        {
            "delta1": 1 / 4,  # 1.1
            "delta2": 2 / 4,  # 1.33
            "delta3": 2 / 4,  # 2, and below 0
            "mae": (0.2 + 1 + 4 + 5) / 4,
            "rmse": math.sqrt((0.04 + 1 + 16 + 25) / 4),
            "rel": (0.2 / 2.2 + 1 / 4 + 1 + 5 / 4) / 4,
        },
        rel=1e-6,
    )
    assert task.score(found) == 1 / 4


def test_labels_that_are_not_above_0_have_no_relative_error():
    task = DenseRegression(invalid=None)
    metrics = task.metrics()
    target = task.load_target(npy(np.array([[0.0, -2.0]])))[None]
    task.update(metrics, {"value": torch.tensor([[[1.0, -2.0]]])}, target, ANY)
    found = {name: value.item() for name, value in metrics.compute().items()}
    assert found["mae"] == pytest.approx(0.5)
    assert math.isnan(found["rel"])
    assert math.isnan(found["delta1"])


def test_angles_are_measured_in_degrees():
    task = DenseRegression(channels=3)
    metrics = task.metrics()
    degrees = [0.0, 5, 11, 20, 25, 29, 90]
    turned = [[math.sin(math.radians(d)), 0, math.cos(math.radians(d))] for d in degrees]
    vectors = torch.tensor([*turned, [1.0, 0, 0]]).T[None, :, None]
    labels = torch.tensor([[0.0, 0, 1]] * 7 + [[0.0, 0, 0]]).T[None, :, None]
    task.update(metrics, {"value": vectors}, labels, ANY)
    found = {name: value.item() for name, value in metrics.compute().items()}
    assert found["angle_mean"] == pytest.approx(sum(degrees) / 7, abs=0.05)
    assert found["angle_median"] == pytest.approx(20, abs=0.1)
    shares = [found[f"within_{limit}"] for limit in ("11", "22", "30")]
    assert shares == pytest.approx([3 / 7, 4 / 7, 6 / 7])
    assert task.primary == "within_11"
    assert task.score(found) == pytest.approx(3 / 7)


def test_answers_are_files_that_can_be_read_as_labels():
    values = torch.tensor([[[0.5, 1.2345], [60.0, 3.0]]])
    depth = DenseRegression("m", scale=0.001)
    torch.testing.assert_close(
        depth.load_target(answered(depth, values)[0]), values[0], atol=5e-4, rtol=0
    )
    assert depth.answer_suffix == ".png"
    extreme = depth.load_target(answered(depth, torch.tensor([[[-3.0, 1e9]]]))[0])
    torch.testing.assert_close(extreme, torch.tensor([[0.001, 65.535]]))
    floats = DenseRegression()
    assert torch.equal(floats.load_target(answered(floats, values)[0]), values[0])
    assert floats.answer_suffix == ".npy"
    normals = DenseRegression(channels=3)
    vectors = torch.nn.functional.normalize(torch.randn(1, 3, 4, 5), dim=1)
    (content,) = answered(normals, vectors)
    torch.testing.assert_close(normals.load_target(content), vectors[0], atol=0.01, rtol=0)
