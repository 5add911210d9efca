from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from mtl_lightning.commands.command_line import check
from mtl_lightning.commands.prepare import prepare
from mtl_lightning.data.sources import FilenameSource, FolderSource, Source, TableSource
from mtl_lightning.system.errors import UserError
from tests.conftest import small

SHOP = """
from mtl_lightning import Regression, TableSource
class Price(Regression): pass
class Sheet(TableSource):
    def __init__(self, path: str) -> None: super().__init__("t.csv")
"""


@pytest.fixture(autouse=True)
def folder(own_process):
    Path("t.csv").write_text("image,ink,group\nx.png,1,a\n")
    Path("shop.py").write_text(SHOP)


def config(source: Mapping[str, Any], **more: Any) -> list[str]:
    return ["--config", small({"data.sources": {"a": dict(source)}, **more})]


def table(**arguments: Any) -> dict[str, Any]:
    return {"class_path": "TableSource", "init_args": arguments}


def message(call: Callable[[], object]) -> str:
    """Return what a call refuses, ``""`` if it does not."""
    try:
        call()
    except UserError as error:
        return str(error)
    return ""


def refusal(*arguments: str, command: str = "fit") -> str:
    with pytest.raises(UserError) as error:
        check(command, list(arguments))
    return str(error.value)


@pytest.mark.parametrize(
    "source",
    [
        TableSource("no.csv"),
        TableSource("t.cvs"),
        TableSource("https://x.org/t.csv"),
        TableSource("."),
        TableSource("empty.csv"),
        TableSource("t.csv", image="imag"),
        TableSource("t.csv", labels={"ink": "inc"}),
        TableSource("t.csv", labels={"ink": ["ink", "inc"]}),
        TableSource("t.csv", key="keys"),
        TableSource("t.csv", split="part"),
        TableSource("t.csv", group="groups"),
        TableSource("t.parquet", image="imag"),
        FolderSource("no", "ink"),
        FilenameSource("no", r"(?P<ink>\d).*"),
    ],
    ids=lambda source: str(vars(source)),
)
def test_they_refuse_what_reading_refuses_in_the_same_words(source: Source):
    import pandas as pd

    Path("x.png").touch()
    Path("empty.csv").touch()
    pd.DataFrame({"image": ["x.png"], "ink": [1]}).to_parquet("t.parquet")
    late = message(lambda: source.read(["ink"]))
    assert late
    assert message(source.check_files) == late


@pytest.mark.parametrize(
    "text",
    [
        "a\0,ink\n",
        "x.png,1\ny.png,2\n",
        'image,"ink\n',
        "image,ink,ink\nx,1,2\n",
        "image;ink\nx;1\n",
    ],
)
def test_tables_that_are_wrong_in_another_manner_are_left_to_reading(text):
    Path("t.csv").write_text(text)
    table = TableSource("t.csv", image="i")
    late = message(lambda: table.read(["ink"]))
    assert late
    assert message(table.check_files) in ("", late)


def test_columns_of_lines_of_json_are_left_to_reading():
    Path("t.jsonl").write_text('{"a": 1}\n{"image": "x.png"}\n')
    TableSource("t.jsonl").check_files()


def test_the_config_and_the_options_together_name_a_source():
    arguments = config(table(path="no.csv"))
    assert refusal(*arguments).startswith("data.sources.a: no.csv does not exist")
    check("fit", [*arguments, "--data.sources.a.path", "t.csv"])
    check("fit", [*arguments, "--data.sources.a.path=t.csv"])
    wrong = [*config(table(path="t.csv")), "--data.sources.a.image", "i"]
    assert refusal(*wrong).startswith('data.sources.a: t.csv has no column "i" (image)')
    small({"data.sources": {"a": table(path="t.csv")}}, "b.yaml")
    check("fit", [*arguments, "--config", "b.yaml"])


@pytest.mark.parametrize("command", ["fit", "pack"])
def test_files_are_looked_for_where_the_command_reads_them(command):
    arguments = config(table(path="no.csv"))
    assert "no.csv does not exist" in refusal(*arguments, command=command)


def test_files_are_not_looked_for_where_the_command_reads_none():
    arguments = config(table(path="no.csv"))
    check("inspect", arguments)  # lists it among its findings
    check("fit", [*arguments, "--print_config"])


@pytest.mark.parametrize(
    "source",
    [
        table(path="t.csv"),
        table(path=str(Path("~/t.csv"))),
        table(path="t.csv", imag="x"),  # for the check of arguments
        table(path=["t.csv"]),
        table(path=None),
        table(),
        {"class_path": "mtl_lightning.TableSource", "init_args": {"path": "t.csv"}},
        {"class_path": "shop.Sheet", "init_args": {"path": "no.csv"}},
        {"class_path": "StreamSource", "init_args": {"path": "s3://bucket/pack"}},
        "DigitsSource",
        None,
        5,
    ],
    ids=str,
)
def test_what_later_checks_may_accept_passes(source, monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    check("fit", ["--config", small({"data.sources": {"a": source}})])


def test_numbers_without_quotes_are_names_of_columns():
    Path("t.csv").write_text("1,image\n5,x.png\n")
    check("fit", config(table(path="t.csv", labels={"ink": 1})))
    assert 'no column "2"' in refusal(*config(table(path="t.csv", labels={"ink": 2})))


def test_names_of_classes_are_those_of_the_later_check():
    for place in ("tasks.ink", "data.sources.digits", "model.backbone", "model.sharing"):
        arguments = ["--config", small(), f"--{place}.class_path", "Nothing"]
        early, late = (message(partial(call, "fit", arguments)) for call in (check, prepare))
        assert early.startswith(f"{place}.class_path: no ")
        # Classes of other tests may be among the known.
        assert early.partition("; known")[0] == late.partition("; known")[0]


def test_another_class_of_a_module_of_one_s_own_has_a_short_name():
    arguments = ["--config", small({"tasks.parity": "shop.Price", "tasks.ink": "Price"})]
    check("fit", arguments)
    prepare("fit", arguments)


def test_a_class_that_is_named_among_arguments_counts_too():
    head = {"class_path": "Regression", "init_args": {"x": "shop.Price", "path": "a.csv"}}
    check("fit", ["--config", small({"tasks.ink": head, "tasks.parity": "Price"})])
    only_paths = {"class_path": "Regression", "init_args": {"x": "shop.csv"}}
    assert "Pric" in refusal("--config", small({"tasks.ink": only_paths, "tasks.parity": "Pric"}))
