import os
import pickle

import pytest

from mtl_lightning.data.records import MappedFiles, RecordWriter, cache_folder, shard_name


def written(folder, records, shard_bytes=10, numbers=None):
    writer = RecordWriter(folder, shard_bytes, numbers)
    places = [writer.append(record) for record in records]
    writer.close()
    return places


def opened(number):
    return open(shard_name(number), "rb")


def test_a_shard_is_no_larger_than_it_should_be_unless_it_is_one_record(tmp_path):
    records = [b"12345", b"67890", b"abc", b"a record larger than a shard", b"e", b"f"]
    places = written(tmp_path, records)
    assert places == [(0, 0), (0, 5), (1, 0), (2, 0), (3, 0), (3, 1)]
    shards = MappedFiles(opened, 9)
    for record, (shard, start) in zip(records, places, strict=True):
        assert shards[shard][start : start + len(record)] == record
    assert sorted(os.listdir(tmp_path)) == [shard_name(number) for number in range(4)]


def test_a_shard_that_is_there_is_continued_and_never_changed(tmp_path):
    written(tmp_path, [b"123"])
    mapped = MappedFiles(opened, 9)[0]
    assert written(tmp_path, [b"456", b"789", b"0ab", b"c"]) == [(0, 3), (0, 6), (1, 0), (1, 3)]
    assert mapped[:] == b"123"
    assert written(tmp_path, [b"de"], numbers=iter([0, 7])) == [(7, 0)]


def test_nothing_is_written_without_a_record(tmp_path):
    assert written(tmp_path, []) == []
    assert os.listdir(tmp_path) == []


def test_records_are_on_the_disk_once_it_is_closed(tmp_path, monkeypatch):
    synced = []
    monkeypatch.setattr(os, "fsync", lambda fd: synced.append(os.fstat(fd).st_size))
    written(tmp_path, [b"1234567890", b"ab"])
    assert synced == [10, 2]


def test_few_files_are_mapped_at_a_time_and_a_copy_maps_its_own(tmp_path):
    written(tmp_path, [bytes([number]) * 10 for number in range(5)])
    files = MappedFiles(opened, 2)
    first = files[0]
    assert files[0] is first
    assert [files[number][0] for number in range(5)] == list(range(5))
    assert len(files) == 2
    assert files[0] is not first
    assert first.inode == files[0].inode == (tmp_path / shard_name(0)).stat().st_ino
    copy = pickle.loads(pickle.dumps(files))
    assert len(copy) == 0
    assert copy[3][:] == files[3][:]


def test_a_mapped_file_stays_when_its_name_goes_or_is_taken_until_it_is_replaced(tmp_path):
    written(tmp_path, [b"old"])
    files = MappedFiles(opened, 2)
    old = files[0].inode
    os.unlink(shard_name(0))
    written(tmp_path, [b"new"])
    assert files[0][:] == b"old"
    assert files.replace(0, opened(0))[:] == b"new"
    assert files[0][:] == b"new"
    assert files[0].inode != old


def test_a_forked_process_goes_on(tmp_path):
    written(tmp_path, [b"abc"])
    files = MappedFiles(opened, 2)
    assert files[0][:] == b"abc"
    os.unlink(shard_name(0))
    pid = os.fork()
    if not pid:
        os._exit(files[0][:] != b"abc")
    assert os.waitpid(pid, 0)[1] == 0


@pytest.mark.parametrize(
    ("variable", "value", "folder"),
    [("XDG_CACHE_HOME", "/scratch", "/scratch"), ("HOME", "/home", "/home/.cache")],
)
def test_the_folder_is_that_of_the_system_or_the_users(monkeypatch, variable, value, folder):
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setenv(variable, value)
    assert str(cache_folder()) == f"{folder}/mtl-lightning"
