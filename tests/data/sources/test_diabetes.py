import pytest

from mtl_lightning.data.sources import DiabetesSource
from mtl_lightning.system.errors import UserError


def read(tasks=("progression", "glucose"), inputs=("age", "sex"), **options):
    source = DiabetesSource(**options)
    source.inputs_wanted = inputs
    return source.read(list(tasks))


def test_it_has_442_patients_without_images():
    table = read()
    assert len(table.keys) == 442
    assert table.without_image.all()
    assert table.labels["progression"][:3].tolist() == ["151.0", "75.0", "141.0"]
    assert table.inputs["age"][:3].tolist() == ["59.0", "48.0", "72.0"]
    assert set(table.inputs["sex"]) == {"1.0", "2.0"}
    counts = {split: (table.splits == split).sum() for split in ("train", "val", "test")}
    assert counts == {"train": 309, "val": 44, "test": 89}


def test_labels_are_left_out_of_training_rows_alone():
    table = read(missing={"glucose": 0.5})
    without = [cell is None for cell in table.labels["glucose"]]
    assert sum(without) == 154
    assert {split for split, gone in zip(table.splits, without, strict=True) if gone} == {"train"}
    assert all(cell is not None for cell in table.labels["progression"])
    assert (
        read(missing={"glucose": 0.5}).labels["glucose"].tolist()
        == table.labels["glucose"].tolist()
    )


def test_tasks_may_have_names_of_their_own():
    table = read(tasks=["sugar"], labels={"sugar": "glucose"})
    assert list(table.labels) == ["sugar"]
    assert table.columns == {"sugar": ["glucose"], "age": ["age"], "sex": ["sex"]}


def test_a_negative_seed_is_refused():
    with pytest.raises(UserError, match=r"diabetes: seed should be at least 0. Found -1"):
        DiabetesSource(seed=-1)
