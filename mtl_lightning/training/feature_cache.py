"""Features of a frozen backbone, computed once before the first epoch."""

from collections.abc import Mapping

import torch
import torch.distributed as dist
from pytorch_lightning import Callback, LightningModule, Trainer
from pytorch_lightning.callbacks import BaseFinetuning
from rich.console import Console
from torch import Tensor

from mtl_lightning.data.batch import PADDING
from mtl_lightning.data.datamodule import PartialLabels
from mtl_lightning.data.features import Features
from mtl_lightning.models.dry_run import eval_mode
from mtl_lightning.models.features import pack
from mtl_lightning.system.errors import UserError
from mtl_lightning.system.hardware import free_memory
from mtl_lightning.system.progress import ProgressBar
from mtl_lightning.system.strategy import check_whole_weights
from mtl_lightning.training.protocol import LateTraining, MultiTaskModule, multi_task

AT_A_TIME = 65_536
"""Number of images whose features the ranks exchange in one call."""


class FeatureCache(Callback):
    """Computes the features of ``data.cache_features`` when a training starts or is resumed.

    Each rank computes them for its share of the images, with the trainer's precision, and then all
    ranks get all of them. It raises an error if features would change during training.
    """

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Refuse unsupported settings."""
        data = _data(trainer)
        if stage == "fit" and data is not None and data.cache_features is not None:
            check_whole_weights(trainer, "data.cache_features")
            reason = _obstacle(trainer, multi_task(pl_module), data, data.cache_features)
            if reason:
                raise UserError(f"data.cache_features: {reason}")

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Compute the features with the weights loaded by now."""
        data = _data(trainer)
        if data is None or data.cache_features is None:
            return
        with eval_mode(pl_module):
            for split, features in data.features.items():
                if len(data.labels.rows(split)):
                    _fill(features, trainer, multi_task(pl_module), data, split)


def _data(trainer: Trainer) -> PartialLabels | None:
    data = trainer.datamodule  # type: ignore[attr-defined]  # set by Lightning
    return data if isinstance(data, PartialLabels) else None


def _obstacle(trainer: Trainer, module: MultiTaskModule, data: PartialLabels, views: int) -> str:
    """Return why features would be wrong, or "" if they would not."""
    sharing = module.network.sharing
    callbacks: list[Callback] = trainer.callbacks  # type: ignore[attr-defined]  # set by Lightning
    thawing = [c for c in callbacks if isinstance(c, LateTraining | BaseFinetuning)]
    backbone = sharing.shared_backbone
    if backbone is None:
        return _not_the_same_features(module)
    if any(p.requires_grad for p in sharing.parameters()) or backbone.trunk.training:
        return (
            "the backbone is trained, so that features change with every step; set trainable_from: "
            "heads in model.backbone, or leave cache_features out"
        )
    if thawing:
        return f"the callback {type(thawing[0]).__name__} trains the backbone later on"
    if module.balancer is not None:
        return "model.balancing weighs what tasks do to a backbone, and none is trained here"
    if data.augment_on == "device":
        return "views are augmented where images are loaded; set data.augment_on: cpu"
    if views == 1 and data.augmented:
        return (
            "1 view would show each image in one random way in all epochs; set data.augmentation: "
            "none (and leave data.mirror out), or more views"
        )
    late = [name for name, task in data.tasks.items() if task.loads_targets]
    if late:
        return (
            f"task {late[0]} reads targets that are augmented with the images, and features are "
            "kept without them; leave cache_features out"
        )
    if views > 1 and not data.augmented:
        return f"all {views} views would be the same without data.augmentation; set it to 1"
    return ""


def _not_the_same_features(module: MultiTaskModule) -> str:
    return (
        f"with model.sharing: {type(module.network.sharing).__name__} the tasks do not read the "
        "same features; it is for Hard alone"
    )


def _fill(
    features: Features, trainer: Trainer, module: MultiTaskModule, data: PartialLabels, split: str
) -> None:
    count, views = len(data.labels.rows(split)), features.views
    _check_room(trainer, module, count * views)
    progress = ProgressBar(Console(stderr=True, quiet=not trainer.is_global_zero))
    bad: dict[int, str] = {}
    values: Tensor | None = None
    for view in range(views):
        loader = data.feature_loader(split, view)
        what = f"features, {split}" + (f", view {view + 1} of {views}" if views > 1 else "")
        for batch in progress.track(loader, len(loader), what):
            bad |= batch.bad
            computed = _computed(trainer, module, batch.inputs)
            if values is None:
                values = computed.new_zeros(views, count, computed.shape[1])
            own = batch.rows != PADDING
            values[view, features.positions(batch.rows[own])] = computed[own]
    assert values is not None  # a split has an image, and each rank at least a padding row
    if dist.is_available() and dist.is_initialized():
        _add_up(values, trainer.strategy.root_device)
        each: list[dict[int, str]] = [{}] * trainer.world_size
        dist.all_gather_object(each, bad)
        bad = {row: reason for rank in each for row, reason in rank.items()}
    features.fill(values, bad)


@torch.no_grad()
def _computed(trainer: Trainer, module: MultiTaskModule, inputs: Mapping[str, Tensor]) -> Tensor:
    moved = {name: values.to(trainer.strategy.root_device) for name, values in inputs.items()}
    with trainer.precision_plugin.forward_context():
        every = module.network.sharing(moved)
    features = next(iter(every.values()))
    if any(other is not features for other in every.values()):
        raise UserError(f"data.cache_features: {_not_the_same_features(module)}")
    return pack(features).cpu()


def _add_up(values: Tensor, device: torch.device) -> None:
    """Give each rank what the others have computed; its own are 0 where it has computed nothing."""
    every = values.flatten(0, 1)
    for start in range(0, len(every), AT_A_TIME):
        part = every[start : start + AT_A_TIME]
        # In float32, which holds them exactly: not every backend can sum bfloat16.
        wide = torch.promote_types(part.dtype, torch.float32)
        moved = part.to(device, wide)
        dist.all_reduce(moved)
        part.copy_(moved)


def _check_room(trainer: Trainer, module: MultiTaskModule, count: int) -> None:
    network = module.network
    width = network.feature_spec.width(network.all_reads)
    need, free = count * width * 4 * trainer.num_devices, free_memory()  # each process holds all
    if free is not None and need > free:
        raise UserError(
            f"data.cache_features: {count:,} times {width:,} features take {need / 1e9:.1f} GB, "
            f"and {free / 1e9:.1f} GB of memory are free; take fewer views, or leave it out"
        )
