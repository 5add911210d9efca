import os
import subprocess
import sys

import pytest

from mtl_lightning.system.errors import UserError
from mtl_lightning.system.files import atomic_write, check_exists, part_of, remove_partial_files


def test_a_file_is_replaced_as_a_whole(tmp_path):
    path = tmp_path / "new" / "a.txt"
    with atomic_write(path) as file:
        file.write("é\n")
        assert not path.exists()
    assert path.read_bytes() == "é\n".encode()
    assert [p.name for p in path.parent.iterdir()] == ["a.txt"]


def test_a_failure_leaves_what_was_there(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("old")

    def fail():
        with atomic_write(path) as file:
            file.write("half of the n")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert path.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["a.txt"]


def test_what_a_killed_process_left_goes_and_what_is_being_written_stays(tmp_path):
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    mine = part_of(tmp_path / "last.ckpt")
    others = {
        "ended": mine.name.replace(f"{os.getpid()}", f"{ended.pid}"),
        "writes": mine.name.replace(f"{os.getpid()}", f"{os.getppid()}"),
        "of root": mine.name.replace(f"{os.getpid()}", "1"),
        "elsewhere": f".last.ckpt.{os.getpid()}@01234567.part",
        "elsewhere, long ago": f".best.ckpt.{os.getpid()}@01234567.part",
        "no part": "last.ckpt",
    }
    for name in others.values():
        (tmp_path / name).touch()
    mine.touch()  # this process begins: one that had its number before has ended
    os.utime(tmp_path / others["elsewhere, long ago"], (0, 0))
    remove_partial_files(tmp_path)
    left = {others[key] for key in ("writes", "of root", "elsewhere", "no part")}
    assert {path.name for path in tmp_path.iterdir()} == left


def test_a_path_that_does_not_exist_gets_the_nearest_name(tmp_path):
    (tmp_path / "photos").mkdir()
    check_exists(str(tmp_path / "photos"))
    with pytest.raises(UserError, match=r'phots: no such file or folder; did you mean "photos"\?$'):
        check_exists(str(tmp_path / "phots"))
    with pytest.raises(UserError, match=r"no such file or folder$"):
        check_exists(str(tmp_path / "nowhere" / "x"))
