import inspect
import os
import platform
import re
from types import SimpleNamespace

import pytest
import torch

from mtl_lightning.data.datamodule import PartialLabels
from mtl_lightning.system import hardware
from tests.helpers.support import make_data, make_trainer


@pytest.mark.parametrize(
    ("machine", "capability", "precision", "told"),
    [
        ("x86_64", "AVX2", "bf16-mixed", True),
        ("AMD64", "DEFAULT", "bf16-true", True),
        ("x86_64", "AVX512", "bf16-mixed", False),
        ("arm64", "DEFAULT", "bf16-mixed", False),
        ("x86_64", "AVX2", "32-true", False),
    ],
)
def test_who_asks_for_bfloat16_hears_that_it_is_emulated(
    tmp_path, monkeypatch, machine, capability, precision, told
):
    monkeypatch.setattr(platform, "machine", lambda: machine)
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: capability)
    notes = hardware.notes(make_trainer(tmp_path, precision=precision))
    assert bool(notes) == told
    for note in notes:
        assert note.startswith(f"this CPU ({capability}) has no bfloat16: ")
        assert f"trainer.precision {precision} is emulated here" in note
        assert note.endswith("--trainer.precision 32-true")


def told(trainer, **options):
    data = make_data(image_size=[96, 128], **options)
    note = hardware.starved(0.433, data, trainer)
    for key in re.findall(r"data\.(\w+)", note):
        assert key in inspect.signature(PartialLabels).parameters
    return note


@pytest.mark.parametrize(("workers", "cores", "more"), [(2, 16, True), (16, 16, False)])
def test_what_helps_a_starved_device(tmp_path, monkeypatch, workers, cores, more):
    monkeypatch.setattr(hardware, "cores", lambda: cores)
    note = told(make_trainer(tmp_path), num_workers=workers)
    assert note.startswith("in epoch 0 43% of the training time went into waiting for data; ")
    assert (f"more data.num_workers (now {workers} for each device, on {cores}" in note) == more
    assert "data.image_size (now 96 x 128)" in note
    assert "data.cache: memory" in note  # for images that are no files
    assert "data.cache:" not in told(make_trainer(tmp_path), cache="memory")


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
    note = told(SimpleNamespace(strategy=strategy, num_devices=1, current_epoch=0), **options)
    assert ("augment" in note) == (helps is not None)
    assert helps is None or helps in note


def test_cores_are_counted():
    assert 1 <= hardware.cores() <= (os.cpu_count() or 1)


def test_free_memory_is_said_where_the_system_says_it():
    free = hardware.free_memory()
    assert free is None or 0 < free < 2**50


def test_a_container_may_be_allowed_less(tmp_path, monkeypatch):
    monkeypatch.setattr(hardware, "CGROUP", tmp_path)
    whole = hardware.free_memory()
    if whole is None:
        pytest.skip("this system does not say how much memory is free")
    for name, text in (
        ("max", "5000"),
        ("current", "3000"),
        ("stat", "anon 1\ninactive_file 700\n"),
    ):
        (tmp_path / f"memory.{name}").write_text(text)
    assert hardware.free_memory() == 2700
    (tmp_path / "memory.max").write_text("max\n")
    assert hardware.free_memory() > 2700
