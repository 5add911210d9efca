import json
from dataclasses import replace

import numpy as np
import pytest

from mtl_lightning.callbacks.results_file import ResultsFile
from mtl_lightning.callbacks.run_recorder import RunRecorder
from mtl_lightning.callbacks.slices import Slices
from mtl_lightning.runs import run_file
from mtl_lightning.system.errors import UserError
from tests.helpers import ranks
from tests.helpers.data import KINDS, Memory, column, make_data, make_more_tasks, sparse_labels
from tests.helpers.training import make_module, make_trainer

ROWS = 60
SPLITS = ["train"] * 5 + ["val"] * 7 + ["test"] * 48
SENDERS = [None if row % 7 == 3 else f"sender {row % 3}" for row in range(ROWS)]


class Sent(Memory):
    """Images with columns `sender` and `same`."""

    def read(self, tasks):
        columns = {"sender": SENDERS[: len(self.splits)], "same": ["x"] * len(self.splits)}
        wanted = {n: column(v) for n, v in columns.items() if n in self.slices_wanted}
        return replace(super().read(tasks), slices=wanted)


def make(batch_size=8, columns=("sender", "same"), sources=None):
    labels = sparse_labels(ROWS)
    sources = {"one": Sent(labels, SPLITS)} if sources is None else sources
    tasks = make_more_tasks()
    data = make_data(sources=sources, tasks=tasks, batch_size=batch_size, slices=list(columns))
    return data, make_module(tasks=tasks)


def evaluated(
    folder, command="test", devices=1, batch_size=8, sources=None, columns=("sender", "same")
):
    data, module = make(batch_size // devices, columns, sources)
    slices, run = Slices(), folder / "run" / "version_0"
    run.mkdir(parents=True, exist_ok=True)
    callbacks = [slices, RunRecorder(run, slices=slices), ResultsFile(run, slices)]
    trainer = make_trainer(folder, devices=devices, callbacks=callbacks)
    getattr(trainer, command)(module, datamodule=data, verbose=False)
    return slices, module.results[{"test": "test", "validate": "val"}[command]].tasks


def two_sources():
    """Return sources of which two label `kind`, each other rows, and both of them row 30."""
    labels = sparse_labels(ROWS)
    kind = [KINDS[row % 3] for row in range(ROWS)]
    first = {"kind": [k if row < 31 else None for row, k in enumerate(kind)]}
    second = {"kind": [k if row >= 30 else None for row, k in enumerate(kind)]}
    second["size"] = labels["size"]
    return {"one": Memory(first, SPLITS), "two": Memory(second, SPLITS)}


@pytest.mark.parametrize(("command", "split"), [("test", "test"), ("validate", "val")])
def test_a_slice_of_all_rows_has_the_results_of_the_whole(tmp_path, command, split):
    slices, whole = evaluated(tmp_path, command)
    assert slices.sources == {}, "one source is the whole"
    for task, values in whole.items():
        (own,) = slices.columns[task]["same"]
        expected = {m: v for m, v in values.items() if "/" not in m and m != "loss"}
        assert own.values == pytest.approx(expected, nan_ok=True, rel=1e-6)
    found = json.loads((tmp_path / f"run/version_0/{split}_metrics.json").read_text())
    recorded = run_file.read(tmp_path / "run/version_0").evaluations[split]
    for task, columns in slices.columns.items():
        for name, own in columns.items():
            assert [each["name"] for each in found["slices"][task][name]] == [e.name for e in own]
            assert recorded.slices[task][name][0].values.keys() == own[0].values.keys()
    assert "sources" not in found


def test_rows_without_a_value_are_a_slice_and_all_add_up(tmp_path, capsys):
    slices, whole = evaluated(tmp_path)
    for task in whole:
        found = slices.columns[task]["sender"]
        assert [own.name for own in found] == ["sender 0", "sender 1", "sender 2", None]
        counts = [own.values["n_labelled"] for own in found]
        assert sum(counts) == whole[task]["n_labelled"]
    accuracy = sum(
        own.values["accuracy"] * own.values["n_labelled"]
        for own in slices.columns["kind"]["sender"]
    )
    assert accuracy == pytest.approx(whole["kind"]["accuracy"] * whole["kind"]["n_labelled"])
    out = capsys.readouterr().out
    assert "task kind: balanced_accuracy by sender: " in out
    assert "4 of 4 have few labels" in out


def test_results_of_each_source_that_labels_a_task(tmp_path):
    slices, whole = evaluated(tmp_path, sources=two_sources(), columns=())
    assert slices.columns == {}
    assert list(slices.sources) == ["kind"], "only one source labels the others"
    one, two = slices.sources["kind"]
    assert (one.name, two.name) == ("one", "two")
    assert one.values["n_labelled"] == 31 - SPLITS.index("test")
    assert two.values["n_labelled"] == ROWS - 30
    assert whole["kind"]["n_labelled"] == ROWS - SPLITS.index("test"), "row 30 is in both"
    found = json.loads((tmp_path / "run/version_0/test_metrics.json").read_text())
    assert found["sources"]["kind"][1] == {"name": "two", **two.values}


def on_ranks(folder, devices):
    slices, _ = evaluated(folder, devices=devices, sources=two_sources() | {"c": Sent({}, SPLITS)})
    found = {t: [own.values for own in o] for t, o in slices.sources.items()}
    found |= {
        f"{t} {c}": [o.values for o in own]
        for t, cs in slices.columns.items()
        for c, own in cs.items()
    }
    (folder / f"{devices}.json").write_text(json.dumps(found))


def test_two_ranks_find_what_one_process_does(tmp_path):
    on_ranks(tmp_path, 1)
    ranks.run([(f"{__name__}.on_ranks", {"folder": tmp_path, "devices": 2})], tmp_path)
    alone, both = (json.loads((tmp_path / f"{n}.json").read_text()) for n in (1, 2))
    assert alone.keys() == both.keys()
    assert len(alone) > 4
    for name, own in alone.items():
        for one, other in zip(own, both[name], strict=True):
            assert other == pytest.approx(one, nan_ok=True, abs=1e-6), name


def test_a_column_that_no_source_has():
    data, _ = make(columns=["sender", "brand"])
    with pytest.raises(UserError, match=r'data.slices: a source should have a column "brand"'):
        data.labels.table  # noqa: B018 - it is read on access


def test_rows_of_one_image_that_differ_have_the_first_value(tmp_path):
    labels = sparse_labels(ROWS)
    again = Sent({}, SPLITS)
    sources = {"one": Sent(labels, SPLITS), "again": again}
    data, _ = make(columns=["sender"], sources=sources)
    assert data.labels.table.slices["sender"].tolist() == SENDERS
    np.testing.assert_array_equal(data.labels.table.images, data.labels.table.keys)
