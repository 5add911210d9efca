import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from sklearn.metrics import cohen_kappa_score, mean_absolute_error

from mtl_lightning.models import HeadOptions
from mtl_lightning.models.features import POOLED, FeatureSpec, MapSpec
from mtl_lightning.system.errors import UserError
from mtl_lightning.tasks import Ordinal
from mtl_lightning.tasks.ordinal import QuadraticKappa, Thresholds
from tests.helpers.data import Memory, column, make_data
from tests.helpers.training import fit, make_module, written

METHODS = ("corn", "coral", "squared")
SIZES = ["S", "M", "L", "XL"]


def log_sigmoid(x):
    return -math.log1p(math.exp(-x))


def outputs_of(task, rows, seed=0):
    torch.manual_seed(seed)
    if task.method != "coral":
        return torch.randn(rows, task.num_outputs, requires_grad=True)
    return Thresholds(task.num_outputs)(torch.randn(rows, 1, requires_grad=True))


def test_classes_left_out_are_put_in_order_or_the_user_has_to():
    task = Ordinal()
    assert task.num_outputs == 0
    task.infer_classes(column(["XL", "S", "S", "L"]))
    assert task.identity() == {"method": "corn", "classes": ["S", "L", "XL"]}
    with pytest.raises(UserError, match=r"^classes should be listed, lowest first, .* Found bad"):
        Ordinal().infer_classes(column(["good", "bad"]))
    given = Ordinal(["good", "bad"])
    given.infer_classes(column(["bad", "good"]))
    assert given.classes == ["good", "bad"], "as the user says"


@pytest.mark.parametrize(("method", "outputs"), [("corn", 3), ("coral", 3), ("squared", 4)])
def test_number_of_outputs(method, outputs):
    assert Ordinal(SIZES, method).num_outputs == outputs


def test_corn_is_the_likelihood_of_a_chain_of_questions():
    task = Ordinal(["a", "b", "c"])
    logits = torch.tensor([[0.2, -0.4]], dtype=torch.float64).expand(3, 2)
    expected = [
        -log_sigmoid(-0.2),
        -log_sigmoid(0.2) - log_sigmoid(0.4),
        -log_sigmoid(0.2) - log_sigmoid(-0.4),
    ]
    loss = task.loss(logits, torch.tensor([0, 1, 2]))
    assert loss.tolist() == pytest.approx(expected, rel=1e-12)
    probabilities = task.predict(logits)["probabilities"][0]
    assert probabilities.tolist() == pytest.approx([math.exp(-e) for e in expected], rel=1e-12)


def test_coral_is_the_sum_of_all_questions():
    task = Ordinal(["a", "b", "c"], "coral")
    logits = torch.tensor([[0.5, -0.3]], dtype=torch.float64).expand(3, 2)
    loss = task.loss(logits, torch.tensor([0, 1, 2]))
    assert loss.tolist() == pytest.approx(
        [
            -log_sigmoid(-0.5) - log_sigmoid(0.3),
            -log_sigmoid(0.5) - log_sigmoid(0.3),
            -log_sigmoid(0.5) - log_sigmoid(-0.3),
        ],
        rel=1e-12,
    )
    one, two = 1 / (1 + math.exp(-0.5)), 1 / (1 + math.exp(0.3))
    assert task.predict(logits)["probabilities"][0].tolist() == pytest.approx(
        [1 - one, one - two, two], rel=1e-12
    )


def test_squared_falls_off_with_the_distance():
    task = Ordinal(["a", "b", "c"], "squared")
    logits = torch.tensor([[0.1, 0.7, -0.2]], dtype=torch.float64)
    target = np.exp([-1.0, 0.0, -1.0]) / np.exp([-1.0, 0.0, -1.0]).sum()
    expected = -(target * logits.log_softmax(1).numpy()).sum()
    assert float(task.loss(logits, torch.tensor([1]))) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("method", METHODS)
def test_a_divided_label_has_the_mean_loss_of_its_classes(method):
    task = Ordinal(["a", "b", "c"], method)
    targets = torch.from_numpy(task.encode(column(["a:1|c:3", "b"])).targets)
    logits = outputs_of(task, 1).detach().double().expand(2, -1)
    whole = task.loss(logits[:1].expand(3, -1), torch.arange(3))
    loss = task.loss(logits, targets)
    assert loss[1] == pytest.approx(float(whole[1]))
    if method != "squared":  # whose entropy of the target is not linear in it
        assert loss[0] == pytest.approx(float(whole[0] / 4 + whole[2] * 3 / 4))


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
def test_probabilities_add_up_to_1_and_the_answer_is_their_median(method, dtype):
    task = Ordinal(["a", "b", "c", "d", "e"], method)
    answers = task.predict(10 * outputs_of(task, 200).detach().to(dtype))
    probabilities, rank = answers["probabilities"], answers["rank"]
    assert probabilities.dtype == torch.promote_types(dtype, torch.float32)
    assert float(probabilities.min()) >= 0
    torch.testing.assert_close(probabilities.sum(1), torch.ones(200, dtype=probabilities.dtype))
    below = probabilities.cumsum(1)
    for row, median in enumerate(rank.tolist()):
        assert below[row, median] >= 0.5 - 1e-6
        assert median == 0 or below[row, median - 1] < 0.5
    assert len(set(rank.tolist())) > 2


def test_biases_are_in_order_whatever_they_were_trained_to():
    thresholds = Thresholds(3)
    with torch.no_grad():
        thresholds.bias.copy_(torch.tensor([0.0, 2.0, -1.0]))
    logits = thresholds(torch.tensor([[1.0], [0.0]]))
    assert logits.tolist() == [[3.0, 1.0, 0.0], [2.0, 0.0, -1.0]]
    logits[0, 0].backward()
    assert thresholds.bias.grad.tolist() == [0.0, 1.0, 0.0]


def test_coral_has_one_score_and_its_own_settings_of_a_head():
    task = Ordinal(SIZES, "coral", head=HeadOptions(hidden=5))
    head = task.head(FeatureSpec(7, "last", MapSpec(7, (1, 1), (16, 16))), HeadOptions(dropout=0.5))
    assert head.reads == (POOLED,)
    assert head(torch.zeros(2, 7)).shape == (2, 3)
    assert [tuple(p.shape) for p in head.parameters()] == [(5, 7), (5,), (1, 5), (1,), (3,)]


def test_members_have_scores_of_their_own_before_the_thresholds():
    task = Ordinal(SIZES, "coral")
    spec = FeatureSpec(6, "last", MapSpec(6, (1, 1), (1, 1)), members=2)
    head, features = task.head(spec, HeadOptions()), torch.randn(5, 6)
    each = head(features).unflatten(0, (5, 2))
    assert each.shape == (5, 2, 3)
    expected = each.sigmoid().mean(1)
    torch.testing.assert_close(head.eval()(features).sigmoid(), expected)


@pytest.mark.parametrize("method", METHODS)
def test_metrics_are_those_of_scikit_learn(method):
    task = Ordinal(SIZES, method)
    outputs, targets = outputs_of(task, 60).detach(), torch.randint(0, 4, (60,))
    metrics, answers = task.metrics(), task.predict(outputs)
    for rows in (slice(0, 25), slice(25, 60)):
        own = {name: value[rows] for name, value in answers.items()}
        task.update(metrics, own, targets[rows], torch.ones(len(targets[rows]), dtype=torch.bool))
    values = {name: float(value) for name, value in metrics.compute().items()}
    rank = answers["rank"]
    assert values == pytest.approx(
        {
            "accuracy": float((rank == targets).float().mean()),
            "within_one": float(((rank - targets).abs() <= 1).float().mean()),
            "rank_mae": mean_absolute_error(targets, rank),
            "quadratic_kappa": cohen_kappa_score(targets, rank, weights="quadratic"),
        },
        abs=1e-6,
    )
    assert task.score(values) == max(values["quadratic_kappa"], 0)


def test_the_most_probable_class_of_a_divided_label_is_measured():
    task = Ordinal(["a", "b", "c"], "squared")
    targets = torch.from_numpy(task.encode(column(["a:1|c:3", "b"])).targets)
    metrics = task.metrics()
    answers = task.predict(20 * F.one_hot(torch.tensor([2, 1]), 3).float())
    task.update(metrics, answers, targets, torch.ones(2, dtype=torch.bool))
    assert float(metrics.compute()["accuracy"]) == 1


def test_what_is_written():
    task = Ordinal(["a", "b", "c"], "squared")
    columns = written(task, torch.log(torch.tensor([[0.4, 0.2, 0.4], [0.1, 0.1, 0.8]])))
    assert columns[""].tolist() == ["b", "c"], "the median, not the most probable"
    assert columns["c"].tolist() == pytest.approx([0.4, 0.8])


def test_the_picture_counts_ranks():
    task = Ordinal(["a", "b", "c"], "squared")
    data = task.plot_data()
    answers = task.predict(torch.log(torch.tensor([[0.4, 0.2, 0.4], [0.1, 0.1, 0.8]])))
    data.update(answers, torch.tensor([0, 2]), torch.tensor([True, True]), torch.arange(2))
    assert data.compute().counts.tolist() == [[0, 1, 0], [0, 0, 0], [0, 0, 1]]


class Shaded(Memory):
    """Images whose brightness is their label."""

    def __init__(self, levels, splits):
        super().__init__({"level": levels}, splits)

    def load(self, image):
        level = int(self.labels["level"][int(image.rpartition(":")[2])])
        return np.full((16, 16, 3), 40 + 50 * level, dtype=np.uint8)


@pytest.mark.parametrize("method", METHODS)
def test_it_learns_an_order(tmp_path, method):
    """Brightness in four steps: after some epochs the answers are near the labels."""
    levels = [str(np.random.default_rng(i).integers(0, 4)) for i in range(52)]
    source = Shaded(levels, ["train"] * 45 + ["val"] * 7)
    tasks = {"level": Ordinal(method=method)}
    data = make_data(tasks=tasks, sources={"shaded": source})
    data.setup("fit")
    module = make_module(tasks=tasks, optimizer=lambda p: torch.optim.Adam(p, lr=0.03))
    fit(tmp_path, data, module, max_epochs=15)
    values = module.results["val"].tasks["level"]
    assert values["quadratic_kappa"] > 0.8
    assert values["within_one"] == 1


def test_an_agreement_by_chance_is_0():
    counts = torch.tensor([[2, 2, 2], [0, 2, 0], [0, 2, 0]])
    targets, ranks = (counts.nonzero().repeat_interleave(counts[counts > 0], dim=0)).T
    kappa = QuadraticKappa(3, weights="quadratic")
    kappa.update(ranks, targets)
    assert kappa.compute() == 0, "single precision has -1.2e-7"
    assert kappa.compute().dtype == torch.float32
    kappa.update(ranks, targets)
    assert kappa.confmat.sum() == 2 * len(ranks)
