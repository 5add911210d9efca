import pytest
import torch
from torch import nn

from mtl_lightning.models.named import NamedModules, module_key

AWKWARD = [
    "type",
    "train",
    "keys",
    "forward",
    "help",
    "a.b",
    "a%2Eb",
    "a b",
    "größe",
    "",
    "_modules",
]


def test_awkward_names_keep_their_order_and_their_modules():
    layers = {name: nn.Linear(i + 1, 1) for i, name in enumerate(AWKWARD)}
    named = NamedModules(layers)
    assert list(named) == list(named.keys()) == AWKWARD
    assert len(named) == len(AWKWARD)
    assert all(named[name] is layers[name] for name in AWKWARD)
    assert dict(named.items()) == layers
    assert list(named.values()) == list(layers.values())
    assert "type" in named
    assert "task_type" not in named


def test_state_dict_keys_are_readable_and_load_again():
    layers = {"type": nn.Linear(2, 1), "a.b": nn.Linear(2, 1)}
    named = NamedModules(layers)
    assert list(named.state_dict()) == [
        "task_type.weight",
        "task_type.bias",
        "task_a%2Eb.weight",
        "task_a%2Eb.bias",
    ]
    other = NamedModules({"type": nn.Linear(2, 1), "a.b": nn.Linear(2, 1)})
    other.load_state_dict(named.state_dict())
    assert torch.equal(other["a.b"].weight, layers["a.b"].weight)


def test_no_two_names_share_a_key():
    names = [*AWKWARD, "a_b", "a-b", "a%b", "a%25b", "a%252Eb", "task_type", "ä", "a\u0308", "A.b"]
    assert len({module_key(name) for name in names}) == len(names)


def test_an_unknown_name_is_a_key_error_in_the_users_words():
    with pytest.raises(KeyError, match="tipe"):
        NamedModules({"type": nn.Identity()})["tipe"]
