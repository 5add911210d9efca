import numpy as np
import pytest
import torch
from sklearn.metrics import accuracy_score, average_precision_score, f1_score, recall_score
from torch.nn import functional as F

from mtl_lightning.system.errors import UserError
from mtl_lightning.tasks import Encoded, MultiLabel
from mtl_lightning.tasks.calibration import Calibration
from mtl_lightning.tasks.metrics import TaskMetrics
from tests.helpers.data import column
from tests.helpers.training import written

LABELS = ["hat", "bag", "scarf"]


def cells(*rows: tuple[str | None, ...]) -> np.ndarray:
    return np.stack([column(values) for values in zip(*rows, strict=True)], axis=1)


def test_a_column_each():
    encoded = MultiLabel(LABELS).encode(
        cells((None, "yes", "0", None), (None, "-1", "TRUE", "1.0"), (None, None, None, None))
    )
    assert encoded.labelled.tolist() == [[1, 1, 0], [1, 1, 1], [0, 0, 0]]
    assert encoded.targets[encoded.labelled].tolist() == [1, 0, 0, 1, 1]
    assert encoded.counts().tolist() == [2, 3, 0]
    assert not encoded.bad.any()


def test_one_column_of_names():
    rows = [("hat; scarf", None, None, None), ("none", None, None, None), (None,) * 4]
    encoded = MultiLabel(LABELS).encode(cells(*rows))
    assert encoded.labelled.tolist() == [[1, 1, 1], [1, 1, 1], [0, 0, 0]]
    assert encoded.targets[:2].tolist() == [[1, 0, 1], [0, 0, 0]]


def test_both_may_agree_but_not_contradict():
    encoded = MultiLabel(LABELS).encode(
        cells(("hat", "yes", None, None), ("hat", "no", None, None))
    )
    assert encoded.bad.tolist() == [[False] * 4, [False, True, False, False]]


def test_a_list_may_be_json_and_names_may_be_numbers():
    rows = cells(('["scarf", "hat"]', None, None, None), ("[]", None, None, None))
    assert MultiLabel(LABELS).encode(rows).targets.tolist() == [[1, 0, 1], [0, 0, 0]]
    numbered = MultiLabel(["1", "2.0", "cafe\u0301"]).encode(
        cells(("1.0;2;caf\u00e9", *[None] * 3))
    )
    assert numbered.targets.tolist() == [[1, 1, 1]]
    assert not numbered.bad.any()


def test_what_is_read_in_two_cells():
    meaning = MultiLabel(LABELS).meaning
    assert meaning("hat;bag", "") == meaning("bag; hat;", "") == meaning('["hat", "bag"]', "")
    assert meaning("hat", "") != meaning("none", "")
    assert meaning("1", "hat") == meaning("YES", "hat") != meaning("0", "hat")
    assert meaning("-1", "hat") == meaning("no", "hat")
    assert meaning("maybe", "hat") == "maybe"


@pytest.mark.parametrize("no", ["0", "no", "False"])
def test_minus_one_next_to_another_no_is_doubtful(no):
    task = MultiLabel(LABELS)
    cell, question = task.doubt({no, "-1", "1"}, "hat")
    assert cell == "-1"
    assert question == (
        f'next to "{no.lower()}" may mean no, or not labelled; settle it in the source: '
        "`values: {-1: no}`, or `missing: [-1]`"
    )
    assert task.doubt({"1", "-1"}, "hat") is None
    assert task.doubt({"1", no}, "hat") is None
    assert task.doubt({"-1", "0"}, "") is None, "these are names"


def test_balanced_weights_of_a_very_rare_label_are_bounded_and_reported():
    targets = torch.zeros(19_000, 3)
    targets[:2, 0] = targets[:200, 1] = targets[:9000, 2] = 1
    labelled = torch.ones(19_000, 3, dtype=torch.bool)
    task = MultiLabel(LABELS, pos_weights="balanced")
    task.fit_statistics(targets, labelled)
    ratio = task.positive_weight / task.negative_weight
    assert ratio.tolist() == pytest.approx([100, 94, 10 / 9])
    told = task.remarks(targets.numpy(), labelled.numpy())
    assert told == [
        (
            "pos_weights: balanced is bounded at 100 for hat (2 of 19,000)",
            "label more of them, or leave them out",
        )
    ]
    assert task.remarks(targets[:, [2, 2, 2]].numpy(), labelled.numpy()) == []
    assert MultiLabel(LABELS).remarks(targets.numpy(), labelled.numpy()) == []


def test_columns_of_nothing_but_different_texts_are_read_in_no_time():
    texts = column([f"no label {i}" for i in range(200_000)])
    encoded = MultiLabel(["hat"]).encode(np.stack([texts, texts], axis=1))
    assert encoded.bad.all()
    assert not encoded.labelled.any()


@pytest.mark.parametrize("seed", range(5))
def test_every_mix_of_columns_is_read_as_cell_by_cell(seed):
    draw = np.random.default_rng(seed)
    task = MultiLabel(LABELS)
    names = column([*draw.choice(["hat", "hat;bag", "none", "hut", "scarf;;", None], 60)])
    answers = [column([*draw.choice(["yes", "No", "0", "+", "maybe", None], 60)]) for _ in LABELS]
    rows = np.stack([names, *answers], axis=1)
    whole = task.encode(rows)
    for i, row in enumerate(rows):
        alone = task.encode(row[None])
        assert (whole.bad[i] == alone.bad[0]).all()
        assert (whole.labelled[i] == alone.labelled[0]).all()
        assert (whole.targets[i] == alone.targets[0])[whole.labelled[i]].all()
        known = row[0] is not None and "hut" not in row[0]
        assert alone.bad[0, 0] == (row[0] is not None and not known)
        for j, name in enumerate(LABELS):
            answered = {"yes": 1, "+": 1, "No": 0, "0": 0}.get(row[j + 1])
            listed = int(name in row[0].split(";")) if known else None
            expected = listed if answered is None else answered
            assert alone.labelled[0, j] == (expected is not None)
            assert expected is None or alone.targets[0, j] == expected
            contradicted = None not in (answered, listed) and answered != listed
            assert alone.bad[0, j + 1] == (contradicted or row[j + 1] == "maybe")


@pytest.mark.parametrize(
    ("row", "field", "message"),
    [
        (("hat;scraf", None, None, None), 0, 'did you mean "scarf"'),
        ((None, "maybe", None, None), 1, "yes or no"),
    ],
)
def test_what_cannot_be_read_is_bad_and_explained(row, field, message):
    task = MultiLabel(LABELS)
    encoded = task.encode(cells(row))
    assert np.argwhere(encoded.bad).tolist() == [[0, field]]
    assert message in task.expected(row[field])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"labels": []}, "different names"),
        ({"labels": ["a", "a"]}, "different names"),
        ({"labels": ["a/b"]}, "different names"),
        ({"labels": ["a;b"]}, "different names"),
        ({"labels": ["a", "b"], "pos_weights": [1.0]}, "for each of the 2 labels"),
        ({"labels": ["a"], "pos_weights": [0.0]}, "above 0"),
    ],
)
def test_wrong_arguments(arguments, message):
    with pytest.raises(UserError, match=message):
        MultiLabel(**arguments)


def sample(rows: int = 200, seed: int = 0):
    draw = torch.Generator().manual_seed(seed)
    logits = torch.randn(rows, 3, generator=draw) * 2
    targets = (torch.rand(rows, 3, generator=draw) < torch.tensor([0.1, 0.5, 0.8])).float()
    labelled = torch.rand(rows, 3, generator=draw) < torch.tensor([0.9, 0.5, 0.2])
    return logits, targets, labelled


@pytest.mark.parametrize("pos_weights", ["balanced", [3.0, 1.0, 0.2]])
def test_weights_average_one_over_the_training_labels_of_each_label(pos_weights):
    task = MultiLabel(LABELS, pos_weights=pos_weights)
    _, targets, labelled = sample()
    task.fit_statistics(targets, labelled)
    weight = torch.where(targets > 0.5, task.positive_weight, task.negative_weight)
    for i in range(3):
        own = weight[labelled[:, i], i]
        assert own.mean() == pytest.approx(1, abs=1e-5)
    ratio = task.positive_weight / task.negative_weight
    if pos_weights == "balanced":
        positive = (targets * labelled).sum(0)
        assert torch.allclose(ratio, (labelled.sum(0) - positive) / positive)
    else:
        assert ratio.tolist() == pytest.approx(pos_weights)


def test_a_checkpoint_must_agree_on_the_labels():
    assert MultiLabel(["hat", "bag"]).identity() == {"labels": ["hat", "bag"]}


def test_a_label_without_a_training_label_is_an_error():
    _, targets, labelled = sample()
    labelled[:, 1] = False
    with pytest.raises(UserError, match="no training label of bag"):
        MultiLabel(LABELS).fit_statistics(targets, labelled)


def test_the_loss_is_over_labelled_cells_only():
    logits, targets, labelled = sample()
    task = MultiLabel(LABELS)
    garbage = torch.where(labelled, targets, torch.nan)
    logits.requires_grad_()
    loss = task.masked_loss(logits, garbage, labelled)
    loss.backward()
    expected = F.binary_cross_entropy_with_logits(
        logits[labelled], targets[labelled], reduction="sum"
    )
    assert loss.item() == pytest.approx(expected.item(), rel=1e-6)
    assert not logits.grad[~labelled].any()
    assert logits.grad[labelled].all()


def test_metrics_per_label_and_in_the_mean_are_those_of_scikit_learn():
    logits, targets, labelled = sample()
    # On the bins' own grid, so that average precision over fixed bins is the exact one.
    probabilities = (logits.sigmoid() * 1000).floor() / 1000 + 0.0005
    logits = probabilities.double().logit()
    task = MultiLabel(LABELS)
    metrics = TaskMetrics(task)
    for rows in torch.arange(200).split(37):
        batch = logits[rows], torch.where(labelled, targets, torch.nan)[rows], labelled[rows]
        metrics.update(task, *batch, torch.tensor(1.0))
    values = metrics.compute()
    expected = {"ap": [], "f1": [], "accuracy": [], "ma": []}
    for i, name in enumerate(LABELS):
        mask = labelled[:, i]
        truth, shown = targets[mask, i].numpy(), probabilities[mask, i].numpy()
        answer = (shown > 0.5).astype(float)
        expected["ap"].append(average_precision_score(truth, shown))
        expected["f1"].append(f1_score(truth, answer))
        expected["accuracy"].append(accuracy_score(truth, answer))
        recalls = [recall_score(truth, answer, pos_label=p) for p in (0, 1)]
        expected["ma"].append(np.mean(recalls))
        assert values[f"n_labelled/{name}"] == int(mask.sum())
        for metric, numbers in expected.items():
            assert values[f"{metric}/{name}"] == pytest.approx(numbers[-1], abs=1e-6), metric
    assert values["mean_ap"] == pytest.approx(np.mean(expected["ap"]), abs=1e-6)
    assert values["ma"] == pytest.approx(np.mean(expected["ma"]), abs=1e-6)
    assert values["n_labelled"] == int(labelled.sum())
    assert task.score(values) == values["mean_ap"]


def test_a_label_that_nobody_labelled_has_no_part_in_a_mean():
    logits, targets, labelled = sample()
    labelled[:, 2] = False
    labelled[:, 1] &= targets[:, 1] < 0.5  # no positive: precision is undefined, accuracy is not
    task = MultiLabel(LABELS)
    metrics = TaskMetrics(task)
    metrics.update(task, logits, targets, labelled, torch.tensor(1.0))
    values = metrics.compute()
    assert values["mean_ap"] == pytest.approx(values["ap/hat"])
    assert np.isnan(values["ap/bag"])
    assert np.isnan(values["accuracy/scarf"])
    assert values["accuracy"] == pytest.approx(
        (values["accuracy/hat"] + values["accuracy/bag"]) / 2
    )


def test_the_column_names_the_labels_above_one_half():
    task = MultiLabel(LABELS)
    answer = written(task, torch.tensor([[3.0, -1.0, 2.0], [-1.0, -1.0, -1.0]]))
    assert answer[""].tolist() == ["hat;scarf", "none"]
    assert answer["bag"] == pytest.approx(torch.tensor([-1.0, -1.0]).sigmoid().numpy())
    again = task.encode(cells(*[(text, None, None, None) for text in answer[""]]))
    assert again.targets.tolist() == [[1, 0, 1], [0, 0, 0]]


def test_labels_are_counted_where_they_apply_and_are_known():
    garbage = np.ones((4, 2), dtype=np.float32)
    garbage[3] = 0
    labelled = np.array([[True, False], [True, True], [False, False], [True, True]])
    encoded = Encoded(garbage, labelled, np.zeros((4, 3), dtype=bool))
    counts = MultiLabel(["hat", "bag"]).class_counts(encoded, np.array([0, 1, 1, 1]), 2)
    assert {name: n.tolist() for name, n in counts.items()} == {"hat": [1, 1], "bag": [0, 1]}


def test_in_a_mirrored_image_labels_swap_with_their_masks():
    task = MultiLabel(["left_arm", "hat", "right_arm"])
    encoded = task.encode(cells((None, "yes", None, None), (None, None, "yes", "no"), (None,) * 4))
    mirrored = task.mirrored(encoded, {"left_arm": "right_arm"})
    assert mirrored.labelled.tolist() == [[0, 0, 1], [1, 1, 0], [0, 0, 0]]
    assert mirrored.targets[mirrored.labelled].tolist() == [1, 0, 1]
    assert mirrored.counts().tolist() == encoded.counts().tolist() == [1, 2, 0]
    with pytest.raises(UserError, match=r'^there is no label "leg"; known: left_arm, hat, right'):
        task.mirrored(encoded, {"left_arm": "leg"})


@pytest.mark.parametrize("unobserved", ["ignore", "negative"])
def test_that_only_yes_was_written_down_is_remarked_where_other_cells_are_ignored(unobserved):
    task = MultiLabel(["hat", "bag", "few"], unobserved)
    targets = np.array([[1, 0, 1]] * 12 + [[0, 1, 0]] * 3, dtype=np.float32)
    labelled = np.ones((15, 3), dtype=bool)
    labelled[12:, 0] = labelled[9:, 2] = False
    found = task.remarks(targets, labelled)
    if unobserved == "negative":
        assert found == []
        return
    ((what, how),) = found
    assert what == (
        "only yes was written down for hat, and the 3 empty cells of images with another label "
        "are ignored"
    )
    assert "unobserved: negative" in how
    labelled[:] = True
    assert task.remarks(targets, labelled) == [], "a no of hat"


def test_what_is_certain_is_not_doubtful():
    task = MultiLabel(["hat", "bag"])
    task.calibration = Calibration(thresholds=(1 - 1e-9, 0.5))  # 1 in float32
    sure, torn = task.doubts(torch.tensor([[40.0, 40.0], [40.0, 0.0]])).tolist()
    assert sure == pytest.approx(0)
    assert torn == pytest.approx(0.5)
