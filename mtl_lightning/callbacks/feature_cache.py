"""What a frozen backbone makes of the images, computed once, before the first epoch."""

from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from pytorch_lightning import Callback, LightningModule, Trainer
from pytorch_lightning.callbacks import BaseFinetuning
from rich.console import Console
from torch import Tensor

from mtl_lightning.callbacks.unfreeze import Unfreeze
from mtl_lightning.data.batch import PADDING
from mtl_lightning.data.datamodule import PartialLabels
from mtl_lightning.data.features import Features
from mtl_lightning.errors import UserError
from mtl_lightning.hardware import free_memory
from mtl_lightning.models import Hard
from mtl_lightning.module import MultiTask
from mtl_lightning.progress import Progress


class FeatureCache(Callback):
    """Computes the features of ``data.cache_features`` where a training begins or is resumed.

    Each rank computes those of its share of the images, with the trainer's precision, and then all
    have all. It is refused where features would not stay what they are.
    """

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Refuse what would be wrong."""
        data = _data(trainer)
        if stage == "fit" and data is not None and data.cache_features is not None:
            assert isinstance(pl_module, MultiTask)
            reason = _obstacle(trainer, pl_module, data, data.cache_features)
            if reason:
                raise UserError(f"data.cache_features: {reason}")

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Compute the features, with the weights that are there by now."""
        data = _data(trainer)
        if data is None or data.cache_features is None:
            return
        assert isinstance(pl_module, MultiTask)
        training = pl_module.training
        pl_module.eval()
        for split, features in data.features.items():
            views = data.cache_features if split == "train" else 1
            if len(data.rows(split)):
                _fill(features, trainer, pl_module, data, split, views)
        pl_module.train(training)


def _data(trainer: Trainer) -> PartialLabels | None:
    data = trainer.datamodule  # type: ignore[attr-defined]  # set by Lightning
    return data if isinstance(data, PartialLabels) else None


def _obstacle(trainer: Trainer, module: MultiTask, data: PartialLabels, views: int) -> str:
    """Return why features would be wrong, nothing if they would not."""
    sharing = module.network.sharing
    callbacks: list[Callback] = trainer.callbacks  # type: ignore[attr-defined]
    thawing = [c for c in callbacks if isinstance(c, Unfreeze | BaseFinetuning)]
    if not isinstance(sharing, Hard):
        return (
            f"with model.sharing: {type(sharing).__name__} the tasks do not read the same "
            "features; it is for Hard alone"
        )
    if any(p.requires_grad for p in sharing.parameters()) or sharing.backbone.trunk.training:
        return (
            "the backbone is trained, so that features change with every step; set trainable_from: "
            "heads in model.backbone, or leave cache_features out"
        )
    if thawing:
        return f"the callback {type(thawing[0]).__name__} trains the backbone later on"
    if module.balance is not None:
        return "model.balancing weighs what tasks do to a backbone, and none is trained here"
    if data.augment_on == "device":
        return "views are augmented where images are loaded; set data.augment_on: cpu"
    augmented = data.augmentation != "none" or data.mirror is not None
    if views == 1 and augmented:
        return (
            "1 view would show each image in one random way in all epochs; set data.augmentation: "
            "none (and leave data.mirror out), or more views"
        )
    if views > 1 and not augmented:
        return f"all {views} views would be the same without data.augmentation; set it to 1"
    return ""


def _fill(
    features: Features,
    trainer: Trainer,
    module: MultiTask,
    data: PartialLabels,
    split: str,
    views: int,
) -> None:
    rows = data.rows(split)
    _check_room(module, len(rows) * views)
    console = Console(stderr=True, quiet=not trainer.is_global_zero)
    found: list[Tensor] = []
    for view in range(views):
        loader = data.feature_loader(split, view)
        what = f"features, {split}" + (f", view {view + 1} of {views}" if views > 1 else "")
        own_rows, values = [], []
        for batch in Progress(console).watch(loader, len(loader), what):
            features.bad |= batch.bad
            own_rows.append(batch.rows)
            values.append(_computed(trainer, module, batch.images))
        together, of_view = _of_all_ranks(
            torch.cat(own_rows), torch.cat(values), trainer.strategy.root_device
        )
        found.append(of_view)
    if dist.is_available() and dist.is_initialized():
        each: list[dict[int, str]] = [{}] * trainer.world_size
        dist.all_gather_object(each, features.bad)
        features.bad = {row: said for bad in each for row, said in bad.items()}
    features.values = torch.stack(found)
    features.position = np.full(len(data.merged()), PADDING)
    features.position[together.numpy()] = np.arange(len(together))


@torch.no_grad()
def _computed(trainer: Trainer, module: MultiTask, images: Tensor) -> Tensor:
    with trainer.precision_plugin.forward_context():
        every = module.network.sharing(images.to(module.device))
    features: Tensor = next(iter(every.values()))
    return features.cpu()


def _of_all_ranks(rows: Tensor, values: Tensor, device: torch.device) -> tuple[Tensor, Tensor]:
    """Return the rows of all ranks, sorted and each once, and their values."""
    if dist.is_available() and dist.is_initialized():
        most = torch.tensor(len(rows), device=device)
        dist.all_reduce(most, dist.ReduceOp.MAX)
        room = int(most) - len(rows)
        rows = torch.cat([rows, rows.new_full((room,), PADDING)])
        values = torch.cat([values, values.new_zeros(room, values.shape[1])])
        gathered: list[Any] = []
        for own in (rows, values):
            everyone = [torch.empty_like(own, device=device) for _ in range(dist.get_world_size())]
            dist.all_gather(everyone, own.to(device))
            gathered.append(torch.cat(everyone).cpu())
        rows, values = gathered
    order = rows.argsort()
    order = order[rows[order] != PADDING]
    return rows[order], values[order]


def _check_room(module: MultiTask, count: int) -> None:
    width = module.network.sharing.num_features(module.network.image_size)
    need, free = count * width * 4, free_memory()
    if free is not None and need > free:
        raise UserError(
            f"data.cache_features: {count:,} times {width:,} features take {need / 1e9:.1f} GB, "
            f"and {free / 1e9:.1f} GB of memory are free; take fewer views, or leave it out"
        )
