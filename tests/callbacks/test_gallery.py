import base64
import json
from dataclasses import asdict
from io import BytesIO

import numpy as np
import pytest
import torch
from PIL import Image

from mtl_lightning.callbacks.gallery import MOST, SIDE, Gallery, _answers
from mtl_lightning.callbacks.run_recorder import RunRecorder
from mtl_lightning.runs import run_file
from mtl_lightning.tasks import MultiLabel, Regression
from tests.helpers import ranks, tables
from tests.helpers.data import Memory, make_data, make_more_tasks, sparse_labels
from tests.helpers.training import make_module, make_trainer

ROWS = 70
SPLITS = ["train"] * 5 + ["val"] * 7 + ["test"] * 58


def evaluated(folder, devices=1, batch_size=8, command="test", bad=(), enabled=True):
    labels = sparse_labels(ROWS)
    tasks = make_more_tasks()
    sources = {"memory": Memory(labels, SPLITS, bad=bad)}
    options = {"on_bad_image": "skip", "max_bad_share": 1.0}
    data = make_data(sources=sources, tasks=tasks, batch_size=batch_size // devices, **options)
    module = make_module(tasks=tasks)
    # The sample statistics decide what a wrong number is.
    module.tasks["size"].fit_statistics(torch.tensor([40.0, 60.0]), torch.ones(2, dtype=bool))
    gallery, run = Gallery(enabled), folder / "run" / "version_0"
    run.mkdir(parents=True, exist_ok=True)
    callbacks = [gallery, RunRecorder(run, gallery=gallery)]
    trainer = make_trainer(folder, devices=devices, callbacks=callbacks)
    getattr(trainer, command)(module, datamodule=data, verbose=False)
    return gallery, module, data


def outputs_of(module, data, split="test"):
    """Return the rows of a split, and the network's outputs for them one by one."""
    rows = data.labels.rows(split)
    images = [torch.from_numpy(data.labels.table.load(row)).permute(2, 0, 1) for row in rows]
    with torch.no_grad():
        return rows, module.eval()(torch.stack(images))


def numbers(examples):
    return [int(own.name.partition(":")[2]) for own in examples]


@pytest.mark.parametrize(("command", "split"), [("test", "test"), ("validate", "val")])
def test_the_worst_mistakes_are_those_of_the_split(tmp_path, command, split):
    gallery, module, data = evaluated(tmp_path, command=command)
    rows, outputs = outputs_of(module, data, split)
    encoded = data.labels.encoded["kind"]
    own = rows[encoded.labelled[rows]]
    places = np.searchsorted(rows, own)
    probabilities = outputs["kind"].softmax(1)[places].numpy()
    targets = encoded.targets[own]
    wrong = np.flatnonzero(probabilities.argmax(1) != targets)
    of_label = probabilities[np.arange(len(own)), targets]
    order = wrong[np.argsort(of_label[wrong], kind="stable")][:MOST]
    assert numbers(gallery.mistakes["kind"]) == own[order].tolist()
    margins = np.sort(probabilities, axis=1)
    order = np.argsort(margins[:, -1] - margins[:, -2], kind="stable")[:MOST]
    assert numbers(gallery.doubts["kind"]) == own[order].tolist()
    sizes = data.labels.encoded["size"]
    own = rows[sizes.labelled[rows]]
    errors = np.abs(
        module.tasks["size"].predict(outputs["size"])["value"].numpy()[np.searchsorted(rows, own)]
        - sizes.targets[own]
    )
    assert numbers(gallery.mistakes["size"]) == own[np.argsort(-errors)][:MOST].tolist()
    assert "size" not in gallery.doubts, "it knows no variance"


def test_an_example_has_label_answer_and_picture(tmp_path):
    gallery, _, data = evaluated(tmp_path)
    first = gallery.mistakes["kind"][0]
    (row,) = numbers([first])
    assert first.label == data.labels.table.cells["kind"][row]
    assert first.answer.split(" (")[0] in {"cat", "dog", "eel"} - {first.label}
    assert first.location == f"memory memory:{row}"
    with Image.open(BytesIO(base64.b64decode(first.picture))) as image:
        assert image.format == "JPEG"
        assert max(image.size) <= SIDE
    tags = gallery.mistakes["tags"][0]
    assert ": " in tags.label
    found = run_file.read(tmp_path / "run/version_0").evaluations["test"]
    assert found.mistakes["kind"][0] == first
    assert found.doubts.keys() == gallery.doubts.keys()


def test_an_image_that_vanished_has_a_reason_instead(tmp_path, monkeypatch):
    monkeypatch.setattr("mtl_lightning.callbacks.gallery.thumbnail", lambda *_: None)
    gallery, _, _ = evaluated(tmp_path)
    shown = [own for found in gallery.mistakes.values() for own in found]
    assert {(own.picture, own.why) for own in shown} == {("", "cannot be read")}


def test_pictures_have_a_limit_in_all(tmp_path, monkeypatch):
    monkeypatch.setattr("mtl_lightning.callbacks.gallery.MOST_BYTES", 3000)
    gallery, _, _ = evaluated(tmp_path)
    parts = (gallery.mistakes, gallery.doubts)
    shown = [own for part in parts for found in part.values() for own in found]
    assert 0 < sum(len(own.picture) for own in shown) <= 3000
    assert {own.why for own in shown} == {"", "left out: the page would be too large"}


def test_bad_images_are_not_shown(tmp_path):
    bad = range(20, 40)
    gallery, _, _ = evaluated(tmp_path, bad=bad)
    for found in (*gallery.mistakes.values(), *gallery.doubts.values()):
        assert found
        assert not set(bad) & set(numbers(found))


def test_nothing_if_it_is_not_enabled_or_in_a_training(tmp_path):
    gallery, module, data = evaluated(tmp_path, enabled=False)
    assert gallery.mistakes == gallery.doubts == {}
    gallery = Gallery()
    make_trainer(tmp_path, callbacks=[gallery]).fit(module, datamodule=data)
    assert gallery.mistakes == gallery.doubts == {}


def shown(folder, devices=1, batch_size=8):
    gallery, _, _ = evaluated(folder, devices, batch_size)
    parts = {"mistakes": gallery.mistakes, "doubts": gallery.doubts}
    return {
        f"{part} {task}": [{**asdict(own), "score": None} for own in found]
        for part, tasks in parts.items()
        for task, found in tasks.items()
    }


def on_ranks(folder, devices):
    found = shown(folder, devices)
    if found:
        (folder / "found.json").write_text(json.dumps(found))


def test_rows_are_the_same_in_other_batches_and_on_two_ranks(tmp_path):
    alone = shown(tmp_path)
    assert shown(tmp_path, batch_size=11) == alone
    ranks.run([(f"{__name__}.on_ranks", {"folder": tmp_path, "devices": 2})], tmp_path)
    assert json.loads((tmp_path / "found.json").read_text()) == alone


def test_rows_without_an_image_show_their_columns(tmp_path):
    gallery = Gallery()
    module = tables.table_module()
    data = tables.table_data(
        SPLITS, inputs=dict(module.inputs), tasks=dict(module.tasks.items()), imageless=range(ROWS)
    )
    make_trainer(tmp_path, callbacks=[gallery]).test(module, datamodule=data, verbose=False)
    first = gallery.mistakes["kind"][0]
    (row,) = numbers([first])
    cells = {name: own[row] for name, own in tables.columns(ROWS).items()}
    assert first.columns == {name: "-" if c is None else str(c) for name, c in cells.items()}
    assert (first.picture, first.why) == ("", "no image")


def test_answers_keep_their_digits_and_only_numbers_have_an_interval():
    task = Regression(loss="beta_nll")
    task.fit_statistics(torch.tensor([12300.0, 12391.2]), torch.ones(2, dtype=bool))
    (answer,) = _answers(task, torch.tensor([[0.0, 0.0]]))
    assert answer.startswith("12345.6 (12")
    assert " to 12" in answer
    assert _answers(MultiLabel(["low", "high"]), torch.tensor([[9.0, 9.0]])) == ["low;high"]
