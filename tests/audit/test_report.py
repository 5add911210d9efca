import io
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from mtl_lightning.audit.findings import Level
from mtl_lightning.audit.report import label_text, samples
from mtl_lightning.reports import audit_console, audit_page
from mtl_lightning.system.errors import UserError
from tests.conftest import small
from tests.helpers.data import SHARED
from tests.helpers.files import messy
from tests.helpers.files.messy import audited
from tests.helpers.files.packs import photos_packed


def test_everything_that_is_wrong_is_reported_together(messy_report):
    found = [(finding.level, finding.what) for finding in messy_report.findings]
    errors = [what for level, what in found if level is Level.ERROR]
    assert errors == [
        "data.sources.types: 2 rows name images that do not exist",
        'data.sources.gone: gone.csv does not exist or is not a file; did you mean "more.csv"?',
        'images labelled in two ways, task "kind": 3',
        "images with two splits: 1",
        "groups in two splits: 1",
        "task audience: 2 labels cannot be read",
        "images with copies in another split: 2; what is measured on them was trained on",
        "2 of the 50 images that were decoded cannot be read",
    ]
    warnings = [what for level, what in found if level is Level.WARNING]
    for start in (
        "task audience has no label in",
        "task kind: fewer than 5 val labels of",
        'task kind: one class written in several ways? "T-shirt" (15) / "tshirt" (1)',
        "task audience: no label at all of 1 of 3 classes: pets",
        "copies of one image that are labelled in two ways, task kind: 3",
    ):
        assert any(what.startswith(start) for what in warnings), start
    assert [level for level, _ in found] == sorted(level for level, _ in found)


def test_what_can_be_read_is_counted(messy_report):
    assert len(messy_report.table) == 50
    assert messy_report.class_counts["kind"]["Hat"].tolist() == [14, 2, 1]
    assert messy_report.class_counts["audience"]["kids"].sum() == 2
    assert len(messy_report.numbers["price"]) == 50
    assert messy_report.pair_counts.tolist() == [[40, 40, 5], [40, 40, 5], [5, 5, 5]]
    assert messy_report.absences["audience"].labelled == 3
    assert len(messy_report.copies) == 3
    assert sorted(messy_report.images.unreadable) == [10, 11]


def test_samples_show_every_class_or_the_whole_range(messy_report):
    chosen = samples(messy_report, 8, seed=0)
    kinds = [label_text(messy_report.data.labels, "kind", row) for row in chosen["kind"]]
    assert len(kinds) == 8
    assert kinds == sorted(kinds)
    assert set(kinds) == {"T-shirt", "Dress", "Hat", "tshirt"}
    assert chosen["price"] == [0, 7, 14, 21, 28, 35, 42, 49]
    assert len(chosen["audience"]) == 3
    assert samples(messy_report, 8, seed=0) == chosen
    assert samples(messy_report, 8, seed=1) != chosen


def test_good_data_has_no_finding(tmp_path):
    report = audited(small())
    assert report.findings == []
    assert report.images.decoded == len(report.table) == 1797
    assert set(report.class_counts) == {"digit", "parity"}
    assert set(report.numbers) == {"ink"}


def test_labels_of_a_task_of_many(tmp_path):
    messy.photo(tmp_path / "a.jpg", 1)
    messy.photo(tmp_path / "b.jpg", 2)
    (tmp_path / "t.csv").write_text("image,hat,bag\na.jpg,yes,no\nb.jpg,no,\n")
    task = {"class_path": "MultiLabel", "init_args": {"labels": ["hat", "bag"]}}
    source = {"class_path": "TableSource", "init_args": {"path": "t.csv"}}
    changes = {"tasks": {"tags": task}, "data.sources": {"t": source}, "data.splits": {}}
    report = audited(small(changes))
    assert label_text(report.data.labels, "tags", 0) == "hat: yes, bag: no"
    assert {name: n.tolist() for name, n in report.class_counts["tags"].items()} == {
        "hat": [1, 0, 0],
        "bag": [0, 0, 0],
    }
    assert [finding.what for finding in report.findings if finding.level is Level.ERROR] == []


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (["a.jpg,1", "b.jpg,1"], "task n: every training label is 1; there is nothing to learn"),
        (["a.jpg,", "b.jpg,"], "task n: no label in the training split, so it could never learn"),
        (["a.jpg,1", "b.jpg,x"], "task n: 1 labels cannot be read"),
    ],
)
def test_what_a_task_cannot_learn_from(tmp_path, rows, message):
    for name in "ab":
        messy.photo(tmp_path / f"{name}.jpg", ord(name))
    (tmp_path / "t.csv").write_text("\n".join(["image,n", *rows]) + "\n")
    source = {"class_path": "TableSource", "init_args": {"path": "t.csv"}}
    tasks = {"n": "Regression"}
    report = audited(small({"tasks": tasks, "data.sources": {"t": source}, "data.splits": {}}))
    assert report.findings[0].what == message


def test_doubtful_classes_of_one_task_do_not_hide_another(tmp_path):
    for name in "abc":
        messy.photo(tmp_path / f"{name}.jpg", ord(name))
    (tmp_path / "t.csv").write_text("image,m,n\na.jpg,x,1\nb.jpg,nan,2\nc.jpg,y,3\n")
    source = {"class_path": "TableSource", "init_args": {"path": "t.csv"}}
    tasks = {"m": "Classification", "n": "Regression"}
    report = audited(small({"tasks": tasks, "data.sources": {"t": source}, "data.splits": {}}))
    assert [finding.what[:26] for finding in report.findings if finding.level is Level.ERROR] == [
        'task m: the label "nan" ma'
    ]
    assert report.numbers["n"].tolist() == [1, 2, 3]


def test_each_of_several_numbers(tmp_path):
    for name in "abc":
        messy.photo(tmp_path / f"{name}.jpg", ord(name))
    (tmp_path / "t.csv").write_text("image,width,height\na.jpg,1,10\nb.jpg,,20\nc.jpg,3,\n")
    source = {"class_path": "TableSource", "init_args": {"path": "t.csv"}}
    box = {"class_path": "MultiRegression", "init_args": {"numbers": ["width", "height"]}}
    options = {"tasks": {"box": box}, "data.sources": {"t": source}, "data.splits": {}}
    report = audited(small(options))
    found = {column: values.tolist() for column, values in report.numbers_of("box").items()}
    assert found == {"box/width": [1, 3], "box/height": [10, 20]}
    console = Console(file=io.StringIO(), width=80)
    for part in audit_console.parts(report):
        console.print(part)
    shown = console.file.getvalue()
    assert "  box/height  10 to 20, median 15, mean 15" in shown
    assert "<h3>box/width</h3>\n<p>1 to 3, median 2" in audit_page.page(report)


def test_a_swap_that_cannot_be_and_a_class_that_is_left_behind(tmp_path):
    for name in "ab":
        messy.photo(tmp_path / f"{name}.jpg", ord(name))
    (tmp_path / "t.csv").write_text("image,pose\na.jpg,left\nb.jpg,right\n")
    source = {"class_path": "TableSource", "init_args": {"path": "t.csv"}}
    changes = {"tasks": {"pose": "Classification"}, "data.sources": {"t": source}}
    changes |= {"data.splits": {}, "data.augmentation": "default"}
    found = [finding.what for finding in audited(small(changes)).findings]
    assert any("classes that name a side are not: left, right" in what for what in found)
    report = audited(small(changes | {"data.mirror": {"swap": {"pose": {"left": "rihgt"}}}}))
    assert report.findings[0].level is Level.ERROR
    assert report.findings[0].what.startswith('data.mirror.swap.pose: there is no class "rihgt"')


def test_a_lost_shard_is_no_bad_image(tmp_path):
    config = small(photos_packed("p"))
    assert [f for f in audited(config).findings if f.level is Level.ERROR] == []
    Path("p/shard-00001.bin").unlink()
    errors = [
        finding.line() for finding in audited(config).findings if finding.level is Level.ERROR
    ]
    assert errors == [f"{Path('p').resolve()}: there is no shard-00001.bin; copy the pack again"]


def test_without_sources(tmp_path):
    with pytest.raises(UserError, match=r"data\.sources should name at least one source"):
        audited(small({"data": {"image_size": 32}}))


@pytest.mark.skipif(not SHARED.is_dir(), reason="needs the real photographs of ../shared")
def test_the_real_photographs_are_in_order(monkeypatch):
    monkeypatch.chdir(Path(__file__).resolve().parents[2])
    report = audited("configs/clothing.yaml")
    (finding,) = report.findings
    assert finding.what == "the centre crop of 128 x 128 removes 25% of the median image"
    assert len(report.table) == 4961
    assert np.diag(report.pair_counts).tolist() == [2429, 1323]
    assert report.pair_counts[0, 1] == 487
