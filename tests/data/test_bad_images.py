"""Bad images, on one process and on two."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from mtl_lightning.data.bad_images import (
    BadImage,
    BadImages,
    Recount,
    raise_on_bad_image,
)
from mtl_lightning.data.batch import PADDING, Batch
from mtl_lightning.data.datamodule import PartialLabels
from mtl_lightning.data.plan import StepPlan
from mtl_lightning.system.errors import UserError
from mtl_lightning.tasks import Encoded
from tests.helpers import ranks
from tests.helpers.data import Memory, make_more_tasks, sparse_labels
from tests.helpers.training import (
    Batches,
    fit,
    largest_difference,
    make_module,
    make_trainer,
    weights,
)

# ------------------------------------------------------------------- the list


class Named:
    """Images of which only names are asked for."""

    def __len__(self) -> int:
        return 100

    def name(self, row: int) -> str:
        return f"/{row}.png"

    def location(self, row: int) -> str:
        return f"t.csv row {row + 2}"

    def load(self, row: int) -> np.ndarray:
        raise AssertionError


def reason(row: int) -> str:
    return f"t.csv row {row + 2}: image /{row}.png cannot be read (broken)"


def test_each_image_is_kept_once_without_what_its_other_columns_say():
    bad, heard = BadImages(0.5), []
    bad.subscribe(lambda: heard.append(len(list(bad))))
    bad.add("train", {7: reason(7)}, Named(), 10)
    bad.add("val", {3: "t.csv row 5: odd"}, Named(), 10)
    bad.add("train", {7: reason(7), 1: reason(1)}, Named(), 10)
    assert list(bad) == [
        BadImage("/7.png", "t.csv row 9", "train", "cannot be read (broken)"),
        BadImage("/1.png", "t.csv row 3", "train", "cannot be read (broken)"),
        BadImage("/3.png", "t.csv row 5", "val", "odd"),
    ]
    assert heard == [1, 2, 3]


@pytest.mark.parametrize(
    ("share", "allowed"), [(0.0, 0), (0.05, 2), (0.07, 2), (0.075, 3), (1, 40)]
)
def test_more_than_a_share_of_a_split_stops_the_run(share, allowed):
    bad = BadImages(share)
    bad.add("val", {row: reason(row) for row in range(allowed)}, Named(), 40)
    bad.add("train", {row: reason(row) for row in range(allowed)}, Named(), 40)
    bad.add("train", {row: reason(row) for row in range(allowed)}, Named(), 40)
    if allowed == 40:
        return
    heard = []
    bad.subscribe(lambda: heard.append(True))
    with pytest.raises(UserError) as caught:
        bad.add("train", {99: reason(99)}, Named(), 40)
    assert str(caught.value) == (
        f"{allowed + 1} of 40 train images could not be used, and data.max_bad_share allows a "
        f"share of {share:g}; one of them: {reason(99)}"
    )
    assert heard, "it is listed all the same"


# ------------------------------------------------------------------- batches

PLAN = StepPlan(
    rows=np.arange(10, 24),
    labels={"kind": np.arange(14) % 2, "tags": np.arange(14) % 3},
    batch_size=2,
    accumulate=3,
    shuffle_seed=5,
)
ENCODED = {
    "kind": Encoded(np.zeros(30), np.zeros(30, bool), np.zeros(30, bool)),
    "tags": Encoded(np.zeros((30, 2)), np.zeros((30, 2), bool), np.zeros(30, bool)),
}
for i in range(14):
    ENCODED["kind"].labelled[10 + i] = i % 2
    ENCODED["tags"].labelled[10 + i] = [i % 3 > 0, i % 3 > 1]


def batches(bad: set[int], loaded: list[int], start: int = 0) -> Any:
    """Yield what a loader gives from micro-batch ``start`` on; note which were loaded."""
    for number, request in enumerate(PLAN.requests(3, 0, start), start=start):
        loaded.append(number)
        rows = request.rows
        good = ~np.isin(rows, list(bad))
        yield Batch(
            inputs={"image": torch.zeros(len(rows), 3, 4, 4, dtype=torch.uint8)},
            targets={},
            labelled={
                task: torch.from_numpy((encoded.labelled[rows].T & good).T)
                for task, encoded in ENCODED.items()
            },
            rows=torch.from_numpy(rows),
            counts=request.counts,
            step_rows=request.step_rows,
            gradient_divisor=request.gradient_divisor,
            bad={int(row): reason(row) for row in rows[~good]},
        )


def skip(start: int = 0, share: float = 1.0) -> Recount:
    cpu = torch.device("cpu")
    return Recount(BadImages(share), "train", Named(), ENCODED, PLAN, lambda: (3, start), cpu)


def again(step_rows: int, random: np.random.Generator) -> np.ndarray:
    """Take images several times in a step, as a sampling may."""
    return np.array([1, 1, 4, 1, 5, 4, 0, 11, 11, 11, 2, 11, 13, 13])


@pytest.mark.parametrize("draw", [None, again])
def test_counts_are_those_of_the_step_without_its_bad_images(draw, monkeypatch):
    monkeypatch.setitem(globals(), "PLAN", replace(PLAN, draw=draw))
    bad = {11, 14, 15, 16, 21, 23}
    given = list(skip()(batches(bad, [])))
    assert [len(batch) for batch in given] == [2] * 7
    for start in (0, 3, 6):
        step = given[start : start + 3]
        good = sum(int(row) not in bad for batch in step for row in batch.rows)
        for batch in step:
            assert batch.step_rows == good
            for task, count in batch.counts.items():
                assert count == sum(int(b.labelled[task].sum()) for b in step)


def with_bad_targets(bad: set[int], own: set[int]) -> Any:
    """Yield batches with bad images, and bad targets of the task kind."""
    for batch in batches(bad, []):
        lost = [int(row) for row in batch.rows if int(row) in own and int(row) not in bad]
        lost = [row for row in lost if ENCODED["kind"].labelled[row]]
        batch.labelled["kind"] &= ~torch.isin(batch.rows, torch.tensor(lost, dtype=torch.int64))
        batch.bad_targets = {
            "kind": {row: f"mask.csv row {row}: target /m.png odd" for row in lost}
        }
        yield batch


@pytest.mark.parametrize("draw", [None, again])
def test_a_bad_target_costs_its_task_a_label_and_no_row(draw, monkeypatch):
    monkeypatch.setitem(globals(), "PLAN", replace(PLAN, draw=draw))
    bad, own = {11, 14, 16}, {11, 13, 15, 21, 23}
    loader = skip()
    loader.target_files = {"kind": Masks()}
    given = list(loader(with_bad_targets(bad, own)))
    for start in (0, 3, 6):
        step = given[start : start + 3]
        good = sum(int(row) not in bad for batch in step for row in batch.rows)
        for batch in step:
            assert batch.step_rows == good
            for task, count in batch.counts.items():
                assert count == sum(int(b.labelled[task].sum()) for b in step)
    taken = {int(row) for batch in given for row in batch.rows}
    labelled = {row for row in own - bad if ENCODED["kind"].labelled[row]}
    targets = {one.where for one in loader.bad if one.image == "/m.png"}
    assert targets == {f"mask.csv row {row}" for row in taken & labelled}
    assert {one.reason for one in loader.bad} == {"cannot be read (broken)", "odd"}


class Masks(Named):
    def name(self, row: int) -> str:
        return "/m.png"

    def location(self, row: int) -> str:
        return f"mask.csv row {row}"


def test_an_image_and_its_target_are_one_bad_image_of_a_split():
    bad = BadImages(0.1)
    bad.add("train", {1: reason(1)}, Named(), 10)
    bad.add("train", {1: "odd"}, Masks(), 10, "kind")
    assert len(list(bad)) == 2
    with pytest.raises(UserError, match="2 of 10 train images could not be used"):
        bad.add("train", {2: "odd"}, Masks(), 10, "kind")


def test_a_bad_target_stops_a_run_that_skips_nothing():
    given = raise_on_bad_image(with_bad_targets(set(), {13, 15, 17, 19, 21, 23}))
    with pytest.raises(UserError, match=r"target /m.png odd; data.on_bad_image: skip continues wi"):
        list(given)


def test_a_step_is_loaded_ahead_and_no_more():
    loaded: list[int] = []
    given = skip()(batches({11}, loaded))
    assert loaded == []
    assert [loaded[-1] for _ in given] == [2, 2, 2, 5, 5, 5, 6]


@pytest.mark.parametrize("start", range(7))
def test_a_training_resumed_within_a_step_counts_what_it_has_done_of_it(start):
    bad = {11, 14, 15, 16, 21, 23}
    whole = list(skip()(batches(bad, [])))
    rest = list(skip(start)(batches(bad, [], PLAN.step_start(3, start))))
    assert [b.rows.tolist() for b in rest] == [b.rows.tolist() for b in whole[start:]]
    assert [b.counts for b in rest] == [b.counts for b in whole[start:]]
    assert [b.step_rows for b in rest] == [b.step_rows for b in whole[start:]]


def test_an_error_names_the_image_when_its_turn_has_come():
    loaded: list[int] = []
    given = raise_on_bad_image(batches({int(next(PLAN.requests(3, 0, 2)).rows[1])}, loaded))
    next(given), next(given)
    assert loaded == [0, 1]
    with pytest.raises(UserError, match=r"^t.csv row \d+: image /\d+.png cannot .*; data.on_bad"):
        next(given)


# ------------------------------------------------------------------- trainings


TRAIN, VAL = 49, 7  # the last micro-batch has one image, so that one of two ranks has none
SEED, BATCH = 3, 8


def data_of(bad: set[int], kind: type[PartialLabels] = PartialLabels, **options: Any) -> Any:
    splits = ["train"] * TRAIN + ["val"] * VAL
    source = Memory(sparse_labels(TRAIN + VAL), splits, bad=bad)
    fixed = {"image_size": 16, "num_workers": 0, "augmentation": "none", "max_bad_share": 1.0}
    return kind(make_more_tasks(), {"memory": source}, **(fixed | options))


@dataclass(frozen=True)
class PlanWithout(StepPlan):
    """The plan of one process that knows beforehand which images are bad."""

    bad: frozenset[int] = frozenset()

    def requests(self, epoch: int, rank: int, start: int = 0) -> Any:
        every = list(super().requests(epoch, rank, start))
        for number, request in enumerate(every):
            begin = number // self.accumulate * self.accumulate
            rows = np.concatenate([r.rows for r in every[begin : begin + self.accumulate]])
            places = np.flatnonzero(np.isin(self.rows, [r for r in rows if r not in self.bad]))
            own = [row for row in request.rows if row not in self.bad] or [PADDING]
            yield replace(
                request,
                rows=np.array(own),
                counts={task: int(n[places].sum()) for task, n in self.labels.items()},
                step_rows=len(places),
            )


class Foreknown(PartialLabels):
    """Never loads a bad image, so that nothing is corrected."""

    def _loader(self, dataset: Any, split: str, plan: StepPlan, progress: Any) -> Any:
        bad = next(iter(self.sources.values())).bad
        return super()._loader(dataset, split, PlanWithout(**vars(plan), bad=bad), progress)


def chosen(which: str, accumulate: int) -> set[int]:
    """Return the rows that are bad in a case; the plan's order is that of the first epoch."""
    data = data_of(set())
    data.setup("fit")
    rows = data.labels.rows("train")
    order = rows[StepPlan(rows, {}, BATCH, shuffle_seed=SEED).order(0)]
    second = order[BATCH * accumulate : 2 * BATCH * accumulate]
    bad = {
        "some": order[::4],
        "last": order[-1:],
        "rank": order[1::6],
        "absent": second[data.labels.encoded["rare"].labelled[second]],
        "step": second,
    }[which]
    assert len(bad)
    return {int(row) for row in (*bad, *data.labels.rows("val")[[1, 3]])}


class Steps(Batches):
    """Keeps what a training is given, and the weights after each optimizer step."""

    def __init__(self) -> None:
        super().__init__()
        self.after: dict[int, dict[str, torch.Tensor]] = {}

    def on_train_batch_end(self, trainer: Any, pl_module: Any, *_: Any) -> None:
        self.after[trainer.global_step] = weights(pl_module)


def trained(
    folder: Path,
    which: str,
    accumulate: int = 1,
    reduction: str = "labelled",
    devices: int = 1,
    epochs: int = 1,
    kind: type[PartialLabels] = PartialLabels,
    **options: Any,
) -> dict[str, Any]:
    """Train where some images are bad; return all that should not depend on how."""
    make = lambda p: torch.optim.AdamW(p, lr=1e-2, weight_decay=0.1)  # noqa: E731
    module = make_module(tasks=make_more_tasks(), loss_reduction=reduction, optimizer=make)
    options = {"on_bad_image": "skip", "batch_size": BATCH // devices} | options
    data, steps = data_of(chosen(which, accumulate), kind, **options), Steps()
    fit(
        folder,
        data,
        module,
        devices=devices,
        accumulate_grad_batches=accumulate,
        precision="64-true",
        max_epochs=epochs,
        callbacks=[steps],
    )
    return {
        "after": steps.after,
        "results": [module.results[split].tasks for split in ("train", "val")],
        "counts": [(batch.counts, batch.step_rows) for _, batch in steps.seen],
        "listed": list(data.bad),
    }


CASES: list[dict[str, Any]] = [
    {"which": "some", "epochs": 2},
    {"which": "some", "accumulate": 2, "reduction": "batch", "num_workers": 2},
    {"which": "last", "accumulate": 2},
    {"which": "rank", "reduction": "batch"},
    {"which": "rank", "accumulate": 2},
    {"which": "absent"},
    {"which": "absent", "accumulate": 2, "reduction": "batch"},
    {"which": "step"},
    {"which": "step", "accumulate": 2},
]


def assert_same(one: dict[str, Any], other: dict[str, Any]) -> None:
    assert one["counts"] == other["counts"]
    assert one["after"].keys() == other["after"].keys()
    for step in one["after"]:
        assert largest_difference(one["after"][step], other["after"][step]) < 1e-12, step
    for results, others in zip(one["results"], other["results"], strict=True):
        for task, values in results.items():
            assert values == pytest.approx(others[task], rel=1e-10, nan_ok=True), task


@pytest.fixture(scope="module")
def both(tmp_path_factory) -> list[Any]:
    """Run everything that needs two ranks in one pair of processes."""
    folder = tmp_path_factory.mktemp("ranks")
    given = [{"folder": folder, "devices": 2, **case} for case in CASES]
    cases: list[ranks.Case] = [(f"{__name__}.trained", case) for case in given]
    cases.append((f"{__name__}.stopped", {"folder": folder, "devices": 2}))
    return ranks.run(cases, folder)


@pytest.mark.parametrize("number", range(len(CASES)), ids=lambda i: str(CASES[i]))
def test_it_is_as_if_bad_images_had_no_place_in_their_step(both, tmp_path, number):
    case = CASES[number]
    foreknown = trained(tmp_path, kind=Foreknown, **case)
    one, two = trained(tmp_path, **case), both[number]
    assert not foreknown["listed"]
    assert_same(one, foreknown)
    assert_same(two, foreknown)
    bad = chosen(case["which"], case.get("accumulate", 1))
    for listed in (one["listed"], two["listed"]):
        assert {image.image for image in listed} == {f"memory:{row}" for row in bad}
        assert {image.split for image in listed} == {"train", "val"}
        assert {image.reason for image in listed} == {"cannot be read (broken)"}
        assert len(listed) == len(bad), "each once, in two epochs too"


def moved(run: dict[str, Any], step: int, name: str) -> bool:
    before, after = run["after"][step], run["after"][step + 1]
    return any(not torch.equal(before[key], after[key]) for key in before if name in key)


@pytest.mark.parametrize("accumulate", [1, 2])
def test_a_task_whose_images_are_all_bad_is_absent_from_the_step(tmp_path, accumulate):
    run = trained(tmp_path, "absent", accumulate)
    counts = [counts["rare"] for counts, _ in run["counts"]][::accumulate]
    whole = trained(tmp_path, "last", accumulate)
    planned = [counts["rare"] for counts, _ in whole["counts"]][::accumulate]
    assert counts[1] == 0 < planned[1]
    assert counts[0] > 0, "momentum has built up"
    assert not moved(run, 1, "rare")
    assert moved(whole, 1, "rare")
    assert moved(run, 1, "trunk")


@pytest.mark.parametrize("accumulate", [1, 2])
def test_a_step_whose_images_are_all_bad_moves_nothing(tmp_path, accumulate):
    run = trained(tmp_path, "step", accumulate)
    assert run["counts"][accumulate] == (dict.fromkeys(make_more_tasks(), 0), 0)
    assert not moved(run, 1, "")
    assert moved(run, 2, "trunk")


def stopped(folder: Path, devices: int) -> tuple[str, int, int]:
    """Train with few bad images allowed; return the message, the steps done, the images listed."""
    data, steps = data_of(chosen("some", 1), on_bad_image="skip", max_bad_share=0.1), Steps()
    data.batch_size = BATCH // devices
    try:
        fit(
            folder,
            data,
            devices=devices,
            module=make_module(tasks=make_more_tasks()),
            callbacks=[steps],
        )
    except UserError as error:
        return str(error), len(steps.seen), len(list(data.bad))
    raise AssertionError


def test_too_many_stop_all_ranks_at_the_same_step(both, tmp_path):
    message, done, listed = stopped(tmp_path, 1)
    assert message.startswith("6 of 49 train images could not be used, and data.max_bad_share")
    assert message.endswith(": image memory:47 cannot be read (broken)")
    assert (done, listed) == (2, 6)
    assert both[-1] == (message, done, listed)


def test_without_bad_images_skipping_changes_no_bit(tmp_path):
    runs = []
    for what in ("skip", "error"):
        data, module = data_of(set(), on_bad_image=what), make_module(tasks=make_more_tasks())
        fit(tmp_path, data, module, accumulate_grad_batches=2, max_epochs=2)
        runs.append(weights(module))
    assert all(torch.equal(runs[0][name], runs[1][name]) for name in runs[0])


@pytest.mark.parametrize("num_workers", [0, 2])
def test_an_error_is_one_line_and_no_step_is_loaded_ahead(tmp_path, num_workers):
    bad = chosen("last", 2)
    data, steps = data_of(bad, num_workers=num_workers, batch_size=BATCH), Steps()
    module = make_module(tasks=make_more_tasks())
    with pytest.raises(UserError) as caught:
        fit(tmp_path, data, module, callbacks=[steps], accumulate_grad_batches=7)
    row = min(bad)
    assert str(caught.value) == (
        f"memory memory:{row}: image memory:{row} cannot be read (broken); data.on_bad_image: "
        f"skip continues without such images"
    )
    assert len(steps.seen) == 6, "the last image was bad, and all before it were used"


@pytest.mark.parametrize("what", ["error", "skip"])
def test_evaluation(tmp_path, what):
    bad = sorted(chosen("last", 1))[1:]
    data = data_of(set(bad), on_bad_image=what, batch_size=3)
    module = make_module(tasks=make_more_tasks())
    if what == "error":
        with pytest.raises(UserError, match=f"memory:{bad[0]} cannot be read"):
            make_trainer(tmp_path).validate(module, datamodule=data, verbose=False)
        return
    make_trainer(tmp_path).validate(module, datamodule=data, verbose=False)
    kinds = sparse_labels(TRAIN + VAL)["kind"]
    good = [i for i in range(TRAIN, TRAIN + VAL) if i not in bad]
    expected = sum(kinds[i] is not None for i in good)
    assert 0 < expected < sum(kind is not None for kind in kinds[TRAIN:])
    assert module.results["val"].tasks["kind"]["n_labelled"] == expected
    assert [image.image for image in data.bad] == [f"memory:{row}" for row in bad]
