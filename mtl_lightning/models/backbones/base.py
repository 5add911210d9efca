"""What every backbone has in common, and how to add one.

Adding a backbone: one file here with one class, one line in ``__init__.py``, one test file.

1. Derive from `Backbone`. List ``weights``, ``preprocessing``, ``pooling`` and ``trainable_from``
   as constructor arguments with defaults of your own, and whatever else yours needs: explicit,
   annotated arguments, no ``**kwargs``, so that a config is checked key by key.
2. In ``__init__`` build the trunk with random weights, touching neither files nor the network, and
   hand it to ``super().__init__`` with its stages in forward order.
3. Give `named_weights`: the tensors behind a weight name. Files are read by the base class.
4. Override `feature_map` where the trunk does not return (B, C, H, W), and `renamed` where old
   weight files have other keys.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor, nn

from mtl_lightning.models.pooling import PoolingName, pooling_layer
from mtl_lightning.models.preprocessing import Normalize, Preprocessing, Preset
from mtl_lightning.models.weights import (
    LoadReport,
    NamedWeights,
    is_file,
    load_matching,
    read_weights,
)
from mtl_lightning.system.errors import UserError, did_you_mean, listed

HEADS = "heads"  # as `trainable_from`: only the heads are trained

_USUAL_SIZES = (32, 48, 64, 96, 128, 160, 192, 224, 256, 299, 336, 384, 448, 512)
_OBSTACLES = (AssertionError, RuntimeError, ValueError)  # what layers raise at a wrong size


class Backbone(nn.Module, ABC):
    """From uint8 images to features: preprocessing, trunk, pooling.

    The constructor builds random weights; `load_pretrained` fills in ``weights``. It is called
    when a training begins, so that resuming and testing from a checkpoint need no file.

    Args:
        trunk: Maps (B, 3, H, W) to what `feature_map` makes (B, C, h, w) of. Its state-dict keys
            are those of the weight files.
        stages: The trunk's submodules by the names that ``trainable_from`` takes, in forward
            order.
        weights: A name that `named_weights` knows, a file, or None for random weights.
        preprocessing: What the weights expect: see `Preprocessing`.
        pooling: How (B, C, h, w) becomes (B, F): see `mtl_lightning.models.pooling`.
        trainable_from: Freeze every stage before this one: no gradients, and in ``eval`` mode
            always, so that batch norm keeps its statistics. None trains everything; ``heads``
            freezes the whole backbone, pooling included. Parameters of the trunk in no stage
            (position embeddings) go with the first stage.
        title: What to call it in errors; the class name by default.

    Raises:
        UserError: If an argument is not known.
    """

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
        super().__init__()
        self.title = title or type(self).__name__
        self.weights = weights
        self.preprocessing = Preprocessing(preprocessing)
        self.trunk = trunk
        self.pooling = pooling_layer(pooling)
        # By name, as torch may put other modules in their places (``trainer.sync_batchnorm``).
        names = {module: name for name, module in self.named_modules()}
        self._stages = {stage: [names[m] for m in modules] for stage, modules in stages.items()}
        self._frozen = self._before(trainable_from, "trainable_from")
        for parameter in self._parameters_in(self._frozen):
            parameter.requires_grad_(False)
        self.train()  # nobody else calls it before the first epoch: frozen batch norm to `eval`

    @property
    def stages(self) -> dict[str, list[nn.Module]]:
        """The trunk's modules by stage, in forward order."""
        return {stage: self._modules_of(names) for stage, names in self._stages.items()}

    @property
    def frozen_modules(self) -> list[nn.Module]:
        """The modules that are frozen at present."""
        return self._modules_of(self._frozen)

    @abstractmethod
    def named_weights(self, name: str) -> NamedWeights:
        """Fetch the weights called ``name``, downloading them if need be.

        Raises:
            UserError: If the name is not known, or the download fails.
        """

    def renamed(self, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
        """Return the tensors of a weight file under the trunk's present keys."""
        return tensors

    def feature_map(self, images: Tensor) -> Tensor:
        """Run the trunk: normalised images (B, 3, H, W) to a feature map (B, C, h, w)."""
        maps: Tensor = self.trunk(images)
        return maps

    def forward(self, images: Tensor) -> Tensor:
        """Compute features.

        Args:
            images: (B, 3, H, W) RGB in 0..255, uint8 (or floating on the same scale).

        Returns:
            (B, F) features in the module's dtype, F as `num_features` says.
        """
        features: Tensor = self.pooling(self.feature_map(self.preprocessing(images)))
        return features

    def load_pretrained(self) -> LoadReport | None:
        """Load ``weights`` into the trunk, where they fit by name and shape.

        Returns:
            What was loaded, or None if ``weights`` is None.

        Raises:
            UserError: If the file or name is not there, cannot be read or downloaded, or fits
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

    def num_features(self, image_size: tuple[int, int]) -> int:
        """Return F for images of (height, width) pixels, by a dry run that leaves no trace.

        Raises:
            UserError: If the trunk cannot take images of this size.
        """
        try:
            return self._dry_run(image_size).shape[1]
        except _OBSTACLES as error:
            reason = str(error).strip().split("\n")[0][:160] or type(error).__name__
            nearest = sorted(_USUAL_SIZES, key=lambda size: abs(size - max(image_size)))
            works = next((size for size in nearest if self._takes((size, size))), None)
            mend = f": set data.image_size to {works}, for example" if works else ""
            raise UserError(
                f"{self.title} cannot take images of {image_size[0]} x {image_size[1]} "
                f"pixels ({reason}){mend}"
            ) from error

    def train(self, mode: bool = True) -> "Backbone":
        """Set training mode, except for what is frozen: that stays in ``eval`` mode."""
        super().train(mode)
        for module in self.frozen_modules:
            module.eval()
        return self

    def frozen_from(self, stage: str | None = None) -> list[nn.Parameter]:
        """Return the parameters that `unfreeze` would set free, each once.

        Raises:
            UserError: If there is no such stage.
        """
        kept = self._parameters_in(self._before(stage, "stage"))
        return [p for p in self._parameters_in(self._frozen) if p not in kept]

    def unfreeze(self, stage: str | None = None) -> None:
        """Train from ``stage`` on, as if it had been ``trainable_from``; None trains everything.

        What is trained already stays so. Where the backbone is in training mode, the stages that
        are set free enter it too: their batch norm follows the data again.

        Raises:
            UserError: If there is no such stage.
        """
        freed = self.frozen_from(stage)
        if freed:
            for parameter in freed:
                parameter.requires_grad_(True)
            self._frozen = self._before(stage, "stage")
            self.train(self.training)

    def _before(self, first: str | None, key: str) -> list[str]:
        """Return the names of the modules that are frozen where ``first`` is the first trained."""
        if first is None:
            return []
        if first == HEADS:
            return ["trunk", "pooling"]
        stages = list(self._stages)
        if first not in stages:
            known = [*stages, HEADS]
            raise UserError(
                f'{key} "{first}" is no stage of {self.title}: expected '
                f"one of {listed(known, limit=40)}{did_you_mean(first, known)}"
            )
        before = stages[: stages.index(first)]
        return [name for stage in before for name in self._stages[stage]]

    def _modules_of(self, names: Iterable[str]) -> list[nn.Module]:
        return [self.get_submodule(name) for name in names]

    def _parameters_in(self, frozen: Iterable[str]) -> dict[nn.Parameter, None]:
        """Return (as keys, in order) the parameters that freezing these modules freezes."""
        modules = self._modules_of(frozen)
        parameters = dict.fromkeys(p for module in modules for p in module.parameters())
        if modules:
            staged = {
                p for modules in self.stages.values() for m in modules for p in m.parameters()
            }
            parameters |= dict.fromkeys(p for p in self.trunk.parameters() if p not in staged)
        return parameters

    def _dry_run(self, image_size: tuple[int, int]) -> Tensor:
        modes = [(module, module.training) for module in self.modules()]
        device = self.preprocessing.mean.device
        images = torch.zeros(1, 3, *image_size, dtype=torch.uint8, device=device)
        self.eval()
        try:
            with torch.no_grad(), torch.random.fork_rng(devices=[]):
                maps = self.feature_map(self.preprocessing(images))
                if maps.numel() == 0:
                    raise ValueError("nothing is left of them at the end of the trunk")
                features: Tensor = self.pooling(maps)
                return features
        finally:
            for module, training in modes:
                module.training = training

    def _takes(self, image_size: tuple[int, int]) -> bool:
        try:
            self._dry_run(image_size)
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
