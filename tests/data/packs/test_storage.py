import http.server
import multiprocessing
import os
import pickle
import shutil
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import fsspec
import pytest

from mtl_lightning.data.packs.reading import Pack
from mtl_lightning.data.packs.storage import PackStorage
from mtl_lightning.system.errors import SourceError, UserError
from tests.helpers.files.packs import flip, packed, rows_of, shop

FIRST, SECOND, THIRD, FOURTH = (f"shard-{number:05}.bin" for number in range(4))


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("made")
    packed(shop(folder), folder / "p", shard_bytes=20_000)
    return folder / "p"


@pytest.fixture
def folder(made, tmp_path):
    return shutil.copytree(made, tmp_path / "p")


def remote(folder, cache_gb=20.0):
    """Read a pack from a folder as one from afar."""
    return Pack(PackStorage(f"file://{folder}", "cache", cache_gb))


def contents(pack, shard):
    return [pack.content(row) for row in rows_of(pack, shard)]


def copies(tmp_path):
    """Return the shards of which there is a copy."""
    return sorted(path.name for path in tmp_path.glob("cache/*/*.bin"))


@pytest.fixture
def fetched(monkeypatch):
    """Return the files that are fetched from now on; each takes a while."""
    files, before = [], PackStorage._fetched

    def slowly(self, file, fetch):
        files.append(file)
        time.sleep(0.2)
        return before(self, file, fetch)

    monkeypatch.setattr(PackStorage, "_fetched", slowly)
    return files


def test_a_path_is_a_folder_and_a_url_is_fetched(tmp_path):
    local = PackStorage("p")
    assert (local.name, local.remote) == (str(tmp_path / "p"), False)
    for address in ("s3://b/p", "gs://b/p/", "hf://datasets/a/p", "https://x/p"):
        storage = PackStorage(address)
        assert (storage.name, storage.remote) == (address.rstrip("/"), True)
    with pytest.raises(UserError, match=r"^`path` should be a folder or a URL.*Found gopher://x/p"):
        PackStorage("gopher://x/p")


def test_copies_are_kept_where_the_user_keeps_caches(monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", "caches")
    assert str(PackStorage("s3://b/p").cache_dir) == os.path.abspath("caches/mtl-lightning/packs")
    monkeypatch.delenv("XDG_CACHE_HOME")
    own = os.path.expanduser("~/.cache/mtl-lightning/packs")
    assert str(PackStorage("s3://b/p").cache_dir) == own


def test_what_is_fetched_is_what_is_there_and_is_fetched_once(folder, tmp_path):
    here, far = Pack(PackStorage(str(folder))), remote(folder)
    assert far.labels["kind"].tolist() == here.labels["kind"].tolist()
    assert copies(tmp_path) == []
    for shard in (0, 1):
        assert contents(far, shard) == contents(here, shard)
    assert copies(tmp_path) == [FIRST, SECOND]
    for path in folder.glob("*.bin"):
        path.unlink()
    again = pickle.loads(pickle.dumps(far))  # as a worker that is spawned gets it
    assert contents(again, 1) == contents(here, 1)
    assert not list((tmp_path / "cache").glob("*/.*.part"))


def test_only_the_shards_opened_last_are_kept(folder, tmp_path):
    pack = remote(folder, cache_gb=5.2e-5)
    first = contents(pack, 0)
    for shard in range(8):
        pack._open(0).close()  # it is in use all the time
        contents(pack, shard)
    assert copies(tmp_path) == [FIRST, "shard-00007.bin"]
    contents(pack, 1)  # gone, but still open
    assert SECOND not in copies(tmp_path)
    again = pickle.loads(pickle.dumps(pack))
    assert contents(again, 1) == contents(pack, 1)
    assert SECOND in copies(tmp_path)
    assert contents(again, 0) == first


def test_another_pack_at_the_same_address_finds_no_copies_of_the_first(folder, tmp_path):
    pack = remote(folder)
    shard = int(pack.shards[pack.keys.tolist().index("photos/03.jpg")])
    first = contents(pack, shard)
    shutil.rmtree(folder)
    packed(shop(tmp_path / "other", bad=[3], on_bad_image="skip"), folder, shard_bytes=20_000)
    second = contents(remote(folder), shard)
    assert second == contents(Pack(PackStorage(str(folder))), shard) != first
    assert len(list((tmp_path / "cache").iterdir())) == 2


def test_many_that_want_the_same_shard_fetch_it_once(folder, fetched):
    pack = remote(folder)
    fetched.clear()
    with ThreadPoolExecutor(8) as pool:
        files = [*pool.map(lambda _: pack._open(0), range(8))]
    assert len({file.read() for file in files}) == 1
    for file in files:
        file.close()
    assert fetched == [FIRST]


def test_what_is_not_there(folder, tmp_path):
    for place in (tmp_path / "q", f"file://{tmp_path}/q"):
        with pytest.raises(UserError, match=r"/q: pack\.json cannot be read \(.*No such file.*\);"):
            Pack(PackStorage(str(place), "cache"))
    (folder / FOURTH).unlink()
    with pytest.raises(SourceError, match=r"/p: shard-00003\.bin cannot be read \(FileNotFoundErr"):
        contents(remote(folder), 3)
    shutil.rmtree("cache")
    (folder / "labels.parquet").unlink()
    with pytest.raises(SourceError, match=r"/p: there is no labels\.parquet; copy the pack again"):
        Pack(PackStorage(str(folder)))
    with pytest.raises(SourceError, match=r"/p: labels\.parquet cannot be read \(FileNotFound"):
        remote(folder)


def test_a_shard_that_comes_cut_short_is_not_kept(folder, tmp_path):
    pack = remote(folder)
    whole = (folder / THIRD).read_bytes()
    (folder / THIRD).write_bytes(whole[:-1])
    message = rf"00002\.bin should have {len(whole):,} bytes\. Found {len(whole) - 1:,}: it is cut"
    with pytest.raises(SourceError, match=message):
        contents(pack, 2)
    assert list((tmp_path / "cache").glob("*/*.bin*[!k]")) == []
    (folder / THIRD).write_bytes(whole)
    assert contents(pack, 2)
    assert copies(tmp_path) == [THIRD]


def damage(path, where):
    """Damage a file, keeping its length unless it is to be short."""
    size = path.stat().st_size
    if where == "short":
        os.truncate(path, size - 1)
    else:
        flip(path, {"start": 0, "end": size - 1}[where])


def copy_of(pack, shard):
    """Have a shard fetched, unread; return its copy."""
    pack._open(shard).close()
    return pack.storage._folder / f"shard-{shard:05}.bin"


@pytest.mark.parametrize("where", ["start", "end", "short"])
def test_a_damaged_copy_is_fetched_again(folder, where):
    whole = contents(remote(folder), 1)
    copy = copy_of(remote(folder), 1)
    damage(copy, where)
    assert contents(remote(folder), 1) == whole
    assert copy.read_bytes() == (folder / SECOND).read_bytes()


def test_what_is_damaged_in_the_storage_is_fetched_again_once(folder, fetched):
    pack = remote(folder)
    damage(folder / SECOND, "end")
    fetched.clear()
    for _ in range(3):
        with pytest.raises(UserError, match=r"^image \d+ of the pack, in shard-00001\.bin, is dam"):
            contents(pack, 1)
    assert fetched == [SECOND] * 2


def test_threads_that_meet_the_same_damage_have_it_fetched_again_once(folder, fetched):
    pack = remote(folder)
    whole = contents(Pack(PackStorage(str(folder))), 1)
    copy = copy_of(pack, 1)
    copy.write_bytes(bytes(copy.stat().st_size))
    fetched.clear()
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(pack.content, rows_of(pack, 1))) == whole
    assert fetched == [SECOND]


def test_another_process_that_had_the_damage_mapped_takes_the_new_copy(folder, monkeypatch):
    one, other = remote(folder), remote(folder)
    damage(copy_of(one, 1), "end")
    first = rows_of(one, 1)[0]
    assert one.content(first) == other.content(first)  # both have it mapped
    whole = contents(one, 1)
    monkeypatch.setattr(PackStorage, "_fetched", None)
    assert contents(other, 1) == whole


def test_what_can_be_read_of_a_damaged_copy_is_read_where_the_storage_is_gone(folder):
    pack = remote(folder)
    damage(copy_of(pack, 1), "end")
    shutil.rmtree(folder)
    *_, last = rows = rows_of(pack, 1)
    for _ in range(2):
        with pytest.raises(UserError, match=r"^image \d+ of the pack, in shard-00001\.bin, is dam"):
            pack.content(last)
        assert pack.content(rows[0])


def test_a_damaged_copy_of_the_table_is_fetched_again(folder, tmp_path):
    labels = remote(folder).labels["kind"].tolist()
    (copy,) = tmp_path.glob("cache/*/labels.parquet")
    damage(copy, "end")
    assert remote(folder).labels["kind"].tolist() == labels
    assert copy.read_bytes() == (folder / "labels.parquet").read_bytes()


def test_where_no_copy_can_be_kept(folder, tmp_path):
    (tmp_path / "cache").write_text("")
    with pytest.raises(
        SourceError,
        match=r"cannot be kept in .*/cache \(Not a directory\); `cache_dir` should be a fo",
    ):
        remote(folder)


# ------------------------------------------------------------------ other storages


def test_without_the_client_of_the_storage_it_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "s3fs", None)
    with pytest.raises(UserError, match=r"^s3://b/p cannot be read without .*s3fs.*\[stream\]'$"):
        PackStorage("s3://b/p").manifest()


def test_an_object_storage_gets_the_options_of_its_client(folder, tmp_path, monkeypatch):
    storage, options, before = fsspec.filesystem("memory"), [], fsspec.url_to_fs
    monkeypatch.setattr(fsspec, "url_to_fs", lambda url, **o: (options.append(o), before(url))[1])
    storage.put(str(folder), "/bucket/p", recursive=True)
    far = PackStorage("memory://bucket/p/", "cache", options={"endpoint_url": "http://x"})
    found = contents(Pack(far), 1)
    assert found == contents(Pack(PackStorage(str(folder))), 1)
    assert options[:3] == [{"endpoint_url": "http://x"}] * 3
    assert copies(tmp_path) == [SECOND]
    with pytest.raises(SourceError, match=r"^memory://q: pack\.json cannot be read \(.*; expected"):
        PackStorage("memory://q", "cache").manifest()
    storage.rm("/bucket", recursive=True)


def test_a_storage_that_does_not_answer_is_one_line(monkeypatch, tmp_path):
    def fails(self, path):
        raise ConnectionError("no route\nto host")

    monkeypatch.setattr("fsspec.implementations.memory.MemoryFileSystem.cat_file", fails)
    with pytest.raises(SourceError) as caught:
        Pack(PackStorage("memory://p", "cache"))
    assert str(caught.value) == (
        "memory://p: pack.json cannot be read (ConnectionError: no route to host); expected the "
        "folder or URL of what `mtl-lightning pack` wrote, and the right to read it"
    )
    assert not (tmp_path / "cache").exists()


def read_all(pack, shard):
    assert contents(pack, shard)


def test_forked_processes_fetch_from_a_web_server_whose_client_was_used_before(folder, tmp_path):
    handler = partial(http.server.SimpleHTTPRequestHandler, directory=folder.parent)
    handler.func.log_message = lambda *arguments: None
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever).start()
        try:
            pack = Pack(PackStorage(f"http://127.0.0.1:{server.server_port}/p", "cache"))
            assert contents(pack, 0)
            context = multiprocessing.get_context("fork")
            workers = [context.Process(target=read_all, args=(pack, n)) for n in (1, 2, 2)]
            for worker in workers:
                worker.start()
            for worker in workers:
                worker.join(60)
            assert [worker.exitcode for worker in workers] == [0, 0, 0]
            assert copies(tmp_path) == [FIRST, SECOND, THIRD]
            (folder / FOURTH).unlink()
            with pytest.raises(SourceError, match=r"shard-00003\.bin cannot be read \(.*http://12"):
                contents(pack, 3)
        finally:
            server.shutdown()
