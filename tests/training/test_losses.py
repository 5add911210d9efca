import pytest
import torch

from mtl_lightning.data.batch import Batch
from mtl_lightning.tasks import MultiLabel
from tests.helpers.training import make_module


def micro_batch(parts=1, **counts):
    torch.manual_seed(0)
    labelled = {
        "kind": torch.tensor([True, True, False, False]),
        "size": torch.tensor([False, True, True, True]),
        "rare": torch.zeros(4, dtype=torch.bool),
    }
    return Batch(
        inputs={"image": torch.randint(0, 256, (4, 3, 16, 16), dtype=torch.uint8)},
        targets={
            "kind": torch.tensor([0, 1, 7, 7]),
            "size": torch.tensor([1e9, 1.0, -1.0, 0.5]),
            "rare": torch.full((4,), -1),
        },
        labelled=labelled,
        rows=torch.arange(4),
        counts={"kind": 2, "size": 3, "rare": 0} | counts,
        step_rows=4 * parts,
        gradient_divisor=parts,
    )


def step_loss(module, batch):
    module.log = lambda *_, **__: None
    return module.training_step(batch, 0).item()


@pytest.mark.parametrize(("reduction", "rows"), [("labelled", (2, 3)), ("batch", (4, 4))])
def test_the_loss_of_a_step(reduction, rows):
    module = make_module(loss_reduction=reduction)
    batch = micro_batch()
    outputs = module(batch.inputs["image"])
    sums = {
        name: task.masked_loss(outputs[name], batch.targets[name], batch.labelled[name]).item()
        for name, task in module.tasks.items()
    }
    expected = sums["kind"] / rows[0] + 0.7 * sums["size"] / rows[1]
    assert step_loss(module, batch) == pytest.approx(expected, rel=1e-6)


def test_all_rows_of_a_task_of_many_labels_are_its_cells():
    """As in Keras, whose binary cross-entropy is a mean over labels too."""
    tasks = {"tags": MultiLabel(["hat", "bag"])}
    module = make_module(tasks=tasks, loss_reduction="batch")
    known = torch.tensor([[True, True], [True, False], [False, False]])
    batch = Batch(
        inputs={"image": torch.randint(0, 256, (3, 3, 16, 16), dtype=torch.uint8)},
        targets={"tags": torch.ones(3, 2)},
        labelled={"tags": known},
        rows=torch.arange(3),
        counts={"tags": 3},
        step_rows=3,
        gradient_divisor=1,
    )
    losses = torch.nn.functional.softplus(-module(batch.inputs["image"])["tags"])
    assert step_loss(module, batch) == pytest.approx((losses * known).mean().item())


@pytest.mark.parametrize("reduction", ["labelled", "batch"])
def test_a_share_of_a_step_is_scaled_by_what_the_trainer_divides_by(reduction):
    """Four equal parts of a step add up to the whole once the trainer has taken their mean."""
    module = make_module(loss_reduction=reduction)
    whole = step_loss(module, micro_batch())
    part = step_loss(module, micro_batch(parts=4, kind=8, size=12))
    assert part == pytest.approx(whole, rel=1e-6)
