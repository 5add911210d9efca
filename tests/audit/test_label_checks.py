from mtl_lightning.audit import label_checks
from mtl_lightning.audit.absence_odds import StepSize
from mtl_lightning.audit.findings import Level
from mtl_lightning.data.datamodule import PartialLabels
from mtl_lightning.tasks import Classification, MultiLabel, Regression
from tests.helpers.data import Memory, make_data, make_more_tasks


def noted(labels, splits, tasks, size=1):
    data = PartialLabels(tasks, {"m": Memory(labels, splits)}, splits={}, image_size=16)
    data.setup("fit")
    return label_checks.notes(data, StepSize(size))


def test_nothing_to_say_of_good_data():
    labels = {"kind": ["cat", "dog"] * 40, "size": range(80)}
    splits = (["train"] * 6 + ["val"] * 2) * 10
    assert noted(labels, splits, {"kind": Classification(), "size": Regression()}) == []


def test_a_task_that_steps_go_without():
    labels = {"kind": ["cat", "dog"] * 40, "size": [1, *[None] * 30, 2, *[None] * 48]}
    tasks = {"kind": Classification(), "size": Regression()}
    (message,) = noted(labels, ["train"] * 80, tasks, size=1)
    assert message == (
        "task size has no label in 98% of the steps (2 of 80 training images carry one, a step "
        "takes 1); its head learns in the others only"
    )
    labels["size"] = [*range(20), *[None] * 60]
    (message,) = noted(labels, ["train"] * 80, tasks, size=4)
    assert message.startswith("task size has no label in 31% of the steps (20 of 80 ")
    assert message.endswith("; trainer.accumulate_grad_batches 4 would make it 0.6%")


def test_classes_that_val_hardly_measures():
    kinds = ["cat"] * 20 + ["dog"] * 10 + ["eel"] * 10
    splits = ["train"] * 10 + ["val"] * 10 + ["train"] * 6 + ["val"] * 4 + ["train"] * 10
    assert noted({"kind": kinds}, splits, {"kind": Classification()}) == [
        "task kind: fewer than 5 val labels of 2 of 3 classes: eel 0, dog 4; "
        "what is measured of them says little"
    ]


def test_a_task_or_a_run_without_val_is_reported_elsewhere():
    kinds = ["cat", "dog"] * 10
    assert noted({"kind": kinds}, ["train"] * 20, {"kind": Classification()}) == []


def test_classes_that_train_does_not_know():
    kinds = ["cat", "dog"] * 10 + ["eel", "eel", "fox"]
    splits = (["train"] * 2 + ["val"] * 2) * 5 + ["val", "test", "test"]
    tasks = {"kind": Classification(["cat", "dog", "eel", "fox"])}
    assert noted({"kind": kinds}, splits, tasks) == [
        "task kind: no training label of 2 of 4 classes: eel (1 in val, 1 in test), fox (0 in val, "
        "1 in test); they cannot be learned, and what is measured of them counts as wrong"
    ]


def test_classes_that_look_like_one():
    kinds = ["T-shirt"] * 20 + ["tshirt"] * 10 + ["hat"] * 10
    assert noted({"kind": kinds}, ["train"] * 40, {"kind": Classification()}) == [
        'task kind: one class written in several ways? "T-shirt" (20) / "tshirt" (10); '
        "if it is one, write it alike in the tables"
    ]


def test_labels_of_a_task_of_many_are_its_classes():
    hats = ["yes"] * 8 + ["no"] * 12 + ["yes"] * 6 + ["no"] * 4
    bags = ["yes"] * 20 + ["no"] * 10
    labels = {"tags/hat": hats, "tags/bag": bags}
    splits = ["train"] * 20 + ["val"] * 10
    assert noted(labels, splits, {"tags": MultiLabel(["hat", "bag"])}) == [
        "task tags: fewer than 5 val labels of 1 of 2 classes: bag 0; "
        "what is measured of them says little"
    ]


def test_counts_class_findings_by_split():
    data = make_data(tasks=make_more_tasks())
    data.setup("fit")
    encoded = {name: data.labels.encoded[name] for name in data.tasks}
    splits = data.labels.table.splits
    counted = label_checks.class_counts(data.tasks, encoded, splits)
    assert set(counted) == {"kind", "rare", "tags"}
    for name, field, word in [("kind", "kind", "dog"), ("tags", "tags/bag", "yes")]:
        cells = data.labels.table.cells[field]
        expected = [int(((cells == word) & (splits == split)).sum()) for split in range(3)]
        assert counted[name]["dog" if name == "kind" else "bag"].tolist() == expected


def test_classes_that_a_flip_leaves_behind():
    splits = ["train"] * 20 + ["val"] * 20
    (message,) = noted({"pose": ["left", "right"] * 20}, splits, {"pose": Classification()})
    assert message.endswith("; data.mirror: {swap: {pose: {left: right}}} swaps them")


def test_what_tasks_remark_on_is_of_the_training_labels():
    labels = {"size": [-1, 2.5, 3.5, 4.5, -1, -1]}
    splits = ["train"] * 4 + ["val"] * 2
    assert noted(labels, splits, {"size": Regression()}) == [
        "task size: 1 of 4 training labels are -1, the others are 2.5 to 4.5; "
        "if it means not labelled, set `missing: [-1]` in the source"
    ]


def test_scores_of_the_past():
    splits = ["train"] * 6 + ["val"] * 2 + ["test"] * 2
    dates = [f"2024-01-{day:02}" for day in (1, 2, 3, 4, 5, 9, 6, 10, 8, 11)]
    labels = {"size": range(10)}

    def found(dates):
        source = Memory(labels, splits, dates=dates)
        data = PartialLabels({"size": Regression()}, {"m": source}, splits={}, image_size=16)
        data.setup("fit")
        return label_checks.notes(data, StepSize(8))

    assert found(dates) == [
        "images dated before the last training image (2024-01-09): 1 of 2 in val and 1 of 2 in "
        "test; so their scores say how well gaps in the past are filled, and not how well the "
        "future is predicted; `data.splits: {by: date}` trains on the past alone, without named "
        "splits and groups"
    ]
    assert found(sorted(dates)) == []
    assert found(sorted(dates[:-4]) + [max(dates[:-4])] * 4) == [], "the same day is not earlier"
    assert found(["NaT"] * 10) == []
    assert found(None) == []


def test_what_tasks_suggest_is_a_note():
    tasks = {"size": Classification(["L", "S", "M"]), "kind": Classification(["cat", "dog", "eel"])}
    (found,) = label_checks.hints(tasks)
    assert found.level is Level.NOTE
    assert found.line() == "task size: its classes have an order (S, M, L); Ordinal learns it"
