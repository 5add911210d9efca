import numpy as np
import torch

from mtl_lightning.data.batch import PADDING
from mtl_lightning.data.features import FeatureDataset, Features
from mtl_lightning.data.plan import Request
from mtl_lightning.tasks import Encoded

FEATURES = Features(np.array([2, 3, 0]), 4, views=2)  # row 1 is in another split
FEATURES.fill(torch.arange(1.0, 13.0).reshape(2, 3, 2), {3: "t.csv row 5: broken"})


def test_views_are_taken_in_turn():
    assert [FEATURES.view(epoch) for epoch in range(5)] == [0, 1, 0, 1, 0]


def test_rows_find_their_features_and_padding_has_none():
    found = FEATURES.of(np.array([3, PADDING, 0, 2]), view=1)
    assert found.tolist() == [[9, 10], [0, 0], [11, 12], [7, 8]]


def test_a_batch_has_no_images_and_no_label_of_a_bad_one():
    encoded = Encoded(np.array([5, 6, 7, 8]), np.ones(4, dtype=bool), np.zeros(4, dtype=bool))
    data = FeatureDataset(FEATURES, {"kind": encoded})
    batch = data.__getitems__(Request(np.array([0, 3, PADDING]), {"kind": 9}, 12, 1, epoch=3))
    assert batch.inputs == {}
    assert batch.features.tolist() == [[11, 12], [9, 10], [0, 0]], "of the second view"
    assert batch.labelled["kind"].tolist() == [True, False, False]
    assert batch.targets["kind"][0] == 5
    assert batch.bad == {3: "t.csv row 5: broken"}
    assert (batch.counts, batch.step_rows) == ({"kind": 9}, 12)
