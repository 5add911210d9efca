import base64
import copy
import hashlib
import math
import re

import numpy as np
import pytest

from mtl_lightning.reports.run_page import page
from mtl_lightning.runs.facts import (
    Checkpoint,
    Checkpoints,
    ColumnImportance,
    Epoch,
    Evaluation,
    Example,
    LabelCounts,
    MergedCounts,
    Parameters,
    RunFacts,
    Session,
    Sizes,
    SliceResults,
    TaskFacts,
    Validation,
)
from mtl_lightning.tasks.plot_records import (
    ConfusionCounts,
    LabelCurves,
    ScatterSample,
    UnknownRecord,
)
from mtl_lightning.tasks.reliability import ReliabilityBins
from mtl_lightning.tasks.results import Results
from tests.reports.test_audit_page import Outline

BY_SPLIT = {"train": 1300, "val": 10, "test": 20}


def results(split, accuracy):
    tasks = {
        "kind": {"n_labelled": 20, "loss": 0.5, "accuracy": accuracy},
        "tags": {"n_labelled": 8, "loss": 0.5, "mean_ap": 0.5, "ap/hat": 0.25},
        "<b>": {"n_labelled": 9, "loss": 2.5, "r2": math.nan},
        "own": {"n_labelled": 0},
    }
    return Results(split, tasks, 0.25, 0.5)


def made(accuracy=0.75):
    curves = np.zeros((2, 1000), np.int64)
    curves[:, 900], curves[1, 100] = 3, 1
    plots = {
        "kind": ConfusionCounts(["cat", "dog", "eel"], np.array([[8, 2, 0], [1, 9, 0], [0, 0, 0]])),
        "tags": LabelCurves(["hat", "bag"], curves, curves[::-1].copy()),
        "<b>": ScatterSample(np.arange(9.0), np.arange(9.0) + 0.5, 9),
        "own": UnknownRecord({"class_path": "shop.Own"}),
    }
    counts = LabelCounts(BY_SPLIT, {"kind": BY_SPLIT})
    return RunFacts(
        "clothes ü",
        "version_0",
        {
            "kind": TaskFacts("Classification", "accuracy"),
            "tags": TaskFacts("MultiLabel", "mean_ap"),
            "<b>": TaskFacts("Regression", "r2"),
            "own": TaskFacts("Own", "score"),
        },
        MergedCounts({"shop": counts}, counts),
        ["a <note>"],
        Sizes(Parameters(3_000_000, 20, 10, {}), [16, 24], 8, 2, 1),
        [Session("fit", "2026-01-01", {"python": "3.12"}, "cpu", "32-true", "abc-dirty", None)],
        [Epoch(n, 6 * n, 1.5, None, results("train", 0.5)) for n in range(2)],
        [Validation(n, 6 * n, results("val", 0.5 + n / 10)) for n in range(2)],
        Checkpoints("val/score", "max", Checkpoint(6, 0.5), Checkpoint(6)),
        {"test": Evaluation("test", "2026", None, "best.ckpt", results("test", accuracy), plots)},
    )


def undrawn(accuracy=0.75):
    """The same run without what its pictures show."""
    facts = made(accuracy)
    facts.evaluations["test"].plots.clear()
    return facts


@pytest.fixture(scope="module")
def html():
    return page(made(), "tasks:\n  kind: <x>\n")


def text(html):
    return " ".join(" ".join(Outline(html).text).split())


def test_the_page_is_whole_and_needs_nothing_else(html):
    outline = Outline(html)
    tags = [tag for tag, _ in outline.seen]
    assert not {"link", "iframe", "object", "base", "form"} & set(tags)
    assert tags.count("script") == 1
    script = html.partition("<script>")[2].partition("</script>")[0]
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    policy = next(a for _, a in outline.seen if a.get("http-equiv") == "Content-Security-Policy")
    assert policy["content"].endswith(f"; script-src 'sha256-{digest}'")
    assert not {name for _, own in outline.seen for name in own if name.startswith("on")}
    pictures = [attributes for tag, attributes in outline.seen if tag == "img"]
    assert [each["alt"].partition(" of")[0] for each in pictures] == [
        "loss and primary metric",
        *["plot"] * 3,
    ]
    assert all(each["src"].startswith("data:image/png;base64,") for each in pictures)
    assert "default-src 'none'" in html
    assert "<note>" not in html
    assert "<b></h3>" not in html


def test_results_classes_and_labels(html):
    found = text(html)
    assert "clothes ü/version_0" in found
    assert "4 tasks; 3.00 M parameters; images 16 x 24 px; steps of 16; 2 epochs" in found
    assert "kind accuracy 0.7500 20 tags mean_ap 0.5000 8 <b> r2 - 9 own score - 0" in found
    assert "cat 10 9 0.8000 0.8889 dog (2) dog 10 11 0.9000 0.8182 cat (1)" in found
    assert "eel" not in found.partition("by class (2), the worst first")[2].partition("tags")[0]
    assert re.search(r"hat 3 4 0\.\d+ 1\.0000 0\.5000", found)
    assert re.search(r"bag 4 3 0\.\d+ 0\.7500 0\.5000", found)
    assert "a <note>" in found
    assert "shop kind 1,300 10 20" in found
    assert "fit 2026-01-01 running, or killed cpu 32-true abc-dirty python 3.12" in found
    assert "kind 0.6000 0.6000 (epoch 1) 0.6000 (epoch 1)" in found


def test_a_network_without_images_has_no_size_of_images():
    facts = undrawn()
    facts.sizes.image = []
    assert "3.00 M parameters; steps of 16" in text(page(facts, ""))


def test_the_config_keeps_its_lines(html):
    assert "<pre>tasks:\n  kind: &lt;x&gt;\n</pre>" in html
    assert "<pre>" not in page(undrawn(), "")


def test_another_run_is_shown_beside():
    other = undrawn(0.5)
    other.version = "version_7"
    found = text(page(undrawn(), "", other))
    assert "Compared with clothes ü/version_7" in found
    assert "kind accuracy 0.7500 0.5000 +0.2500 20" in found
    assert "<b> r2 - - - 9" in found
    assert "accuracy 0.7500 0.5000 +0.2500" in found.partition("Tasks on test")[2]


def test_a_run_that_has_only_begun():
    found = text(page(RunFacts("new", "version_0"), ""))
    assert "Not evaluated yet: mtl-lightning test --ckpt_path best --name new" in found
    assert "Course of the training" not in found


def test_both_splits_test_first():
    facts = undrawn()
    facts.evaluations["val"] = copy.copy(facts.evaluations["test"])
    found = text(page(facts, ""))
    assert found.index("Results on test") < found.index("Results on val")
    assert found.index("Tasks on test") < found.index("Tasks on val")


def test_columns_are_shown_the_most_important_first():
    facts = made()
    assert "Columns: drop" not in page(facts, "")
    facts.evaluations["test"].importance = {
        "kind": {
            "age": ColumnImportance(0.01, 0.002, [0.01]),
            "sex & <i>": ColumnImportance(0.25, 0.03, [0.25]),
        }
    }
    text = page(facts, "")
    assert "Columns: drop of accuracy if one is shuffled" in text
    assert text.count("Columns: drop") == 1
    place = [text.index(each) for each in ("sex &amp; &lt;i&gt;", "0.2500", ">age<", "0.0100")]
    assert place == sorted(place)


def test_a_calibrated_task_has_a_reliability_diagram():
    facts = undrawn()
    evaluation = facts.evaluations["test"]
    evaluation.plots["kind"] = made().evaluations["test"].plots["kind"]
    assert "calibrated" not in page(facts, "")
    evaluation.results.tasks["kind"] |= {"calibration_error": 0.01, "calibration_error_before": 0.2}
    rows = np.full((2, 15), 4)
    evaluation.reliability["kind"] = ReliabilityBins(rows, rows // 2, rows * 0.5)
    outline = Outline(page(facts, ""))
    assert [own["alt"] for tag, own in outline.seen if tag == "img"][1:] == [
        "plot of kind",
        "accuracy of kind by confidence, calibrated and before",
    ]


def test_results_by_source_and_by_column():
    facts = undrawn()
    assert "By source" not in text(page(facts, ""))
    evaluation = facts.evaluations["test"]
    large = {"n_labelled": 1200, "macro_f1": 0.5}
    evaluation.sources = {"kind": [SliceResults("shop <b>", large), SliceResults("web", large)]}
    evaluation.slices = {
        "tags": {
            "sender": [
                SliceResults("anna", {"n_labelled": 29, "mean_ap": math.nan}),
                SliceResults(None, {"n_labelled": 0}),
            ]
        }
    }
    found = text(page(facts, ""))
    assert "By source source labels macro f1 shop <b> 1,200 0.5000 web 1,200 0.5000" in found
    assert "By sender sender labels mean ap anna 29 (few) - no value 0 (few) -" in found
    assert found.count("fewer than 30 labels") == 1


def test_the_gallery_shows_images_or_why_there_is_none():
    facts = undrawn()
    assert "Worst" not in page(facts, "")
    seen = Example("a<b>.png", "t.csv row 2", 2.5, "cat", "dog (0.93)", {}, "aGk=")
    lost = Example("c.png", "t.csv row 3", 1.5, "", "", {"age": "-"}, why="cannot be read")
    facts.evaluations["test"].mistakes = {"kind": [seen, lost]}
    facts.evaluations["test"].doubts = {"tags": [seen]}
    html = page(facts, "")
    found = text(html)
    assert "Worst mistakes label: cat answer: dog (0.93) a<b>.png (t.csv row 2)" in found
    assert "cannot be read 1.5 age: - c.png (t.csv row 3)" in found
    assert found.count("Most doubtful answers") == 1
    pictures = [own for tag, own in Outline(html).seen if tag == "img"]
    assert [own["src"] for own in pictures[1:]] == ["data:image/jpeg;base64,aGk="] * 2
    assert pictures[1]["alt"] == "a<b>.png"


def test_figures_are_those_of_the_first_split_alone():
    facts = made()
    facts.evaluations["val"] = copy.copy(facts.evaluations["test"])
    found = page(facts, "")
    assert found.count('alt="plot of kind"') == 1
    assert found.index('alt="plot of kind"') < found.index("Tasks on val")
    assert text(found).count("by class (2), the worst first") == 2
