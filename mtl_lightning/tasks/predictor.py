"""The network with the tasks' answers as its last layer, for export."""

from collections.abc import Callable, Mapping

from torch import Tensor, nn

from mtl_lightning.models.inputs import HAS_IMAGE, IMAGE, check_images
from mtl_lightning.models.named import NamedModules
from mtl_lightning.models.network import Network
from mtl_lightning.system.errors import UserError, listed
from mtl_lightning.tasks.base import Task

Transform = Callable[[Mapping[str, Tensor]], dict[str, Tensor]]


class Predictor(nn.Module):
    """Maps uint8 images, and columns as they are in tables, to the answers of every task.

    Args:
        network: Maps inputs to the raw outputs of every task.
        tasks: The network's tasks by name.
        transform: Turns the values of columns, (B,) each, into the network's inputs.
    """

    def __init__(self, network: Network, tasks: Mapping[str, Task], transform: Transform) -> None:
        super().__init__()
        self.network = network
        self.tasks = NamedModules(tasks)
        self.transform = transform

    def forward(
        self,
        images: Tensor | None = None,
        has_image: Tensor | None = None,
        columns: Mapping[str, Tensor] | None = None,
    ) -> dict[str, Tensor]:
        """Compute the answers.

        Args:
            images: ``(B, 3, H, W)`` uint8, RGB, if the network reads them.
            has_image: ``(B,)`` bool, the rows whose image is read; by default all.
            columns: Column to its values, ``(B,)``, see `mtl_lightning.Input.unit`.

        Returns:
            ``<task>/<name>`` to ``(B, ...)``, with the names and values of `Task.predict`.

        Raises:
            UserError: If an input is not given, or see `check_images`.
        """
        inputs = {} if columns is None else self.transform(columns)
        if images is not None:
            check_images(images)
            inputs[IMAGE] = images
        if has_image is not None:
            inputs[HAS_IMAGE] = has_image
        missing = self.network.input_specs.keys() - inputs.keys() - {HAS_IMAGE}
        if missing:
            raise UserError(f"the network reads {listed(sorted(missing))}. Found none")
        outputs = self.network(inputs)
        return {
            f"{task}/{name}": answer
            for task, asked in self.tasks.items()
            for name, answer in asked.predict(outputs[task]).items()
        }
