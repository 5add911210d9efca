"""The DataModule: wires sources, splits, plan and loaders together, and does nothing else."""

import multiprocessing
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from pytorch_lightning import LightningDataModule, Trainer
from rich.console import Console
from torch import Tensor, nn
from torch.utils.data import DataLoader

from mtl_lightning.config.restore import built_from_config, check_remembered
from mtl_lightning.data import transforms
from mtl_lightning.data.bad_images import (
    BadImages,
    Progress,
    Skip,
    refuse,
)
from mtl_lightning.data.batch import Batch
from mtl_lightning.data.batch_sampler import PlanSampler
from mtl_lightning.data.cache import Builder, CachedImages
from mtl_lightning.data.cache import Mode as CacheMode
from mtl_lightning.data.dataset import ImageDataset, Images
from mtl_lightning.data.features import FeatureDataset, Features
from mtl_lightning.data.identity import SameBy
from mtl_lightning.data.images import MAX_PIXELS, image_shape
from mtl_lightning.data.input_wait import Waiting
from mtl_lightning.data.loading import loader
from mtl_lightning.data.merging import MergedTable, merge
from mtl_lightning.data.mirroring.mirror import NONE, Mirror, Sides
from mtl_lightning.data.on_device import OnDevice
from mtl_lightning.data.plan import StepPlan
from mtl_lightning.data.pool import Meaning, OnConflict
from mtl_lightning.data.records import cache_folder
from mtl_lightning.data.sampling import (
    Population,
    Sampling,
    Shards,
    composition,
)
from mtl_lightning.data.sources.base import Source
from mtl_lightning.data.splits import SPLITS, Complain
from mtl_lightning.data.splits import refuse as contradict
from mtl_lightning.data.unlabelled import UnlabelledImages
from mtl_lightning.system.errors import UserError, quoted
from mtl_lightning.system.lightning_internals import class_method
from mtl_lightning.system.seeding import global_seed
from mtl_lightning.tasks import Encoded, Task

DEFAULT_SPLITS = {"val": 0.1, "test": 0.2}
USED = {"fit": ("train", "val"), "validate": ("val",), "test": ("test",)}
"""The splits that each stage loads."""
TRIAL = 16
"""Images that a ``fast_dev_run`` keeps: enough to meet whatever refuses a cache."""


def _column(task: str, field: str) -> str:
    """Return what the column of a task's field is called: ``task`` or ``task/label``."""
    return f"{task}/{field}" if field else task


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
        if built_from_config():
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
        self.tasks = tasks
        self.sources = sources or {}
        self.fractions = DEFAULT_SPLITS if splits is None else splits
        self.split_seed = split_seed
        self.stratify = stratify
        self.same_by: SameBy = same_by
        self.on_conflict: OnConflict = on_conflict
        self.size = image_shape(image_size)
        self.batch_size = batch_size
        self.num_workers = num_workers
        self.augmentation = augmentation
        self.mirror = mirror
        self.augment_on = augment_on
        self.sampling = sampling
        self.cache: CacheMode = cache
        self.cache_dir = cache_folder() if cache_dir is None else Path(cache_dir).expanduser()
        self.cache_features = cache_features
        self.features: dict[str, Features] = {}
        """By split, while they are trained on; filled by who knows the network."""
        self.on_bad_image = on_bad_image
        self.max_pixels = max_pixels
        self.left_out = left_out or {}
        self.to_predict: Images | None = None
        self.resumed = (0, 0)  # set by whoever resumes: an epoch, and its rows that were taken
        self.train_plan: StepPlan | None = None
        self.table: MergedTable | None = None
        self.bad = BadImages(max_bad_share)
        self.waiting = Waiting()
        for source in self.sources.values():
            source.max_pixels = max_pixels
        self._encoded: dict[str, Encoded] = {}
        self._cached: CachedImages | None = None
        self._used: NDArray[np.int64] = np.empty(0, dtype=np.int64)
        """The rows whose images a stage loads."""
        self._swapped: dict[str, Encoded] = {}
        self._on_device: OnDevice | None = None

    @class_method
    def load_from_checkpoint(
        cls,  # noqa: N805 - this is a class method
        checkpoint_path: Any,
        *args: Any,
        **options: Any,
    ) -> "PartialLabels":
        """Build the data that a checkpoint describes; see `MultiTask.load_from_checkpoint`."""
        check_remembered(cls, checkpoint_path, cls.CHECKPOINT_HYPER_PARAMS_KEY, options)
        options["weights_only"] = True
        return super().load_from_checkpoint(checkpoint_path, *args, **options)

    # ----------------------------------------------------------------- labels

    def merged(self) -> MergedTable:
        """Return the merged table, read when first asked for."""
        if self.table is None:
            if not self.sources:
                raise UserError(
                    "data.sources is empty: name at least one source of labelled images"
                )
            self.table = self.join(self.sources)
        return self.table

    def join(self, sources: Mapping[str, Source], complain: Complain = contradict) -> MergedTable:
        """Merge sources as the settings say; see `merge`."""
        return merge(
            sources,
            list(self.meanings),
            self.fractions,
            self.split_seed,
            complain,
            same_by=self.same_by,
            on_conflict=self.on_conflict,
            stratify=self.stratify,
            meanings=self.meanings,
        )

    @property
    def meanings(self) -> dict[str, Meaning]:
        """What is read in the cells of each column of all tasks, of those left out too."""
        return {
            _column(name, field): partial(task.meaning, field=field)
            for name, task in (self.tasks | self.left_out).items()
            for field in task.fields
        }

    def fields(self, task: str) -> list[str]:
        """Return what the task's columns are called: its name, and ``name/label``."""
        return [_column(task, field) for field in self.tasks[task].fields]

    def cells(self, task: str) -> NDArray[np.object_]:
        """Return the task's cells, ``(N,)``, or ``(N, fields)`` where it has several."""
        columns = [self.merged().cells[field] for field in self.fields(task)]
        return columns[0] if len(columns) == 1 else np.stack(columns, axis=1)

    def has_label(self, task: str) -> NDArray[np.bool_]:
        """Return which rows of the merged table have any cell of the task, ``(N,)``."""
        labelled: NDArray[np.bool_] = np.any(
            [pd.notna(self.merged().cells[f]) for f in self.fields(task)], axis=0
        )
        return labelled

    def complete_tasks(self) -> dict[str, dict[str, object]]:
        """Let the tasks find what they left open (classes) in the training labels.

        Returns:
            Task to its `Task.identity`.
        """
        table = self.merged()
        training = table.splits == SPLITS.index("train")
        known = {}
        for name, task in self.tasks.items():
            cells = self.cells(name)[training & self.has_label(name)]
            if not len(cells):
                raise UserError(f"task {name}: {self._nothing_to_learn(name)}")
            try:
                task.infer_classes(cells)
            except UserError as error:
                raise UserError(f"task {name}: {error}") from None
            known[name] = task.identity()
        return known

    def _nothing_to_learn(self, name: str) -> str:
        table = self.merged()
        found = {
            split: int((self.has_label(name) & (table.splits == number)).sum())
            for number, split in enumerate(SPLITS)
        }
        where = ", ".join(f"{count} in {split}" for split, count in found.items())
        return f"no label in the training split ({where}), so it could never learn; label some"

    def setup(self, stage: str) -> None:
        """Merge the sources and encode the labels; everything that can be wrong is found here."""
        if stage == "predict":
            return
        if not self._encoded:
            if stage == "fit":
                self.complete_tasks()
            encoded = {name: self._encode(name) for name in self.tasks}
            if self.mirror is not None:
                self._swapped = self.mirror.swapped(self.tasks, encoded, self.left_out)
            self._encoded = encoded
        splits = USED[stage]
        if stage != "fit" and not len(self.rows(splits[0])):
            raise UserError(f"the {splits[0]} split has no labelled image; see data.splits")
        if self.trainer is None:
            return  # no image will be loaded: this is an audit, or a pack
        for source in self.merged().sources:  # of who read the table, which need not be `sources`
            source.cover = self.size
        self.features = {}
        if stage == "fit" and self.cache_features is not None and not self._is_trial():
            self.features = {split: Features() for split in splits}
        self._used = np.concatenate([self.rows(split) for split in splits])
        self._cached = None

    def _fill_cache(self, rows: NDArray[np.int64]) -> CachedImages:
        trainer = self._trainer()
        seen = trainer.is_global_zero or self.cache == "disk"
        console = Console(stderr=True, quiet=not seen)
        skip = self.on_bad_image == "skip"
        builder = Builder(self.merged(), self.size, self.max_pixels, skip, console)
        if self.cache == "disk":
            return builder.on_disk(rows, self.cache_dir)
        if self.num_workers and multiprocessing.get_start_method() != "fork":
            raise UserError(
                "data.cache: memory is shared by forking with the processes that load images, "
                "which is not how this system begins them; use data.cache: disk"
            )
        return builder.in_memory(rows, trainer.num_devices)

    def _encode(self, name: str) -> Encoded:
        task, cells = self.tasks[name], self.cells(name)
        encoded = task.encode(cells)
        if encoded.bad.any():
            first = tuple(int(i) for i in np.argwhere(encoded.bad)[0])
            field = self.fields(name)[first[1] if len(first) > 1 else 0]
            count = int(encoded.bad.sum())
            more = f" ({count} labels like this)" if count > 1 else ""
            raise UserError(
                f"{self.merged().where(first[0], field)}: task {name} cannot read the label "
                f"{quoted(cells[first])}{more}; expected {task.expected(cells[first])}"
            )
        return encoded

    def encoded(self, task: str) -> Encoded:
        """Return the task's labels over all rows of the merged table, once they are set up."""
        return self._encoded[task]

    def rows(self, split: str) -> NDArray[np.int64]:
        """Return the rows of the merged table that are in the split and carry any label."""
        inside = self.merged().splits == SPLITS.index(split)
        labelled = np.zeros(len(inside), dtype=bool)
        for encoded in self._encoded.values():
            labelled |= encoded.counts() > 0
        return np.flatnonzero(inside & labelled)

    def image_name(self, row: int) -> str:
        """Return what the user calls the image of a row of the merged table."""
        table = self.merged()
        return f"{table.images[row]} ({table.where(row)})"

    def notes(self) -> list[str]:
        """Return what a user should know before training, a line each."""
        table = self.merged()
        notes = table.notes()
        if table.val_from_train:
            notes.append("the tables name no val row: its share (data.splits) was taken from train")
        bare = int((table.splits == SPLITS.index("train")).sum()) - len(self.rows("train"))
        if bare:
            notes.append(f"{bare:,} training images carry no label and are left out")
        if not len(self.rows("val")):
            notes.append("there is no validation image: nothing is measured, best.ckpt not written")
        for name in self.tasks:
            validated = self._encoded[name].labelled[self.rows("val")]
            if len(validated) and not validated.any():
                notes.append(f"task {name} has no label in val: it is reported as absent")
        if self.sampling is not None and self.trainer is not None:
            plan = self._plan("train", self._trainer().accumulate_grad_batches, global_seed())
            said = composition(plan, table.source, table.names)
            notes.append(f"{type(self.sampling).__name__}: {said}")
            if (table.shard >= 0).any() and not isinstance(self.sampling, Shards):
                notes.append(
                    f"{type(self.sampling).__name__} heeds no shards: each step opens many, which "
                    "is slow where they are fetched; data.sampling: Shards takes a few at a time"
                )
        return notes

    def training_labels(self, task: str) -> tuple[Tensor, Tensor]:
        """Return the targets of the training rows that carry a label of the task, and their mask.

        Where mirrored images have other labels, these are there, too, as often as they are met.

        Returns:
            ``(n, ...)`` targets, and bool of the shape of the task's losses.
        """
        encoded = self._encoded[task]
        training = self.merged().splits == SPLITS.index("train")
        rows = training & (encoded.counts() > 0)
        met = [encoded]
        if self.mirror is not None and task in self._swapped:
            met = self.mirror.both_ways(encoded, self._swapped[task])
        targets, labelled = (
            torch.from_numpy(np.concatenate([getattr(one, part)[rows] for one in met]))
            for part in ("targets", "labelled")
        )
        return targets, labelled

    # ----------------------------------------------------------------- loaders

    def train_dataloader(self) -> DataLoader[Batch]:
        """Load each training image once an epoch, in the order of the step plan."""
        trainer = self._trainer()
        seed = global_seed()
        overfit: float = trainer.overfit_batches  # type: ignore[attr-defined]  # set by Lightning
        shuffle_seed = seed if overfit == 0 else None
        plan = self._plan("train", trainer.accumulate_grad_batches, shuffle_seed)
        plan = replace(_limited(plan, trainer.limit_train_batches), resumed=self.resumed)
        self.train_plan = plan

        def progress() -> tuple[int, int]:
            # A sampler is asked again for the epoch it is in after an interruption.
            return trainer.current_epoch, trainer.fit_loop.epoch_loop.batch_progress.current.ready

        on_device = self.augment_on == "device"
        transform = self._transform(trainer.strategy.root_device if on_device else "cpu")
        sides = self._sides()
        self._on_device = None
        if on_device and transform is not None:
            self._on_device, transform = OnDevice(transform, seed, sides), None
        return self._loader(self._images(), "train", plan, progress, transform, seed, sides)

    def transfer_batch_to_device(
        self, batch: Batch, device: torch.device, dataloader_idx: int
    ) -> Batch:
        """Move a batch, and augment there what is trained on, if ``augment_on`` says so."""
        moved: Batch = super().transfer_batch_to_device(batch, device, dataloader_idx)
        trainer = self._trainer()
        if self._on_device is not None and trainer.training:
            moved.images = self._on_device(moved.images, batch, trainer.current_epoch)
        return moved

    def val_dataloader(self) -> DataLoader[Batch] | list[DataLoader[Batch]]:
        """Load each validation image once."""
        return self._evaluated("val") if len(self.rows("val")) else []

    def test_dataloader(self) -> DataLoader[Batch]:
        """Load each test image once."""
        return self._evaluated("test")

    def predict_dataloader(self) -> DataLoader[Batch]:
        """Load each image of ``to_predict`` once, in order."""
        if self.to_predict is None:
            raise UserError("predict needs images: give --images FOLDER, TABLE or GLOB")
        images = self.to_predict
        if isinstance(images, UnlabelledImages):
            images = replace(images, cover=self.size)
        plan = StepPlan(np.arange(len(images)), {}, self.batch_size, self._trainer().world_size)
        return self._loader(images, "predict", plan, _from_the_start)

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
        return transforms.build(self.augmentation, self.size, self.mirror is None, device)

    def _is_trial(self) -> bool:
        """Whether it is about a few batches, for which nobody wants to wait for a whole cache."""
        return bool(self._trainer().fast_dev_run)  # type: ignore[attr-defined]  # set by Lightning

    def _plan(self, split: str, accumulate: int = 1, shuffle_seed: int | None = None) -> StepPlan:
        rows = self.rows(split)
        labels = {name: encoded.counts()[rows] for name, encoded in self._encoded.items()}
        plan = StepPlan(
            rows=rows,
            labels=labels,
            batch_size=self.batch_size,
            world_size=self._trainer().world_size,
            accumulate=accumulate,
            shuffle_seed=shuffle_seed,
        )
        table = self.merged()
        sampling = Shards() if self.sampling is None and (table.shard >= 0).any() else self.sampling
        if shuffle_seed is None or sampling is None:
            return plan
        strata = {name: self.tasks[name].strata(e)[rows] for name, e in self._encoded.items()}
        population = Population(table.source[rows], table.shard[rows], strata)
        sampling.check(population, plan.step_width)
        return replace(plan, draw=partial(sampling.draw, population))

    def _evaluated(self, split: str) -> DataLoader[Batch]:
        return self._loader(self._images(), split, self._plan(split), _from_the_start)

    def _sides(self) -> Sides:
        """Return which training images are mirrored, and their labels."""
        probability = 0.0 if self.mirror is None else self.mirror.probability
        return Sides(probability, global_seed(), self._swapped)

    def _images(self) -> Images:
        """Return the images; a cache is filled here, once nobody refuses the training any more."""
        if self.cache == "none":
            return self.merged()
        if self._cached is None:
            self._cached = self._fill_cache(self._used[: TRIAL if self._is_trial() else None])
        return self._cached

    def _loader(
        self,
        images: Images,
        split: str,
        plan: StepPlan,
        progress: Progress,
        transform: nn.Module | None = None,
        seed: int = 0,
        sides: Sides = NONE,
    ) -> DataLoader[Batch]:
        encoded = self._encoded if plan.labels else {}
        dataset: ImageDataset | FeatureDataset
        if split in self.features:
            dataset = FeatureDataset(self.features[split], encoded, sides)
        else:
            dataset = ImageDataset(
                images, encoded, self.size, transform, seed, self.max_pixels, sides
            )
        trainer, skip = self._trainer(), self.on_bad_image == "skip"
        through: Callable[[Iterator[Batch]], Iterator[Batch]] = refuse
        if skip:
            device = trainer.strategy.root_device
            through = Skip(self.bad, split, images, encoded, plan, progress, device)
        if split == "train" and split not in self.features:  # those wait for nothing
            through = self.waiting.of(through)
        sampler = PlanSampler(plan, trainer.global_rank, progress, whole_steps=skip)
        # To look features up takes no process of its own.
        workers = 0 if isinstance(dataset, FeatureDataset) else self.num_workers
        return loader(dataset, sampler, workers, through)

    def feature_loader(self, split: str, view: int) -> DataLoader[Batch]:
        """Load this rank's share of a split's images, without labels, as an epoch would see them.

        Args:
            split: ``train``, which is augmented, or another.
            view: The epoch.
        """
        train, trainer = split == "train", self._trainer()
        dataset = ImageDataset(
            self._images(),
            {},
            self.size,
            self._transform() if train else None,
            global_seed() if train else 0,
            self.max_pixels,
            self._sides() if train else NONE,
        )
        plan = StepPlan(self.rows(split), {}, self.batch_size, trainer.world_size)
        sampler = PlanSampler(plan, trainer.global_rank, lambda: (view, 0))
        through = _as_they_are if self.on_bad_image == "skip" else refuse
        return loader(dataset, sampler, self.num_workers, through)


def _as_they_are(batches: Iterator[Batch]) -> Iterator[Batch]:
    return batches


def _from_the_start() -> tuple[int, int]:
    return 0, 0


def _limited(plan: StepPlan, limit: int | float) -> StepPlan:
    """Apply ``trainer.limit_train_batches``, so that the last step's counts know of it."""
    if isinstance(limit, float):
        return plan if limit == 1.0 else replace(plan, limit=int(len(plan) * limit))
    return replace(plan, limit=limit)
