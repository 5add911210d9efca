import pytest

from mtl_lightning.commands.proposal.ranks import order_of


@pytest.mark.parametrize(
    ("column", "classes", "order", "note"),
    [
        ("age", ["60+", "0-9", "10-19"], ["0-9", "10-19", "60+"], "does not matter"),
        ("sleeve", ["XL", "M", "S", "L"], ["S", "M", "L", "XL"], "does not matter"),
        ("grade", ["B+", "A", "F", "A-", "B"], ["F", "B", "B+", "A-", "A"], "A is taken for the"),
        ("energyClass", ["C", "A", "B"], ["C", "B", "A"], "A is taken for the best"),
        ("block", ["A", "B", "C"], [], ""),
        ("grade", ["A", "B", "X"], [], ""),
        ("stars", ["1", "10", "2"], [], "taken for names; if they are steps: Ordinal, if amounts"),
        ("stars", ["3", "1", "2"], ["1", "2", "3"], "taken for steps; if they are names (ids, dig"),
        ("digit", ["0", "1", "2"], [], "its numbers are taken for names; if they are steps"),
        ("modelId", ["0", "1", "2"], [], "its numbers are taken for names; if they are steps"),
        ("age", ["0-9", "10+"], [], ""),
        ("adult", ["0", "1"], [], ""),
        ("kind", ["cat", "dog", "owl"], [], ""),
    ],
)
def test_classes_are_steps_only_if_their_names_say_so(column, classes, order, note):
    found = order_of(column, classes)
    assert found[0] == order
    assert note in found[1]
    assert bool(note) == bool(found[1])
