import os
import signal
import threading

import numpy as np
import pytest

from mtl_lightning.data.disk_cache import DiskCache
from tests.helpers import forks
from tests.helpers.data import column


def picture(number, height=3, width=4):
    return np.random.default_rng(number).integers(0, 256, (height, width, 3), dtype=np.uint8)


BYTES = picture(0).nbytes


def nobody():
    raise AssertionError("another process holds the lock")


def fill(cache, numbers, stamp="1", **options):
    with cache.locked(nobody):
        cache.clean()
        cache.add(((f"/{n}.png", stamp, picture(n)) for n in numbers), **options)


def found(cache, numbers, stamp="1"):
    """Return number to pixels, of those that are there."""
    images, stamps = column([f"/{n}.png" for n in numbers]), column([stamp] * len(numbers))
    pixels = {}
    for number, entry in zip(numbers, cache.find(images, stamps), strict=True):
        shard, offset, height, width = entry.item()
        if shard >= 0:
            data = np.fromfile(cache.path(shard), np.uint8, height * width * 3, offset=offset)
            pixels[number] = data.reshape(height, width, 3)
    return pixels


def shards(cache):
    return sorted(cache.folder.glob("*.bin"))


@pytest.fixture
def cache(tmp_path):
    return DiskCache(tmp_path / "cache" / "types-16x16")


def same(pixels, numbers):
    assert sorted(pixels) == sorted(numbers)
    for number, own in pixels.items():
        assert np.array_equal(own, picture(number))


def test_what_was_added_is_found_by_name_and_stamp(cache):
    assert found(cache, [1, 2]) == {}
    fill(cache, [1, 2])
    fill(cache, [3])
    same(found(cache, [3, 1, 4, 2]), [1, 2, 3])
    assert found(cache, [1], stamp="2") == {}
    assert len(shards(cache)) == 1


def test_images_have_sizes_of_their_own(cache):
    with cache.locked(nobody):
        cache.add([("/a.png", "1", picture(1, 5, 2)), ("/b.png", "1", picture(2, 1, 9))])
    index = cache.find(column(["/b.png", "/a.png"]), column(["1", "1"]))
    assert [entry.item()[2:] for entry in index] == [(1, 9), (5, 2)]


def test_an_image_that_changed_is_replaced_and_a_shard_of_mostly_old_ones_removed(cache):
    fill(cache, [1, 2, 3, 4], shard_bytes=2 * BYTES)
    fill(cache, [1], stamp="2", shard_bytes=2 * BYTES)
    old = shards(cache)
    assert len(old) == 3
    mapped = np.memmap(old[0], mode="r")
    same(found(cache, [1, 2, 3, 4], stamp="2"), [1])
    same(found(cache, [1, 2, 3, 4]), [2, 3, 4])
    fill(cache, [2], stamp="2", shard_bytes=2 * BYTES)
    same(found(cache, [2, 3, 4]), [3, 4])
    fill(cache, [], shard_bytes=2 * BYTES)
    assert shards(cache) == old[1:]
    same(found(cache, [1, 2], stamp="2"), [1, 2])
    assert np.array_equal(mapped[BYTES:], picture(2).ravel())  # who reads it still can


def test_no_shard_ever_has_the_name_of_an_old_one(cache):
    names = set()
    for stamp in range(5):
        fill(cache, [1, 2, 3], stamp=str(stamp), shard_bytes=1)
        own = {path.name for path in shards(cache)}
        cache.index.unlink()
        assert len(own) == 3
        assert names.isdisjoint(own)
        names |= own


def test_images_added_before_an_error_are_kept_and_what_the_index_lacks_is_passed_over(cache):
    def items():
        yield "/1.png", "1", picture(1)
        raise OSError("no space left")

    with pytest.raises(OSError, match="no space"), cache.locked(nobody):
        cache.add(items())
    same(found(cache, [1, 2]), [1])
    with open(shards(cache)[0], "ab") as file:
        file.write(b"images, not in the index")  # by a process that was killed
    orphan = cache.path(9)
    orphan.write_bytes(b"a shard, not in the index")
    fill(cache, [2])
    same(found(cache, [1, 2]), [1, 2])
    assert not orphan.exists()


def test_a_shard_cut_short_or_gone_or_a_damaged_index_loses_what_it_lost_and_no_more(cache):
    fill(cache, [1, 2, 3, 4], shard_bytes=2 * BYTES)
    first, second = shards(cache)
    os.truncate(first, BYTES + 1)
    same(found(cache, range(9)), [3, 4])
    fill(cache, [1], shard_bytes=2 * BYTES)
    assert not first.exists()
    second.unlink()
    same(found(cache, range(9)), [1])
    fill(cache, [3])
    same(found(cache, range(9)), [1, 3])
    cache.index.write_bytes(b"PAR1 no more")
    assert found(cache, range(9)) == {}
    fill(cache, [2])
    same(found(cache, range(9)), [2])
    assert len(shards(cache)) == 1


def test_a_name_that_is_not_utf_8_is_found(cache):
    name = os.fsdecode(b"/caf\xe9.png")
    with cache.locked(nobody):
        cache.add([(name, "1", picture(1))])
    assert cache.find(column([name]), column(["1"]))["shard"] >= 0


def fill_and_be_killed(cache):
    def items():
        for n in range(10):
            yield f"/{n}.png", "1", picture(n)
        os.kill(os.getpid(), signal.SIGKILL)

    with cache.locked(nobody):
        cache.add(items(), shard_bytes=3 * BYTES)


def test_the_index_is_written_after_each_shard_so_that_a_killed_process_loses_little(cache):
    process = forks.start(f"{__name__}.fill_and_be_killed", cache)
    assert process.wait() == -signal.SIGKILL, process.written()
    same(found(cache, range(12)), range(9))
    fill(cache, range(9, 12))
    same(found(cache, range(12)), range(12))


def test_a_second_process_waits_until_the_first_is_done(cache):
    waiting, ended = threading.Event(), []

    def second():
        with DiskCache(cache.folder).locked(waiting.set):
            ended.append("second")

    with cache.locked(nobody):
        other = threading.Thread(target=second)
        other.start()
        assert waiting.wait(20)
        ended.append("first")
    other.join(20)
    assert ended == ["first", "second"]
