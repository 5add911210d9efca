import numpy as np
import torch

from mtl_lightning.inference.description import Description
from mtl_lightning.inference.values import arguments_of, examples
from tests.helpers.files import exported_tables
from tests.helpers.files.exports import SIZE


def test_examples_have_every_input_in_the_order_of_the_arguments():
    reads = ("image", "has_image", "numbers", "categories")
    description = Description({}, {}, SIZE, inputs=exported_tables.INPUTS, reads=reads)
    values = examples(description, 2, np.random.default_rng(0))
    columns = [f"inputs/{name}" for name in exported_tables.INPUTS]
    assert list(values) == ["images", "has_image", *columns]
    assert {len(own) for own in values.values()} == {2}
    arguments = arguments_of(dict(reversed(values.items())))
    assert list(arguments)[:2] == ["images", "has_image"]
    assert set(arguments["columns"]) == set(exported_tables.INPUTS)
    assert arguments["images"].dtype == torch.uint8
    assert arguments["columns"]["cat"].tolist() == values["inputs/cat"].tolist()


def test_a_network_gets_what_it_reads_alone():
    description = Description({}, {}, SIZE, reads=("image",))
    assert list(examples(description, 2, np.random.default_rng(0))) == ["images"]
    assert list(arguments_of(examples(description, 2, np.random.default_rng(0)))) == ["images"]
