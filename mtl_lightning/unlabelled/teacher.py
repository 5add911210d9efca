"""The teacher: a moving average of the network that is trained, which only answers."""

import copy
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from torch.optim.swa_utils import get_ema_multi_avg_fn

from mtl_lightning.models import Network
from mtl_lightning.models.inputs import Inputs


class Teacher:
    """An exponential moving average of a network's weights (Tarvainen and Valpola 2017).

    Update n = 0, 1, ... takes a decay of at most (1 + n) / (10 + n), so that the random heads of
    the beginning are soon forgotten. Buffers (statistics of batch norm) are those of the network.
    The average is kept in float32 at least.

    Args:
        network: The network, with its initial weights.
        decay: Share of the average that an update keeps.
    """

    def __init__(self, network: Network, decay: float) -> None:
        self.decay = decay
        self.updates = 0
        self.network = copy.deepcopy(network).requires_grad_(False).eval()
        self._means = [
            p.detach().to(torch.promote_types(p.dtype, torch.float32))
            for p in self.network.parameters()
        ]

    @torch.no_grad()
    def __call__(self, inputs: Inputs) -> dict[str, Tensor]:
        """Compute the raw outputs of every task; see `Network.forward`."""
        outputs: dict[str, Tensor] = self.network(inputs)
        return outputs

    @torch.no_grad()
    def update(self, network: Network) -> None:
        """Move the average towards the weights of the network, after an optimizer step."""
        decay = min(self.decay, (1 + self.updates) / (10 + self.updates))
        update = get_ema_multi_avg_fn(decay)  # type: ignore[no-untyped-call]
        update(self._means, [p.to(m.dtype) for p, m in self._pairs(network)], None)
        for own, mean in self._pairs(self.network):
            if own.data_ptr() != mean.data_ptr():
                own.copy_(mean)
        for buffer, other in zip(self.network.buffers(), network.buffers(), strict=True):
            buffer.copy_(other)
        self.updates += 1

    def _pairs(self, network: Network) -> list[tuple[Tensor, Tensor]]:
        return list(zip(network.parameters(), self._means, strict=True))

    def state_dict(self) -> dict[str, Any]:
        """Return what a checkpoint stores."""
        names = [name for name, _ in self.network.named_parameters()]
        return {"updates": self.updates, "means": dict(zip(names, self._means, strict=True))}

    @torch.no_grad()
    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore the average; buffers are those of the network from which it was made."""
        self.updates = state["updates"]
        for (name, own), mean in zip(self.network.named_parameters(), self._means, strict=True):
            mean.copy_(state["means"][name])
            own.copy_(mean)
