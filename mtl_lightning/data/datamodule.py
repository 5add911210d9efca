"""The DataModule: wires sources, splits, plan and loaders together, and does nothing else."""

import multiprocessing
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from pytorch_lightning import LightningDataModule, Trainer
from rich.console import Console
from torch import nn
from torch.utils.data import DataLoader

from mtl_lightning.config.restore import check_hyper_parameters
from mtl_lightning.data import transforms
from mtl_lightning.data.bad_images import (
    BadImages,
    Files,
    PositionFn,
    SkipBadImages,
    raise_on_bad_image,
)
from mtl_lightning.data.batch import Batch
from mtl_lightning.data.batch_sampler import PlanSampler
from mtl_lightning.data.cache import Builder, CachedImages
from mtl_lightning.data.cache import Mode as CacheMode
from mtl_lightning.data.dataset import ImageDataset, Images
from mtl_lightning.data.features import FeatureDataset, Features
from mtl_lightning.data.identity import SameBy
from mtl_lightning.data.images import MAX_PIXELS, Resize, image_shape
from mtl_lightning.data.input_wait import InputWaitTimer
from mtl_lightning.data.labels import LabelTable
from mtl_lightning.data.loading import loader
from mtl_lightning.data.merging import MergeOptions
from mtl_lightning.data.mirroring.mirror import NO_MIRRORING, Mirror, Mirroring
from mtl_lightning.data.on_device import OnDevice
from mtl_lightning.data.plan import StepPlan
from mtl_lightning.data.planning import limit_plan, plan_split, plan_training, sampling_notes
from mtl_lightning.data.records import cache_folder
from mtl_lightning.data.sampling import Sampling
from mtl_lightning.data.source_rows import OnConflict
from mtl_lightning.data.sources.base import Source
from mtl_lightning.data.target_files import TargetFiles
from mtl_lightning.data.unlabelled import UnlabelledImages
from mtl_lightning.system.errors import UserError, listed
from mtl_lightning.system.lightning_internals import class_method, is_built_by_cli
from mtl_lightning.system.seeding import global_seed
from mtl_lightning.tasks import Encoded, Task

DEFAULT_SPLITS = {"val": 0.1, "test": 0.2}
USED = {"fit": ("train", "val"), "validate": ("val",), "test": ("test",)}
"""The splits that each stage loads."""
TRIAL = 16
"""Images that a ``fast_dev_run`` keeps: enough to meet whatever refuses a cache."""


class PartialLabels(LightningDataModule):
    """Merges partially labelled sources into one set of images, with a mask for each task.

    Args:
        tasks: The questions, by name.
        sources: Where images and labels come from, by name; not needed to predict.
        splits: Shares of ``val`` and ``test`` where no table names a split; the rest is ``train``.
        split_seed: Which images these shares are. It is apart from ``seed_everything``, so that
            runs with several seeds are tested on the same images and never on their training.
        stratify: Whether these shares get their share of each label of every task, too, as well as
            groups allow.
        same_by: Rows are about the same image if their files are one by ``path``; ``content``: or
            are the same byte for byte, whatever they are called (all are read); ``key``: if they
            have the same key, a column that each table names.
        on_conflict: Two labels of one image that contradict each other are an ``error``; or the
            ``first`` holds, in the order of sources and rows; or ``drop``: none does.
        image_size: Height and width in pixels, or one number for both.
        resize: How images of another shape get that size. ``cover``: they are scaled until they
            cover it, and evaluation cuts the centre out; ``contain``: they are scaled until they
            fit into it, between black bars; ``stretch``: their aspect ratio changes.
        batch_size: Images per device and step.
        num_workers: Processes that load images.
        augmentation: ``default`` (crops, flips, mild colour changes), ``none``, or a list of
            torchvision v2 transforms; for training only.
        mirror: Training images are mirrored, and labels that name a side of them follow:
            ``{swap: {TASK: {left: right}}, probability: 0.5}``. Left out: ``augmentation`` alone
            decides, and labels stay what they are.
        augment_on: ``cpu``: the processes that load images do this, too. ``device``: it is done
            to each batch where the network is, with the same random numbers; but a crop then sees
            what evaluation sees, the centre of the image, and a GPU may round in another way.
        sampling: Which training images an epoch takes; left out: each once, in random order (of
            shards and within a few of them, where images lie in shards: `Shards`).
        cache: Keep images as they are once decoded and scaled (before augmentation), in the
            ``memory`` of each process, or on ``disk``, where later runs find them and an image
            whose file has changed is decoded anew. (A ``fast_dev_run`` keeps a few only.)
        cache_dir: The folder for that, ``~/.cache/mtl-lightning`` if left out; it may be deleted.
        cache_features: With a frozen backbone: its features are computed once, of so many augmented
            views of each training image (1 without augmentation), and only the heads are run after.
            (Not in a ``fast_dev_run``.)
        on_bad_image: ``error``: an image that cannot be read stops the run. ``skip``: it is as if
            its row had no place in the step; such images are counted and listed.
        max_bad_share: More than this share of the images of a split, skipped, stops the run.
        max_pixels: Larger images are bad images, refused before they are decoded.
        left_out: Tasks that the sources may speak of though this run leaves them out, as
            ``--only`` does; images and splits stay those of the whole config.
    """

    def __init__(
        self,
        tasks: dict[str, Task],
        sources: dict[str, Source] | None = None,
        splits: dict[str, float] | None = None,
        split_seed: int = 0,
        stratify: bool = False,
        same_by: SameBy = "path",
        on_conflict: OnConflict = "error",
        image_size: int | list[int] = 128,
        resize: Resize = "cover",
        batch_size: int = 32,
        num_workers: int = 2,
        augmentation: Literal["default", "none"] | list[nn.Module] = "default",
        mirror: Mirror | None = None,
        augment_on: Literal["cpu", "device"] = "cpu",
        sampling: Sampling | None = None,
        cache: CacheMode = "none",
        cache_dir: str | None = None,
        cache_features: int | None = None,
        on_bad_image: Literal["error", "skip"] = "error",
        max_bad_share: float = 0.05,
        max_pixels: int = MAX_PIXELS,
        left_out: dict[str, Task] | None = None,
    ) -> None:
        super().__init__()
        if is_built_by_cli():
            self.save_hyperparameters(logger=False)
        for name, value, least in (
            ("batch_size", batch_size, 1),
            ("num_workers", num_workers, 0),
            ("max_pixels", max_pixels, 1),
        ):
            if value < least:
                raise UserError(f"data.{name} should be at least {least}. Found {value}")
        if cache_features is not None and cache_features < 1:
            raise UserError(f"data.cache_features should be 1 or more. Found {cache_features}")
        if not 0 <= max_bad_share <= 1:
            raise UserError(f"data.max_bad_share should be in 0..1. Found {max_bad_share}")
        if mirror is not None:
            mirror.check(augmentation)
        late = [name for name, task in tasks.items() if task.loads_targets]
        if late and resize != "cover":
            raise UserError(
                f"data.resize should be cover for tasks that load targets with the images "
                f"({listed(late)}). Found {resize}"
            )
        self.tasks = tasks
        self.sources = sources or {}
        options = MergeOptions(
            fractions=DEFAULT_SPLITS if splits is None else splits,
            seed=split_seed,
            stratify=stratify,
            same_by=same_by,
            on_conflict=on_conflict,
        )
        self.labels = LabelTable(tasks, self.sources, options, mirror, left_out)
        self.size = image_shape(image_size)
        self.resize: Resize = resize
        self.batch_size = batch_size
        self.num_workers = num_workers
        self.augmentation = augmentation
        self.mirror = mirror
        self.augment_on = augment_on
        self.sampling = sampling
        self.cache: CacheMode = cache
        self.cache_dir = cache_folder() if cache_dir is None else Path(cache_dir).expanduser()
        self.cache_features = cache_features
        self.on_bad_image = on_bad_image
        self.max_pixels = max_pixels
        self.features: dict[str, Features] = {}
        """By split, where they are trained on instead of images."""
        self.bad = BadImages(max_bad_share)
        self.input_wait = InputWaitTimer()
        self.train_plan: StepPlan | None = None
        for source in self.sources.values():
            source.max_pixels = max_pixels
        self._to_predict: Images | None = None
        self._resumed = (0, 0)
        self._used: NDArray[np.int64] = np.empty(0, dtype=np.int64)
        """The rows whose images a stage loads."""
        self._cached: CachedImages | None = None
        self._on_device: OnDevice | None = None

    @class_method
    def load_from_checkpoint(
        cls,  # noqa: N805 - this is a class method
        checkpoint_path: Any,
        *args: Any,
        **options: Any,
    ) -> "PartialLabels":
        """Build the data that a checkpoint describes; see `MultiTask.load_from_checkpoint`."""
        check_hyper_parameters(cls, checkpoint_path, cls.CHECKPOINT_HYPER_PARAMS_KEY, options)
        options["weights_only"] = True
        return super().load_from_checkpoint(checkpoint_path, *args, **options)

    def resume_at(self, epoch: int, rows: int) -> None:
        """Begin training within an epoch of which an earlier process has taken some rows.

        Args:
            epoch: The epoch that goes on.
            rows: How many of its rows all ranks together have taken.
        """
        self._resumed = epoch, rows

    def predict_on(self, images: Images) -> None:
        """Choose the images that ``predict`` loads."""
        self._to_predict = images

    def training_paused(self) -> None:
        """Stop measuring how long training waits for its data, until it asks for the next batch."""
        self.input_wait.pause()

    def setup(self, stage: str) -> None:
        """Merge the sources and encode the labels; everything that can be wrong is found here."""
        if stage == "predict":
            return
        if stage == "fit" and not self.labels.encoded:
            self.labels.infer_classes()
        self.labels.encode()
        splits = USED[stage]
        if stage != "fit" and not len(self.labels.rows(splits[0])):
            raise UserError(f"the {splits[0]} split has no labelled image; see data.splits")
        if self.trainer is None:
            return
        table = self.labels.table
        for source in table.sources:  # of who read the table, which need not be `sources`
            source.cover = self.size
        rows = {split: self.labels.rows(split) for split in splits}
        self.features = {}
        if stage == "fit" and self.cache_features is not None and not self._is_trial():
            self.features = {
                split: Features(own, len(table), self.cache_features if split == "train" else 1)
                for split, own in rows.items()
            }
        self._used = np.concatenate(list(rows.values()))
        self._cached = None

    def notes(self) -> list[str]:
        """Return what a user should know before training, a line each."""
        notes = self.labels.notes()
        if self.sampling is not None and self.trainer is not None:
            notes += sampling_notes(self.labels, self.sampling, self._train_plan(global_seed()))
        return notes

    # ----------------------------------------------------------------- loaders

    def _fill_cache(self, rows: NDArray[np.int64]) -> CachedImages:
        trainer = self._trainer()
        seen = trainer.is_global_zero or self.cache == "disk"
        console = Console(stderr=True, quiet=not seen)
        skip = self.on_bad_image == "skip"
        builder = Builder(self.labels.table, self.size, self.max_pixels, skip, console, self.resize)
        if self.cache == "disk":
            return builder.on_disk(rows, self.cache_dir)
        if self.num_workers and multiprocessing.get_start_method() != "fork":
            raise UserError(
                "data.cache: memory is shared by forking with the processes that load images, "
                "which is not how this system begins them; use data.cache: disk"
            )
        return builder.in_memory(rows, trainer.num_devices)

    def train_dataloader(self) -> DataLoader[Batch]:
        """Load each training image once an epoch, in the order of the step plan."""
        trainer = self._trainer()
        seed = global_seed()
        overfit: float = trainer.overfit_batches  # type: ignore[attr-defined]  # set by Lightning
        shuffle_seed = seed if overfit == 0 else None
        plan = limit_plan(self._train_plan(shuffle_seed), trainer.limit_train_batches)
        plan = replace(plan, resumed=self._resumed)
        self.train_plan = plan

        def position() -> tuple[int, int]:
            # A sampler is asked again for the epoch it is in after an interruption.
            return trainer.current_epoch, trainer.fit_loop.epoch_loop.batch_progress.current.ready

        on_device = self.augment_on == "device"
        transform = self._transform(trainer.strategy.root_device if on_device else "cpu")
        self._on_device = None
        if on_device and transform is not None:
            late = [name for name, task in self.tasks.items() if task.loads_targets]
            self._on_device = OnDevice(transform, seed, self._mirroring(), late)
            transform = None
        return self._loader(self._dataset("train", transform), "train", plan, position)

    def transfer_batch_to_device(
        self, batch: Batch, device: torch.device, dataloader_idx: int
    ) -> Batch:
        """Move a batch, and augment there what is trained on, if ``augment_on`` says so."""
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
        plan = StepPlan(np.arange(len(images)), {}, self.batch_size, self._trainer().world_size)
        dataset = ImageDataset(images, {}, self.size, None, 0, self.max_pixels, mode=self.resize)
        return self._loader(dataset, "predict", plan, _from_the_start)

    def _trainer(self) -> Trainer:
        if self.trainer is None:
            raise RuntimeError("loaders are made by a Trainer: their batches depend on its ranks")
        return self.trainer

    @property
    def augmented(self) -> bool:
        """Whether training images are seen in other ways than in evaluation."""
        return self.augmentation != "none" or self.mirror is not None

    def _transform(self, device: torch.device | str = "cpu") -> nn.Module | None:
        """Return what training images go through, None for what evaluation sees."""
        if not self.augmented:
            return None
        with_targets = any(task.loads_targets for task in self.tasks.values())
        flip = self.mirror is None
        return transforms.build(self.augmentation, self.size, flip, device, with_targets)

    def _is_trial(self) -> bool:
        """Whether it is about a few batches, for which nobody wants to wait for a whole cache."""
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
        )

    def _evaluated(self, split: str) -> DataLoader[Batch]:
        plan = plan_split(self.labels, split, self.batch_size, self._trainer().world_size)
        return self._loader(self._dataset(split), split, plan, _from_the_start)

    def _mirroring(self) -> Mirroring:
        """Return which training images are mirrored, and their labels."""
        probability = 0.0 if self.mirror is None else self.mirror.probability
        return Mirroring(probability, global_seed(), self.labels.mirrored)

    def _images(self) -> Images:
        """Return the images; a cache is filled here, once nobody refuses the training any more."""
        if self.cache == "none":
            return self.labels.table
        if self._cached is None:
            self._cached = self._fill_cache(self._used[: TRIAL if self._is_trial() else None])
        return self._cached

    def _dataset(
        self, split: str, transform: nn.Module | None = None
    ) -> ImageDataset | FeatureDataset:
        mirroring = self._mirroring() if split == "train" else NO_MIRRORING
        if split in self.features:
            return FeatureDataset(self.features[split], self.labels.encoded, mirroring)
        return self._image_dataset(self.labels.encoded, transform, mirroring)

    def _image_dataset(
        self, encoded: Mapping[str, Encoded], transform: nn.Module | None, mirroring: Mirroring
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
        )

    def _loader(
        self,
        dataset: ImageDataset | FeatureDataset,
        split: str,
        plan: StepPlan,
        position: PositionFn,
    ) -> DataLoader[Batch]:
        trainer, skip = self._trainer(), self.on_bad_image == "skip"
        takes_images = isinstance(dataset, ImageDataset)
        through: Callable[[Iterator[Batch]], Iterator[Batch]] = raise_on_bad_image
        if skip:
            images: Files = self.labels.table
            targets: Mapping[str, Files] = {}
            if isinstance(dataset, ImageDataset):
                images, targets = dataset.images, dataset.target_files
            device = trainer.strategy.root_device
            through = SkipBadImages(
                self.bad, split, images, dataset.encoded, plan, position, device, targets
            )
        if split == "train" and takes_images:  # features are never waited for
            through = self.input_wait.wrap(through)
        sampler = PlanSampler(plan, trainer.global_rank, position, whole_steps=skip)
        return loader(dataset, sampler, self.num_workers if takes_images else 0, through)

    def feature_loader(self, split: str, view: int) -> DataLoader[Batch]:
        """Load this rank's share of a split's images, without labels, as an epoch would see them.

        Args:
            split: ``train``, which is augmented, or another.
            view: The epoch.
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
