import pytest
import torch
from torchvision.transforms import v2

from mtl_lightning.data import transforms
from mtl_lightning.system.errors import UserError
from mtl_lightning.tasks.normals import Normals

VECTORS = Normals(torch.arange(24.0).view(3, 2, 4))
IMAGE = torch.zeros(3, 2, 4, dtype=torch.uint8)


def moved(transform: torch.nn.Module) -> torch.Tensor:
    return transforms.apply(transform, IMAGE, {"n": VECTORS})[1]["n"]


def test_a_mirrored_image_has_mirrored_vectors():
    plain = VECTORS.as_subclass(torch.Tensor)
    across = moved(v2.RandomHorizontalFlip(1.0))
    assert torch.equal(across[0], -plain[0].flip(-1))
    assert torch.equal(across[1:], plain[1:].flip(-1))
    upside_down = moved(v2.RandomVerticalFlip(1.0))
    assert torch.equal(upside_down[1], -plain[1].flip(-2))
    assert torch.equal(upside_down[[0, 2]], plain[[0, 2]].flip(-2))
    _, by_mirror = transforms.augment(v2.Identity(), IMAGE, (0,), True, {"n": VECTORS})
    assert torch.equal(by_mirror["n"], across)
    assert torch.equal(VECTORS.as_subclass(torch.Tensor), torch.arange(24.0).view(3, 2, 4))


def test_other_transforms_move_pixels_alone():
    cut = moved(v2.CenterCrop((2, 2)))
    assert torch.equal(cut, VECTORS.as_subclass(torch.Tensor)[..., 1:3])


@pytest.mark.parametrize(
    "transform",
    [v2.RandomRotation(10), v2.RandomAffine(10), v2.RandomPerspective(p=1), v2.ElasticTransform()],
)
def test_what_turns_vectors_is_refused_before_training(transform):
    with pytest.raises(UserError, match=r"^augmentation: .* surface normals would not turn"):
        transforms.build([transform], (64, 64), target_types={"n": Normals})
