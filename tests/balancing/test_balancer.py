"""A step that is not made leaves no trace in what a balancing remembers."""

import copy
import warnings
from typing import Any

import pytest
import torch
from pytorch_lightning import Callback
from pytorch_lightning.plugins import MixedPrecision
from torchjd.scalarization import UW

from mtl_lightning.balancing.balancer import snapshot_buffers
from mtl_lightning.balancing.build import make_balancer
from mtl_lightning.balancing.loss_balancer import LossBalancer
from mtl_lightning.data.datamodule import PartialLabels
from mtl_lightning.system.errors import UserError
from mtl_lightning.tasks import Classification
from tests.helpers.balancing import GRADIENT, LOSS
from tests.helpers.data import KINDS, Memory
from tests.helpers.training import fit, make_module
from tests.training.test_finite import BAD, POISON, ROWS, BadGradient, Poisoned


class States(Callback):
    """Keeps what is remembered before and after each step."""

    def __init__(self) -> None:
        self.before: list[Any] = []
        self.after: list[Any] = []
        self.bad: list[int] = []

    def on_train_batch_start(
        self, trainer: Any, pl_module: Any, batch: Any, batch_idx: int
    ) -> None:
        if BAD in batch.rows:
            self.bad.append(len(self.before))
        self.before.append(copy.deepcopy(pl_module.balancer.state_dict()))

    def on_train_batch_end(self, trainer: Any, pl_module: Any, *_: Any) -> None:
        self.after.append(copy.deepcopy(pl_module.balancer.state_dict()))


def train(folder: Any, name: str, kind: type[Poisoned], policy: str, **trainer: Any) -> States:
    labels = {
        "kind": [KINDS[i % 3] for i in range(ROWS)],
        "size": [POISON if i == BAD else i for i in range(ROWS)],
    }
    tasks = {"kind": Classification(list(KINDS)), "size": kind()}
    source = Memory(labels, ["train"] * ROWS)
    data = PartialLabels(
        tasks, {"m": source}, splits={}, image_size=16, batch_size=4, num_workers=0
    )
    module = make_module(
        tasks=tasks, balancing=(LOSS | GRADIENT)[name](2), on_non_finite=policy, dropout=0.0
    )
    states = States()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of solvers
        fit(folder, data, module, **({"max_epochs": 2, "callbacks": [states]} | trainer))
    return states


def same(one: Any, other: Any) -> bool:
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(one[k], other[k]) for k in one)
    if isinstance(one, list):
        return len(one) == len(other) and all(map(same, one, other))
    return torch.equal(one, other) if isinstance(one, torch.Tensor) else one == other


@pytest.mark.parametrize("kind", [Poisoned, BadGradient], ids=["loss", "gradient"])
@pytest.mark.parametrize("name", ["DWA", "FAMO", "UW", "ExcessMTL", "GradNorm", "NashMTL"])
def test_a_skipped_step_touches_nothing_that_is_remembered(tmp_path, name, kind):
    states = train(tmp_path, name, kind, "skip_step")
    assert len(states.bad) == 2
    for step, (before, after) in enumerate(zip(states.before, states.after, strict=True)):
        assert same(before, after) == (step in states.bad), step


def test_a_callback_at_the_end_of_a_batch_finds_all_that_the_step_taught(tmp_path):
    """It may write a checkpoint, as Lightning's ModelCheckpoint does; FAMO looks twice."""
    states = train(tmp_path, "FAMO", Poisoned, "skip_step")
    for after, before in zip(states.after, states.before[1:], strict=False):
        assert same(after, before)


def test_a_skipped_step_of_several_parts_touches_nothing(tmp_path):
    """The first part of it was sound, and had been added up."""
    states = train(tmp_path, "DWA", BadGradient, "skip_step", accumulate_grad_batches=2)
    for bad in states.bad:
        assert same(states.before[bad // 2 * 2], states.after[bad // 2 * 2 + 1])


def test_what_is_remembered_when_training_stops_is_from_before_the_step(tmp_path):
    module = None

    class Kept(States):
        def on_exception(self, trainer: Any, pl_module: Any, exception: Any) -> None:
            nonlocal module
            module = pl_module

    kept = Kept()
    with pytest.raises(UserError, match="is not finite, though the losses are"):
        train(tmp_path, "DWA", BadGradient, "stop", callbacks=[kept])
    assert same(kept.before[-1], module.balancer.state_dict())


@pytest.mark.parametrize("name", ["FAMO", "GradNorm"])
def test_a_step_that_a_scaler_leaves_out_touches_nothing(tmp_path, name):
    class Sound(Poisoned):
        def loss(self, outputs: Any, targets: Any) -> Any:
            return super(Poisoned, self).loss(outputs, targets.clamp(max=30.0))

    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**40, backoff_factor=2.0**-30)
    plugin = MixedPrecision("16-mixed", "cpu", scaler)
    states = train(tmp_path, name, Sound, "stop", plugins=[plugin])
    assert same(states.before[0], states.after[0]), "the scale was too large for float16"
    assert not same(states.before[1], states.after[1])


def begun(method: Any, tasks: tuple[str, ...] = ("a", "b", "c")) -> LossBalancer:
    balancer = make_balancer(method, tasks)
    balancer.begin(torch.device("cpu"), torch.float32)
    return balancer


def test_average_weights_are_over_the_steps_that_weighed_the_task():
    balancer = begun(UW(3))
    balancer.record_weights(torch.tensor([1.0, 2.0]), [0, 1])
    balancer.record_weights(torch.tensor([4.0]), [0])
    assert balancer.weights == {"a": 4}
    assert balancer.average_weights() == {"a": 2.5, "b": 2}


def test_averages_go_on_after_a_resume_whatever_the_order_of_the_tasks():
    balancer, other = begun(UW(3)), make_balancer(UW(3), ("c", "a", "b"))
    balancer.record_weights(torch.tensor([1.0, 2.0]), [0, 1])
    other.load_state_dict(balancer.state_dict())
    other.begin(torch.device("cpu"), torch.float32)
    other.record_weights(torch.tensor([3.0]), [1])
    assert other.average_weights() == {"a": 2, "b": 2}
    other.begin(torch.device("cpu"), torch.float32)
    assert other.average_weights() == {}, "another training begins"


def test_statistics_are_restored():
    norm = torch.nn.BatchNorm1d(2)
    restore = snapshot_buffers(norm)
    norm(torch.tensor([[1.0, 2.0], [3.0, 5.0]]))
    assert norm.running_mean.tolist() != [0, 0]
    restore()
    assert norm.running_mean.tolist() == [0, 0]
    assert norm.num_batches_tracked == 0
