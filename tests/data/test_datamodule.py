from collections import Counter
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torchvision.transforms import v2

from mtl_lightning.data.batch import PADDING
from mtl_lightning.data.datamodule import PartialLabels
from mtl_lightning.data.resizing import resize
from mtl_lightning.data.sampling import AtLeast, TimeOrder
from mtl_lightning.data.splits import SPLITS
from mtl_lightning.system.errors import UserError
from mtl_lightning.tasks import Classification, Regression
from mtl_lightning.training.module import MultiTask
from tests.helpers.data import Memory, Tags, make_data, make_tasks, sparse_labels
from tests.helpers.models import Small
from tests.helpers.training import Batches, fit, weights


def ready(data, stage="fit", world_size=1, rank=0, epoch=0, done=0, device="cpu"):
    """Set up the data and put a stand-in for a trainer in its place."""
    current = SimpleNamespace(ready=done)
    progress = SimpleNamespace(batch_progress=SimpleNamespace(current=current))
    data.trainer = SimpleNamespace(
        world_size=world_size,
        global_rank=rank,
        accumulate_grad_batches=1,
        limit_train_batches=1.0,
        overfit_batches=0.0,
        current_epoch=epoch,
        fit_loop=SimpleNamespace(epoch_loop=progress),
        strategy=SimpleNamespace(root_device=torch.device(device)),
    )
    data.setup(stage)
    return data


def trained(folder, data=None, module=None, **trainer):
    """Return what a training was given."""
    batches = Batches()
    fit(folder, data or make_data(), module, callbacks=[batches], **trainer)
    return batches


def labelled_rows(data, split="train"):
    return set(data.labels.rows(split).tolist())


def assert_counts_are_those_of_each_step(batches, accumulate):
    """By brute force, from what the trainer was really given."""
    epochs = {}
    for epoch, batch in batches.seen:
        epochs.setdefault(epoch, []).append(batch)
    for given in epochs.values():
        for start in range(0, len(given), accumulate):
            step = given[start : start + accumulate]
            for batch in step:
                assert batch.step_rows == sum(len(b) for b in step)
                assert batch.gradient_divisor == accumulate
                for task, count in batch.counts.items():
                    assert count == sum(int(b.labelled[task].sum()) for b in step)


def loaded(loader):
    return [(b.rows.tolist(), b.inputs["image"], b.counts, b.labelled) for b in loader]


# ------------------------------------------------------------------- splits


def unsplit(**arguments):
    labels = {"kind": ["cat", "dog", "eel"] * 20, "size": range(60), "rare": ["no", "yes"] * 30}
    source = Memory(labels, [None] * 60)
    return PartialLabels(make_tasks(), {"m": source}, image_size=16, num_workers=0, **arguments)


def test_no_seed_of_the_run_ever_trains_on_a_test_row(tmp_path, monkeypatch):
    tests, given = set(), set()
    for seed in (0, 1, 7, 12345):
        monkeypatch.setenv("PL_GLOBAL_SEED", str(seed))
        data = ready(unsplit())
        tests.add(tuple(data.labels.rows("test")))
        given |= {row for rows, *_ in loaded(data.train_dataloader()) for row in rows}
    assert len(tests) == 1
    assert len(tests.pop()) == 12
    assert given == labelled_rows(data)
    assert not given & (labelled_rows(data, "val") | labelled_rows(data, "test"))


def test_split_seed_and_splits_do_change_the_splits():
    first = ready(unsplit()).labels.rows("test").tolist()
    assert ready(unsplit(split_seed=1)).labels.rows("test").tolist() != first
    assert Counter(ready(unsplit(splits={"test": 0.5})).labels.table.splits.tolist()) == {
        0: 30,
        2: 30,
    }


# ------------------------------------------------------------------- labels


def test_images_without_any_label_are_left_out():
    data = ready(make_data())
    training = data.labels.table.splits == SPLITS.index("train")
    expected = [
        row
        for row in np.flatnonzero(training)
        if any(data.labels.table.cells[task][row] is not None for task in data.tasks)
    ]
    assert data.labels.rows("train").tolist() == expected
    assert len(expected) < training.sum()


def test_training_labels_are_those_of_the_labelled_training_rows():
    data = ready(make_data())
    cells = data.labels.table.cells
    train = range(45)
    sizes = [float(cells["size"][i]) for i in train if cells["size"][i] is not None]
    assert data.labels.training_labels("size")[0].tolist() == pytest.approx(sizes)
    kinds = [["cat", "dog", "eel"].index(k) for k in cells["kind"][:45] if k is not None]
    assert data.labels.training_labels("kind")[0].tolist() == kinds


def test_classes_come_from_the_training_labels_alone():
    source = Memory({"n": ["10", "2", "2", "10", "2"]}, ["train"] * 3 + ["val", "test"])
    data = PartialLabels({"n": Classification()}, {"m": source}, image_size=16, num_workers=0)
    assert data.labels.infer_classes() == {"n": {"classes": ["2", "10"]}}
    source.labels["n"][-1] = "3"
    stray = PartialLabels({"n": Classification()}, {"m": source}, image_size=16, num_workers=0)
    with pytest.raises(UserError, match=r'memory memory:4: task n cannot read the label "3"'):
        stray.setup("fit")


def test_errors_of_a_task_name_it():
    source = Memory({"n": ["a", "nan", "b"]}, ["train"] * 3)
    data = PartialLabels({"n": Classification()}, {"m": source}, image_size=16)
    with pytest.raises(UserError, match=r'^task n: the label "nan" may be a class'):
        data.labels.infer_classes()


def test_an_unreadable_label_says_how_many_there_are():
    source = Memory({"n": ["1", "x", "y"]}, ["train"] * 3)
    data = PartialLabels({"n": Regression()}, {"m": source}, image_size=16)
    for _ in range(2):  # the second time too: nothing half-read is kept
        with pytest.raises(UserError, match=r'"x" \(2 labels like this\); expected a finite'):
            data.setup("fit")


@pytest.mark.parametrize(("stage", "split"), [("validate", "val"), ("test", "test")])
def test_a_split_without_images_is_an_error_even_after_fit(stage, split):
    source = Memory({"kind": ["cat", "dog"]}, ["train"] * 2)
    data = PartialLabels({"kind": Classification()}, {"m": source}, splits={}, image_size=16)
    data.setup("fit")
    with pytest.raises(UserError, match=f"the {split} split has no labelled image"):
        data.setup(stage)


def test_a_mask_per_label_counts_labels_not_images(tmp_path):
    cells = ["+-?", None, "?-+", "-+-"] * 5
    kinds = ["cat", None, None, "dog"] * 5
    source = Memory({"tags": cells, "kind": kinds}, ["train"] * 16 + ["val"] * 4)
    tasks = {"tags": Tags(), "kind": Classification(["cat", "dog"])}
    data = PartialLabels(
        tasks, {"m": source}, image_size=16, batch_size=5, num_workers=0, augmentation="none"
    )
    module = MultiTask(tasks, Small(), dropout=0.0, image_size=16)
    batches = trained(tmp_path, data, module, accumulate_grad_batches=2)
    assert sum(len(batch) for _, batch in batches.seen) == 12
    assert_counts_are_those_of_each_step(batches, 2)
    assert module.results["train"].tasks["tags"]["n_labelled"] == 4 * 7
    assert module.results["val"].tasks["tags"]["n_labelled"] == 7
    assert module.results["val"].tasks["kind"]["n_labelled"] == 2


# ------------------------------------------------------------------- notes and arguments


def test_notes_say_what_a_user_should_know():
    labels = {
        "kind": ["cat", "dog", "eel", None] * 5,
        "size": range(20),
        "rare": ["no", "yes"] * 10,
    }
    labels["size"] = [*range(10), *[None] * 10]
    splits = ["train"] * 12 + ["val"] * 8
    labels["rare"] = [None] * 20
    labels["rare"][:2] = ["no", "yes"]
    tasks = make_tasks()
    data = PartialLabels(tasks, {"m": Memory(labels, splits)}, image_size=16)
    data.setup("fit")
    assert data.notes() == [
        "1 training images carry no label and are left out",
        "task size has no label in val: it is reported as absent",
        "task rare has no label in val: it is reported as absent",
    ]


def test_a_sampling_decides_what_an_epoch_takes_and_says_so(tmp_path):
    data = make_data(sampling=AtLeast(2))
    batches = trained(tmp_path, data, accumulate_grad_batches=2, max_epochs=2)
    assert_counts_are_those_of_each_step(batches, 2)
    whole = [batch for _, batch in batches.seen if batch.step_rows == 16]
    assert len(whole) == 2 * 4
    assert all(min(batch.counts.values()) >= 2 for batch in whole)
    (note,) = (note for note in data.notes() if "AtLeast" in note)
    taken = data.train_plan.order(0)
    assert note.startswith(
        f"AtLeast: of {len(taken)} training images the first epoch takes "
        f"{len(set(taken.tolist()))}; with repetitions, by source: memory "
        f"{len(taken)}; labels: kind "
    )


def test_a_sampling_that_cannot_be_is_an_error_before_training(tmp_path):
    with pytest.raises(UserError, match="9 labelled images of each of 3 tasks are 27, and a step"):
        trained(tmp_path, make_data(sampling=AtLeast(9)), accumulate_grad_batches=2)


def test_a_note_says_that_nothing_is_validated():
    source = Memory({"kind": ["cat", "dog"]}, ["train"] * 2)
    data = PartialLabels({"kind": Classification()}, {"m": source}, splits={}, image_size=16)
    data.setup("fit")
    assert data.notes() == [
        "there is no validation image: nothing is measured, best.ckpt not written"
    ]


def test_a_note_says_that_val_was_taken_from_train():
    source = Memory({"kind": ["cat", "dog"] * 20}, ["train"] * 30 + ["test"] * 10)
    data = PartialLabels({"kind": Classification()}, {"m": source}, image_size=16)
    data.setup("fit")
    assert "its share (data.splits) was taken from train" in data.notes()[0]
    assert len(data.labels.rows("val")) == 3


def test_what_the_sources_note_comes_first():
    class Noting(Memory):
        def read(self, tasks):
            return replace(super().read(tasks), notes=["2 names are left out", "and so on"])

    labels = {"kind": ["cat", "dog", None]}
    source, plain = Noting(labels, ["train"] * 3), Memory(labels, ["val"] * 3, name="plain")
    data = PartialLabels({"kind": Classification()}, {"plain": plain, "m": source}, image_size=16)
    data.setup("fit")
    assert data.notes() == [
        "data.sources.m: 2 names are left out",
        "data.sources.m: and so on",
        "1 training images carry no label and are left out",
    ]


def test_nothing_to_note():
    labels = {"kind": ["cat", "dog"] * 4, "size": range(8), "rare": ["no", "yes"] * 4}
    source = Memory(labels, ["train", "train", "val", "val"] * 2)
    data = PartialLabels(make_tasks(), {"m": source}, image_size=16)
    data.setup("fit")
    assert data.notes() == []


def test_without_sources():
    data = PartialLabels(make_tasks())
    with pytest.raises(UserError, match=r"data\.sources should name at least one source"):
        data.setup("fit")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"batch_size": 0}, r"data\.batch_size should be at least 1\. Found 0"),
        ({"num_workers": -1}, r"data\.num_workers should be at least 0\. Found -1"),
        ({"max_pixels": 0}, r"data\.max_pixels should be at least 1\. Found 0"),
        ({"max_bad_share": 1.01}, r"data\.max_bad_share should be in 0\.\.1\. Found 1\.01"),
        ({"max_bad_share": -0.1}, r"data\.max_bad_share should be in 0\.\.1\. Found -0\.1"),
        ({"image_size": [8, 8, 8]}, "image_size"),
        ({"image_size": 0}, "image_size"),
    ],
)
def test_arguments_out_of_range(arguments, message):
    with pytest.raises(UserError, match=message):
        PartialLabels(make_tasks(), **arguments)


@pytest.mark.parametrize("augment_on", ["cpu", "device"])
@pytest.mark.parametrize("cache", ["none", "memory"])
@pytest.mark.parametrize("mode", ["cover", "contain", "stretch"])
def test_training_evaluation_and_prediction_resize_alike(tmp_path, augment_on, cache, mode):
    mirror = [v2.RandomHorizontalFlip(p=1.0)]
    options = {"cache": cache, "augmentation": mirror, "augment_on": augment_on}
    data = make_data(image_size=[12, 20], resize=mode, **options)
    batches = trained(tmp_path, data, max_epochs=1)
    images = data.labels.table

    def expected(row):
        image = resize(images.load(row), (12, 20), mode=mode)
        return v2.functional.center_crop(torch.from_numpy(image).permute(2, 0, 1), [12, 20])

    for batch in (batch for _, batch in batches.seen):
        for row, image in zip(batch.rows.tolist(), batch.inputs["image"], strict=True):
            assert row == PADDING or torch.equal(image, expected(row).flip(-1))
    data.predict_on(images)
    for loader in (data.val_dataloader(), data.predict_dataloader()):
        for batch in loader:
            for row, image in zip(batch.rows.tolist(), batch.inputs["image"], strict=True):
                assert row == PADDING or torch.equal(image, expected(row))


def test_bfloat16_throughout_measures_in_the_labels_unit(tmp_path):
    """Neither targets nor sums are rounded: the years would be those of a decade."""
    years = {"year": [str(1990 + i % 30) for i in range(48)]}
    module = None
    for precision in ("32-true", "bf16-true"):
        source = Memory(years, ["train"] * 40 + ["val"] * 8)
        tasks = {"year": Regression()}
        data = PartialLabels(
            tasks, {"m": source}, image_size=16, batch_size=8, num_workers=0, augmentation="none"
        )
        torch.manual_seed(0)
        module = MultiTask(tasks, Small(), dropout=0.0, image_size=16)
        batches = trained(tmp_path, data, module, precision=precision)
        given = {float(y) for _, batch in batches.seen for y in batch.targets["year"]}
        assert given == {float(1990 + i) for i in range(30)}
        values = module.results["val"].tasks["year"]
        assert values["n_labelled"] == 8
        if precision == "32-true":
            exact = values
        else:
            assert values["rmse"] == pytest.approx(exact["rmse"], rel=0.02)
            assert values["r2"] == pytest.approx(exact["r2"], rel=0.02, abs=0.02)
    assert all(w.dtype == torch.bfloat16 for w in weights(module).values() if w.ndim)


def test_a_task_left_out_changes_neither_images_nor_splits():
    labels = {"kind": ["cat", "dog"] * 20, "size": [None, 1.5, 2.5, None] * 10}
    source = Memory(labels, [None] * 40)
    whole = PartialLabels({"kind": Classification(), "size": Regression()}, {"m": source})
    alone = PartialLabels(
        {"size": Regression()}, {"m": source}, left_out={"kind": Classification()}
    )
    for data in (whole, alone):
        data.setup("fit")
    assert whole.labels.table.splits.tolist() == alone.labels.table.splits.tolist()
    assert len(alone.labels.rows("train")) < len(whole.labels.rows("train"))
    assert (
        alone.labels.training_labels("size")[0].tolist()
        == whole.labels.training_labels("size")[0].tolist()
    )


def test_a_class_that_no_training_image_has_says_that_it_is_the_split():
    labels = {"kind": ["a", "b"] * 4 + ["rare", "rare"]}
    named = Memory(labels, ["train"] * 8 + ["val", "test"])
    data = PartialLabels({"kind": Classification()}, {"m": named}, image_size=16)
    with pytest.raises(UserError) as caught:
        data.setup("fit")
    assert str(caught.value).endswith(
        'cannot read the label "rare" (2 labels like this); expected one of the classes a, b, for '
        "no training image has it (1 in val and 1 in test, where a table puts its images); name "
        "all classes in the task's `classes` to measure it though it cannot be learned, or leave "
        "it out: `missing: [rare]` in its source"
    )
    known = {"kind": Classification(["a", "b"])}
    with pytest.raises(UserError, match=r"expected one of the classes a, b$"):
        PartialLabels(known, {"m": named}, image_size=16).setup("fit")
    each = Memory({"kind": [f"{i}" for i in range(40)]}, [None] * 40)
    with pytest.raises(UserError, match=r"where data\.splits put its images\); name all classes"):
        PartialLabels({"kind": Classification()}, {"m": each}, image_size=16).setup("fit")
    trained = Memory({"kind": [f"{i}" for i in range(40)]}, ["train"] * 40)
    with pytest.raises(UserError, match=r"in val, taken from train, as the tables name no val row"):
        PartialLabels({"kind": Classification()}, {"m": trained}, image_size=16).setup("fit")
    kept = {"splits": {"val": 0.0}, "image_size": 16}
    PartialLabels({"kind": Classification()}, {"m": trained}, **kept).setup("fit")


@pytest.mark.parametrize("seed", range(5))
def test_a_random_split_keeps_every_class_in_train_with_and_without_a_task(seed):
    labels = {"kind": ["a", "b"] * 28 + list("cdef"), "size": range(60)}
    source = Memory(labels, [None] * 60)
    tasks = {"kind": Classification(), "size": Regression()}
    whole = PartialLabels(tasks, {"m": source}, image_size=16, split_seed=seed)
    whole.setup("fit")
    assert tasks["kind"].classes == list("abcdef")
    left = {"kind": Classification()}
    alone = PartialLabels({"size": Regression()}, {"m": source}, split_seed=seed, left_out=left)
    alone.setup("fit")
    assert (alone.labels.table.splits == whole.labels.table.splits).all()


def test_splits_by_date():
    dates = [f"2024-01-{day:02}" for day in (5, 3, 9, 1, 7, 2, 8, 4, 6, 10)]
    source = Memory({"size": range(10)}, [None] * 10, dates=dates)
    for splits in ({"by": "date"}, {"by": "date", "val": 0.1, "test": 0.2}):
        table = PartialLabels({"size": Regression()}, {"m": source}, splits).labels.table
        found = {date: SPLITS[split] for date, split in zip(dates, table.splits, strict=True)}
        assert [found[date] for date in sorted(dates)] == ["train"] * 7 + ["val"] + ["test"] * 2
    with pytest.raises(UserError, match="where the date alone decides"):
        PartialLabels({"size": Regression()}, {"m": source}, {"by": "date"}, stratify=True)


def test_an_epoch_in_the_order_of_dates(tmp_path):
    dates = [f"2024-01-{day:02}" for day in (5, 3, 9, 1, 7, 2, 8, 4)]
    source = Memory(sparse_labels(8), ["train"] * 8, dates=dates)
    data = make_data(sources={"m": source}, splits={}, batch_size=2, sampling=TimeOrder())
    seen = trained(tmp_path, data).seen
    rows = [int(row) for epoch, batch in seen if epoch == 0 for row in batch.rows]
    assert rows == [row for row in np.argsort(dates).tolist() if row in labelled_rows(data)]
