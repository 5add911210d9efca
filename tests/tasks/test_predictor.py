import pytest
import torch
from torch.export import Dim

from mtl_lightning.models import Soft
from tests.helpers.data import make_more_tasks
from tests.helpers.training import make_module

IMAGES = torch.randint(
    0, 256, (5, 3, 16, 16), dtype=torch.uint8, generator=torch.Generator().manual_seed(0)
)


def predictor(**arguments):
    tasks = make_more_tasks()
    tasks["size"].fit_statistics(torch.tensor([40.0, 60.0]), torch.ones(()))
    return make_module(tasks=tasks, **arguments).eval().predictor()


def test_answers_are_what_the_tasks_make_of_the_networks_outputs():
    module = predictor()
    answers, outputs = module(IMAGES), module.network({"image": IMAGES})
    assert list(answers) == [
        "kind/probabilities",
        "size/value",
        "rare/probabilities",
        "tags/probabilities",
    ]
    assert torch.equal(answers["kind/probabilities"], outputs["kind"].softmax(1))
    assert torch.equal(answers["tags/probabilities"], outputs["tags"].sigmoid())
    assert torch.equal(answers["size/value"], outputs["size"][:, 0].double() * 10 + 50)


@pytest.mark.parametrize("sharing", [None, Soft(0.1)])
def test_an_exported_program_gives_answers_for_any_number_of_images(sharing):
    module = predictor(sharing=sharing)
    shapes = {"images": {0: Dim("batch", max=64)}}
    program = torch.export.export(module, (IMAGES,), dynamic_shapes=shapes).module()
    for images in (IMAGES, IMAGES[:2]):
        expected, answers = module(images), program(images)
        assert list(answers) == list(expected)
        for name, answer in answers.items():
            torch.testing.assert_close(answer, expected[name])
            assert answer.dtype == (torch.float64 if name == "size/value" else torch.float32)


def test_weights_are_those_of_the_module():
    module = make_module()
    predictor = module.predictor()
    with torch.no_grad():
        module.network.heads["kind"][-1].bias += 1e6 * torch.eye(3)[1]
    assert predictor.eval()(IMAGES)["kind/probabilities"].argmax(1).tolist() == [1] * 5
