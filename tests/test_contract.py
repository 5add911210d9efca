"""The absence contract, points 1 to 5, on one process and on two. See the package's README."""

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from pytorch_lightning import Callback

from mtl_lightning.data.datamodule import PartialLabels
from mtl_lightning.models import Soft
from mtl_lightning.system.errors import UserError
from mtl_lightning.tasks import Classification
from mtl_lightning.tasks.results import Results
from mtl_lightning.training.module import MultiTask
from tests.helpers import ranks
from tests.helpers.data import KINDS, Memory, make_data, make_more_tasks, make_tasks
from tests.helpers.models import Small
from tests.helpers.ranks import ABSENT, ONE_SIDED, UNEVEN, VOID, evaluated, every_label, trained
from tests.helpers.training import fit, largest_difference, make_module, weights

# --------------------------------------------------------------------- 1: values travel with masks


class Garbage(PartialLabels):
    """Puts garbage wherever a label is missing."""

    def setup(self, stage: str) -> None:
        super().setup(stage)
        for encoded in self.labels.encoded.values():
            holes = np.nonzero(~encoded.labelled)
            garbage = [np.nan, np.inf, -1e30, 3e38]
            if encoded.targets.dtype == np.int64:
                garbage = [-100, 255, 2**62, -1]
            encoded.targets[holes] = np.resize(np.array(garbage), len(holes[0]))


class Log(Callback):
    """Keeps every number that was logged."""

    def __init__(self) -> None:
        self.seen: list[dict[str, float]] = []

    def on_train_batch_end(self, trainer: Any, *_: Any) -> None:
        self.seen.append({k: float(v) for k, v in trainer.logged_metrics.items()})

    def on_fit_end(self, trainer: Any, pl_module: Any) -> None:
        self.seen.append({k: float(v) for k, v in trainer.callback_metrics.items()})


def garbage_run(folder: Path, kind: type[PartialLabels], devices: int) -> tuple[Any, Any]:
    log = Log()
    plain = make_data(tasks=make_more_tasks())
    data = kind(plain.tasks, plain.sources, image_size=16, batch_size=8 // devices, num_workers=0)
    module = fit(
        folder,
        data,
        make_module(tasks=make_more_tasks(), sharing=Soft(10.0)),
        devices=devices,
        callbacks=[log],
    )
    return weights(module), log.seen


def assert_identical(one: tuple[Any, Any], other: tuple[Any, Any]) -> None:
    for name in one[0]:
        assert torch.equal(one[0][name], other[0][name]), name
    assert one[1] == other[1]


def test_what_lies_in_an_unlabelled_slot_changes_no_bit(tmp_path):
    clean, garbage = (garbage_run(tmp_path, kind, 1) for kind in (PartialLabels, Garbage))
    assert len(clean[1]) > 3
    assert clean[1][-1]["val/kind/n_labelled"] > 0
    assert_identical(clean, garbage)


# --------------------------------------------------------------------- 2: N ranks are one process


# 17 rows: the last micro-batch has one row, so that one of two ranks gets none.
CASES = [
    {"strength": s, "reduction": r, "accumulate": a, "rows": 17}
    for s, r, a in itertools.product((None, 100.0), ("labelled", "batch"), (1, 2))
]
CASES += [{"strength": s, "accumulate": 2, "optimizer": "SGD"} for s in (None, 0.0)]
CASES += [{"unobserved": "negative_smoothed", "accumulate": 2, "rows": 17, "optimizer": "SGD"}]
# One step: of two rows, or of all, so that its second micro-batch is the uneven one. SGD, as the
# first step of Adam is the sign of the gradient, be it a rounding error.
SINGLE = {"precision": "32-true", "steps": 1, "optimizer": "SGD"}
FLOAT32 = [case | SINGLE | {"batch": {1: 2, 2: 16}[case["accumulate"]]} for case in CASES[:8]]
# Split, images, batch size: too few for two ranks, or not divisible by them.
EVALUATIONS = [
    (split, rows, size) for split in ("val", "test") for rows, size in ((1, 1), (3, 1), (7, 2))
]


@pytest.fixture(scope="module")
def both(tmp_path_factory) -> dict[str, Any]:
    """Run everything that needs two ranks in one pair of processes."""
    folder = tmp_path_factory.mktemp("ranks")
    here = __name__
    own = {"folder": folder, "devices": 2}
    cases: dict[str, ranks.Case] = {
        str(case): (f"{ranks.__name__}.trained", own | case) for case in CASES + FLOAT32
    }
    for what in EVALUATIONS:
        arguments = dict(zip(("split", "rows", "batch_size"), what, strict=True))
        cases[str(what)] = (f"{ranks.__name__}.evaluated", own | arguments)
    for kind in (PartialLabels, Garbage):
        cases[kind.__name__] = (f"{here}.garbage_run", own | {"kind": kind})
    cases["never"] = (f"{here}.never_learns", own)
    cases["absent"] = (f"{here}.absent_steps", own)
    results = ranks.run(list(cases.values()), folder)
    return dict(zip(cases, results, strict=True))


@pytest.mark.parametrize("case", CASES, ids=str)
def test_two_ranks_equal_one_process(both, tmp_path, case):
    one, one_results, _ = trained(tmp_path, **case)
    two, two_results, _ = both[str(case)]
    assert largest_difference(one, two) < 1e-12
    assert_same(one_results, two_results, rel=1e-10)


@pytest.mark.parametrize("case", FLOAT32, ids=str)
def test_two_ranks_equal_one_process_in_float32(both, tmp_path, case):
    assert largest_difference(trained(tmp_path, **case)[0], both[str(case)][0]) < 1e-6


def test_the_cases_have_what_is_hard(both):
    for case in CASES[:8]:
        assert both[str(case)][2] == {ABSENT, ONE_SIDED, UNEVEN}
    assert set.union(*(both[str(case)][2] for case in FLOAT32)) == {ABSENT, ONE_SIDED, UNEVEN}


@pytest.mark.parametrize("strength", [None, 100.0])
def test_accumulated_micro_batches_equal_one_batch(tmp_path, strength):
    more = {"strength": strength, "steps": 3}
    whole, *_ = trained(tmp_path, batch=16, accumulate=1, **more)
    parts, *_ = trained(tmp_path, batch=4, accumulate=4, **more)
    assert largest_difference(whole, parts) < 1e-12


@pytest.mark.parametrize("reduction", ["labelled", "batch"])
def test_the_loss_is_the_sum_over_labelled_rows_by_their_number(tmp_path, reduction):
    """Against a plain loop over rows, written without any of our code."""
    data = make_data(train=45, val=0, batch_size=45, splits={})
    module = make_module(loss_reduction=reduction, optimizer=lambda p: torch.optim.SGD(p, lr=0.0))
    fit(tmp_path, data, module, precision="64-true")
    table = data.labels.table
    sizes = torch.tensor([float(c) for c in table.cells["size"] if c is not None])
    counts = {k: sum(c == k for c in table.cells["kind"]) for k in KINDS}
    labelled = sum(counts.values())
    sums = {"kind": 0.0, "size": 0.0, "rare": 0.0}
    number = {"kind": 0, "size": 0, "rare": 0}
    for row in range(len(table)):
        image = torch.from_numpy(table.load(row)).permute(2, 0, 1)[None]
        with torch.no_grad():
            outputs = module(image)
        for task in sums:
            cell = table.cells[task][row]
            if cell is None:
                continue
            number[task] += 1
            if task == "size":
                target = (float(cell) - sizes.double().mean()) / sizes.double().std(correction=0)
                loss = F.huber_loss(outputs[task][0, 0], target)
            else:
                classes = list(KINDS) if task == "kind" else ["no", "yes"]
                weight = torch.ones(len(classes), dtype=torch.float64)
                if task == "kind":
                    weight = torch.tensor([labelled / 3 / counts[k] for k in KINDS]).double()
                loss = F.cross_entropy(
                    outputs[task],
                    torch.tensor([classes.index(cell)]),
                    weight=weight,
                    label_smoothing=0.1 if task == "kind" else 0.0,
                    reduction="sum",
                )
            sums[task] += float(loss)
    weight = {"kind": 1.0, "size": 0.7, "rare": 1.0}
    rows = {
        task: number[task] if reduction == "labelled" else len(data.labels.rows("train"))
        for task in sums
    }
    expected = sum(weight[task] * sums[task] / rows[task] for task in sums)
    assert float(module.trainer.callback_metrics["train/loss_step"]) == pytest.approx(
        expected, rel=1e-6
    )


# --------------------------------------------------------------------- 3: absent from a step


class Heads(Callback):
    """Keeps the rare task's head and its optimizer state around each step."""

    def __init__(self) -> None:
        self.steps: list[tuple[int, bool, float]] = []

    def on_train_batch_start(self, trainer: Any, pl_module: Any, batch: Any, *_: Any) -> None:
        self.before = [p.detach().clone() for p in pl_module.network.own_parameters("rare")]
        self.count = batch.counts["rare"]

    def on_train_batch_end(self, trainer: Any, pl_module: Any, *_: Any) -> None:
        own = pl_module.network.own_parameters("rare")
        moved = any(not torch.equal(a, b) for a, b in zip(self.before, own, strict=True))
        state = trainer.optimizers[0].state[own[0]]
        self.steps.append((self.count, moved, float(state["step"]) if state else 0.0))


def absent_steps(folder: Path, devices: int) -> list[tuple[int, bool, float]]:
    heads = Heads()
    make = lambda p: torch.optim.AdamW(p, lr=1e-2, weight_decay=0.1)  # noqa: E731
    fit(
        folder,
        make_data(batch_size=4 // devices),
        make_module(optimizer=make),
        devices=devices,
        callbacks=[heads],
        max_epochs=2,
    )
    return heads.steps


def assert_only_moved_when_present(steps: list[tuple[int, bool, float]]) -> None:
    present = [count > 0 for count, _, _ in steps]
    assert any(present)
    assert not all(present)
    assert not all(present[present.index(True) :]), "must be absent after momentum has built up"
    assert [moved for _, moved, _ in steps] == present
    assert [updates for _, _, updates in steps] == np.cumsum(present).tolist()


def test_an_absent_task_is_not_moved_by_weight_decay_or_momentum(tmp_path):
    assert_only_moved_when_present(absent_steps(tmp_path, 1))


def test_an_absent_task_is_not_moved_on_two_ranks(both, tmp_path):
    assert_only_moved_when_present(both["absent"])
    assert both["absent"] == absent_steps(tmp_path, 1)


def test_garbage_changes_no_bit_on_two_ranks(both):
    assert_identical(both["PartialLabels"], both["Garbage"])


# --------------------------------------------------------------------- 4: exact metrics

# Made of sums of numbers, which the network may round in another way in a batch of another size
# and whose order shows in the last bit of float64. All else is made of counts, and exactly equal.
SUMS = {"rel", "loss", "mae", "rmse", "r2", "calibration_error", "interval_width"}


def assert_same(one: Results, two: Results, rel: float) -> None:
    assert one.tasks.keys() == two.tasks.keys()
    for task, values in one.tasks.items():
        assert values.keys() == two.tasks[task].keys()
        for metric, value in values.items():
            margin = rel if metric.partition("/")[0] in SUMS else 0.0
            found = two.tasks[task][metric]
            assert found == pytest.approx(value, rel=margin, abs=0.0, nan_ok=True), (task, metric)
    assert two.loss == pytest.approx(one.loss, rel=rel)
    assert two.score == pytest.approx(one.score, rel=rel)


@pytest.mark.parametrize("what", EVALUATIONS, ids=str)
def test_metrics_of_two_ranks_are_those_of_one(both, tmp_path, what):
    (one,), (two, other) = evaluated(tmp_path, 1, *what), both[str(what)]
    assert other.plain() == two.plain()
    split, rows, size = what
    assert one.split == split
    labels = every_label(20 + rows)
    for task in one.tasks.keys() & labels.keys():
        void = VOID if task == "parts" else set()
        labelled = [cell for cell in labels[task][20:] if cell is not None and cell not in void]
        assert one.tasks[task]["n_labelled"] == len(labelled)
    # Of one image at a time every output has the same bits; only the order of the sums differs.
    assert_same(one, two, rel=1e-15 if size == 1 else 1e-6)


def test_a_task_without_labels_in_a_split_is_absent_not_zero(tmp_path):
    (results,) = evaluated(tmp_path, 1, "val", 1, 1)
    assert results.tasks["rare"] == {"n_labelled": 0}
    assert "val/rare/accuracy" not in results.flat()
    assert results.plain()["tasks"]["rare"] == {"n_labelled": 0}


# --------------------------------------------------------------------- 5: errors before training


def prepared(labels: dict[str, Any], tasks: Any = None) -> PartialLabels:
    source = Memory(labels, ["train"] * 4 + ["val"] * 2)
    data = PartialLabels(tasks or make_tasks(), {"m": source}, image_size=16, num_workers=0)
    data.setup("fit")
    return data


GOOD = {"kind": ["cat", "dog"] * 3, "size": range(6), "rare": ["no", "yes"] * 3}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"rare": [None] * 6}, r"task rare: no label in the training split \(0 in train"),
        ({"rare": [None] * 4 + ["no", "yes"]}, r"task rare: no label .*2 in val"),
        ({"kind": ["cat", "dgo"] * 3}, r'row|memory:1.*"dgo".*cat, dog, eel; did you mean "dog"'),
        ({"size": [1, 2, "x", 4, 5, 6]}, r'memory:2: task size cannot read the label "x"'),
        ({"size": [1, 2, "inf", 4, 5, 6]}, r"a finite number"),
    ],
)
def test_a_task_that_cannot_learn_is_an_error_before_training(change, message):
    prepared(GOOD)
    with pytest.raises(UserError, match=message):
        prepared(GOOD | change)


def never_learns(folder: Path, devices: int) -> list[str]:
    """Train on labels that cannot be learned; return what each refusal says."""
    messages = []
    for change in ({"rare": [None] * 6}, {"kind": ["cat", "dgo"] * 3}):
        source = Memory(GOOD | change, ["train"] * 4 + ["val"] * 2)
        data = PartialLabels(make_tasks(), {"m": source}, image_size=16, num_workers=0)
        try:
            fit(folder, data, devices=devices)
        except UserError as error:
            messages.append(str(error))
    return messages


def test_errors_before_training_are_the_same_on_two_ranks(both, tmp_path):
    assert len(both["never"]) == 2
    assert both["never"] == never_learns(tmp_path, 1)


# --------------------------------------------------------------------- the recipe's own example


def recipe() -> PartialLabels:
    """Five images with one of three expressions, six with a gender."""
    faces = Memory(
        {"expression": ["happy", "sad", "angry", "happy", "sad"]}, ["train"] * 5, "faces"
    )
    people = Memory({"gender": ["f", "m", "m", "f", "f", "m"]}, ["train"] * 6, "people")
    tasks = {"expression": Classification(["angry", "happy", "sad"]), "gender": Classification()}
    return PartialLabels(
        tasks,
        {"faces": faces, "people": people},
        splits={},
        image_size=16,
        batch_size=11,
        num_workers=0,
        augmentation="none",
    )


class Capture(Callback):
    def on_train_batch_start(self, trainer: Any, pl_module: Any, batch: Any, *_: Any) -> None:
        self.batch = batch

    def on_before_optimizer_step(self, trainer: Any, pl_module: Any, optimizer: Any) -> None:
        self.gradients = {
            name: None if p.grad is None else p.grad.clone()
            for name, p in pl_module.network.named_parameters()
        }


def test_the_recipe_merges_five_expressions_and_six_genders(tmp_path):
    data = recipe()
    data.setup("fit")
    module = MultiTask(data.tasks, Small(), dropout=0.0, image_size=16)
    capture = Capture()
    fit(tmp_path, data, module, callbacks=[capture])
    batch = capture.batch
    assert len(data.labels.table) == len(batch) == 11
    assert {task: int(mask.sum()) for task, mask in batch.labelled.items()} == {
        "expression": 5,
        "gender": 6,
    }
    assert not (batch.labelled["expression"] & batch.labelled["gender"]).any()
    assert batch.counts == {"expression": 5, "gender": 6}


def test_what_a_head_says_of_an_image_without_its_label_changes_nothing():
    data = recipe()
    data.setup("fit")
    task = data.tasks["expression"]
    encoded = data.labels.encoded["expression"]
    labelled, targets = torch.from_numpy(encoded.labelled), torch.from_numpy(encoded.targets)
    outputs = torch.randn(11, 3, generator=torch.Generator().manual_seed(0))
    altered = outputs.clone()
    altered[~labelled] = torch.tensor([1e20, -1e20, 7.0])
    losses, gradients = [], []
    for logits in (outputs, altered):
        logits = logits.clone().requires_grad_()
        loss = task.masked_loss(logits, targets, labelled)
        loss.backward()
        losses.append(loss.detach())
        gradients.append(logits.grad)
    assert torch.equal(losses[0], losses[1])
    assert torch.equal(gradients[0], gradients[1])
    assert not gradients[0][~labelled].any()
    expected = F.cross_entropy(outputs[labelled], targets[labelled], reduction="sum")
    assert torch.allclose(losses[0], expected)
