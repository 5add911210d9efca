import pytest

from mtl_lightning.__main__ import COMMANDS
from mtl_lightning.commands.keys import OF_COMMANDS, check_names
from mtl_lightning.system.errors import UserError


def test_every_command_with_a_config_has_its_keys():
    assert set(OF_COMMANDS) == set(COMMANDS) - {"init", "report"}


def test_keys_of_one_command_are_no_keys_of_another():
    check_names("predict", {"tasks": {}, "images": "p", "name": "n"})
    with pytest.raises(UserError, match=r"^images: no such key; a config has tasks, model"):
        check_names("fit", {"images": "p"})


@pytest.mark.parametrize("value", [None, "x", ["a"], 3])
def test_a_section_is_entries(value):
    with pytest.raises(UserError, match=r"^data should be entries as `name: \.\.\.`\. Found "):
        check_names("fit", {"data": value})
