from dataclasses import replace

import pytest
import yaml

from mtl_lightning.commands.proposal.columns import Kind
from mtl_lightning.commands.proposal.propose import Proposal
from mtl_lightning.commands.proposal.sources import SourcePlan
from mtl_lightning.commands.proposal.task_plans import TaskPlan
from mtl_lightning.commands.proposal.writing import WIDTH, render, scalar
from mtl_lightning.config import yaml_io
from mtl_lightning.config.values import plain_values

HOSTILE = [
    "plain",
    "two words",
    "../a/b.csv",
    "yes",
    "No",
    "null",
    "~",
    "",
    " ",
    "1",
    "1e3",
    "007",
    "1_000",
    "2021-03-01",
    "12:30",
    "a: b",
    "a #b",
    "- a",
    "[a, b]",
    "{a}",
    "'a'",
    'say "a\\b"',
    "*a",
    "&a",
    "!a",
    "%a",
    "@a",
    "`a`",
    "a\nb",
    "a\tb",
    "a\x1b\x85\u2028b",
    "👨‍👩‍👧",
    "naïve",
    "<<",
    "=",
    "a ",
    " a",
    ".inf",
    "\udcff",
]


@pytest.mark.parametrize("text", HOSTILE)
def test_a_text_reads_as_itself(text):
    line = scalar(text)
    assert "\n" not in line
    assert yaml_io.parse(f"[{line}, {line}]") == [text, text]
    assert yaml_io.parse(f"{{{line}: {line}}}") == {text: text} or text == "<<"
    if text != "\udcff":  # PyYAML refuses it where it is not escaped by us
        assert yaml.safe_load(f"- {line}") == [text]


def proposal(**changes):
    plans = [
        TaskPlan("kind", Kind.CLASSES, {"b: c": 9, "10": 2, "a\nb": 3}, 14, note="or not"),
        TaskPlan("size", Kind.NUMBERS, {}, 5),
        TaskPlan("tags", Kind.NAMES, {"hat": 1, "bag": 9}, 20, separator="|"),
        TaskPlan("attributes", Kind.YES_NO, {"x": 10, "y": 12}, 20),
    ]
    arguments = {
        "path": "t 1.csv",
        "image": "no",
        "labels": {"kind": "k: d", "attributes": {"x": "1", "y": "y"}},
        "group": "sender",
        "missing": ["-1", "?"],
        "decimal": ",",
        "values": {"attributes/x": {"-1": None, "0": "0", "yes": "yes"}},
    }
    sources = [
        SourcePlan("t", "TableSource", arguments, {"group": "say\nwhat"}),
        SourcePlan("f", "FolderSource", {"path": "f", "task": "kind"}),
    ]
    given = {
        "tasks": plans,
        "sources": sources,
        "images": 1234,
        "has_splits": True,
        "image_size": (96, 96),
        "median": (100, 130),
        "removed": 0.23,
        "batch_size": 16,
        "left_out": [('t 1.csv, column "a\nb"', "it is empty")],
        "notes": ["something"],
    }
    return Proposal(**(given | changes))


def test_what_is_written_reads_as_it_was_meant(tmp_path):
    path = tmp_path / "c.yaml"
    path.write_text(render(proposal(), "mtl-lightning init a", "c.yaml"), encoding="utf-8")
    config = plain_values(yaml_io.load(path))
    assert config["tasks"] == {
        "kind": {
            "class_path": "Classification",
            "init_args": {"classes": ["10", "a\nb", "b: c"], "class_weights": "balanced"},
        },
        "size": {"class_path": "Regression"},
        "tags": {
            "class_path": "MultiLabel",
            "init_args": {"labels": ["bag", "hat"], "separator": "|", "pos_weights": "balanced"},
        },
        "attributes": {"class_path": "MultiLabel", "init_args": {"labels": ["x", "y"]}},
    }
    assert config["data"]["sources"]["t"]["init_args"] == proposal().sources[0].arguments
    assert config["data"]["sources"]["f"] == {
        "class_path": "FolderSource",
        "init_args": {"path": "f", "task": "kind"},
    }
    assert config["data"]["image_size"] == 96
    assert config["data"]["batch_size"] == 16
    assert config["model"]["backbone"]["class_path"] == "VGG16"


def test_ordered_classes_and_maps_are_written_as_their_tasks(tmp_path):
    plans = [
        TaskPlan("age", Kind.CLASSES, {"60+": 90, "0-9": 1}, 91, order=["0-9", "60+"]),
        TaskPlan("parts", Kind.MASKS, {"0": 9, "11": 2}, 3, note="give them names"),
        TaskPlan("depth", Kind.DEPTH, {}, 4, note="if they are mm: {scale: 0.001}"),
        TaskPlan("normals", Kind.NORMALS, {}, 4),
    ]
    text = render(proposal(tasks=plans), "mtl-lightning init a", "c.yaml")
    assert "depth:   # 4 labels; if they are mm: {scale: 0.001}" in text
    path = tmp_path / "c.yaml"
    path.write_text(text, encoding="utf-8")
    masks = {"classes": {"0": "class_0", "11": "class_11"}, "ignore": 255}
    vectors = {"channels": 3, "loss": "cosine"}
    assert plain_values(yaml_io.load(path))["tasks"] == {
        "age": {"class_path": "Ordinal", "init_args": {"classes": ["0-9", "60+"]}},
        "parts": {"class_path": "Segmentation", "init_args": masks},
        "depth": {"class_path": "DenseRegression"},
        "normals": {"class_path": "DenseRegression", "init_args": vectors},
    }


def test_comments_say_what_was_left_out_and_what_else_could_be():
    text = render(proposal(), "mtl-lightning init 'a b.csv'", "c.yaml")
    for line in (
        "#   mtl-lightning init 'a b.csv'",
        "#   mtl-lightning fit     --config c.yaml",
        '#   t 1.csv, column "a\\nb": it is empty',
        "#   something",
        "  kind:   # 14 labels; or not",
        "      class_weights: balanced   # 10 2, b: c 9",
        "      pos_weights: balanced   # hat applies to 1 of 20",
        "  splits: {val: 0.1, test: 0.2}   # shares of the images without a split above",
    ):
        assert f"\n{line}\n" in text, line
    assert "offline" in text
    whole = render(proposal(has_splits=False), "x", "c.yaml")
    assert "# shares of all images, drawn at random" in whole


def test_the_image_size_and_the_sides_that_evaluation_loses():
    text = render(proposal(), "x", "c.yaml")
    assert "\n  image_size: 96   # the median image is 100 x 130; smaller is faster\n" in text
    assert "\n  # resize: contain   # evaluation cuts the centre out, without 23%" in text
    tall = proposal(image_size=(128, 64), median=(160, 76), removed=0.05)
    text = render(tall, "x", "c.yaml")
    assert "  image_size: [128, 64]   # height and width; the median image is 160 x 76; " in text
    assert "resize" not in text
    assert yaml.safe_load(text)["data"]["image_size"] == [128, 64]


def test_what_a_name_left_out_means_is_said_for_lists_alone():
    lists = TaskPlan("tags", Kind.NAMES, {"hat": 20, "bag": 30}, 40)
    line = "    # A name that a cell leaves out is a no. "
    assert line in render(proposal(tasks=[lists]), "x", "c.yaml")
    columns = replace(lists, kind=Kind.YES_NO)
    assert line not in render(proposal(tasks=[columns]), "x", "c.yaml")


def test_that_a_weight_is_bounded_is_reported():
    plan = TaskPlan("tags", Kind.NAMES, {"hat": 2, "bag": 9000}, 19_000)
    text = render(proposal(tasks=[plan]), "x", "c.yaml")
    told = "balanced   # hat applies to 2 of 19,000; each weighs 100 times at most"
    assert f"\n    pos_weights: {told}\n" in text.replace("      ", "    ")


def test_no_group_and_blanks_between_names_read_as_they_were_meant(tmp_path):
    path = tmp_path / "c.yaml"
    plan = TaskPlan("tags", Kind.NAMES, {"hat": 9, "bag": 9}, 20, separator=" ")
    source = SourcePlan("t", "TableSource", {"path": "t.csv", "group": ""})
    made = proposal(tasks=[plan], sources=[source])
    path.write_text(render(made, "x", "c.yaml"), encoding="utf-8")
    config = plain_values(yaml_io.load(path))
    assert config["tasks"]["tags"]["init_args"]["separator"] == " "
    assert config["data"]["sources"]["t"]["init_args"]["group"] == ""


def test_labels_that_name_a_side_swap_in_mirrored_images(tmp_path):
    assert "mirror" not in render(proposal(), "x", "c.yaml")
    plans = [
        TaskPlan("pose: of", Kind.CLASSES, {"right": 9, "Left": 1, "left": 9, "front": 3}, 22),
        TaskPlan("ears", Kind.YES_NO, {"right ear": 4, "no ear": 1, "left ear": 5}, 20),
        TaskPlan("left", Kind.NUMBERS, {"left": 1, "right": 1}, 5),
        TaskPlan("turns", Kind.NAMES, {"leftover": 1, "right": 9}, 20),
    ]
    path = tmp_path / "c.yaml"
    path.write_text(render(proposal(tasks=plans), "x", "c.yaml"), encoding="utf-8")
    assert yaml_io.load(path)["data"]["mirror"] == {
        "swap": {"pose: of": {"left": "right"}, "ears": {"left ear": "right ear"}}
    }


def test_many_classes_are_broken_into_lines(tmp_path):
    classes = {f"class number {i:03}": 5 for i in range(60)}
    plans = [TaskPlan("kind", Kind.CLASSES, classes, 300)]
    text = render(proposal(tasks=plans), "x", "c.yaml")
    assert max(map(len, text.splitlines())) <= WIDTH + 6
    (tmp_path / "c.yaml").write_text(text, encoding="utf-8")
    config = plain_values(yaml_io.load(tmp_path / "c.yaml"))
    assert config["tasks"]["kind"]["init_args"]["classes"] == sorted(classes)
