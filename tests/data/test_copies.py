import io

from rich.console import Console

from mtl_lightning.data import copies
from mtl_lightning.data.copies import TAIL, find_copies
from mtl_lightning.system.progress import ProgressBar

QUIET = ProgressBar(Console(file=io.StringIO()))


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
    read = copies._whole
    monkeypatch.setattr(copies, "_whole", lambda p: read(f"{p}.gone" if p == paths[1] else p))
    assert find_copies(paths, QUIET) == [[0, 2]]
    monkeypatch.setattr(copies, "_tail", lambda path: b"")
    assert find_copies(paths, QUIET) == []
