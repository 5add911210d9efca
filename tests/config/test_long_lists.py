import copy

import jsonargparse
from jsonargparse import _typehints

from mtl_lightning.config import checks, long_lists


def test_long_lists_of_texts_are_shared_and_all_else_is_copied():
    long, short, nested = ["a"] * 60, ["a"] * 9, [{"class_path": "A"}] * 60
    arguments = {"orig_val": long, "prev_val": short, "other": nested, "deep": {"list": long}}
    copied = long_lists.copy_arguments(arguments)
    assert copied == arguments
    assert copied["orig_val"] is long
    for key in ("prev_val", "other", "deep"):
        assert copied[key] is not arguments[key]
    assert copied["other"][0] is not nested[0]


def test_a_list_is_checked_in_time_proportional_to_its_length(monkeypatch):
    """Counts what is copied; by the clock 10,000 entries took 60 s, and take 0.7 s."""
    assert checks.share_long_lists is long_lists.share_long_lists
    assert _typehints.deepcopy is long_lists.copy_arguments
    copied = []

    def count(value, memo):
        copied.append(
            sum(len(v) for v in value.values() if isinstance(v, list) and id(v) not in memo)
        )
        return copy.deepcopy(value, memo)

    monkeypatch.setattr(long_lists, "deepcopy", count)
    parser = jsonargparse.ArgumentParser(exit_on_error=False)
    parser.add_argument("--classes", type=list[str] | None)
    names = [str(number) for number in range(300)]
    assert parser.parse_object({"classes": names}).classes == names
    assert len(copied) >= 300
    assert sum(copied) == 0
