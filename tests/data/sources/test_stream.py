import pickle
import shutil
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from mtl_lightning.data.datamodule import PartialLabels
from mtl_lightning.data.images import decode, encode
from mtl_lightning.data.sampling import LabelBalanced, Shards
from mtl_lightning.data.sources import StreamSource, TableSource
from mtl_lightning.data.splits import SPLITS
from mtl_lightning.system.errors import SourceError, UserError
from tests.data.test_datamodule import assert_counts_are_those_of_each_step
from tests.helpers import ranks
from tests.helpers.data import make_more_tasks
from tests.helpers.files import packs
from tests.helpers.training import Batches, fit, largest_difference, make_module, weights
from tests.training import test_resume

TASKS = ["kind", "size", "tags", "tags/hat", "tags/bag", "ink"]


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> tuple[Path, PartialLabels]:
    """A pack, and the data it was made of."""
    folder = tmp_path_factory.mktemp("made")
    data = packs.shop(folder)
    packs.packed(data, folder / "p")
    return folder / "p", data


@pytest.fixture(params=["folder", "address"])
def source(made, request, tmp_path):
    if request.param == "folder":
        return StreamSource(made[0])
    return StreamSource(f"file://{made[0]}", cache_dir=tmp_path / "cache")


def test_labels_splits_and_images_are_those_that_were_packed(made, source):
    data = PartialLabels(packs.shop_tasks(), {"pack": source})
    data.setup("fit")
    table, before = data.labels.table, made[1].labels.table
    rows = {key: row for row, key in enumerate(before.keys)}
    of = [rows[key] for key in table.keys]
    packed = [row for split in SPLITS for row in made[1].labels.rows(split)]
    assert len(set(of)) == len(of) == len(packed)
    for field in ("kind", "size", "tags/hat", "tags/bag", "ink"):
        assert table.cells[field].tolist() == before.cells[field][of].tolist()
        assert 0 < pd.notna(table.cells[field]).sum() < len(table)
    assert table.splits.tolist() == before.splits[of].tolist()
    assert {n: c.fields for n, c in data.tasks.items()} == {
        n: c.fields for n, c in made[1].tasks.items()
    }
    files = [of.index(rows[f"photos/{name}"]) for name in ("00.png", "01.jpg", "27.jpg")]
    for row in [*files, 5, 500]:
        np.testing.assert_array_equal(table.load(row), before.load(of[row]))


def test_bytes_of_files_are_as_they_were(made, source):
    table = source.read(TASKS)
    for name in ("photos/00.png", "photos/01.jpg"):
        (row,) = np.flatnonzero(table.keys == name)
        assert source.content(table.images[row]) == (made[0].parent / name).read_bytes()
        worker = pickle.loads(pickle.dumps(source))
        assert worker.content(table.images[row]) == source.content(table.images[row])


def test_a_source_that_has_read_nothing_loads(made, source, tmp_path):
    table = StreamSource(made[0]).read(TASKS)
    image = source.read(TASKS).images[7]
    fresh = StreamSource(made[0])
    np.testing.assert_array_equal(fresh.load(table.images[7]), source.load(image))


def test_masks_are_those_of_the_labels(made, source):
    one, other = made[1], PartialLabels(packs.shop_tasks(), {"pack": source})
    other.setup("fit")
    of = {key: row for row, key in enumerate(one.labels.table.keys)}
    rows = [of[key] for key in other.labels.table.keys]
    for task in one.tasks:
        labelled = one.labels.encoded[task].labelled[rows]
        np.testing.assert_array_equal(other.labels.encoded[task].labelled, labelled)
        np.testing.assert_array_equal(
            other.labels.encoded[task].targets[labelled],
            one.labels.encoded[task].targets[rows][labelled],
        )


def test_images_are_scaled_and_limited_as_files_are(made, source):
    table = source.read(TASKS)
    (row,) = np.flatnonzero(table.keys == "photos/01.jpg")
    source.cover = (20, 20)
    file = TableSource(made[0].parent / "kinds.csv")
    file.cover = (20, 20)
    scaled = source.load(table.images[row])
    assert scaled.shape[0] < 90
    np.testing.assert_array_equal(scaled, file.load(str(made[0].parent / "photos/01.jpg")))
    source.max_pixels = 100
    with pytest.raises(UserError, match=r"pack:.*/p:\d+ has 6,300 pixels, and data\.max_pi"):
        source.load(table.images[row])


def test_it_merges_with_other_sources(made, tmp_path):
    folder = made[0].parent
    pd.DataFrame({"image": ["photos/28.png"], "kind": ["dog"]}).to_csv(
        tmp_path / "more.csv", index=False
    )
    more = TableSource(tmp_path / "more.csv", root=folder)
    data = PartialLabels(packs.shop_tasks(), {"more": more, "pack": StreamSource(made[0])})
    table = data.labels.table
    assert table.shard[0] == -1
    assert table.shard[1:].min() == 0
    assert table.location(1).startswith(f"{made[0]} ")
    same = {"one": StreamSource(made[0]), "files": TableSource(folder / "kinds.csv")}
    joined = PartialLabels(packs.shop_tasks(), same, same_by="key").labels.table
    assert len(joined) == len(StreamSource(made[0]).read(TASKS).keys) + 5, "without any label"


def test_shards_of_two_packs_are_not_mistaken_for_one_another(made, tmp_path):
    shutil.copytree(made[0], tmp_path / "q")
    sources = {"one": StreamSource(made[0]), "other": StreamSource(tmp_path / "q")}
    table = PartialLabels(packs.shop_tasks(), sources).labels.table
    one, other = (set(table.shard[table.source == number]) for number in (0, 1))
    assert one.isdisjoint(other)
    assert len(one) == len(other) > 3


def test_tasks_of_other_names(made):
    source = StreamSource(
        made[0], labels={"animal": "kind"}, values={"animal": {"cat": "Katze", "dog": "Hund"}}
    )
    labels = source.read(["animal"]).labels["animal"]
    assert set(labels) == {"Katze", "Hund", None}
    with pytest.raises(
        UserError, match=r"has no packed task named after a task; tasks: age; packed tasks: kind,"
    ):
        StreamSource(made[0]).read(["age"])
    with pytest.raises(UserError, match=r'/p has no packed task "kin" .*did you mean "kind"'):
        StreamSource(made[0], labels={"animal": "kin"}).read(["animal"])


def test_what_is_no_pack_and_damage_name_the_row(made, tmp_path):
    with pytest.raises(UserError, match=r"/nowhere: pack\.json cannot be read \("):
        StreamSource("nowhere").read(TASKS)
    with pytest.raises(UserError, match=r"^`cache_gb` should be above 0\. Found 0"):
        StreamSource("p", cache_gb=0)
    shutil.copytree(made[0], tmp_path / "q")
    data = PartialLabels(packs.shop_tasks(), {"pack": StreamSource(tmp_path / "q")})
    table = data.labels.table
    path = tmp_path / "q/shard-00000.bin"
    packs.flip(path, path.stat().st_size - 100)
    last = int((table.shard == 0).sum()) - 1
    with pytest.raises(UserError) as caught:
        table.load(last)
    assert str(caught.value) == (
        f"{tmp_path}/q {table.keys[last]}: image {last} of the pack, in shard-00000.bin, is "
        "damaged (its checksum differs); copy the pack again"
    )


def test_a_pack_is_packed_again(made, tmp_path):
    """Also of sources that give packs: bytes stay bytes."""
    data = PartialLabels(packs.shop_tasks(), {"pack": StreamSource(made[0])})
    packs.packed(data, tmp_path / "q")
    one, other = StreamSource(made[0]), StreamSource(tmp_path / "q")
    before, after = one.read(TASKS), other.read(TASKS)
    assert sorted(before.keys) == sorted(after.keys)
    for key in ("photos/00.png", "photos/01.jpg", after.keys[-1]):
        content = [
            source.content(table.images[np.flatnonzero(table.keys == key)[0]])
            for source, table in ((one, before), (other, after))
        ]
        assert content[0] == content[1]


def test_pixels_of_ones_own_are_packed_without_loss():
    pixels = np.random.default_rng(0).integers(0, 256, (7, 9, 3), dtype=np.uint8)
    np.testing.assert_array_equal(decode("x", content=encode(pixels)), pixels)


# --------------------------------------------------------------------- training


@pytest.mark.parametrize(
    "options",
    [{}, {"num_workers": 2}, {"cache": "memory"}, {"cache": "memory", "on_bad_image": "error"}],
    ids=str,
)
def test_a_shard_that_is_gone_is_no_bad_image(tmp_path, options):
    options = {"on_bad_image": "skip", "max_bad_share": 1.0} | options
    data = packs.streamed(tmp_path / "p", **options)
    (tmp_path / "p/shard-00002.bin").unlink()
    with pytest.raises(SourceError) as caught:
        fit(tmp_path, data, make_module(tasks=make_more_tasks()))
    assert str(caught.value) == (f"{tmp_path}/p: there is no shard-00002.bin; copy the pack again")
    again = PartialLabels(
        make_more_tasks(), {"pack": StreamSource(tmp_path / "p")}, on_bad_image="skip"
    )
    with pytest.raises(SourceError, match="there is no shard-00002"):
        packs.packed(again, tmp_path / "q")
    assert not (tmp_path / "q").exists()


def test_an_epoch_takes_few_shards_at_a_time_and_counts_hold(tmp_path):
    data, batches = packs.streamed(tmp_path / "p"), Batches()
    fit(
        tmp_path,
        data,
        make_module(tasks=make_more_tasks()),
        callbacks=[batches],
        accumulate_grad_batches=2,
        max_epochs=2,
    )
    assert_counts_are_those_of_each_step(batches, 2)
    shard = data.labels.table.shard
    for epoch, steps in batches.rows().items():
        rows = [row for step in steps for row in step]
        assert sorted(rows) == data.labels.rows("train").tolist()
        own = shard[rows]
        spans = [np.flatnonzero(own == number)[[0, -1]] for number in set(own)]
        assert len(spans) > 5
        at = [sum(first <= i <= last for first, last in spans) for i in range(len(rows))]
        assert max(at) <= Shards().window, epoch
    assert batches.rows()[0] != batches.rows()[1]


def test_a_sampling_that_ignores_shards_is_noted(tmp_path):
    for sampling, noted in ((None, 0), (Shards(2), 0), (LabelBalanced(), 1)):
        data = packs.streamed(tmp_path / "p", sampling=sampling)
        fit(tmp_path, data, make_module(tasks=make_more_tasks()), limit_train_batches=1)
        notes = [note for note in data.notes() if "ignores shards" in note]
        assert len(notes) == noted, sampling


def trained(folder: Path, devices: int, accumulate: int) -> dict[str, Any]:
    """Train on a pack with 8 rows a step, in double precision."""
    batches = Batches()
    module = fit(
        folder,
        packs.streamed(folder / "p", batch_size=8 // devices // accumulate, num_workers=2),
        make_module(tasks=make_more_tasks()),
        devices=devices,
        precision="64-true",
        accumulate_grad_batches=accumulate,
        max_epochs=2,
        callbacks=[batches],
    )
    return {"weights": weights(module), "rows": batches.rows()}


@pytest.mark.parametrize("accumulate", [1, 2])
def test_two_ranks_equal_one_process(tmp_path, accumulate):
    one = trained(tmp_path, 1, 1)
    case = {"folder": tmp_path, "devices": 2, "accumulate": accumulate}
    (two,) = ranks.run([(f"{__name__}.trained", case)], tmp_path)
    assert largest_difference(one["weights"], two["weights"]) < 1e-12
    rows = [row for step in one["rows"][0] for row in step]
    theirs = [row for step in two["rows"][0] for row in step]
    assert set(theirs) < set(rows), "the other rank has the rest"
    assert len(theirs) == len(set(theirs))


@pytest.mark.parametrize("workers", [0, 2])
def test_killed_within_an_epoch_and_resumed_no_bit_differs(tmp_path, monkeypatch, workers):
    monkeypatch.setattr(test_resume, "make_data", partial(packs.streamed, tmp_path / "p"))
    whole, folder = (test_resume.run_of(tmp_path, name) for name in ("whole", "killed"))
    hooks = test_resume.train(whole, num_workers=workers)
    at = test_resume.middle(hooks, "on_train_batch_end")
    assert test_resume.train(folder, at, num_workers=workers)[-1] == "on_train_batch_end"
    position = torch.load(folder / "checkpoints" / "last.ckpt", weights_only=True)["resume"]
    assert position["position"]["rows"] > 0, "in the middle of an epoch"
    test_resume.train(folder, num_workers=workers)
    test_resume.assert_same(whole, folder)
