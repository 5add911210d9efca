"""Dense tasks as they are trained: resumed, balanced, cached, on their own, and transformed."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from pytorch_lightning import Callback, Trainer, seed_everything
from torchjd import aggregation
from torchvision import tv_tensors
from torchvision.transforms import v2

from mtl_lightning.data import transforms
from mtl_lightning.data.datamodule import PartialLabels
from mtl_lightning.data.sources import ShapesSource
from mtl_lightning.models import DecoderOptions
from mtl_lightning.system.errors import UserError
from mtl_lightning.tasks import Classification, DenseRegression, Segmentation, Task
from mtl_lightning.training.module import MultiTask
from tests.helpers.models import LAYERED, Layered
from tests.helpers.training import largest_difference, make_trainer, weights

CLASSES = ["background", "circle", "square", "triangle"]


def tasks(only: tuple[str, ...] = (), finest: int = 1) -> dict[str, Task]:
    narrow = DecoderOptions(width=4, finest=finest, dropout=0.2)
    every: dict[str, Task] = {
        "shape": Classification(CLASSES[1:]),
        "segmentation": Segmentation(CLASSES, loss="both", decoder=narrow),
        "depth": DenseRegression("m", scale=0.001, loss="log", decoder=narrow),
    }
    return {name: task for name, task in every.items() if not only or name in only}


def shapes(own: dict[str, Task], **options: Any) -> PartialLabels:
    missing = {"shape": 0.5, "segmentation": 0.5, "depth": 0.5}
    left_out = {name: task for name, task in tasks().items() if name not in own}
    arguments: dict[str, Any] = {"image_size": 16, "num_workers": 0, "batch_size": 4}
    arguments |= {"augmentation": "default", "left_out": left_out}
    source = ShapesSource(scenes=50, size=20, missing=missing)
    return PartialLabels(own, {"shapes": source}, **(arguments | options))


def network(own: dict[str, Task], **options: Any) -> MultiTask:
    torch.manual_seed(1)
    given = {"optimizer": lambda p: torch.optim.SGD(p, lr=0.02), "image_size": 16} | options
    return MultiTask(own, Layered(**LAYERED["rows"]), **given)


class Save(Callback):
    """Saves a checkpoint after a micro-batch of the second epoch, in the middle of a step."""

    def __init__(self, path: Path, at: int) -> None:
        self.path, self.at = path, at

    def on_train_batch_end(self, trainer: Trainer, pl_module: Any, *_: Any) -> None:
        if trainer.current_epoch == 1 and trainer.global_step == self.at:
            trainer.save_checkpoint(self.path)


def trained(
    folder: Path,
    callbacks: tuple[Callback, ...] = (),
    ckpt_path: Path | None = None,
    data: dict[str, Any] | None = None,
    only: tuple[str, ...] = (),
    finest: int = 1,
    trainer: dict[str, Any] | None = None,
    **module: Any,
) -> MultiTask:
    own = tasks(only, finest)
    seed_everything(3, verbose=False)
    options = {"max_epochs": 2, "callbacks": list(callbacks)} | (trainer or {})
    model = network(own, **module)
    runner = make_trainer(folder, **options)
    runner.fit(model, datamodule=shapes(own, **(data or {})), ckpt_path=ckpt_path)
    return model


def test_a_resumed_training_is_the_uninterrupted_one(tmp_path):
    accumulate = {"accumulate_grad_batches": 2}
    path = tmp_path / "middle.ckpt"
    whole = trained(tmp_path, (Save(path, 7),), trainer=accumulate)
    assert path.exists()
    resumed = trained(tmp_path, ckpt_path=path, trainer=accumulate)
    assert resumed.tasks["depth"].std == whole.tasks["depth"].std != 1
    for name, value in weights(whole).items():
        assert torch.equal(value, weights(resumed)[name]), name
    assert resumed.results["val"].tasks == whole.results["val"].tasks


@pytest.mark.parametrize("gradients", ["parameters", "features"])
def test_the_sum_of_the_tasks_gradients_is_the_gradient_of_their_sum(tmp_path, gradients):
    options: dict[str, Any] = {"trainer": {"precision": "64-true"}}
    if gradients == "features":  # which all heads have to read
        options |= {"only": ("segmentation", "depth"), "finest": 4}
    plain = trained(tmp_path, **options)
    options["gradients"] = gradients
    summed = trained(tmp_path, balancing=aggregation.Sum(), **options)
    assert largest_difference(weights(plain), weights(summed)) < 1e-9
    other = trained(tmp_path, balancing=aggregation.UPGrad(), **options)
    assert largest_difference(weights(plain), weights(other)) > 1e-3


def test_gradients_of_features_need_heads_that_read_the_same(tmp_path):
    read = r"pooled \(shape\); rest, first \(segmentation\); rest, first \(depth\)\. Leave model"
    with pytest.raises(UserError, match=rf"^model\.gradients should be parameters .+ read {read}"):
        trained(tmp_path, balancing=aggregation.Sum(), gradients="features")


def test_cached_images_train_the_same(tmp_path):
    plain, cached = trained(tmp_path), trained(tmp_path, data={"cache": "memory"})
    for name, value in weights(plain).items():
        assert torch.equal(value, weights(cached)[name]), name


def test_a_single_task_has_the_images_of_the_whole_config(tmp_path):
    alone, whole = trained(tmp_path, only=("depth",)), trained(tmp_path)
    assert list(alone.tasks) == ["depth"]
    counts = [m.results["val"].tasks["depth"]["n_labelled"] for m in (alone, whole)]
    assert counts == [5, 5]


@pytest.mark.parametrize(
    "moves",
    [
        [v2.RandomResizedCrop((16, 16), scale=(0.3, 1.0)), v2.RandomHorizontalFlip()],
        [v2.RandomAffine(20, (0.2, 0.2), (0.7, 1.3)), v2.RandomCrop(16)],
        [v2.RandomPerspective(p=1.0), v2.ColorJitter(0.5, 0.5), v2.CenterCrop(16)],
    ],
)
def test_image_and_labels_are_torchvisions_transforms_called_by_hand(moves):
    source = ShapesSource(scenes=10, size=24)
    table = source.read(["segmentation", "depth"])
    own = tasks()
    ours = transforms.build(moves, (16, 16), target_types={"segmentation": tv_tensors.Mask})
    for row in range(10):
        image = torch.from_numpy(source.load(table.images[row])).permute(2, 0, 1)
        targets = {
            task: own[task].load_target(source.target_content(table.labels[task][row]))
            for task in ("segmentation", "depth")
        }
        found, masks = transforms.augment(ours, image, (7, 3, row), targets=targets)
        torch.manual_seed(int(np.random.SeedSequence([7, 3, row]).generate_state(1, np.uint64)[0]))
        by_hand = v2.Compose(moves)(
            tv_tensors.Image(image), *[tv_tensors.Mask(target) for target in targets.values()]
        )
        assert torch.equal(found, by_hand[0])
        for mask, expected in zip(masks.values(), by_hand[1:], strict=True):
            assert torch.equal(mask, expected)
