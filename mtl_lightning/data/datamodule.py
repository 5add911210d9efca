"""The DataModule: its settings and its setup, before anything is loaded."""

from pathlib import Path
from typing import Literal

import numpy as np
from torch import nn

from mtl_lightning.config.restore import FromCheckpoint
from mtl_lightning.data.bad_images import BadImages
from mtl_lightning.data.cache import Mode as CacheMode
from mtl_lightning.data.features import Features
from mtl_lightning.data.identity import SameBy
from mtl_lightning.data.images import MAX_PIXELS
from mtl_lightning.data.labels import LabelTable
from mtl_lightning.data.loaders import SplitLoaders
from mtl_lightning.data.merging import MergeOptions
from mtl_lightning.data.mirroring.mirror import Mirror
from mtl_lightning.data.planning import sampling_notes
from mtl_lightning.data.records import cache_folder
from mtl_lightning.data.resizing import Resize, image_shape
from mtl_lightning.data.sampling import Sampling
from mtl_lightning.data.source_rows import OnConflict
from mtl_lightning.data.sources.base import Source
from mtl_lightning.data.splits import By, divided_by
from mtl_lightning.inputs import Input
from mtl_lightning.system.errors import UserError, listed
from mtl_lightning.system.lightning_internals import is_built_by_cli
from mtl_lightning.system.seeding import global_seed
from mtl_lightning.tasks import Task

DEFAULT_SPLITS = {"val": 0.1, "test": 0.2}
USED = {"fit": ("train", "val"), "validate": ("val",), "test": ("test",)}
"""The splits that each stage loads."""


class PartialLabels(FromCheckpoint, SplitLoaders):
    """Merges partially labelled sources into one set of images, with a mask for each task.

    Args:
        tasks: The tasks by name.
        sources: The sources of images and labels by name; not needed to predict.
        splits: Shares of ``val`` and ``test`` for images whose split no table names; the rest is
            ``train``. ``by: date`` makes the latest ones ``test`` and those before ``val``, so that
            training never sees the future; by default they are chosen at random.
        split_seed: The seed of these random splits. It is separate from ``seed_everything``, so
            that runs with several seeds are tested on the same images and never on their training.
        stratify: Whether these splits also get their share of each label of every task, as far as
            groups allow.
        same_by: When rows are about the same image. ``path``: if their files are the same;
            ``content``: also if their files are the same byte for byte (all are read); ``key``: if
            they have the same key, a column that each table names.
        on_conflict: Two labels of one image that contradict each other are an ``error``; or the
            ``first`` holds, in the order of sources and rows; or none does (``drop``).
        image_size: Height and width in pixels, or one number for both.
        resize: How images of another shape get that size. ``cover``: they are scaled until they
            cover it, and evaluation crops the centre; ``contain``: they are scaled until they fit
            into it, between black bars; ``stretch``: their aspect ratio changes.
        batch_size: Images per device and step.
        num_workers: Number of processes that load images.
        augmentation: ``default`` (crops, flips, mild colour changes), ``none``, or a list of
            torchvision v2 transforms; for training only.
        mirror: Mirrors training images, and swaps labels that name a side of them:
            ``{swap: {TASK: {left: right}}, probability: 0.5}``. By default, only ``augmentation``
            mirrors images, and labels stay as they are.
        augment_on: ``cpu`` to augment in the processes that load images; ``device`` to augment each
            batch on the network's device, with the same random numbers; but a crop then sees only
            the centre of the image, as in evaluation, and a GPU may round differently.
        sampling: Which training images an epoch takes; by default each once, in random order (with
            images in shards, as in `Shards`).
        cache: Keep decoded and scaled images (before augmentation) in the ``memory`` of each
            process, or on ``disk`` for later runs, where an image whose file has changed is decoded
            again. (A ``fast_dev_run`` keeps only a few.)
        cache_dir: The folder of the disk cache, by default ``~/.cache/mtl-lightning``; it may be
            deleted.
        cache_features: Compute the features of a frozen backbone once, for so many augmented views
            of each training image (1 without augmentation), and run only the heads afterwards.
            (Not in a ``fast_dev_run``.)
        on_bad_image: ``error``: an image that cannot be read stops the run. ``skip``: it counts as
            if its row were not in the step; such images are counted and listed.
        max_bad_share: The run stops if more than this share of a split's images was skipped.
        max_pixels: Larger images are bad images, refused before they are decoded.
        inputs: Columns of the sources that the network reads, by name: ``{age: Number}``; for a
            backbone that takes them (``TableMLP``, ``ImageAndTable``).
        slices: Columns of the sources whose values divide the results of ``test`` and ``validate``:
            ``[sender, brand]``, or ``test --slices sender brand``.
        left_out: Tasks that the sources may name although this run leaves them out, as with
            ``--only``; images and splits stay those of the whole config.
    """

    def __init__(
        self,
        tasks: dict[str, Task],
        sources: dict[str, Source] | None = None,
        splits: dict[str, float | By] | None = None,
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
        inputs: dict[str, Input] | None = None,
        slices: list[str] | None = None,
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
        by, fractions = divided_by(DEFAULT_SPLITS if splits is None else splits)
        if splits is not None and list(splits) == ["by"]:
            fractions = DEFAULT_SPLITS
        if by == "date" and stratify:
            raise UserError(
                "data.stratify should be false with data.splits: {by: date}, where the date alone "
                "decides. Found true"
            )
        options = MergeOptions(
            fractions=fractions,
            by=by,
            seed=split_seed,
            stratify=stratify,
            same_by=same_by,
            on_conflict=on_conflict,
        )
        self.inputs = inputs or {}
        self.labels = LabelTable(tasks, self.sources, options, mirror, left_out, inputs, slices)
        self.size = image_shape(image_size)
        self.resize = resize
        self.batch_size = batch_size
        self.num_workers = num_workers
        self.augmentation = augmentation
        self.mirror = mirror
        self.augment_on = augment_on
        self.sampling = sampling
        self.cache = cache
        self.cache_dir = cache_folder() if cache_dir is None else Path(cache_dir).expanduser()
        self.cache_features = cache_features
        self.on_bad_image = on_bad_image
        self.max_pixels = max_pixels
        self.bad = BadImages(max_bad_share)
        for source in self.sources.values():
            source.max_pixels = max_pixels

    def setup(self, stage: str) -> None:
        """Merge the sources and encode the labels, raising all errors about the data."""
        if stage == "predict":
            return
        if stage == "fit" and not self.labels.encoded:
            self.labels.infer_classes()
            self.labels.learn_inputs()
        self.labels.encode()
        splits = USED[stage]
        if stage != "fit" and not len(self.labels.rows(splits[0])):
            raise UserError(f"the {splits[0]} split has no labelled image; see data.splits")
        if self.trainer is None:
            return
        table = self.labels.table
        for source in table.sources:  # those that read the table, which need not be `sources`
            source.cover = self.size
        rows = {split: self.labels.rows(split) for split in splits}
        self.features = {}
        if stage == "fit" and self.cache_features is not None and not self._is_trial():
            self.features = {
                split: Features(own, len(table), self.cache_features if split == "train" else 1)
                for split, own in rows.items()
            }
        self._used, self._cached = np.concatenate(list(rows.values())), None
        self._unlabelled = False

    def notes(self) -> list[str]:
        """Return notes for the user before training, one line each."""
        notes = self.labels.notes(self._unlabelled)
        if self.sampling is not None and self.trainer is not None:
            notes += sampling_notes(self.labels, self.sampling, self._train_plan(global_seed()))
        return notes
