import inspect
import platform
import re
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from mtl_lightning.callbacks import notes
from mtl_lightning.data.datamodule import PartialLabels
from tests.helpers.data import make_data
from tests.helpers.training import make_trainer


@pytest.mark.parametrize(
    ("machine", "capability", "precision", "noted"),
    [
        ("x86_64", "AVX2", "bf16-mixed", True),
        ("AMD64", "DEFAULT", "bf16-true", True),
        ("x86_64", "AVX512", "bf16-mixed", False),
        ("arm64", "DEFAULT", "bf16-mixed", False),
        ("x86_64", "AVX2", "32-true", False),
    ],
)
def test_who_asks_for_bfloat16_hears_that_it_is_emulated(
    tmp_path, monkeypatch, machine, capability, precision, noted
):
    monkeypatch.setattr(platform, "machine", lambda: machine)
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: capability)
    found = notes.emulated_precision(make_trainer(tmp_path, precision=precision))
    assert bool(found) == noted
    for note in found:
        assert note.startswith(f"this CPU ({capability}) has no bfloat16: ")
        assert f"trainer.precision {precision} is emulated here" in note
        assert note.endswith("--trainer.precision 32-true")


def starved(trainer, **options):
    data = make_data(image_size=[96, 128], **options)
    note = notes.starved(0.433, data, trainer)
    for key in re.findall(r"data\.(\w+)", note):
        assert key in inspect.signature(PartialLabels).parameters
    return note


@pytest.mark.parametrize(("workers", "cores", "more"), [(2, 16, True), (16, 16, False)])
def test_what_helps_a_starved_device(tmp_path, monkeypatch, workers, cores, more):
    monkeypatch.setattr(notes, "cores", lambda: cores)
    note = starved(make_trainer(tmp_path), num_workers=workers)
    assert note.startswith("in epoch 0 43% of the training time went into waiting for data; ")
    assert (f"more data.num_workers (now {workers} for each device, on {cores}" in note) == more
    assert "data.image_size (now 96 x 128)" in note
    assert "data.cache: memory" in note  # for images that are no files
    assert "data.cache:" not in starved(make_trainer(tmp_path), cache="memory")


@pytest.mark.parametrize(
    ("device", "options", "helps"),
    [
        ("cpu", {"augmentation": "default"}, "less in data.augmentation"),
        ("cuda", {"augmentation": "default"}, "data.augment_on: device"),
        ("cuda", {"augmentation": "default", "augment_on": "device"}, None),
        ("cuda", {"augmentation": "none"}, None),
    ],
)
def test_where_augmentation_could_be_done(device, options, helps):
    strategy = SimpleNamespace(root_device=torch.device(device))
    note = starved(SimpleNamespace(strategy=strategy, num_devices=1, current_epoch=0), **options)
    assert ("augment" in note) == (helps is not None)
    assert helps is None or helps in note


@pytest.mark.parametrize(
    ("devices", "training", "noted"), [(1, True, False), (2, True, True), (2, False, False)]
)
def test_batch_norm_on_several_devices_is_noted(devices, training, noted):
    network = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4).train(training))
    found = notes.batch_norm(network, SimpleNamespace(world_size=devices))
    assert bool(found) == noted
    assert all("sync_batchnorm" in note for note in found)
