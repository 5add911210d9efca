"""The facts about an exported network: ``config.json``, from which it can be built again."""

import json
import sys
from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from jsonargparse import ArgumentParser

from mtl_lightning._version import __version__
from mtl_lightning.config import checks, untrusted
from mtl_lightning.data.intensity import Intensity
from mtl_lightning.data.resizing import Resize, image_shape
from mtl_lightning.inputs import Input
from mtl_lightning.inputs.base import specs_of, transformed
from mtl_lightning.models import Backbone, HeadOptions, Sharing
from mtl_lightning.runs.checkpoint_reading import saved_config
from mtl_lightning.system.errors import UserError, did_you_mean, listed
from mtl_lightning.tasks import Task
from mtl_lightning.tasks.calibration import read_calibrations
from mtl_lightning.tasks.network import build_network
from mtl_lightning.tasks.predictor import Predictor

FILE = "config.json"
KIND = "mtl-lightning"
VERSION = 2
"""The version of the folder's layout."""
_MODEL = ("backbone", "sharing", "dropout", "head_hidden")
"""The arguments of the model that its network is built from."""


@dataclass(frozen=True)
class Description:
    """What is needed to build a network, to give it images, and to name its answers.

    Attributes:
        tasks: Task to ``{class_path, init_args}``, with classes.
        model: The arguments of the model that its network is built from.
        image_size: The (height, width) of the images, if it reads any.
        resize: How images get this size, see `mtl_lightning.data.images.resize`.
        intensity: The values of image files that are black and white, as in a config.
        origin: Where it is from: the checkpoint's step, and the versions of packages.
        format: The format of the files, ``""`` for a checkpoint.
        files: Facts about the files of this format.
        statistics: Task to the statistics of its training labels, by name.
        inputs: Column to ``{class_path, init_args}``, with vocabulary or statistics.
        reads: The names of the tensors that the network reads, see `mtl_lightning.models.inputs`;
            empty as long as it has not been built.
        calibration: Task to the values of its `Calibration`; none for one that has none.
    """

    tasks: Mapping[str, Any]
    model: Mapping[str, Any]
    image_size: tuple[int, int]
    resize: Resize = "cover"
    intensity: Mapping[str, Any] | None = None
    origin: Mapping[str, Any] = field(default_factory=dict)
    format: str = ""
    files: Mapping[str, Any] = field(default_factory=dict)
    statistics: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    inputs: Mapping[str, Any] = field(default_factory=dict)
    reads: tuple[str, ...] = ()
    calibration: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    @classmethod
    def of_checkpoint(cls, path: Path, trusted: Collection[str] = ()) -> "Description":
        """Read it from a checkpoint of `mtl-lightning fit`.

        Args:
            path: The file.
            trusted: Modules of the user's own classes.

        Raises:
            UserError: If it is no such file, or its sources differ in what black and white are.
        """
        saved = saved_config(path)
        arguments = (saved["model"].get("backbone") or {}).get("init_args", {})
        if "weights" in arguments:  # a file of the machine that trained it
            arguments["weights"] = None
        saved = untrusted.mark(saved, untrusted.Origin(str(path), trusted))
        data, calibrations = saved["data"], read_calibrations(saved["calibration"])
        found = [entry.get("init_args", {}) for entry in (data.get("sources") or {}).values()]
        intensities = [arguments.get("intensity") for arguments in found]
        return cls(
            tasks=saved["tasks"],
            model={name: saved["model"][name] for name in _MODEL if name in saved["model"]},
            image_size=image_shape(data.get("image_size", 128)),
            resize=data.get("resize") or "cover",
            intensity=_agreed(intensities),
            origin={
                "step": saved["step"],
                "mtl_lightning": __version__,
                "torch": torch.__version__,
            },
            inputs=data.get("inputs") or {},
            calibration={n: own.plain() for n, own in calibrations.items()},
        )

    def only(self, tasks: Collection[str]) -> "Description":
        """Return it with some tasks.

        Raises:
            UserError: If one of them does not exist.
        """
        for name in tasks:
            if name not in self.tasks:
                raise UserError(
                    f"--tasks {name}: no such task{did_you_mean(name, self.tasks)}; the network "
                    f"has {listed(self.tasks)}"
                )
        return replace(
            self,
            tasks={name: own for name, own in self.tasks.items() if name in tasks},
            calibration={name: own for name, own in self.calibration.items() if name in tasks},
        )

    def build(self) -> Predictor:
        """Build the network with random weights, in evaluation mode.

        Raises:
            UserError: If a class or an argument is wrong, or may not be built.
        """
        backbone = _built(Backbone, self.model.get("backbone", "VGG16"), "model.backbone")
        sharing = self.model.get("sharing")
        network = build_network(
            tasks := self.built_tasks(),
            backbone,
            None if sharing is None else _built(Sharing, sharing, "model.sharing"),
            HeadOptions(
                dropout=self.model.get("dropout", 0.5), hidden=self.model.get("head_hidden")
            ),
            self.image_size,
            specs_of(inputs := self.built_inputs()),
        )
        return Predictor(network, tasks, partial(transformed, inputs)).eval()

    def built_inputs(self) -> dict[str, Input]:
        """Build the inputs that are columns."""
        return {
            name: _built(Input, entry, f"data.inputs.{name}") for name, entry in self.inputs.items()
        }

    def built_tasks(self) -> dict[str, Task]:
        """Build the tasks, with their statistics and calibrations."""
        tasks: dict[str, Task] = {}
        calibrations = read_calibrations(self.calibration)
        for name, entry in self.tasks.items():
            tasks[name] = _built(Task, entry, f"tasks.{name}")
            for buffer, value in self.statistics.get(name, {}).items():
                tasks[name].get_buffer(buffer).copy_(torch.tensor(value, dtype=torch.float64))
            tasks[name].calibration = calibrations.get(name)
        return tasks

    def completed(self, predictor: Predictor) -> "Description":
        """Return it with what a trained network reads, and with the statistics of its labels."""
        statistics = {
            name: {buffer: value.tolist() for buffer, value in task.named_buffers()}
            for name, task in predictor.tasks.items()
        }
        return replace(self, statistics=statistics, reads=tuple(predictor.network.input_specs))

    def intensity_of_files(self) -> Intensity | None:
        """Return the values of image files that are black and white."""
        return None if self.intensity is None else Intensity(**self.intensity)

    def write(self, folder: Path) -> None:
        """Write ``config.json``."""
        content = {"kind": KIND, "version": VERSION, **untrusted.unmark(asdict(self))}
        text = json.dumps(content, indent=2, ensure_ascii=False)
        (folder / FILE).write_text(f"{text}\n", encoding="utf-8")

    @classmethod
    def read(cls, folder: Path) -> "Description":
        """Read ``config.json``; the texts in it are not trusted.

        Raises:
            UserError: If there is none, or it is not one of ours.
        """
        path = folder / FILE
        if not path.is_file():
            raise UserError(
                f"{folder} should be a folder of `mtl-lightning export`. Found no {FILE}"
            )
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
        except (ValueError, OSError) as error:
            raise UserError(f"{path}: cannot be read; {error}") from error
        if not isinstance(content, dict) or content.pop("kind", None) != KIND:
            raise UserError(f"{path}: was not written by `mtl-lightning export`")
        version = content.pop("version", None)
        if version != VERSION:
            raise UserError(
                f"{path}: version should be {VERSION}. Found {version}; export it again"
            )
        names = set(cls.__dataclass_fields__)
        if set(content) != names:
            raise UserError(f"{path}: is incomplete; it should have {listed(sorted(names))}")
        content = untrusted.mark(content, untrusted.Origin(str(path), sys.modules))
        checks.check_value(Resize, content["resize"], f"{path}: resize")
        size = image_shape(content["image_size"])
        return cls(**{**content, "image_size": size, "reads": tuple(content["reads"])})


def _agreed(intensities: list[Any]) -> Any:
    """Return what all sources say about black and white.

    Raises:
        UserError: If they differ.
    """
    if any(intensity != intensities[0] for intensity in intensities):
        raise UserError(
            "the sources of the training differ in `intensity`, so that image files have no one "
            "meaning; train with one, or export from Python"
        )
    return intensities[0] if intensities else None


def _built(base: type, entry: Any, path: str) -> Any:
    entry = untrusted.unmark(checks.check_component((base,), entry, path))
    parser = ArgumentParser(exit_on_error=False)
    parser.add_argument("--built", type=base)
    return parser.instantiate_classes(parser.parse_object({"built": entry})).built
