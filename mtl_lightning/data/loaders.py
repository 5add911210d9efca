"""The loaders of the DataModule: a split's rows to batches, on one rank of a trainer."""

import multiprocessing
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from pytorch_lightning import LightningDataModule, Trainer
from rich.console import Console
from torch import Tensor, nn
from torch.utils.data import DataLoader
from torchvision import tv_tensors

from mtl_lightning.data import transforms
from mtl_lightning.data.bad_images import (
    SKIP_TARGETS,
    BadImages,
    Files,
    PositionFn,
    Recount,
    raise_on_bad_image,
)
from mtl_lightning.data.batch import HAS_IMAGE, IMAGE, Batch
from mtl_lightning.data.batch_sampler import PlanSampler
from mtl_lightning.data.cache import Builder, CachedImages
from mtl_lightning.data.cache import Mode as CacheMode
from mtl_lightning.data.dataset import NO_COLUMNS, ImageDataset, Images, RowDataset
from mtl_lightning.data.features import FeatureDataset, Features
from mtl_lightning.data.input_columns import encode_inputs
from mtl_lightning.data.input_wait import InputWaitTimer
from mtl_lightning.data.labels import LabelTable
from mtl_lightning.data.loading import loader
from mtl_lightning.data.mirroring.mirror import NO_MIRRORING, Mirror, Mirroring
from mtl_lightning.data.on_device import OnDevice
from mtl_lightning.data.plan import StepPlan
from mtl_lightning.data.planning import limit_plan, plan_split, plan_training
from mtl_lightning.data.resizing import Resize
from mtl_lightning.data.sampling import Sampling
from mtl_lightning.data.target_files import TargetFiles
from mtl_lightning.data.unlabelled import UnlabelledImages
from mtl_lightning.inputs import Input
from mtl_lightning.system.errors import UserError
from mtl_lightning.system.seeding import global_seed
from mtl_lightning.tasks import Encoded, Task

SAMPLED_TARGETS = 64
"""Number of training targets that are read before training, for statistics and mistakes."""
TRIAL = 16
"""Number of images that a ``fast_dev_run`` caches: enough to test whether a cache works."""


class SplitLoaders(LightningDataModule):
    """The loaders of `mtl_lightning.data.datamodule.PartialLabels`, which has their settings.

    Attributes:
        labels: The merged table with the encoded labels of each task.
        size: The (height, width) of batches, in pixels.
        bad: The images and targets that were skipped.
        features: Split to its cached features, if they replace the images.
        input_wait: Measures how long training waits for images.
        train_plan: The plan of the current training, after its loader is made.
    """

    tasks: dict[str, Task]
    inputs: dict[str, Input]
    labels: LabelTable
    size: tuple[int, int]
    resize: Resize
    batch_size: int
    num_workers: int
    augmentation: Literal["default", "none"] | list[nn.Module]
    mirror: Mirror | None
    augment_on: Literal["cpu", "device"]
    sampling: Sampling | None
    cache: CacheMode
    cache_dir: Path
    on_bad_image: Literal["error", "skip"]
    max_pixels: int
    bad: BadImages

    def __init__(self) -> None:
        super().__init__()
        self.features: dict[str, Features] = {}
        self.input_wait = InputWaitTimer()
        self.train_plan: StepPlan | None = None
        self._unlabelled = False
        self._to_predict: Images | None = None
        self._predicted: NDArray[np.int64] = np.empty(0, dtype=np.int64)
        self._resumed = (0, 0)
        self._used: NDArray[np.int64] = np.empty(0, dtype=np.int64)
        """The rows whose images a stage loads."""
        self._cached: CachedImages | None = None
        self._on_device: OnDevice | None = None
        self._reads: tuple[str, ...] = (IMAGE,)

    def resume_at(self, epoch: int, rows: int) -> None:
        """Start training within an epoch, some rows of which an earlier process has processed.

        Args:
            epoch: The epoch.
            rows: The number of its rows that all ranks have processed.
        """
        self._resumed = epoch, rows

    def predict_on(self, images: Images) -> None:
        """Set the images that ``predict`` loads."""
        self._to_predict = images
        self._predicted = np.empty(0, dtype=np.int64)

    def leave_out(self, done: NDArray[np.int64]) -> None:
        """Do not load images that were predicted before, by their numbers."""
        self._predicted = done

    @property
    def loads_images(self) -> bool:
        """Whether the network reads images."""
        return IMAGE in self._reads

    def provide_inputs(self, names: Collection[str]) -> None:
        """Load these inputs from now on; called after `setup`.

        Args:
            names: The inputs that the network reads. If it does not read which rows have an image,
                all should have one.

        Raises:
            UserError: If rows have no image, or a setting is about images that are not read.
        """
        self._reads = tuple(names)
        if IMAGE not in names:
            self._refuse_image_settings()
        if IMAGE not in names or not len(self._used):  # to predict, no row is from a source
            return
        table = self.labels.table
        lacks = self._used[~table.has_image[self._used]]
        late = [name for name, task in self.tasks.items() if task.loads_targets]
        if len(lacks) and (HAS_IMAGE not in names or late):
            what = f"which task {late[0]} needs" if late else "which the backbone reads"
            raise UserError(
                f"{table.location(int(lacks[0]))}: each row should have an image, {what}. Found "
                f"{len(lacks):,} rows without; ImageAndTable does without one where columns are "
                f"given, and TableMLP reads columns alone"
            )

    def _refuse_image_settings(self) -> None:
        for name, task in self.tasks.items():
            if task.loads_targets:
                raise UserError(
                    f"task {name}: {type(task).__name__} needs images. Found a backbone that reads "
                    f"none"
                )
        for key, default in (("mirror", None), ("cache", "none"), ("cache_features", None)):
            if getattr(self, key) != default:
                raise UserError(
                    f"data.{key} is about images, and the backbone reads none; leave it out"
                )

    def include_unlabelled(self) -> None:
        """Train also on cells without a label: all images, each also without augmentation.

        Called after `setup` and before the loaders are made.
        """
        self._unlabelled = True
        self._used = np.union1d(self._used, self.labels.rows("train", unlabelled=True))

    def training_paused(self) -> None:
        """Stop measuring the wait for data until training requests the next batch."""
        self.input_wait.pause()

    def train_dataloader(self) -> DataLoader[Batch]:
        """Load the training images in the order of the step plan."""
        trainer = self._trainer()
        seed = global_seed()
        overfit: float = trainer.overfit_batches  # type: ignore[attr-defined]  # set by Lightning
        shuffle_seed = seed if overfit == 0 else None
        plan = limit_plan(self._train_plan(shuffle_seed), trainer.limit_train_batches)
        plan = replace(plan, resumed=self._resumed)
        self.train_plan = plan

        def position() -> tuple[int, int]:
            # After an interruption, a sampler draws the current epoch again.
            return trainer.current_epoch, trainer.fit_loop.epoch_loop.batch_progress.current.ready

        on_device = self.augment_on == "device"
        transform = self._transform(trainer.strategy.root_device if on_device else "cpu")
        self._on_device = None
        if on_device and transform is not None:
            types, plain = self._target_types(), self._unlabelled
            self._on_device = OnDevice(transform, seed, self._mirroring(), types, plain)
            transform = None
        return self._loader(self._dataset("train", transform), "train", plan, position)

    def transfer_batch_to_device(
        self, batch: Batch, device: torch.device, dataloader_idx: int
    ) -> Batch:
        """Move a batch; augment training images on the device if ``augment_on`` says so."""
        moved: Batch = super().transfer_batch_to_device(batch, device, dataloader_idx)
        trainer = self._trainer()
        if self._on_device is not None and trainer.training:
            self._on_device(moved, batch, trainer.current_epoch)
        return moved

    def val_dataloader(self) -> DataLoader[Batch] | list[DataLoader[Batch]]:
        """Load each validation image once."""
        return self._evaluated("val") if len(self.labels.rows("val")) else []

    def test_dataloader(self) -> DataLoader[Batch]:
        """Load each test image once."""
        return self._evaluated("test")

    def predict_dataloader(self) -> DataLoader[Batch]:
        """Load each image of ``to_predict`` once, in order."""
        if self._to_predict is None:
            raise UserError("predict needs images: give --images FOLDER, TABLE or GLOB")
        images = self._to_predict
        if isinstance(images, UnlabelledImages):
            images = replace(images, cover=self.size)
        rows = np.setdiff1d(np.arange(len(images)), self._predicted)
        plan = StepPlan(rows, {}, self.batch_size, self._trainer().world_size)
        columns = NO_COLUMNS
        if isinstance(images, UnlabelledImages) and self.inputs:
            columns = encode_inputs(
                self.inputs,
                images.inputs,
                images.has_image,
                images.location_of_input,
                mend="an empty cell",
            ).only(self._reads)
        if IMAGE not in self._reads:
            table = RowDataset(columns, {}, len(images))
            return self._loader(table, "predict", plan, _from_the_start)
        dataset = ImageDataset(
            images, {}, self.size, None, 0, self.max_pixels, mode=self.resize, columns=columns
        )
        return self._loader(dataset, "predict", plan, _from_the_start)

    def _trainer(self) -> Trainer:
        if self.trainer is None:
            raise RuntimeError("loaders are made by a Trainer: their batches depend on its ranks")
        return self.trainer

    @property
    def augmented(self) -> bool:
        """Whether training images are transformed differently than in evaluation."""
        return self.augmentation != "none" or self.mirror is not None

    def _transform(self, device: torch.device | str = "cpu") -> nn.Module | None:
        """Return the transform of training images, None for that of evaluation."""
        if not self.augmented or IMAGE not in self._reads:
            return None
        flip, types = self.mirror is None, self._target_types()
        return transforms.build(self.augmentation, self.size, flip, device, types)

    def sample_targets(self, task: str) -> list[Tensor]:
        """Read the targets of some training rows, evenly spaced, of a task that loads targets.

        Raises:
            UserError: If one cannot be used, unless such targets are skipped.
        """
        own, table = self.tasks[task], self.labels.table
        files = TargetFiles(task, own, table, self.size, self.max_pixels)
        rows = np.flatnonzero(self.labels.encoded[task].labelled & table.in_split("train"))
        found = []
        count = min(len(rows), TRIAL if self._is_trial() else SAMPLED_TARGETS)
        for row in rows[np.linspace(0, len(rows) - 1, count).astype(np.int64)].tolist():
            try:
                found.append(files.read(row))
            except UserError as error:
                if self.on_bad_image == "error":
                    raise UserError(f"{error}; {SKIP_TARGETS}") from None
        return found

    def _target_types(self) -> dict[str, type[tv_tensors.Mask]]:
        return {n: task.target_type for n, task in self.tasks.items() if task.loads_targets}

    def _is_trial(self) -> bool:
        """Whether only a few batches are loaded, for which filling a cache is not worth it."""
        return bool(self._trainer().fast_dev_run)  # type: ignore[attr-defined]  # set by Lightning

    def _train_plan(self, shuffle_seed: int | None) -> StepPlan:
        trainer = self._trainer()
        return plan_training(
            self.labels,
            self.sampling,
            self.batch_size,
            trainer.world_size,
            trainer.accumulate_grad_batches,
            shuffle_seed,
            self._unlabelled,
        )

    def _evaluated(self, split: str) -> DataLoader[Batch]:
        plan = plan_split(self.labels, split, self.batch_size, self._trainer().world_size)
        return self._loader(self._dataset(split), split, plan, _from_the_start)

    def _mirroring(self) -> Mirroring:
        """Return which training images are mirrored, and their labels."""
        probability = 0.0 if self.mirror is None else self.mirror.probability
        return Mirroring(probability, global_seed(), self.labels.mirrored)

    def _images(self) -> Images:
        """Return the images; a cache is filled here, after all checks of the training."""
        if self.cache == "none":
            return self.labels.table
        if self._cached is None:
            self._cached = self._fill_cache(self._used[: TRIAL if self._is_trial() else None])
        return self._cached

    def _fill_cache(self, rows: NDArray[np.int64]) -> CachedImages:
        trainer, rows = self._trainer(), rows[self.labels.table.has_image[rows]]
        seen = trainer.is_global_zero or self.cache == "disk"
        console = Console(stderr=True, quiet=not seen)
        skip = self.on_bad_image == "skip"
        builder = Builder(self.labels.table, self.size, self.max_pixels, skip, console, self.resize)
        if self.cache == "disk":
            return builder.on_disk(rows, self.cache_dir)
        if self.num_workers and multiprocessing.get_start_method() != "fork":
            raise UserError(
                "data.cache: memory is shared by forking with the processes that load images, "
                "which is not how this system starts them; use data.cache: disk"
            )
        return builder.in_memory(rows, trainer.num_devices)

    def _dataset(
        self, split: str, transform: nn.Module | None = None
    ) -> ImageDataset | RowDataset | FeatureDataset:
        if IMAGE not in self._reads:
            columns = self.labels.input_columns.only(self._reads)
            near = columns.near(self._trainer().strategy.root_device)
            return RowDataset(near, self.labels.encoded, len(self.labels.table))
        mirroring = self._mirroring() if split == "train" else NO_MIRRORING
        if split in self.features:
            return FeatureDataset(self.features[split], self.labels.encoded, mirroring)
        plain = self._unlabelled and split == "train"
        return self._image_dataset(self.labels.encoded, transform, mirroring, plain)

    def _image_dataset(
        self,
        encoded: Mapping[str, Encoded],
        transform: nn.Module | None,
        mirroring: Mirroring,
        plain: bool = False,
    ) -> ImageDataset:
        table = self.labels.table
        return ImageDataset(
            self._images(),
            encoded,
            self.size,
            transform,
            global_seed(),
            self.max_pixels,
            mirroring,
            {
                name: TargetFiles(name, self.tasks[name], table, self.size, self.max_pixels)
                for name in encoded
                if self.tasks[name].loads_targets
            },
            self.resize,
            plain,
            self.labels.input_columns.only(self._reads),
        )

    def _loader(
        self,
        dataset: ImageDataset | RowDataset | FeatureDataset,
        split: str,
        plan: StepPlan,
        position: PositionFn,
    ) -> DataLoader[Batch]:
        trainer, skip = self._trainer(), self.on_bad_image == "skip"
        takes_images = isinstance(dataset, ImageDataset)
        through: Callable[[Iterator[Batch]], Iterator[Batch]] = raise_on_bad_image
        images: Files
        targets: Mapping[str, Files]
        if isinstance(dataset, ImageDataset):  # to predict, there need not be a table
            images, targets = dataset.images, dataset.target_files
        else:
            images = self.labels.table if self._to_predict is None else self._to_predict
            targets = {}
        recounts = skip or bool(targets)
        if recounts:
            device = trainer.strategy.root_device
            recount = Recount(
                self.bad, split, images, dataset.encoded, plan, position, device, targets
            )
            through = recount if skip else lambda batches: recount(raise_on_bad_image(batches))
        if split == "train" and takes_images:  # nobody waits for features, or columns
            through = self.input_wait.wrap(through)
        sampler = PlanSampler(plan, trainer.global_rank, position, whole_steps=recounts)
        return loader(dataset, sampler, self.num_workers if takes_images else 0, through)

    def feature_loader(self, split: str, view: int) -> DataLoader[Batch]:
        """Load this rank's share of a split's images, without labels, as an epoch would.

        Args:
            split: ``train``, which is augmented, or another.
            view: The number of the epoch.
        """
        transform, mirroring = None, NO_MIRRORING
        if split == "train":
            transform, mirroring = self._transform(), self._mirroring()
        dataset = self._image_dataset({}, transform, mirroring)
        trainer = self._trainer()
        plan = StepPlan(self.labels.rows(split), {}, self.batch_size, trainer.world_size)
        sampler = PlanSampler(plan, trainer.global_rank, lambda: (view, 0))
        through = _as_they_are if self.on_bad_image == "skip" else raise_on_bad_image
        return loader(dataset, sampler, self.num_workers, through)


def _as_they_are(batches: Iterator[Batch]) -> Iterator[Batch]:
    return batches


def _from_the_start() -> tuple[int, int]:
    return 0, 0
