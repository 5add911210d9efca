import io

from rich.console import Console

from mtl_lightning.audit import contents
from mtl_lightning.audit.contents import TAIL, described, find_copies, findings, shown
from mtl_lightning.audit.findings import Level
from mtl_lightning.audit.progress import Progress
from mtl_lightning.data.merged import merge
from tests.support import Memory

QUIET = Progress(Console(file=io.StringIO()))


def files(tmp_path, *contents):
    paths = []
    for number, content in enumerate(contents):
        path = tmp_path / f"{number}.bin"
        path.write_bytes(content)
        paths.append(str(path))
    return paths


def test_only_equal_files_are_copies(tmp_path):
    end = bytes(TAIL)
    paths = files(
        tmp_path,
        b"a" + end,
        b"b" + end,  # as long, and the same end
        b"a" + end,
        b"aa" + end,  # the same end, another length
        b"",
        b"",
        b"x",
        b"y",
        b"x",
        b"x",
    )
    assert find_copies(paths, QUIET) == [[0, 2], [6, 8, 9]]


def test_what_is_no_file_has_no_copies(tmp_path):
    (path,) = files(tmp_path, b"abc")
    gone = str(tmp_path / "gone")
    assert find_copies([path, "digits:1", "digits:1", gone, gone, str(tmp_path)], QUIET) == []


def test_a_file_that_cannot_be_read_is_passed_over(tmp_path, monkeypatch):
    paths = files(tmp_path, b"abc", b"abc", b"abc")
    read = contents._whole
    monkeypatch.setattr(contents, "_whole", lambda p: read(f"{p}.gone" if p == paths[1] else p))
    assert find_copies(paths, QUIET) == [[0, 2]]
    monkeypatch.setattr(contents, "_tail", lambda path: b"")
    assert find_copies(paths, QUIET) == []


def merged(labels, splits):
    return merge({"m": Memory(labels, splits)}, list(labels), {}, 0)


def test_leaks_conflicts_and_duplicates():
    kinds = ["a", "a", "b", "b", None, "a", "c"]
    table = merged({"kind": kinds, "size": range(7)}, ["train"] * 4 + ["val", "test", "test"])
    copies = described(table, [[0, 1], [2, 4, 5], [3, 6]])
    assert [copy.labels.get("kind") for copy in copies] == [None, ("b", "a"), ("b", "c")]
    assert copies[1].splits == ("train", "val", "test")
    found = findings(table, copies)
    assert [(finding.level, finding.what) for finding in found] == [
        (
            Level.ERROR,
            "images with copies in another split: 3; what is measured on them was trained on",
        ),
        (Level.WARNING, "copies of one image that are labelled in two ways, task kind: 2"),
        (Level.WARNING, "copies of one image that are labelled in two ways, task size: 3"),
        (Level.NOTE, "copies of images in the same split, which count twice: 1"),
    ]
    assert found[0].where == (
        "memory:2 (train) = memory:4 (val) = memory:5 (test)",
        "memory:3 (train) = memory:6 (test)",
    )
    assert found[1].where[0] == "memory:2 (b) = memory:4 (no label) = memory:5 (a)"


def test_no_copies_no_findings():
    assert findings(merged({"kind": ["a", "b"]}, ["train", "val"]), []) == []


def test_images_are_called_as_from_here(tmp_path):
    assert shown(str(tmp_path / "photos/a.jpg")) == "photos/a.jpg"
    assert shown("/elsewhere/a.jpg") == "/elsewhere/a.jpg"
