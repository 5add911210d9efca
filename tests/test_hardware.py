import platform

import pytest
import torch

from mtl_lightning import hardware
from tests.support import make_trainer


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
