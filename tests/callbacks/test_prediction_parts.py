import numpy as np
import pytest
from filelock import FileLock

from mtl_lightning.callbacks.prediction_parts import ROW, PredictionParts
from mtl_lightning.system.errors import UserError

OF = {"images": "a", "weights": "b"}


@pytest.fixture
def parts(tmp_path):
    parts = PredictionParts(tmp_path / "p.csv")
    parts.start(None, OF)
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


def test_what_is_done_and_something_left_to_do(parts):
    assert parts.done(4).tolist() == []
    write(parts, 2, 3)
    assert parts.done(4).tolist() == [2, 3]
    write(parts, 0, 1)
    assert parts.done(4).tolist() == [0, 1]
    parts.release()
    parts.start(parts.done(4), OF)
    assert parts.count() == 2, "the rest is predicted again"


def test_a_fresh_start_removes_what_an_earlier_run_left(parts):
    write(parts, 0, 1)
    parts.maps.mkdir()
    parts.release()
    parts.start(None, OF)
    assert parts.count() == 0
    assert not parts.maps.exists()


@pytest.mark.parametrize("before", [OF | {"weights": "c"}, {"weights": "b"}, None])
def test_what_is_of_something_else_does_not_go_on(parts, before):
    import json

    write(parts, 0, 1)
    parts.release()
    (parts.folder / "of.json").write_text("broken" if before is None else json.dumps(before))
    with pytest.raises(UserError, match=r"--resume: the rows in .* are of other (images|weights);"):
        parts.start(parts.done(4), OF)
    assert parts.count() == 2


def test_one_process_at_a_time(parts):
    other = PredictionParts(parts.folder.parent / "p.csv")
    with pytest.raises(UserError, match="--output: another process writes to"):
        other.start(None, OF)
    parts.release()
    with FileLock(parts.folder / ".lock"), pytest.raises(UserError, match="another process"):
        other.start(None, OF)
    other.start(None, OF)
    other.remove()
    assert not parts.folder.exists()
