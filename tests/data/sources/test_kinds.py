import pytest

from mtl_lightning.data.sources.kinds import checked_kinds
from mtl_lightning.system.errors import UserError

KNOWN = ("size", "colour")


def check(tasks=("size", "hue"), labels=None, missing=None):
    return checked_kinds("made", KNOWN, tasks, labels, missing or {})


def test_tasks_have_the_kinds_of_their_names_or_those_given():
    assert check() == {"size": "size", "colour": "colour"}
    assert check(labels={"hue": "colour"}, missing={"hue": 0.5}) == {"hue": "colour"}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            {"labels": {"hue": "color"}},
            'task "hue" asks for "color", expected one of size, colour',
        ),
        ({"labels": {"hu": "colour"}}, '`labels` names the task "hu", expected one of size, hue;'),
        (
            {"tasks": ["hue"]},
            "it has labels for size, colour, but the tasks are hue; set",
        ),
        ({"missing": {"hue": 0.5}}, '`missing` names the task "hue", expected one of size, colour'),
        ({"missing": {"size": 1}}, "`missing` of size is 1, expected a fraction from 0 to below 1"),
    ],
)
def test_wrong_names(arguments, message):
    with pytest.raises(UserError) as error:
        check(**arguments)
    assert str(error.value).startswith(f"made: {message}")
