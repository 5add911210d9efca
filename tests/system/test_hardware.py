import os

import pytest

from mtl_lightning.system import hardware


def test_cores_are_counted():
    assert 1 <= hardware.cores() <= (os.cpu_count() or 1)


def test_free_memory_is_known_if_the_system_reports_it():
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
