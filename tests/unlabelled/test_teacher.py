import pytest
import torch

from mtl_lightning.models.inputs import image_input
from mtl_lightning.models.network import Network
from mtl_lightning.models.sharing import Hard
from mtl_lightning.unlabelled.teacher import Teacher
from tests.helpers.models import Small, heads_of


def network():
    return Network(Hard(), Small(), heads_of({"a": 2}), image_input((16, 16)))


def moved(own, by):
    with torch.no_grad():
        for parameter in own.parameters():
            parameter += by


def test_it_is_the_moving_average_with_a_warm_up():
    own = network()
    teacher = Teacher(own, 0.5)
    before = [p.clone() for p in own.parameters()]
    expected = 0.0
    for n in range(9):
        moved(own, 1.0)
        decay = min(0.5, (1 + n) / (10 + n))
        expected = decay * expected + (1 - decay) * (n + 1)
        teacher.update(own)
    for mean, start in zip(teacher.network.parameters(), before, strict=True):
        torch.testing.assert_close(mean - start, torch.full_like(start, expected))


def test_it_has_the_buffers_of_the_network():
    own = network()
    own.register_buffer("seen", torch.tensor(1))
    teacher = Teacher(own, 0.9)
    own.seen += 4
    teacher.update(own)
    assert teacher.network.seen == 5
    assert not any(p.requires_grad for p in teacher.network.parameters())
    assert all(p.requires_grad for p in own.parameters())


def test_in_bfloat16_small_steps_add_up():
    own = network().bfloat16()
    teacher = Teacher(own, 0.999)
    start = [p.clone() for p in teacher.network.parameters()]
    moved(own, 0.5)
    for _ in range(300):
        teacher.update(own)
    for mean, before in zip(teacher.network.parameters(), start, strict=True):
        assert mean.dtype == torch.bfloat16
        assert (mean - before).mean().item() == pytest.approx(0.5, rel=0.1)


def test_it_answers_as_in_evaluation_and_leaves_the_network_alone():
    own = network().train()
    images = {"image": torch.randint(0, 256, (4, 3, 16, 16), dtype=torch.uint8)}
    teacher = Teacher(own, 0.9)
    answers = teacher(images)["a"]
    assert not answers.requires_grad
    assert not any(part.training for part in teacher.network.modules())
    assert own.training
    own.eval()
    assert torch.equal(answers, own(images)["a"])


def test_a_checkpoint_continues():
    own = network()
    whole, other = Teacher(own, 0.9), Teacher(own, 0.9)
    moved(own, 1.0)
    whole.update(own)
    other.load_state_dict(whole.state_dict())
    for teacher in (whole, other):
        moved(own, 0.0)
        teacher.update(own)
    pairs = zip(whole.network.parameters(), other.network.parameters(), strict=True)
    assert all(torch.equal(*pair) for pair in pairs)
