import pickle

import pytest
import torch
from lightning_utilities.core.apply_func import apply_to_collection
from pytorch_lightning.plugins.precision import DoublePrecision, HalfPrecision

from mtl_lightning.data.batch import PADDING, Batch


@pytest.fixture
def batch():
    return Batch(
        inputs={"image": torch.zeros(3, 3, 4, 4, dtype=torch.uint8)},
        targets={"year": torch.tensor([2003.0, 0.0, 1999.0]), "kind": torch.tensor([1, 0, 2])},
        labelled={"year": torch.tensor([True, False, True]), "kind": torch.ones(3).bool()},
        rows=torch.tensor([4, 7, PADDING]),
        counts={"year": 5, "kind": 6},
        step_rows=6,
        gradient_divisor=2,
        bad={7: "broken"},
    )


def test_length_is_the_number_of_images_with_padding(batch):
    assert len(batch) == 3


def test_to_moves_every_tensor_and_keeps_the_rest(batch):
    moved = batch.to("meta", non_blocking=True)
    tensors = [moved.inputs["image"], moved.rows, *moved.targets.values(), *moved.labelled.values()]
    assert {tensor.device.type for tensor in tensors} == {"meta"}
    assert len(tensors) == 6
    assert (moved.counts, moved.step_rows, moved.gradient_divisor) == (batch.counts, 6, 2)
    assert moved.bad == {7: "broken"}
    assert batch.inputs["image"].device.type == "cpu"


@pytest.mark.parametrize("precision", [HalfPrecision("bf16-true"), DoublePrecision()])
def test_lightning_does_not_round_the_targets_to_the_networks_precision(batch, precision):
    converted = precision.convert_input(batch)
    assert converted.targets["year"].tolist() == [2003, 0, 1999]
    assert converted.targets["year"].dtype == torch.float32


def test_lightning_moves_it_whole(batch):
    assert apply_to_collection(batch, dtype=torch.Tensor, function=lambda _: None) is batch


def test_what_is_not_in_main_memory_is_not_pinned(batch, monkeypatch):
    pinned = []
    monkeypatch.setattr(torch.Tensor, "pin_memory", lambda self: pinned.append(self) or self)
    batch.inputs = {"numbers": torch.zeros(3, 2, device="meta")}
    batch.pin_memory()
    assert {values.device.type for values in pinned} == {"cpu"}
    assert len(pinned) == 5


def test_a_batch_travels_between_processes(batch):
    copy = pickle.loads(pickle.dumps(batch))
    assert copy.rows.tolist() == batch.rows.tolist()
    assert copy.counts == batch.counts
    assert copy.bad == batch.bad


def test_labels_of_float64_are_float32_on_devices_that_have_no_other(batch, monkeypatch):
    batch.targets["age"] = torch.tensor([3.5, 4.5], dtype=torch.float64)
    places = []
    monkeypatch.setattr(torch.Tensor, "to", lambda self, place: places.append(place) or self)
    sent = batch.to(torch.device("mps", 0))
    assert set(places) == {torch.device("mps", 0)}
    assert sent.targets["age"].dtype == torch.float32
    assert batch.to(torch.device("cpu")).targets["age"].dtype == torch.float64
