import numpy as np
import pytest
import torch
import torch.nn.functional as F
from sklearn.utils.class_weight import compute_class_weight

from mtl_lightning.system.errors import UserError
from mtl_lightning.tasks import Classification, Ordinal
from tests.helpers.data import column
from tests.helpers.training import written


def completed(*cells, **arguments):
    task = Classification(**arguments)
    task.infer_classes(column(cells))
    assert task.identity() == {"classes": task.classes}
    return task.classes


def test_classes_that_are_still_open_are_no_identity():
    assert Classification().identity() == {}
    assert Classification(["b", "a"]).identity() == {"classes": ["b", "a"]}


def test_given_classes_keep_their_order_and_are_text():
    assert completed("a", "b", classes=["b", "a"]) == ["b", "a"]
    assert Classification([0, 1]).classes == ["0", "1"]


def test_classes_left_out_are_the_sorted_values_of_the_training_labels():
    assert completed("dog", "cat", "dog") == ["cat", "dog"]
    assert completed("10", "2", "1") == ["1", "2", "10"]
    assert completed("10", "2", "x") == ["10", "2", "x"]
    assert completed("no", "yes") == completed("yes", "no") == ["no", "yes"]


def test_inferred_classes_do_not_depend_on_the_order_of_the_rows():
    assert completed("1", "01", "2") == completed("2", "01", "1")


def test_a_class_that_one_table_writes_as_float_is_not_another_class():
    assert completed("1", "2", "1.0", "10.0") == ["1", "2", "10"]
    assert completed("Golf 2", "Golf 2.0") == ["Golf 2", "Golf 2.0"]
    assert completed("1.0:1|2.0:2", "2") == ["1", "2"]


def test_training_labels_that_are_floats_are_the_classes_of_integers_elsewhere():
    task = Classification()
    task.infer_classes(column(["1.0", "2.0"]))
    assert task.encode(column(["1", "2", "2.00", "1.0:1|2:3"])).targets.tolist() == [
        [1, 0],
        [0, 1],
        [0, 1],
        [0.25, 0.75],
    ]


def test_classes_are_named_as_the_user_writes_them_and_read_however_a_program_does():
    task = Classification(["1.0", "2.50", "cafe\u0301"])
    assert task.classes == ["1.0", "2.50", "caf\u00e9"]
    assert task.encode(column(["1", "2.5", "caf\u00e9", "cafe\u0301"])).targets.tolist() == [
        0,
        1,
        2,
        2,
    ]
    with pytest.raises(UserError, match="listed more than once: 1"):
        Classification(["1", "1.0"])


def test_what_is_read_in_two_cells():
    same = Classification(["x", "y", "12:30"]).meaning
    assert same("x:2|y:1", "") == same("y:1|x:2", "") == same("x:4|y:2|x:0", "")
    assert same("x:2|y:1", "") != same("x:1|y:2", "")
    assert same("x:3", "") == same("x", "") == same("x:1|y:0", "")
    assert same("12:30", "") != same("12:45", "")
    unknown = Classification().meaning
    assert unknown("12:30", "") != unknown("12:45", "")
    assert unknown("x:2|y:1", "") == unknown("y:1|x:2", "")


@pytest.mark.parametrize("text", ["NaN", "#N/A", "--", "TBD", "-100", "255", "unknown"])
def test_a_doubtful_label_is_a_question_to_the_user_unless_it_is_named(text):
    with pytest.raises(UserError) as caught:
        completed("a", "b", text)
    message = str(caught.value)
    assert (
        f'the label "{text}" may be a class or a missing label: name it in the task\'s' in message
    )
    assert message.endswith(f'or in the source\'s `missing` (`missing: ["{text}"]`)')
    task = Classification(["a", text])
    task.infer_classes(column(["a", text]))
    assert task.encode(column([text, None, "a"])).targets[[0, 2]].tolist() == [1, 0]


def test_encode_gives_positions_masks_and_what_cannot_be_read():
    encoded = Classification(["b", "a"]).encode(column(["a", None, "b", "c", "A"]))
    assert encoded.targets.dtype == np.int64
    assert encoded.targets[[0, 2]].tolist() == [1, 0]
    assert encoded.labelled.tolist() == [True, False, True, False, False]
    assert encoded.bad.tolist() == [False, False, False, True, True]


def test_encode_reads_integers_that_a_program_wrote_as_floats():
    encoded = Classification(["0", "1", "2.0"]).encode(column(["1.0", "0", "2.0", "1.5", None]))
    assert encoded.targets[:3].tolist() == [1, 0, 2]
    assert encoded.bad.tolist() == [False, False, False, True, False]


def test_encode_without_any_label():
    encoded = Classification(["a", "b"]).encode(column([None, None]))
    assert not encoded.labelled.any()
    assert not encoded.bad.any()
    assert ((encoded.targets >= 0) & (encoded.targets < 2)).all()


def test_an_unknown_class_is_answered_with_the_nearest():
    message = Classification(["blazer", "dress", "shoes"]).expected("dres")
    assert message == 'one of the classes blazer, dress, shoes; did you mean "dress"?'


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"classes": ["a"]}, "at least two classes. Found 1: a"),
        ({"classes": []}, "Found 0: none"),
        ({"classes": ["a", "b", "a"]}, "more than once: a"),
        ({"classes": ["a", "b"], "class_weights": [1.0]}, r"each of the 2 classes \(a, b\)"),
        ({"classes": ["a", "b"], "class_weights": [1.0, -1.0]}, "0 or more"),
        ({"classes": ["a", "b"], "class_weights": [0.0, 0.0]}, "not all 0"),
        ({"label_smoothing": 1.0}, "label_smoothing should be in"),
        ({"label_smoothing": -0.1}, "label_smoothing should be in"),
    ],
)
def test_what_cannot_be_is_refused(arguments, message):
    with pytest.raises(UserError, match=message):
        Classification(**arguments)


def test_a_single_class_in_training_is_nothing_to_learn():
    with pytest.raises(UserError, match="at least two classes"):
        completed("a", "a")


# ------------------------------------------------------------------- loss


TARGETS = torch.tensor([0] * 7 + [1] * 2 + [2])


def fitted(**arguments):
    task = Classification(["a", "b", "c"], **arguments)
    task.fit_statistics(TARGETS, torch.ones(()))
    return task


def test_balanced_weights_are_scikit_learns():
    weights = fitted(class_weights="balanced").class_weight
    expected = compute_class_weight("balanced", classes=np.arange(3), y=TARGETS.numpy())
    assert weights.numpy() == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("class_weights", ["balanced", [1.0, 6.0, 0.0], [5.0, 5.0, 5.0]])
def test_class_weights_average_1_over_the_training_labels(class_weights):
    weights = fitted(class_weights=class_weights).class_weight
    assert weights[TARGETS].mean().item() == pytest.approx(1, rel=1e-6)
    if isinstance(class_weights, list):
        ratios = weights / weights[0]
        assert ratios.tolist() == pytest.approx([w / class_weights[0] for w in class_weights])


def test_a_class_without_a_training_label_gets_weight_1():
    task = Classification(["a", "b", "c"], class_weights="balanced")
    task.fit_statistics(torch.tensor([0, 0, 0, 2]), torch.ones(()))
    assert task.class_weight.tolist() == pytest.approx([2 / 3, 1, 2])


def test_weights_that_leave_nothing_of_the_training_are_refused():
    task = Classification(["a", "b"], class_weights=[0.0, 1.0])
    with pytest.raises(UserError, match="weight 0 to every class that occurs"):
        task.fit_statistics(torch.tensor([0, 0]), torch.ones(()))


def test_class_weights_are_in_the_state():
    task = Classification(["a", "b", "c"], class_weights="balanced")
    task.load_state_dict(fitted(class_weights="balanced").state_dict())
    assert task.class_weight[2] > 3


def test_the_loss_of_a_row_is_its_weighted_smoothed_cross_entropy():
    task = fitted(class_weights=[1.0, 2.0, 4.0], label_smoothing=0.3)
    logits = torch.randn(10, 3, generator=torch.Generator().manual_seed(0))
    logs = logits.log_softmax(1)
    losses = task.loss(logits, TARGETS)
    assert losses.shape == (10,)
    w = task.class_weight
    for row, target in enumerate(TARGETS):
        # torch's definition: the weight is the class's own, in the smoothed part too
        hard, smooth = -w[target] * logs[row, target], -(w * logs[row]).sum() / 3
        assert losses[row].item() == pytest.approx((0.7 * hard + 0.3 * smooth).item(), rel=1e-5)


def test_without_weights_the_loss_is_plain_cross_entropy():
    logits = torch.randn(10, 3, generator=torch.Generator().manual_seed(0))
    expected = F.cross_entropy(logits, TARGETS, reduction="none")
    assert torch.equal(fitted().loss(logits, TARGETS), expected)


# ------------------------------------------------------------------- answers


def test_columns_are_the_class_and_each_probability():
    task = Classification(["b", "a"])
    answer = written(task, torch.tensor([[0.0, 0.0], [0.0, np.log(3.0)], [5.0, 1.0]]))
    assert list(answer) == ["", "b", "a"]
    assert answer[""].tolist() == ["b", "a", "b"]
    assert answer["a"][:2].tolist() == pytest.approx([0.5, 0.75])
    assert (answer["a"] + answer["b"]).tolist() == pytest.approx([1, 1, 1])


def test_probabilities_of_half_precision_outputs_have_all_digits():
    answer = written(Classification(["a", "b"]), torch.tensor([[0.0, 5.0]], dtype=torch.bfloat16))
    assert answer["a"].dtype == np.float32
    assert answer["a"][0] == pytest.approx(1 / (1 + np.exp(5.0)), rel=1e-6)


def test_a_label_may_be_a_distribution():
    task = Classification(["cat", "dog", "eel"])
    encoded = task.encode(column(["dog", "cat:3|eel:1", None, "eel:0.5|dog:0.5"]))
    assert encoded.targets[[0, 1, 3]].tolist() == [[0, 1, 0], [0.75, 0, 0.25], [0, 0.5, 0.5]]
    assert encoded.labelled.tolist() == [True, True, False, True]
    assert not encoded.bad.any()
    targets, labelled = torch.from_numpy(encoded.targets), torch.from_numpy(encoded.labelled)
    outputs = torch.randn(4, 3, generator=torch.Generator().manual_seed(0))
    rows = [0, 1, 3]
    expected = -(targets[rows] * outputs[rows].log_softmax(1)).sum()
    assert task.masked_loss(outputs, targets, labelled).item() == pytest.approx(expected.item())


@pytest.mark.parametrize("cell", ["cat:1|cow:1", "cat:-1|dog:2", "cat:0|dog:0", "cat:x|dog:1"])
def test_a_wrong_distribution_is_bad(cell):
    assert Classification(["cat", "dog"]).encode(column(["cat", cell])).bad.tolist() == [0, 1]


def test_classes_are_inferred_from_distributions_too_but_not_from_a_time_of_day():
    task = Classification()
    task.infer_classes(column(["b", "a:1|c:2"]))
    assert task.classes == ["a", "b", "c"]
    task = Classification()
    task.infer_classes(column(["12:30", "14:15"]))
    assert task.classes == ["12:30", "14:15"]


def test_unanimous_votes_next_to_divided_ones_are_no_class_of_their_own():
    task = Classification()
    cells = column(["a:3", "a:2|b:1", "c:3", "b"])
    task.infer_classes(cells)
    assert task.classes == ["a", "b", "c"]
    assert task.encode(cells).targets[[0, 2]].tolist() == [[1, 0, 0], [0, 0, 1]]


@pytest.mark.parametrize("votes", ["a:1e308|b:1e308", "a:inf|b:1", "a:nan", "a:0|b:0", "a:-1|b:2"])
def test_votes_that_are_no_shares_are_no_label(votes):
    encoded = Classification(["a", "b"]).encode(column(["a", votes]))
    assert encoded.bad.tolist() == [False, True]
    assert encoded.labelled.tolist() == [True, False]


def test_as_many_classes_as_labels_are_counted_in_no_time():
    names = [str(i) for i in range(100_000)]
    assert Classification(names).num_outputs == len(names)


def test_balanced_weights_count_shares_of_distributions():
    task = Classification(["a", "b"], class_weights="balanced")
    task.fit_statistics(torch.tensor([[0.5, 0.5], [1.0, 0.0], [0.5, 0.5]]), torch.ones(3))
    assert task.class_weight.tolist() == pytest.approx([3 / 2 / 2, 3 / 2 / 1])


def test_metrics_of_distributions_take_the_most_probable_class():
    task = Classification(["a", "b"])
    metrics = task.metrics()
    outputs = torch.tensor([[2.0, 0.0], [0.0, 2.0]])
    answers = task.predict(outputs)
    task.update(metrics, answers, torch.tensor([[0.6, 0.4], [0.9, 0.1]]), torch.ones(2))
    assert metrics.compute()["accuracy"] == 0.5


def test_a_distribution_counts_as_its_most_probable_class():
    task = Classification(["a", "b"])
    encoded = task.encode(np.array(["a:3|b:1", "b", None, "b:2|a:1"], dtype=object))
    counts = task.class_counts(encoded, np.array([0, 0, 1, 1]), 2)
    assert {name: n.tolist() for name, n in counts.items()} == {"a": [1, 0], "b": [1, 1]}


def test_in_a_mirrored_image_classes_swap():
    task = Classification(["front", "left", "right"])
    encoded = task.encode(column(["left", None, "right", "front"]))
    encoded.targets[1] = 2**62  # what is not labelled is not read
    mirrored = task.mirrored(encoded, {"left": "right"})
    assert mirrored.targets[[0, 2, 3]].tolist() == [2, 1, 0]
    assert mirrored.targets.dtype == encoded.targets.dtype
    assert mirrored.labelled.tolist() == [True, False, True, True]
    assert encoded.targets[[0, 2, 3]].tolist() == [1, 2, 0], "these stay what they were"


def test_in_a_mirrored_image_shares_of_a_distribution_swap():
    task = Classification(["front", "left", "right"])
    encoded = task.encode(column(["left:3|front:1", None, "right"]))
    mirrored = task.mirrored(encoded, {"right": "left"})
    assert mirrored.targets[[0, 2]].tolist() == [[0.25, 0, 0.75], [0, 1, 0]]
    assert mirrored.targets.dtype == np.float32
    assert mirrored.labelled.tolist() == [True, False, True]


def test_classes_with_an_order_are_hinted_at():
    assert Classification(["L", "S", "M"]).hint() == (
        "its classes have an order (S, M, L)",
        "Ordinal learns it",
    )
    assert Ordinal(["S", "M", "L"]).hint() is None
    assert Classification(["1", "2", "3"]).hint() is None
    assert Classification().hint() is None
