import io
import multiprocessing
import os
import pickle
import re
import shutil
import threading
from collections import namedtuple

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from rich.console import Console

from mtl_lightning.data import cache, loaders
from mtl_lightning.data.cache import Builder
from mtl_lightning.data.datamodule import PartialLabels
from mtl_lightning.data.dataset import load_scaled
from mtl_lightning.data.images import MAX_PIXELS
from mtl_lightning.data.intensity import Intensity
from mtl_lightning.data.merging import MergeOptions, merge
from mtl_lightning.data.sources import Source, TableSource
from mtl_lightning.system.errors import UserError
from mtl_lightning.tasks import Classification
from tests.helpers import ranks
from tests.helpers.data import Memory, make_data
from tests.helpers.training import fit, make_trainer

SIZE = (16, 20)


@pytest.fixture
def folder(tmp_path):
    """Nine pictures of several shapes, and a table of them."""
    draw = np.random.default_rng(0)
    for n in range(9):
        shape = (int(draw.integers(16, 90)), int(draw.integers(16, 90)), 3)
        Image.fromarray(draw.integers(0, 256, shape, dtype=np.uint8)).save(tmp_path / f"{n}.png")
    names = [f"{n}.png" for n in range(9)]
    table = {
        "image": names,
        "kind": list("aba") * 3,
        "split": ["train"] * 6 + ["val"] * 2 + ["test"],
    }
    pd.DataFrame(table).to_csv(tmp_path / "t.csv", index=False)
    return tmp_path


@pytest.fixture
def merged(folder):
    return merge({"shop/1": TableSource(str(folder / "t.csv"))}, ["kind"], MergeOptions())


def builder(merged, skip=False, max_pixels=MAX_PIXELS, size=SIZE, resize="cover"):
    out = io.StringIO()
    return Builder(merged, size, max_pixels, skip, Console(file=out, width=300), resize), out


def build(merged, mode, where, rows=range(9), **options):
    made, out = builder(merged, **options)
    rows = np.array(rows)
    cached = made.in_memory(rows) if mode == "memory" else made.on_disk(rows, where / "cache")
    return cached, out.getvalue()


def decoded(monkeypatch):
    """Count the images that are decoded from now on, but for those of the estimate."""
    seen = []
    monkeypatch.setattr(Builder, "_estimate", lambda self, rows: 0)
    monkeypatch.setattr(
        cache,
        "load_scaled",
        lambda images, row, *rest: (seen.append(row), load_scaled(images, row, *rest))[1],
    )
    return seen


@pytest.mark.parametrize("mode", ["memory", "disk"])
@pytest.mark.parametrize("chunk", [1000, 2**20])
def test_kept_images_are_what_they_were_and_others_are_loaded(
    merged, folder, monkeypatch, mode, chunk
):
    monkeypatch.setattr(cache, "CHUNK", chunk)
    cached, _ = build(merged, mode, folder, rows=[7, 0, 3, 4, 1])
    for row in range(9):
        wanted = load_scaled(merged, row, SIZE, MAX_PIXELS)
        assert np.array_equal(load_scaled(cached, row, SIZE, MAX_PIXELS), wanted)
    for row in range(9):
        os.remove(merged.images[row])
    assert cached.load(3).shape[0] == 16 or cached.load(3).shape[1] == 20
    with pytest.raises(UserError, match="does not exist"):
        cached.load(2)
    assert (len(cached), cached.name(2), cached.location(2)) == (
        9,
        merged.name(2),
        merged.location(2),
    )
    cached.load(0)[:] = 0  # a copy: what is kept stays
    assert cached.load(0).any()


def test_a_cache_on_disk_is_found_again_and_only_what_changed_is_decoded(
    merged, folder, monkeypatch
):
    seen = decoded(monkeypatch)
    _, message = build(merged, "disk", folder, rows=range(6))
    assert re.search(r"data.cache: 6 images are decoded once, about 0.1 MB in .*cache", message)
    assert sorted(seen) == list(range(6))
    seen.clear()
    _, message = build(merged, "disk", folder, rows=range(6))
    assert (message, seen) == ("", [])
    Image.new("RGB", (40, 40), "red").save(folder / "2.png")
    cached, _ = build(merged, "disk", folder)
    assert sorted(seen) == [2, 6, 7, 8]
    assert np.array_equal(cached.load(2)[0, 0], [255, 0, 0])


@pytest.mark.parametrize("other", [{"size": (8, 8)}, {"max_pixels": 10**6}, {"resize": "stretch"}])
def test_other_settings_begin_another_folder(merged, folder, monkeypatch, other):
    build(merged, "disk", folder)
    seen = decoded(monkeypatch)
    build(merged, "disk", folder, **other)
    assert len(seen) == 9
    assert len(list((folder / "cache").glob("shop%2F1-*"))) == 2


def test_another_range_of_a_source_begins_another_folder(merged, folder):
    plain, _ = build(merged, "disk", folder)
    merged.sources[0].intensity = Intensity(min=100, max=101)
    other, _ = build(merged, "disk", folder)
    assert set(np.unique(other.load(0))) != set(np.unique(plain.load(0)))
    merged.sources[0].intensity = Intensity(min=100, max=101.5)
    build(merged, "disk", folder)
    assert len(list((folder / "cache").glob("shop%2F1-*"))) == 3


def test_other_decoders_begin_another_folder(merged, folder, monkeypatch):
    build(merged, "disk", folder)
    seen = decoded(monkeypatch)
    monkeypatch.setattr(cache.PIL, "__version__", "99")
    build(merged, "disk", folder)
    assert len(seen) == 9


def filled(folder):
    """Fill a cache, on each of two ranks at once."""
    merged = merge({"t": TableSource(str(folder / "t.csv"))}, ["kind"], MergeOptions())
    cached, _ = build(merged, "disk", folder)
    return [cached.load(row) for row in range(9)]


def test_two_processes_at_once_fill_one_file(merged, folder):
    (folder / "cases").mkdir()
    (found,) = ranks.run([(f"{__name__}.filled", {"folder": folder})], folder / "cases")
    wanted = [load_scaled(merged, row, SIZE, MAX_PIXELS) for row in range(9)]
    assert all(np.array_equal(*pair) for pair in zip(found, wanted, strict=True))
    (file,) = (folder / "cache").glob("*/*.bin")
    assert file.stat().st_size == sum(pixels.nbytes for pixels in wanted)


@pytest.mark.parametrize("mode", ["memory", "disk"])
def test_an_image_that_cannot_be_used_is_an_error_before_training_or_left_to_the_loader(
    merged, folder, mode
):
    (folder / "4.png").write_bytes(b"no image")
    with pytest.raises(UserError, match=r"t.csv row 6: image .*4.png cannot be read.*on_bad_image"):
        build(merged, mode, folder)
    cached, _ = build(merged, mode, folder, skip=True)
    with pytest.raises(UserError, match=r"t.csv row 6: image .*4.png cannot be read"):
        cached.load(4)
    assert np.array_equal(cached.load(5), load_scaled(merged, 5, SIZE, MAX_PIXELS))


def test_a_missing_file_is_named_as_what_it_is(merged, folder):
    (folder / "4.png").unlink()
    with pytest.raises(UserError, match=r"t.csv row 6: image .*4.png does not exist"):
        build(merged, "disk", folder)


def test_a_disk_without_room_is_found_before_anything_is_written(merged, folder, monkeypatch):
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(9, 9, 100))
    with pytest.raises(
        UserError, match=r"cache has 0.1 MB free, and about 0.1 MB are needed; data.c"
    ):
        build(merged, "disk", folder)
    assert not list(folder.glob("cache/*/*.bin"))


def test_a_memory_without_room_is_found_before_anything_is_decoded(merged, folder, monkeypatch):
    monkeypatch.setattr(cache, "free_memory", lambda: 100)
    with pytest.raises(
        UserError, match=r"memory takes about 0.1 MB and 0.1 MB are free; use data.c"
    ):
        build(merged, "memory", folder)
    monkeypatch.setattr(cache, "free_memory", lambda: None)  # a system that does not say it
    build(merged, "memory", folder)


def test_each_process_of_the_machine_needs_its_own_memory(merged, folder, monkeypatch):
    made, _ = builder(merged)
    monkeypatch.setattr(cache, "free_memory", lambda: 30_000)
    made.in_memory(np.arange(9))
    with pytest.raises(UserError, match="memory takes about"):
        made.in_memory(np.arange(9), processes=9)


@pytest.mark.parametrize("mapped", [True, False])
def test_images_stay_what_they_were_when_the_files_go(merged, folder, mapped):
    cached, _ = build(merged, "disk", folder)
    wanted = [load_scaled(merged, row, SIZE, MAX_PIXELS) for row in range(9)]
    if mapped:
        assert np.array_equal(cached.load(0), wanted[0])
        for row in range(9):
            os.remove(merged.images[row])
    shutil.rmtree(folder / "cache")
    for row in range(9):
        assert np.array_equal(load_scaled(cached, row, SIZE, MAX_PIXELS), wanted[row])


def test_a_source_that_threads_may_not_share_is_read_by_one(merged, folder, monkeypatch):
    seen = set()

    def load(self, image):
        seen.add(threading.get_ident())
        return Source.load(self, image)

    monkeypatch.setattr(TableSource, "load", load)
    build(merged, "memory", folder)
    assert len(seen - {threading.get_ident()}) == 1  # but for the estimate


def test_a_folder_that_cannot_be_written_is_one_line(merged, folder):
    (folder / "cache").write_text("a file")
    with pytest.raises(
        UserError, match=r"data.cache: .*cache.*: Not a directory; data.cache_dir names another"
    ):
        build(merged, "disk", folder)


def test_images_that_are_no_files_can_only_be_kept_in_memory(tmp_path):
    merged = merge({"m": Memory({"kind": ["a", "b"]}, ["train"] * 2)}, ["kind"], MergeOptions())
    with pytest.raises(
        UserError, match=r"data.sources.m are not \(memory:0\): use data.cache: memory"
    ):
        build(merged, "disk", tmp_path, rows=range(2))
    cached, _ = build(merged, "memory", tmp_path, rows=range(2))
    assert np.array_equal(cached.load(1), load_scaled(merged, 1, SIZE, MAX_PIXELS))


def test_a_process_that_is_not_forked_maps_the_shards_itself(merged, folder):
    cached, _ = build(merged, "disk", folder)
    wanted = cached.load(3)
    data = pickle.dumps(cached.shards)
    assert len(data) < 1000
    cached.shards = pickle.loads(data)
    assert np.array_equal(cached.load(3), wanted)


# ----------------------------------------------------------------- in the data module


def module_of(folder, mode, workers=0, **options):
    return PartialLabels(
        {"kind": Classification(["a", "b"])},
        {"t": TableSource(str(folder / "t.csv"))},
        image_size=16,
        batch_size=2,
        num_workers=workers,
        cache=mode,
        cache_dir=str(folder / "cache"),
        **options,
    )


def batches(data, folder, stage):
    data.trainer = make_trainer(folder)
    data.setup(stage)
    loaders = {"fit": data.train_dataloader, "test": data.test_dataloader}
    return [batch.inputs["image"] for batch in loaders[stage]()]


@pytest.mark.parametrize("mode", ["memory", "disk"])
@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("stage", ["fit", "test"])
def test_batches_are_the_same_bit_by_bit(folder, mode, workers, stage):
    plain = batches(module_of(folder, "none"), folder, stage)
    cached = module_of(folder, mode, workers)
    found = batches(cached, folder, stage)
    assert len(plain) == len(found) > 0
    assert all((one == other).all() for one, other in zip(plain, found, strict=True))
    assert cached.sources["t"].cover == (16, 16)  # large JPEG files are decoded to less
    kept = {"fit": 8, "test": 1}[stage]
    assert (cached._cached.index["shard"] >= 0).sum() == kept, "the splits of this stage alone"


def test_memory_is_refused_where_workers_would_each_get_a_copy(folder, monkeypatch):
    monkeypatch.setattr(multiprocessing, "get_start_method", lambda: "spawn")
    with pytest.raises(UserError, match=r"use data.cache: disk"):
        batches(module_of(folder, "memory", workers=1), folder, "fit")
    batches(module_of(folder, "memory", workers=0), folder, "fit")
    assert batches(module_of(folder, "disk", workers=1), folder, "fit")


def test_an_audit_fills_no_cache_and_sees_whole_images(folder):
    data = module_of(folder, "disk")
    data.setup("fit")
    assert not (folder / "cache").exists()
    assert data.sources["t"].cover is None


@pytest.mark.parametrize("mode", ["memory", "disk"])
def test_a_trial_of_a_few_batches_keeps_a_few_images(folder, monkeypatch, mode):
    monkeypatch.setattr(loaders, "TRIAL", 3)
    data = module_of(folder, mode)
    data.trainer = make_trainer(folder, fast_dev_run=True)
    data.setup("fit")
    expected = batches(module_of(folder, "none"), folder, "fit")
    found = [batch.inputs["image"] for batch in data.train_dataloader()]
    assert len(found) == 1, "of a limited plan"
    assert (found[0] == expected[0]).all()
    assert (data._cached.index["shard"] >= 0).sum() == 3


def test_a_training_with_bad_images_skips_them_as_without_a_cache(tmp_path):
    """The rows of bad images have no labels in their step, and are listed."""
    options = {"train": 45, "val": 7, "bad": (3, 21), "on_bad_image": "skip", "max_bad_share": 0.1}
    plain, cached = make_data(**options), make_data(**options, cache="memory")
    one, other = fit(tmp_path / "a", plain), fit(tmp_path / "b", cached)
    weights = zip(one.parameters(), other.parameters(), strict=True)
    assert all(bool((mine == its).all()) for mine, its in weights)
    assert [b.reason for b in cached.bad] == [b.reason for b in plain.bad]
    assert len(list(cached.bad)) == 2
