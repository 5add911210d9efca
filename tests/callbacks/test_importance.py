import json
from hashlib import sha256

import numpy as np
import pytest
import torch
from sklearn.metrics import r2_score

from mtl_lightning.callbacks.importance import Importance
from mtl_lightning.callbacks.run_recorder import RunRecorder
from mtl_lightning.inputs import Category, Number
from mtl_lightning.models.inputs import CATEGORIES, NUMBERS
from mtl_lightning.runs import run_file
from mtl_lightning.system.errors import UserError
from mtl_lightning.tasks import Classification, Regression
from tests.helpers import ranks, tables
from tests.helpers.data import KINDS
from tests.helpers.training import make_module, make_trainer

SPLITS = ["train"] * 5 + ["val"] * 7 + ["test"] * 40
AGES = tables.columns(len(SPLITS))["age"]


def evaluated(folder, repeats=3, command="test", devices=1, batch_size=4, recorded=False):
    """Return what is found for a network that answers ``age`` to one task, ``sex`` to the other."""
    tasks = {"double": Regression(), "kind": Classification(list(KINDS))}
    labels = {
        "double": [None if age is None else str(age) for age in AGES],
        "kind": [KINDS[row % 3] for row in range(len(SPLITS))],
    }
    inputs = {"sex": Category(["f", "m", "x"]), "age": Number(centre=0.0, scale=1.0)}
    module = tables.table_module(tasks, inputs=inputs)

    def forward(given, rows=None):
        codes = torch.nn.functional.one_hot(given[CATEGORIES][:, 0] % 3, 3)
        return {"double": given[NUMBERS].nan_to_num(), "kind": codes.to(torch.float32)}

    module.network.forward = forward
    data = tables.table_data(
        SPLITS, labels, inputs=inputs, tasks=tasks, batch_size=batch_size // devices
    )
    importance = Importance(repeats)
    callbacks = [importance]
    if recorded:
        callbacks.append(RunRecorder(folder / "run" / "version_0", importance=importance))
    trainer = make_trainer(folder, devices=devices, callbacks=callbacks)
    getattr(trainer, command)(module, datamodule=data, verbose=False)
    found = {
        task: {column: own.drops for column, own in columns.items()}
        for task, columns in importance.found.items()
    }
    if devices > 1:
        (folder / f"rank{trainer.global_rank}.json").write_text(json.dumps(found))
    return found


@pytest.mark.parametrize(("command", "split"), [("test", "test"), ("validate", "val")])
def test_the_drop_is_that_of_the_metric_with_the_column_shuffled(tmp_path, command, split):
    found = evaluated(tmp_path, command=command)
    assert list(found) == ["double", "kind"]
    assert list(found["double"]) == ["sex", "age"]
    assert found["double"]["sex"] == [0, 0, 0], "it does not read it"
    assert found["kind"]["age"] == [0, 0, 0]
    assert any(found["kind"]["sex"])
    rows = np.flatnonzero(np.array(SPLITS) == split)
    keys = tables.table_data(SPLITS).labels.table.keys[rows].astype(str)
    rows = rows[np.argsort(keys, kind="stable")]
    draw = np.random.default_rng(list(sha256(b"age").digest()))
    values = np.array(AGES, dtype=float)
    for drop in found["double"]["age"]:
        shuffled = values.copy()
        shuffled[rows] = values[draw.permutation(rows)]
        labelled = rows[~np.isnan(values[rows])]
        after = r2_score(values[labelled], np.nan_to_num(shuffled[labelled]))
        assert drop == pytest.approx(1 - after, rel=1e-5)


def test_batches_do_not_matter(tmp_path):
    one, other = (evaluated(tmp_path, batch_size=size) for size in (4, 9))
    for task, columns in one.items():
        for column, drops in columns.items():
            assert other[task][column] == pytest.approx(drops, abs=1e-6)


def test_two_ranks_find_what_one_process_does(tmp_path):
    alone = evaluated(tmp_path)
    own = {"folder": tmp_path, "devices": 2}
    ranks.run([(f"{__name__}.evaluated", own)], tmp_path)
    for rank in range(2):
        found = json.loads((tmp_path / f"rank{rank}.json").read_text())
        for task, columns in alone.items():
            for column, drops in columns.items():
                assert found[task][column] == pytest.approx(drops, abs=1e-6)


def test_it_is_recorded_and_metrics_stay(tmp_path, capsys):
    found = evaluated(tmp_path, recorded=True)
    line = "task double: drop of r2 if a column is shuffled: age "
    assert line in capsys.readouterr().out
    evaluation = run_file.read(tmp_path / "run" / "version_0").evaluations["test"]
    own = evaluation.importance["double"]["age"]
    assert own.drops == pytest.approx(found["double"]["age"])
    assert own.mean == pytest.approx(np.mean(own.drops))
    assert own.deviation == pytest.approx(np.std(own.drops))
    assert evaluation.results.tasks["double"]["r2"] == pytest.approx(1)


def test_nothing_without_repeats_or_in_a_training(tmp_path):
    assert evaluated(tmp_path, repeats=0) == {}
    importance = Importance(2)
    module = tables.table_module()
    data = tables.table_data(SPLITS, inputs=dict(module.inputs))
    make_trainer(tmp_path, callbacks=[importance]).fit(module, datamodule=data)
    assert importance.found == {}


def test_columns_have_to_be_there(tmp_path):
    trainer = make_trainer(tmp_path, callbacks=[Importance(2)])
    with pytest.raises(UserError, match=r"importance should be 0 for .* no columns .* Found 2"):
        trainer.test(make_module(), datamodule=tables.table_data(SPLITS, inputs={}), verbose=False)
    assert torch.is_grad_enabled()
