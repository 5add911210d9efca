"""The base class of all backbones, and how to add one.

Adding a backbone: one file here with one class, one line in ``__init__.py``, one test file.

1. Derive from `Backbone`. List ``weights``, ``preprocessing``, ``pooling`` and ``trainable_from``
   as constructor arguments with defaults of your own, and any others that your backbone needs:
   explicit and annotated, without ``**kwargs``, so that a config is checked key by key.
2. In ``__init__`` build the trunk with random weights, without files and network access, and
   pass it to ``super().__init__`` with its stages in forward order. Stages should cover every
   layer, those without weights too, so that a sharing can run them one by one.
3. Implement `named_weights`: the tensors of a weight name. The base class reads files.
4. Override `feature_map` if the trunk does not return (B, C, h, w), `stage_map` if a stage does
   not, and `renamed` if old weight files have other keys. If the trunk is not its stages in
   sequence, override `run_stage`, or `feature_maps` and `earlier_maps`, to give its maps.
5. If it reads other inputs than the image, name them in `reads` and override `prepare`; layers
   whose shapes depend on the inputs are made in `build`. A backbone of columns alone derives from
   `TableBackbone`. One that reads ``has_image`` has to answer for rows without an image.
"""

from abc import ABC, abstractmethod
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import ClassVar

import torch
from torch import Tensor, nn

from mtl_lightning.models.backbones.staged import Staged
from mtl_lightning.models.dry_run import dry_run
from mtl_lightning.models.features import POOLED, FeatureSpec, MapSpec
from mtl_lightning.models.inputs import (
    IMAGE,
    Inputs,
    InputSpecs,
    examples,
    image_input,
    image_size,
    is_table,
)
from mtl_lightning.models.pooling import PoolingName, pooling_layer
from mtl_lightning.models.preprocessing import Normalize, Preprocessing, Preset
from mtl_lightning.models.weights import (
    LoadReport,
    NamedWeights,
    is_file,
    load_matching,
    read_weights,
)
from mtl_lightning.system.errors import UserError

_USUAL_SIZES = (32, 48, 64, 96, 128, 160, 192, 224, 256, 299, 336, 384, 448, 512)
_OBSTACLES = (AssertionError, RuntimeError, ValueError)  # what layers raise at a wrong size


class Backbone(Staged, ABC):
    """Maps inputs to features: preprocessing, trunk, pooling.

    The constructor builds random weights; `load_pretrained` loads ``weights``. It is called
    when a training starts, so that resuming and testing from a checkpoint need no weight file.

    Args:
        trunk: Maps (B, 3, H, W) to what `feature_map` turns into (B, C, h, w). Its state-dict keys
            are those of the weight files.
        stages: The trunk's submodules by the names that ``trainable_from`` takes, in forward
            order.
        weights: A name that `named_weights` knows, a file, or None for random weights.
        preprocessing: What the weights expect: see `Preprocessing`.
        pooling: How (B, C, h, w) becomes (B, F): see `mtl_lightning.models.pooling`.
        trainable_from: Freeze every stage before this one: no gradients, and always in ``eval``
            mode, so that batch norm keeps its statistics. None trains everything; ``heads``
            freezes the whole backbone, pooling included. Parameters of the trunk in no stage
            (position embeddings) go with the first stage.
        title: Its name in errors; the class name by default.

    Raises:
        UserError: If an argument is not known.
    """

    reads: ClassVar[tuple[str, ...]] = (IMAGE,)
    """The names of the inputs that `forward` reads, if they are there."""

    def __init__(
        self,
        trunk: nn.Module,
        stages: Mapping[str, Sequence[nn.Module]],
        weights: str | None,
        preprocessing: Preset | Normalize,
        pooling: PoolingName,
        trainable_from: str | None,
        title: str | None = None,
    ) -> None:
        title = title or type(self).__name__
        if POOLED in stages:
            raise UserError(f'{title}: a stage should not be called "{POOLED}", as features are')
        super().__init__(title, trunk, pooling_layer(pooling), stages, trainable_from)
        self.weights = weights
        self.preprocessing = Preprocessing(preprocessing)
        self.provided: tuple[str, ...] = (POOLED,)

    @property
    def device(self) -> torch.device:
        """The device of its weights."""
        return next(self.trunk.parameters()).device

    @property
    def dtype(self) -> torch.dtype:
        """The dtype of its weights, in which features are computed."""
        return next(self.trunk.parameters()).dtype

    @abstractmethod
    def named_weights(self, name: str) -> NamedWeights:
        """Fetch the weights called ``name``, downloading them if necessary.

        Raises:
            UserError: If the name is not known, or the download fails.
        """

    def renamed(self, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
        """Return the tensors of a weight file under the trunk's current keys."""
        return tensors

    def build(self, inputs: InputSpecs) -> None:
        """Make the layers whose shapes depend on the inputs; called once, before all else.

        Raises:
            UserError: If the inputs hold columns, and the backbone would ignore them.
        """
        if is_table(inputs) and not is_table(self.reads):
            raise UserError(
                f"{self.title} reads images alone, so that data.inputs should be left out; or take "
                f"ImageAndTable, which reads both, or TableMLP, which reads columns alone"
            )

    def prepare(self, inputs: Inputs) -> Tensor:
        """Turn inputs into the input of the first stage: normalise images (B, 3, H, W)."""
        prepared: Tensor = self.preprocessing(inputs[IMAGE])
        return prepared

    def stage_map(self, stage: str, values: Tensor) -> Tensor:  # noqa: ARG002 - for subclasses
        """Turn the output of a stage into a feature map (B, C, h, w)."""
        return values

    def feature_map(self, images: Tensor) -> Tensor:
        """Run the trunk on prepared images; return the last feature map (B, C, h, w)."""
        maps: Tensor = self.trunk(images)
        return maps

    def feature_maps(self, images: Tensor, names: Collection[str]) -> dict[str, Tensor]:
        """Run the trunk; return the maps in ``names``, and always the last one."""
        if not set(names) - {POOLED, self.last_stage}:
            return {self.last_stage: self.feature_map(images)}
        maps = {}
        for stage in self._stages:
            images = self.run_stage(stage, images)
            if stage in names or stage == self.last_stage:
                maps[stage] = self.stage_map(stage, images)
        return maps

    def collect(self, maps: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return the features in `provided` from the maps, the last map among them."""
        return {
            name: self.pooling(maps[self.last_stage]) if name == POOLED else maps[name]
            for name in self.provided
        }

    def forward(self, inputs: Inputs) -> dict[str, Tensor]:
        """Compute the features in `provided`: only the pooled vector unless heads read others.

        Args:
            inputs: The inputs named in `reads`.

        Returns:
            In the module's dtype: ``pooled`` (B, F), or maps (B, C, h, w) by stage.
        """
        return self.collect(self.feature_maps(self.prepare(inputs), self.provided))

    def provide(self, names: Collection[str]) -> None:
        """Compute these features from now on, and drop a pooling that no head reads.

        (Its weights would never get a gradient, and DDP waits for the gradients of all.)
        """
        self.provided = tuple(names)
        if POOLED not in names:
            self.pooling = nn.Identity()

    def load_pretrained(self) -> LoadReport | None:
        """Load the tensors of ``weights`` that fit the trunk by name and shape.

        Returns:
            The report, or None if ``weights`` is None.

        Raises:
            UserError: If the file or name does not exist, cannot be read or downloaded, or fits
                nothing.
        """
        if self.weights is None:
            return None
        if is_file(self.weights):
            tensors = self.renamed(read_weights(self.weights))
            return load_matching(self.trunk, tensors, Path(self.weights).name)
        named = self.named_weights(self.weights)
        report = load_matching(self.trunk, self.renamed(named.tensors), named.label)
        return replace(report, note=self._preprocessing_note(named))

    def describe(self, inputs: InputSpecs) -> FeatureSpec:
        """Describe the features of inputs of these shapes, by a dry run without side effects.

        Raises:
            UserError: If the trunk cannot take images of this size.
        """
        size = image_size(inputs)
        try:
            last, pooled = self._dry_run(inputs)
        except _OBSTACLES as error:
            reason = str(error).strip().split("\n")[0][:160] or type(error).__name__
            nearest = sorted(_USUAL_SIZES, key=lambda side: abs(side - max(size)))
            works = next((side for side in nearest if self._takes(inputs, (side, side))), None)
            mend = f": set data.image_size to {works}, for example" if works else ""
            raise UserError(
                f"{self.title} cannot take images of {size[0]} x {size[1]} pixels ({reason}){mend}"
            ) from error
        return FeatureSpec(
            pooled.shape[1],
            self.last_stage,
            MapSpec.of(last, size),
            lambda: self.earlier_maps(inputs),
        )

    def earlier_maps(self, inputs: InputSpecs) -> dict[str, MapSpec]:
        """Describe the maps before the last: none if the stages cannot be run one by one."""
        if not self.runs_by_stage(inputs):
            return {}
        with dry_run(self):
            maps = self.feature_maps(self.prepare(examples(inputs, 1, self.device)), self._stages)
        size = image_size(inputs)
        del maps[self.last_stage]
        return {name: MapSpec.of(values, size) for name, values in maps.items() if values.ndim == 4}

    def runs_by_stage(self, inputs: InputSpecs) -> bool:
        """Whether running `run_stage` on one stage after the other equals `feature_map`.

        For that, the stages must hold every weight of the trunk, and a dry run must agree.
        """
        staged = {p for modules in self.stages.values() for m in modules for p in m.parameters()}
        if not staged.issuperset(self.trunk.parameters()):
            return False
        with dry_run(self):
            images = self.prepare(examples(inputs, 2, self.device))
            expected = values = self.feature_map(images)
            try:
                values = images
                for stage in self._stages:
                    values = self.run_stage(stage, values)
                last = self.stage_map(self.last_stage, values)
                return torch.equal(last.flatten(1), expected.flatten(1))
            except Exception:  # a layer made for other values may raise anything
                return False

    def require_stages(self, inputs: InputSpecs) -> None:
        """Raise a ``UserError`` if the stages cannot be run one by one: see `runs_by_stage`."""
        if not self.runs_by_stage(inputs):
            raise UserError(
                f"{self.title} should run stage by stage here. Found a network that is more than "
                "its stages one after the other; take VGG16, a network of Torchvision, or another "
                "of Timm (resnet18, for example)"
            )

    def _dry_run(self, inputs: InputSpecs) -> tuple[Tensor, Tensor]:
        """Return the last map and the pooled vector of one example."""
        with dry_run(self):
            last = self.feature_map(self.prepare(examples(inputs, 1, self.device)))
            if last.numel() == 0:
                raise ValueError("nothing is left of them at the end of the trunk")
            return last, self.pooling(last)

    def _takes(self, inputs: InputSpecs, size: tuple[int, int]) -> bool:
        try:
            self._dry_run({**inputs, **image_input(size)})
        except _OBSTACLES:
            return False
        return True

    def _preprocessing_note(self, named: NamedWeights) -> str:
        if not named.mean or not named.std or self.preprocessing.matches(named.mean, named.std):
            return ""
        values = f"{{mean: {_rounded(named.mean)}, std: {_rounded(named.std)}}}"
        return f"they were trained with another preprocessing: set preprocessing to {values}"


def _rounded(values: list[float]) -> list[float]:
    return [round(value, 6) for value in values]
