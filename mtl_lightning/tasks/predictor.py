"""The network with the tasks' answers as its last layer, for export."""

from collections.abc import Mapping

from torch import Tensor, nn

from mtl_lightning.models.inputs import IMAGE, check_images
from mtl_lightning.models.named import NamedModules
from mtl_lightning.models.network import Network
from mtl_lightning.tasks.base import Task


class Predictor(nn.Module):
    """Maps uint8 images to the answers of every task in one call.

    Args:
        network: Maps images to the raw outputs of every task.
        tasks: The network's tasks by name.
    """

    def __init__(self, network: Network, tasks: Mapping[str, Task]) -> None:
        super().__init__()
        self.network = network
        self.tasks = NamedModules(tasks)

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """Compute the answers.

        Args:
            images: ``(B, 3, H, W)`` uint8, RGB.

        Returns:
            ``<task>/<name>`` to ``(B, ...)``, with the names and values of `Task.predict`.

        Raises:
            UserError: See `check_images`.
        """
        check_images(images)
        outputs = self.network({IMAGE: images})
        return {
            f"{task}/{name}": answer
            for task, asked in self.tasks.items()
            for name, answer in asked.predict(outputs[task]).items()
        }
