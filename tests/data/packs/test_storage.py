import os
import pickle
import shutil
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import pytest

from mtl_lightning.data.packs.layout import Shard
from mtl_lightning.data.packs.reading import ShardFiles, read_contents
from mtl_lightning.data.packs.storage import Folder, Remote, place
from mtl_lightning.system.errors import SourceError, UserError
from tests.helpers.packs import flip, packed, shop


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("made")
    packed(shop(folder), folder / "p", shard_bytes=20_000)
    return folder / "p"


@pytest.fixture
def pack(made, tmp_path):
    return shutil.copytree(made, tmp_path / "p")


def remote(pack, cache_gb=20.0):
    return Remote(f"local:{pack}", "cache", cache_gb, {})


def copies(tmp_path):
    """Return the shards of which there is a copy."""
    return sorted(path.name for path in tmp_path.glob("cache/*/*.bin"))


def test_a_path_is_a_folder_and_a_url_is_fetched(tmp_path):
    assert isinstance(place("p", None, 1.0), Folder)
    assert place("p", None, 1.0).name == str(tmp_path / "p")
    for address in ("s3://b/p", "gs://b/p/", "local:p"):
        found = place(address, None, 1.0)
        assert isinstance(found, Remote)
        assert found.name == address.rstrip("/")
    with pytest.raises(
        UserError, match=r"^https://x/p: cannot be fetched from there; expected a f"
    ):
        place("https://x/p", None, 1.0)


def test_copies_are_kept_where_the_user_keeps_caches(monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", "caches")
    assert Remote("s3://b/p", None, 1.0, {}).cache_dir == os.path.abspath(
        "caches/mtl-lightning/packs"
    )
    monkeypatch.delenv("XDG_CACHE_HOME")
    own = os.path.expanduser("~/.cache/mtl-lightning/packs")
    assert Remote("s3://b/p", None, 1.0, {}).cache_dir == own


def test_what_is_fetched_is_what_is_there_and_is_fetched_once(pack, tmp_path):
    here, far = read_contents(Folder(str(pack))), remote(pack)
    there = read_contents(far)
    assert there.labels["kind"].tolist() == here.labels["kind"].tolist()
    assert copies(tmp_path) == []
    files = ShardFiles(far, there.shards, there.checksums)
    own = ShardFiles(Folder(str(pack)), here.shards, here.checksums)
    for shard in here.shards[:2]:
        for number in range(shard.images):
            assert files.content(shard.name, number) == own.content(shard.name, number)
    assert copies(tmp_path) == ["chunk-0-0.bin", "chunk-0-1.bin"]
    for path in pack.glob("*.bin"):
        path.unlink()
    again = pickle.loads(pickle.dumps(files))  # as a worker that is spawned gets it
    assert again.content("chunk-0-1.bin", 0) == own.content("chunk-0-1.bin", 0)
    assert not list((tmp_path / "cache").glob("**/.fetching*"))


def test_only_the_last_shards_are_kept(pack, tmp_path):
    far = remote(pack, cache_gb=5e-5)
    contents = read_contents(far)
    files = ShardFiles(far, contents.shards, contents.checksums)
    first = files.content("chunk-0-0.bin", 0)
    for number in range(8):
        far.shard(contents.shards[0])  # it is in use all the time
        files.content(f"chunk-0-{number}.bin", 0)
    assert copies(tmp_path) == ["chunk-0-0.bin", "chunk-0-7.bin"]
    files.content("chunk-0-1.bin", 1)  # gone, but still open
    assert "chunk-0-1.bin" not in copies(tmp_path)
    files._opened.clear()
    assert files.content("chunk-0-1.bin", 0)
    assert files.content("chunk-0-0.bin", 0) == first


def test_another_pack_at_the_same_address_finds_no_copies_of_the_first(pack, made, tmp_path):
    far = remote(pack)
    first = read_contents(far)
    ShardFiles(far, first.shards, first.checksums).content("chunk-0-0.bin", 0)
    shutil.rmtree(pack)
    packed(shop(tmp_path / "other", bad=[3], on_bad_image="skip"), pack, shard_bytes=20_000)
    far = remote(pack)
    second = read_contents(far)
    own = ShardFiles(Folder(str(pack)), second.shards, second.checksums)
    files = ShardFiles(far, second.shards, second.checksums)
    assert files.content("chunk-0-0.bin", 0) == own.content("chunk-0-0.bin", 0)
    assert len(list((tmp_path / "cache").iterdir())) == 2


def test_many_that_want_the_same_shard_fetch_it_once(pack, monkeypatch):
    far, fetched = remote(pack), []
    contents = read_contents(far)
    before = Remote._fetched

    def slowly(self, file, folder):
        fetched.append(file)
        time.sleep(0.2)
        return before(self, file, folder)

    monkeypatch.setattr(Remote, "_fetched", slowly)
    with ThreadPoolExecutor(8) as pool:
        paths = set(pool.map(far.shard, [contents.shards[0]] * 8))
    assert len(paths) == 1
    assert fetched == ["chunk-0-0.bin"]


def test_what_is_not_there(pack, tmp_path):
    with pytest.raises(UserError, match=r"^there is no folder .*/q; expected one that `mtl-light"):
        read_contents(Folder(str(tmp_path / "q")))
    (tmp_path / "q").mkdir()
    with pytest.raises(
        UserError, match=r"/q is no whole pack: pack\.json cannot be read \(No such"
    ):
        read_contents(Folder(str(tmp_path / "q")))
    with pytest.raises(
        UserError, match=r"^local:.*/q is no pack that can be read: pack\.json cannot"
    ):
        read_contents(remote(tmp_path / "q"))
    (pack / "chunk-0-3.bin").unlink()
    far = remote(pack)
    contents = read_contents(far)
    with pytest.raises(
        UserError, match=r"is not whole: chunk-0-3\.bin cannot be fetched \(The pro"
    ):
        far.shard(contents.shards[3])
    (pack / "labels.parquet").unlink()
    with pytest.raises(UserError, match=r"no whole pack: labels\.parquet cannot be read"):
        read_contents(Folder(str(pack)))


def test_a_shard_that_comes_cut_short_is_not_kept(pack, tmp_path):
    far = remote(pack)
    shard = read_contents(far).shards[2]
    path = pack / shard.name
    whole = path.read_bytes()
    path.write_bytes(whole[:-1])
    message = rf"shard chunk-0-2.bin has {len(whole) - 1:,} bytes; expected {len(whole):,}: it is c"
    with pytest.raises(UserError, match=message):
        far.shard(shard)
    assert copies(tmp_path) == []
    path.write_bytes(whole)
    far.shard(shard)
    assert copies(tmp_path) == ["chunk-0-2.bin"]


def damaged(path, where):
    """Damage a file, keeping its length unless it is to be short."""
    size = path.stat().st_size
    if where == "short":
        os.truncate(path, size - 1)
    else:
        flip(path, {"start": 0, "end": size - 1}[where])


@pytest.mark.parametrize("where", ["start", "end", "short"])
def test_a_damaged_copy_is_fetched_anew(pack, tmp_path, where):
    far = remote(pack)
    contents = read_contents(far)
    shard = contents.shards[1]
    expected = ShardFiles(far, contents.shards, contents.checksums)
    whole = [expected.content(shard.name, number) for number in range(shard.images)]
    (copy,) = tmp_path.glob(f"cache/*/{shard.name}")
    damaged(copy, where)
    files = ShardFiles(far, contents.shards, contents.checksums)
    assert [files.content(shard.name, number) for number in range(shard.images)] == whole
    assert copy.read_bytes() == (pack / shard.name).read_bytes()


@pytest.mark.parametrize(
    ("where", "error", "message"),
    [
        ("start", SourceError, r"/p: shard chunk-0-1\.bin is damaged at its start"),
        ("end", UserError, r"^image \d+ of shard chunk-0-1\.bin is damaged"),
    ],
)
def test_what_is_damaged_in_the_storage_is_fetched_anew_once(
    pack, monkeypatch, where, error, message
):
    far, fetched, before = remote(pack), [], Remote._fetched
    contents = read_contents(far)
    shard = contents.shards[1]
    damaged(pack / shard.name, where)

    def counted(self, file, folder):
        fetched.append(file)
        return before(self, file, folder)

    monkeypatch.setattr(Remote, "_fetched", counted)
    files = ShardFiles(far, contents.shards, contents.checksums)
    for _ in range(3):
        with pytest.raises(error, match=message) as caught:
            [files.content(shard.name, number) for number in range(shard.images)]
        assert type(caught.value) is error
    assert fetched == [shard.name] * 2


@pytest.mark.parametrize("first", [0, 0x80], ids=["all of it", "but its start"])
def test_threads_that_meet_the_same_damage_have_it_mended_once(pack, tmp_path, monkeypatch, first):
    far, fetched, before = remote(pack), [], Remote._fetched
    contents = read_contents(far)
    shard = contents.shards[1]
    good = ShardFiles(Folder(str(pack)), contents.shards, contents.checksums)
    whole = [good.content(shard.name, number) for number in range(shard.images)]
    copy = Path(far.shard(shard))
    copy.write_bytes(copy.read_bytes()[:first] + bytes(shard.size - first))

    def slowly(self, file, folder):
        fetched.append(file)
        time.sleep(0.2)
        return before(self, file, folder)

    monkeypatch.setattr(Remote, "_fetched", slowly)
    files = ShardFiles(far, contents.shards, contents.checksums)
    with ThreadPoolExecutor(8) as pool:
        read = list(pool.map(partial(files.content, shard.name), range(shard.images)))
    assert read == whole
    assert fetched == [shard.name]


def test_another_process_that_had_the_damage_mapped_takes_the_new_copy(pack, monkeypatch):
    far = remote(pack)
    contents = read_contents(far)
    shard = contents.shards[1]
    damaged(Path(far.shard(shard)), "end")
    one, other = (ShardFiles(far, contents.shards, contents.checksums) for _ in range(2))
    assert one.content(shard.name, 0) == other.content(shard.name, 0)  # both have it mapped
    whole = [one.content(shard.name, number) for number in range(shard.images)]
    monkeypatch.setattr(Remote, "_fetched", None)
    assert [other.content(shard.name, number) for number in range(shard.images)] == whole


def test_what_can_be_read_of_a_damaged_copy_is_read_where_the_storage_is_gone(pack):
    far = remote(pack)
    contents = read_contents(far)
    shard = contents.shards[1]
    damaged(Path(far.shard(shard)), "end")
    shutil.rmtree(pack)
    files = ShardFiles(far, contents.shards, contents.checksums)
    for _ in range(2):
        with pytest.raises(UserError, match=r"^image \d+ of shard chunk-0-1\.bin is damaged"):
            files.content(shard.name, shard.images - 1)
        assert files.content(shard.name, 0)


@pytest.mark.parametrize("name", ["index.json", "labels.parquet"])
def test_a_damaged_copy_of_a_table_is_fetched_anew(pack, tmp_path, name):
    far = remote(pack)
    labels = read_contents(far).labels["kind"].tolist()
    (copy,) = tmp_path.glob(f"cache/*/{name}")
    damaged(copy, "end")
    assert read_contents(remote(pack)).labels["kind"].tolist() == labels
    assert copy.read_bytes() == (pack / name).read_bytes()


def test_where_no_copy_can_be_kept(pack, tmp_path):
    (tmp_path / "cache").write_text("")
    with pytest.raises(
        UserError, match=r"cannot be kept in .*/cache \(File exists\); give a folder"
    ):
        read_contents(remote(pack))


def test_without_the_library_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "litdata.streaming.downloader", None)
    with pytest.raises(UserError, match=r"^s3://b/p is fetched by .*\[stream\]'$"):
        read_contents(Remote("s3://b/p", "cache", 1.0, {}))


class Storage:
    """An object storage in memory; it fails if there is nothing in it."""

    def __init__(self, files):
        self.files, self.options = files, None

    def get_downloader(self, address, folder, chunks, options, session):
        self.options = options
        return self

    def download_fileobj(self, address, file):
        if not self.files:
            raise ConnectionError("no route\nto host")
        file.write(self.files[address])


def stored(monkeypatch, files):
    storage = Storage(files)
    monkeypatch.setattr("litdata.streaming.downloader.get_downloader", storage.get_downloader)
    return storage


def test_what_is_in_an_object_storage_is_fetched_with_the_options_of_its_client(pack, monkeypatch):
    files = {f"s3://b/p/{path.name}": path.read_bytes() for path in pack.iterdir()}
    storage = stored(monkeypatch, files)
    far = place("s3://b/p/", "cache", 1.0, {"endpoint_url": "http://x"})
    contents = read_contents(far)
    assert storage.options == {"endpoint_url": "http://x"}
    own = ShardFiles(Folder(str(pack)), contents.shards, contents.checksums)
    there = ShardFiles(far, contents.shards, contents.checksums)
    assert there.content("chunk-0-1.bin", 0) == own.content("chunk-0-1.bin", 0)


def test_an_object_storage_that_does_not_answer_is_one_line(monkeypatch, tmp_path):
    stored(monkeypatch, {})
    with pytest.raises(UserError) as caught:
        read_contents(place("s3://b/p", "cache", 1.0))
    assert str(caught.value) == (
        "s3://b/p is no pack that can be read: pack.json cannot be fetched (no route to host); "
        "expected the address of what `mtl-lightning pack` wrote, and the right to read it"
    )
    assert list((tmp_path / "cache").iterdir()) == []


def test_a_shard_that_is_always_removed_before_it_is_opened(monkeypatch):
    class Gone:
        name = "gone"

        def shard(self, shard):
            return "nowhere.bin"

    files = ShardFiles(Gone(), [Shard("nowhere.bin", 9, 1)], None)
    with pytest.raises(UserError, match=r"^gone: there is no shard nowhere\.bin; copy"):
        files.content("nowhere.bin", 0)
