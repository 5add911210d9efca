import numpy as np
import pytest
import torch

from mtl_lightning.data import input_columns
from mtl_lightning.data.batch import HAS_IMAGE, PADDING
from mtl_lightning.inputs import Category, Input, Number
from mtl_lightning.models.inputs import CATEGORIES, NUMBERS
from mtl_lightning.system.errors import UserError
from tests.helpers.data import Memory
from tests.helpers.tables import TableRows, make_inputs, table_data

SPLITS = ["train"] * 20 + ["test"] * 4


def encoded(inputs: dict[str, Input] | None = None, **options):
    data = table_data(SPLITS, inputs=inputs, **options)
    data.labels.infer_classes()
    data.labels.learn_inputs()
    data.labels.encode()
    return data.labels


def test_a_batch_gets_its_rows_and_padding_is_missing():
    columns = encoded(imageless=[3]).input_columns
    found = columns.of(np.array([7, 3, PADDING]))
    assert {n: v.shape for n, v in found.items()} == {
        NUMBERS: (3, 4),
        CATEGORIES: (3, 1),
        HAS_IMAGE: (3,),
    }
    assert found[NUMBERS][[0, 2]].isnan().all()  # row 7 has no column
    assert found[CATEGORIES][[0, 2], 0].tolist() == [0, 0]
    assert found[HAS_IMAGE].tolist() == [True, False, False]
    assert set(columns.only([NUMBERS]).of(np.array([0]))) == {NUMBERS}


def test_columns_may_be_kept_on_a_device(monkeypatch):
    columns = encoded().input_columns
    near = columns.near(torch.device("meta"))
    found = near.of(np.array([7, PADDING]))
    assert {values.device.type for values in found.values()} == {"meta"}
    assert found[NUMBERS].shape == (2, 4)
    monkeypatch.setattr(input_columns, "MOST_ON_DEVICE", 100)
    assert columns.near(torch.device("meta")) is columns


def test_values_are_those_of_the_row():
    labels = encoded({"age": Number(centre=0.0, scale=1.0)})
    ages = [np.nan if v is None else float(v) for v in labels.table.inputs["age"]]
    found = labels.input_columns.of(np.arange(24))[NUMBERS][:, 0]
    assert torch.allclose(found, torch.tensor(ages, dtype=torch.float32), equal_nan=True)


def refused(rows: TableRows, inputs: dict[str, Input]) -> str:
    from tests.helpers.data import make_data

    data = make_data(sources={"rows": rows}, inputs=inputs)
    with pytest.raises(UserError) as error:
        data.setup("fit")
    return str(error.value)


def labels_with(rows: int) -> dict[str, list]:
    return {
        "kind": ["cat", "dog"] * (rows // 2),
        "size": [1, 2] * (rows // 2),
        "rare": ["no"] * rows,
    }


def test_a_cell_that_cannot_be_read_is_named():
    message = refused(TableRows(labels_with(24), SPLITS), {"sex": Number()})
    assert message.startswith("memory memory:0: input sex cannot read")
    assert "expected a finite number" in message
    assert "cells like this)" in message


def test_a_column_has_to_be_there():
    message = refused(Memory(labels_with(24), SPLITS), {"age": Number()})
    assert message.startswith('data.inputs.age: a source should have a column "age" with values.')


def test_a_training_row_has_to_have_a_value():
    class Late(TableRows):
        def read(self, tasks):
            table = super().read(tasks)
            for cells in table.inputs.values():
                cells[:20] = None
            return table

    message = refused(Late(labels_with(24), SPLITS), {"sex": Category()})
    assert message.startswith("data.inputs.sex: a training row should have a value. Found none")


def test_a_name_is_of_an_input_or_a_task():
    with pytest.raises(UserError, match=r"data.inputs.kind should be an input or a task. Found b"):
        table_data(SPLITS, inputs={"kind": Category()})


def test_inputs_that_are_not_known_are_refused():
    data = table_data(SPLITS, inputs=make_inputs())
    data.labels.infer_classes()
    with pytest.raises(UserError, match=r"data.inputs.age: Number should know its statistics bef"):
        data.labels.encode()
