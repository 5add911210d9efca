import os
from collections.abc import Callable, Collection, Iterable, Mapping
from pathlib import Path
from typing import Any, Literal

import pytest
import torch

from mtl_lightning.config.annotations import (
    argument_hints,
    choices,
    component_classes,
    component_entries,
    contained,
    options,
    parameters,
    produced_classes,
    takes_tensor,
    type_name,
)
from mtl_lightning.data.sources import Source, TableSource
from mtl_lightning.models import Backbone
from mtl_lightning.models.preprocessing import Normalize


def test_type_names():
    assert type_name(int | None) == "an integer or null"
    assert type_name(Literal["a"] | Literal["a", "b"]) == "a or b"
    assert type_name(int | list[int]) == "an integer or [an integer, ...]"
    assert type_name(str | os.PathLike[str] | Path) == "text"
    assert type_name(dict[str, float]) == "{name: a number, ...}"
    assert type_name(Normalize) == "{mean: ..., std: ...}"


def test_options_are_those_of_nested_unions():
    assert options(int | Literal["a"] | None) == [int, Literal["a"], type(None)]
    assert options(list[int]) == [list[int]]


def test_choices_are_listed():
    assert choices(Literal["a", "b"] | int | Literal[1]) == ["a", "b", 1]
    assert choices(str) == []


def test_annotations_of_arguments():
    assert argument_hints(TableSource)["image"] == str | None
    assert argument_hints(Normalize)["mean"] == list[float]
    assert argument_hints(torch.optim.SGD)["nesterov"] is bool


def test_a_library_may_import_names_for_type_checkers_only():
    def target(a: "Nowhere") -> None:  # noqa: F821 - what is tested
        pass

    assert argument_hints(target) == {}


@pytest.mark.parametrize(
    ("hint", "classes"),
    [
        (Backbone | None, (Backbone,)),
        (torch.nn.Module | Literal["none"], (torch.nn.Module,)),
        (Normalize | str | Path | torch.Tensor | None, ()),
        (os.PathLike[str] | list[Source], ()),
    ],
)
def test_classes_that_a_config_may_name(hint, classes):
    assert component_classes(hint) == classes


def test_classes_of_entries():
    assert component_entries(dict[str, Source] | None, dict) == (Source,)
    assert component_entries(list[Source] | Backbone, list, Iterable) == (Source,)
    assert component_entries(dict[str, int], dict) == ()


def test_classes_that_a_callable_makes():
    optimizer = Callable[[Iterable[Any]], torch.optim.Optimizer]
    assert produced_classes(optimizer | None) == (torch.optim.Optimizer,)


@pytest.mark.parametrize(
    ("hint", "container", "entries"),
    [
        (list[str] | None, list, str),
        (Collection[str] | tuple[int, ...], list, str | int),
        (dict[str, float], list, None),
        (dict[str, float], dict, float),
        (str | Mapping[str, str | None], dict, str | None),
        (dict, dict, None),
        (Any, list, None),
        (str, list, None),
    ],
)
def test_annotations_of_entries(hint, container, entries):
    assert contained(hint, container) == entries


def test_tensors_are_written_as_lists():
    assert takes_tensor(torch.Tensor | None)
    assert not takes_tensor(list[float])


def test_a_callable_of_any_kind_produces_no_class():
    assert produced_classes(Callable | str) == ()
    assert produced_classes(Callable[[Any], int]) == ()


def test_the_parameters_behind_keyword_arguments_are_known():
    class Base:
        def __init__(self, first: int = 1, second: str = "") -> None:
            """Take two."""

    class Own(Base):
        def __init__(self, third: bool = False, **kwargs: Any) -> None:
            super().__init__(second="x", **kwargs)
            self.third = third

    assert set(parameters(Own)) == {"first", "third", "kwargs"}
    assert set(parameters(Base)) == {"first", "second"}
