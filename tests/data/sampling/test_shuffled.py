from mtl_lightning.data.sampling import Shuffled
from tests.data.sampling.populations import random, taken


def test_each_image_once_in_another_order_each_epoch():
    given = random(0)
    epochs = [taken(Shuffled(), given, seed=seed).tolist() for seed in range(3)]
    assert all(sorted(epoch) == list(range(60)) for epoch in epochs)
    assert epochs[0] != epochs[1] != epochs[2]
