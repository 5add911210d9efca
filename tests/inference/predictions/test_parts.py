import json

import numpy as np
import pytest
from filelock import FileLock

from mtl_lightning.inference.predictions.parts import ROW, PredictionParts
from mtl_lightning.system.errors import UserError

OF = {"images": "a", "weights": "b"}


@pytest.fixture
def parts(tmp_path):
    parts = PredictionParts(tmp_path / "p.csv")
    parts.start(OF, None)
    return parts


def write(parts, *rows, values=None):
    values = list(map(str, rows)) if values is None else values
    parts.write(np.array(rows), {"x": np.array(values, dtype=object)})


@pytest.mark.parametrize("most", [1, 3, 100])
def test_parts_of_all_ranks_and_runs_are_in_order(parts, most):
    write(parts, 4, 0, 2)
    write(parts, 1, 3, 5)
    write(parts, 9, 6)
    write(parts, 8, 7)
    tables = list(parts.tables(most))
    assert [row for table in tables for row in table[ROW].to_pylist()] == list(range(10))
    assert [x for table in tables for x in table["x"].to_pylist()] == [*map(str, range(10))]
    assert (len(tables) > 1) == (most < 10)
    assert parts.count() == 10


def test_a_part_without_any_answer_has_the_types_of_the_others(parts):
    write(parts, 0, 1, values=[None, None])
    write(parts, 2, 3, values=["a", None])
    (table,) = parts.tables(10)
    assert table["x"].to_pylist() == [None, None, "a", None]
    assert {str(t.schema.field("x").type) for t in parts.tables(1)} == {"string"}


def again(parts, total=None, **of):
    parts.release()
    return parts.start(OF | of, total).tolist()


def test_what_is_done_and_something_left_to_do(parts):
    assert again(parts, 4) == []
    write(parts, 2, 3)
    assert again(parts, 4) == [2, 3]
    write(parts, 0, 1)
    assert again(parts, 4) == [0, 1]
    assert parts.count() == 2, "the rest is predicted again"


def test_a_fresh_start_removes_what_an_earlier_run_left(parts):
    write(parts, 0, 1)
    parts.maps.mkdir()
    assert again(parts) == []
    assert parts.count() == 0
    assert not parts.maps.exists()
    assert again(parts, 4, images="z") == []


@pytest.mark.parametrize("before", [OF | {"weights": "c"}, {"weights": "b"}, None])
def test_what_is_of_something_else_does_not_go_on(parts, before):
    write(parts, 0, 1)
    (parts.folder / "of.json").write_text("broken" if before is None else json.dumps(before))
    with pytest.raises(UserError, match=r"--resume: the rows in .* are of other (images|weights);"):
        again(parts, 4)
    assert parts.count() == 2
    assert not parts.taken


def test_a_refused_run_loses_no_part(parts):
    write(parts, 0, 1)
    write(parts, 2, 3)
    with pytest.raises(UserError, match="are of other images; leave"):
        again(parts, 3, images="z")
    assert parts.count() == 4


def test_what_is_known_later_is_checked_later(parts):
    parts.depends("network", "n")
    write(parts, 0, 1)
    again(parts, 4)
    parts.depends("network", "n")
    with pytest.raises(UserError, match="are of other network; leave"):
        parts.depends("network", "m")


def test_rows_that_are_in_the_table_are_predicted_again_without_their_maps(parts):
    write(parts, 0, 1)
    parts.forget()
    assert parts.count() == 0
    assert again(parts, 2) == []


def test_one_process_at_a_time(parts):
    other = PredictionParts(parts.folder.parent / "p.csv")
    with pytest.raises(UserError, match="--output: another process writes to"):
        other.start(OF, None)
    parts.release()
    with FileLock(parts.folder / ".lock"), pytest.raises(UserError, match="another process"):
        other.start(OF, None)
    other.start(OF, None)
    other.remove()
    assert not parts.folder.exists()
