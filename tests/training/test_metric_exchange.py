import os
import warnings

import pytest
import torch
import torch.distributed as dist
from torchmetrics import Metric, MetricCollection
from torchmetrics.classification import BinaryAccuracy, BinaryF1Score, BinaryPrecision

from mtl_lightning.training.metric_exchange import exchanged_at_once
from tests.helpers import ranks


class Extremes(Metric):
    """States of three types, and a list, each put together in another way."""

    def __init__(self):
        super().__init__()
        self.add_state("most", torch.tensor(-1.0, dtype=torch.float64), dist_reduce_fx="max")
        self.add_state("sums", torch.zeros(2, 3), dist_reduce_fx="sum")
        self.add_state("rows", torch.zeros((), dtype=torch.long), dist_reduce_fx=None)
        self.add_state("values", [], dist_reduce_fx="cat")

    def update(self, values, *_):
        self.most = torch.maximum(self.most, values.max().double())
        self.sums += values.reshape(2, 3)
        self.rows += len(values)
        self.values.append(values)

    def compute(self):
        values = self.values if isinstance(self.values, torch.Tensor) else torch.cat(self.values)
        return torch.cat([self.most[None], self.sums.flatten(), self.rows.flatten(), values])


def collection(groups):
    binary = (BinaryAccuracy(), BinaryF1Score(), BinaryPrecision())
    return MetricCollection(
        {type(metric).__name__: metric for metric in (*binary, Extremes())},
        compute_groups=groups,
    )


def computed(groups, rows):
    """Return the values of all ranks twice: by torchmetrics, and exchanged at once."""
    metrics = torch.nn.ModuleList([collection(groups) for _ in rows])
    rank = dist.get_rank()
    for metric, counts in zip(metrics, rows, strict=True):
        values = torch.rand(counts[rank], generator=torch.Generator().manual_seed(rank + 1))
        for part in values.split(6) if len(values) else ():
            metric.update(part, (part > 0.3).long())
    plain = [metric.compute() for metric in metrics]
    for metric in metrics.modules():
        if isinstance(metric, Metric):
            metric._computed = None
    calls = 0
    gather = dist.all_gather

    def counted(*arguments, **options):
        nonlocal calls
        calls += 1
        return gather(*arguments, **options)

    dist.all_gather = counted
    try:
        with exchanged_at_once(metrics):
            found = [metric.compute() for metric in metrics]
    finally:
        dist.all_gather = gather
    states = [m.dist_sync_fn for m in metrics.modules() if isinstance(m, Metric)]
    return plain, found, calls, states


ROWS = {"even": [(6, 6), (12, 6)], "a rank without rows": [(6, 0), (6, 18)]}
CASES = [(groups, name) for groups in (False, True) for name in ROWS]


@pytest.fixture(scope="module")
def two(tmp_path_factory):
    cases = [
        (f"{__name__}.joined", {"groups": groups, "rows": ROWS[name]}) for groups, name in CASES
    ]
    return dict(zip(CASES, ranks.run(cases, tmp_path_factory.mktemp("ranks")), strict=True))


def joined(groups, rows):
    """Call `computed` in a group of two ranks."""
    warnings.filterwarnings("ignore", message=".*``compute`` method.*")
    if not dist.is_initialized():  # by a trainer of another case
        dist.init_process_group("gloo", rank=int(os.environ["LOCAL_RANK"]), world_size=2)
    found = [None, None]
    dist.all_gather_object(found, computed(groups, rows))
    return found


@pytest.mark.parametrize("case", CASES, ids=str)
def test_the_results_are_those_of_torchmetrics_on_every_rank(two, case):
    for plain, found, _, _ in two[case]:
        for one, other in zip(plain, found, strict=True):
            assert one.keys() == other.keys()
            for name in one:
                assert torch.equal(one[name], other[name]), name


def test_ranks_wait_once_for_each_type(two):
    """And for lists of values, whose lengths differ by rank, as torchmetrics does."""
    for _, _, calls, left in two[False, "even"]:
        assert calls == 3 + 2 * 2
        assert left == [None] * len(left)


def test_nothing_is_exchanged_on_one_process():
    metrics = collection(True)
    metrics.update(torch.tensor([0.2, 0.7]).repeat(3), torch.tensor([0, 1]).repeat(3))
    with exchanged_at_once(metrics):
        assert all(metric.dist_sync_fn is None for metric in metrics.values())
        assert metrics.compute()["BinaryAccuracy"] == 1
