import pytest
import torch
from pytorch_lightning import Callback
from pytorch_lightning.loggers import Logger
from torchjd.aggregation import MGDA, TrimmedMean
from torchjd.scalarization import DWA, UW

from mtl_lightning.callbacks import BalancingMonitor
from mtl_lightning.models import Soft
from mtl_lightning.system.errors import UserError
from tests.helpers.balancing import module_of, one_step, reference, shared_rows
from tests.helpers.data import make_data
from tests.helpers.training import fit, make_module, staged, weights


class Log(Logger):
    name, version = "log", 0

    def __init__(self):
        self.seen = {}

    def log_metrics(self, metrics, step=None):
        self.seen.setdefault(step, {}).update(
            {n: v for n, v in metrics.items() if n.startswith("balance/")}
        )

    def log_hyperparams(self, *_, **__):
        pass


def watched(folder, method, every=1, epochs=1, **options):
    log = Log()
    module = module_of(method, **options)
    monitor = [] if every is None else [BalancingMonitor(every)]
    fit(folder, make_data(), module, callbacks=monitor, logger=log, max_epochs=epochs)
    return module, log.seen


CASES = [
    (lambda: None, {}),
    (lambda: UW(3), {}),
    (MGDA, {}),
    (MGDA, {"gradients": "features"}),
    (lambda: TrimmedMean(0), {}),
]


@pytest.mark.parametrize(("make", "options"), CASES)
def test_watching_changes_no_bit(tmp_path, make, options):
    seen, log = watched(tmp_path, make(), **options)
    unseen, nothing = watched(tmp_path, make(), every=None, **options)
    for name, value in weights(seen).items():
        assert torch.equal(value, weights(unseen)[name]), name
    assert any(log.values())
    assert not any(nothing.values())


@pytest.mark.parametrize(("make", "options"), CASES[:3])
def test_norms_and_cosines_are_those_of_the_tasks_gradients(tmp_path, make, options):
    log = Log()
    module = module_of(make(), **options)
    watch = [BalancingMonitor()]
    step = one_step(tmp_path, module, logger=log, more=watch)
    rows = shared_rows(reference(module, step))
    norms = rows.norm(dim=1)
    found = log.seen[0]
    for number, task in enumerate(module.tasks):
        assert found[f"balance/norm/{task}"] == pytest.approx(norms[number].item(), rel=1e-6)
    cosine = rows[0] @ rows[2] / norms[0] / norms[2]
    assert found["balance/cosine/kind/rare"] == pytest.approx(cosine.item(), rel=1e-6)
    assert {n for n in found if "weight" in n} == {f"balance/weight/{t}" for t in module.tasks}
    assert found["balance/weight/kind"] == pytest.approx(
        {"MGDA": found["balance/weight/kind"], "UW": 0.5}.get(type(make()).__name__, 1.0)
    )


def test_it_logs_at_the_chosen_interval_what_is_present(tmp_path):
    _, log = watched(tmp_path, UW(3), every=4, epochs=2)
    steps = [step for step, values in log.items() if values]
    assert steps == [0, 4, 8]
    present = [{n.split("/")[2] for n in log[s] if "weight" in n} for s in steps]
    assert {"kind", "size"} in present, "the rare task is not there, rather than 0"
    assert {"kind", "size", "rare"} in present
    assert not any(
        "rare" in n for s, p in zip(steps, present, strict=True) if "rare" not in p for n in log[s]
    )


def test_accumulated_steps_log_weights_alone(tmp_path):
    log = Log()
    options = {"callbacks": [BalancingMonitor(1)], "logger": log, "accumulate_grad_batches": 2}
    fit(tmp_path, make_data(), module_of(DWA()), **options)
    assert sorted(step for step, values in log.seen.items() if values) == [0, 1, 2]
    assert all("weight" in name for values in log.seen.values() for name in values)


def test_frozen_parameters_have_no_gradients_to_log(tmp_path):
    log = Log()
    monitored = {"callbacks": [BalancingMonitor(1)], "logger": log}
    fit(tmp_path, make_data(), staged("heads"), **monitored)
    assert all("weight" in name for values in log.seen.values() for name in values)
    assert any(log.seen.values())


def test_what_cannot_be_seen_is_refused(tmp_path):
    with pytest.raises(UserError, match="every_n_steps should be 1 or more"):
        BalancingMonitor(0)
    with pytest.raises(UserError, match=r"should let tasks share parameters\. Found Soft"):
        fit(tmp_path, module=make_module(sharing=Soft(1.0)), callbacks=[BalancingMonitor()])
    assert issubclass(BalancingMonitor, Callback)
