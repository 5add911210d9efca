import pytest
import torch

from mtl_lightning.models import members
from mtl_lightning.models.members import MemberLinear, averaged, repeated


@pytest.fixture
def outputs():
    return torch.randn(4, 3, 5, generator=torch.Generator().manual_seed(0)) * 20


def test_averages_are_means_of_answers(outputs):
    assert torch.equal(members.mean(outputs), outputs.mean(1))
    for average, answer in (
        (members.log_mean_softmax, lambda x: x.softmax(-1)),
        (members.log_mean_sigmoid, torch.sigmoid),
    ):
        torch.testing.assert_close(answer(average(outputs)), answer(outputs).mean(1))


@pytest.mark.parametrize(
    "average", [members.mean, members.log_mean_softmax, members.log_mean_sigmoid]
)
def test_members_that_agree_answer_as_one(average):
    one = torch.tensor([[-300.0, 0.0, 300.0]])
    found = average(one[:, None].expand(1, 4, 3))
    torch.testing.assert_close(found - found[:, 1:2], one)
    assert average(one[:, None].bfloat16()).dtype == torch.float32
    assert average(one[:, None].double()).dtype == torch.float64


def test_rows_are_repeated_beside_each_other(outputs):
    number, (targets,) = repeated(outputs.flatten(0, 1), torch.arange(4))
    assert number == 3
    assert targets.tolist() == [0, 0, 0, 1, 1, 1, 2, 2, 2, 3, 3, 3]
    number, (targets,) = repeated(outputs.flatten(1), torch.arange(4))
    assert (number, targets.tolist()) == (1, [0, 1, 2, 3])
    assert repeated(torch.zeros(0, 5), torch.zeros(0))[0] == 1


def test_the_outputs_of_either_mode_become_those_of_the_ensemble(outputs):
    found = averaged(outputs.flatten(0, 1), 4, members.mean)
    assert torch.equal(found, outputs.mean(1))
    assert averaged(found, 4, members.mean) is found


def test_each_member_has_a_layer_of_its_own():
    layer, values = MemberLinear(3, 7, 2), torch.randn(5, 3, 7)
    found = layer(values)
    for member in range(3):
        own = values[:, member] @ layer.weight[:, member].T + layer.bias[:, member]
        torch.testing.assert_close(found[:, member], own)
