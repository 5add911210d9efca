import os
import signal
import subprocess
import sys
import threading

import numpy as np
import pytest

from mtl_lightning.data.pixel_file import PixelFile
from tests.helpers.support import column


def picture(number, height=3, width=4):
    return np.random.default_rng(number).integers(0, 256, (height, width, 3), dtype=np.uint8)


def nobody():
    raise AssertionError("another process is at the file")


def fill(file, numbers, stamp="1", **options):
    with file.locked(nobody):
        file.add(((f"/{n}.png", stamp, picture(n)) for n in numbers), **options)


def found(file, numbers, stamp="1"):
    """Return number to pixels, of those that are there."""
    images, stamps = column([f"/{n}.png" for n in numbers]), column([stamp] * len(numbers))
    offsets, shapes = file.find(images, stamps)
    data = np.fromfile(file.pixels, dtype=np.uint8) if file.pixels.exists() else None
    return {
        n: data[o : o + h * w * 3].reshape(h, w, 3)
        for n, o, (h, w) in zip(numbers, offsets, shapes, strict=True)
        if o >= 0
    }


@pytest.fixture
def file(tmp_path):
    return PixelFile(tmp_path / "cache" / "types-16x16")


def same(pixels, numbers):
    assert sorted(pixels) == sorted(numbers)
    for number, own in pixels.items():
        assert np.array_equal(own, picture(number))


def test_what_was_added_is_found_by_name_and_stamp(file):
    assert found(file, [1, 2]) == {}
    fill(file, [1, 2])
    fill(file, [3])
    same(found(file, [3, 1, 4, 2]), [1, 2, 3])
    assert found(file, [1], stamp="2") == {}


def test_images_have_sizes_of_their_own(file):
    with file.locked(nobody):
        file.add([("/a.png", "1", picture(1, 5, 2)), ("/b.png", "1", picture(2, 1, 9))])
    _, shapes = file.find(column(["/b.png", "/a.png"]), column(["1", "1"]))
    assert shapes.tolist() == [[1, 9], [5, 2]]


def test_an_image_that_changed_is_replaced_and_a_file_mostly_dead_begun_anew(file):
    fill(file, [1, 2, 3])
    fill(file, [1, 2], stamp="2")
    same(found(file, [1, 2, 3], stamp="2"), [1, 2])
    same(found(file, [1, 2, 3]), [3])
    with file.locked(nobody):
        file.drop_dead()
    same(found(file, [3]), [3])  # two of five are dead
    fill(file, [1, 2], stamp="3")
    mapped = np.memmap(file.pixels, mode="r")
    with file.locked(nobody):
        file.drop_dead()
    assert found(file, [3]) == {}
    fill(file, [3])
    same(found(file, [3]), [3])
    assert file.pixels.stat().st_size == picture(3).nbytes
    assert np.array_equal(mapped[72:108], picture(3).ravel())  # who reads it still can


def test_what_was_added_before_an_error_is_kept_and_what_the_index_lacks_is_overwritten(file):
    def items():
        yield "/1.png", "1", picture(1)
        raise OSError("no space left")

    with pytest.raises(OSError, match="no space"), file.locked(nobody):
        file.add(items())
    same(found(file, [1, 2]), [1])
    with open(file.pixels, "ab") as pixels:
        pixels.write(b"images, not in the index" * 10)  # by a process that was killed
    fill(file, [2])
    same(found(file, [1, 2]), [1, 2])
    assert file.pixels.stat().st_size == picture(1).nbytes + picture(2).nbytes


def test_a_file_cut_short_or_a_damaged_index_loses_what_it_lost_and_no_more(file):
    fill(file, [1, 2])
    os.truncate(file.pixels, picture(1).nbytes + 1)
    same(found(file, [1, 2]), [1])
    fill(file, [2])
    same(found(file, [1, 2]), [1, 2])
    file.index.write_bytes(b"PAR1 no more")
    assert found(file, [1, 2]) == {}
    fill(file, [2])
    same(found(file, [1, 2]), [2])


def test_who_reads_a_file_whose_index_is_lost_goes_on_reading_it(file):
    fill(file, [1, 2])
    mapped = np.memmap(file.pixels, mode="r")
    file.index.unlink()
    fill(file, [3, 4, 5])
    same(found(file, range(6)), [3, 4, 5])
    assert np.array_equal(mapped[: picture(1).nbytes], picture(1).ravel())


def test_a_name_that_is_no_utf_8_is_found(file):
    name = os.fsdecode(b"/caf\xe9.png")
    with file.locked(nobody):
        file.add([(name, "1", picture(1))])
    assert file.find(column([name]), column(["1"])).offsets.tolist() == [0]


def test_the_index_is_saved_on_the_way_so_that_a_killed_process_loses_little(file):
    program = f"""
import os, signal
from pathlib import Path
from tests.data.test_pixel_file import PixelFile, picture
def items():
    for n in range(10):
        yield f"/{{n}}.png", "1", picture(n)
    os.kill(os.getpid(), signal.SIGKILL)
file = PixelFile(Path({str(file.pixels.with_suffix(""))!r}))
with file.locked(print):
    file.add(items(), save_every=100)
"""
    done = subprocess.run([sys.executable, "-c", program], check=False, capture_output=True)
    assert done.returncode == -signal.SIGKILL, done.stderr
    same(found(file, range(12)), range(9))  # every third is saved: 36 bytes each
    fill(file, range(9, 12))
    same(found(file, range(12)), range(12))


def test_a_second_process_waits_until_the_first_is_done(file):
    told, ended = threading.Event(), []

    def second():
        with PixelFile(file.pixels.with_suffix("")).locked(told.set):
            ended.append("second")

    with file.locked(nobody):
        other = threading.Thread(target=second)
        other.start()
        assert told.wait(20)
        ended.append("first")
    other.join(20)
    assert ended == ["first", "second"]
