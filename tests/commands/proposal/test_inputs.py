from pathlib import Path

import pytest
import yaml

from mtl_lightning.__main__ import main
from mtl_lightning.commands.proposal.inputs import apply, plan_inputs
from mtl_lightning.commands.proposal.tables import inspect_table
from mtl_lightning.inputs import Category, Date, Number
from mtl_lightning.system.errors import UserError


@pytest.fixture
def write(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    def write(**columns):
        columns = {"asked": ["yes", "no"] * 15} | columns
        rows = zip(*columns.values(), strict=True)
        lines = [",".join(columns), *(",".join(map(str, row)) for row in rows)]
        Path("t.csv").write_text("\n".join(lines))
        return "t.csv"

    return write


def planned(path):
    left_out = []
    table = inspect_table(path, ["asked"])
    return {plan.name: plan for plan in plan_inputs([table], [], left_out)}, dict(left_out)


def test_columns_become_inputs_by_their_cells(write):
    path = write(
        age=[f"{i}.5" for i in range(29)] + ["n/a"],
        sex=["f", "m", "x"] * 10,
        grade=[1, 2, 3] * 10,
        visit=[f"2024-03-{i + 1:02}" for i in range(30)],
        name=[f"somebody {i}" for i in range(30)],
        same=["a"] * 30,
        nothing=[""] * 30,
    )
    plans, left_out = planned(path)
    assert {name: plan.kind for name, plan in plans.items()} == {
        "age": Number,
        "sex": Category,
        "grade": Number,
        "visit": Date,
    }
    assert plans["age"].missing == {"n/a"}
    assert plans["grade"].note == "1, 2, 3; Category if these are codes"
    assert left_out == {
        't.csv, column "name"': (
            "nearly every row has another text (somebody 0, somebody 1 and 28 more)"
        ),
        't.csv, column "same"': "its cells are all the same",
        't.csv, column "nothing"': "its cells are empty",
    }


def test_words_that_mean_nothing_stay_answers(write):
    path = write(
        asked=["none", "mild", "severe"] * 10,
        smoker=["none", "n/a", "heavy"] * 10,
        dose=["none", *range(29)],
    )
    plans, left_out = planned(path)
    assert plans["smoker"].missing == {"n/a"}
    assert "dose" not in plans
    assert left_out['t.csv, column "dose"'].startswith('"none" in it seems to mean nothing, but is')
    assert main(["init", path, "--tasks", "asked", "--output", "c.yaml"]) == 0
    config = yaml.safe_load(Path("c.yaml").read_text())
    assert config["data"]["sources"]["t"]["init_args"]["missing"] == ["n/a"]
    assert sorted(config["tasks"]["asked"]["init_args"]["classes"]) == ["mild", "none", "severe"]


def test_a_column_of_two_tables_is_judged_as_a_whole(write):
    written = Path(write(code=range(30), size=["-", *range(29)], day=["2024-01-01"] * 30))
    written.rename("first.csv")
    write(code=["a7", "b"] * 15, size=[f'"{i},5"' for i in range(30)], day=["2025-01-01"] * 30)
    tables = [inspect_table(path, ["asked"]) for path in ("first.csv", "t.csv")]
    left_out = []
    plans = plan_inputs(tables, [], left_out)
    assert {plan.name: plan.kind for plan in plans} == {"size": Number, "day": Date}
    assert left_out[0][0] == 'first.csv, t.csv, column "code"'
    arguments = [{}, {}]
    for table, own in zip(tables, arguments, strict=True):
        apply(plans, table, own)
    assert arguments == [{"missing": ["-"]}, {"decimal": ","}]


def test_a_column_of_distinct_ids_is_the_key(write):
    path = write(patient_id=range(30), visit_id=[1, 2, 3] * 10, age=range(30))
    table = inspect_table(path, ["asked"])
    assert (table.image, table.key) == (None, "patient_id")
    assert list(table.labels) == ["asked"]
    assert list(table.inputs) == ["age"]
    assert list(table.left_out) == ["visit_id"]


def test_without_questions_it_says_how_to_name_them(write):
    with pytest.raises(UserError, match=r"; if its rows have no image, name the columns that are"):
        inspect_table(write(age=range(30)))


def test_the_proposal_runs(write):
    write(price=[f'"{i},5"' for i in range(30)], sex=["f", "m", "-"] * 10, size=range(30))
    arguments = ["t.csv", "--tasks", "asked", "size", "--output", "c.yaml"]
    assert main(["init", *arguments]) == 0
    config = yaml.safe_load(Path("c.yaml").read_text())
    assert list(config["tasks"]) == ["asked", "size"]
    assert config["data"]["inputs"] == {"price": "Number", "sex": "Category"}
    assert config["data"]["sources"]["t"]["init_args"] == {
        "path": "t.csv",
        "image": None,
        "labels": {"asked": "asked", "size": "size"},
        "missing": ["-"],
        "decimal": ",",
    }
    quick = ["--trainer.max_epochs", "1", "--trainer.accelerator", "cpu"]
    assert main(["fit", "--config", "c.yaml", *quick]) == 0
