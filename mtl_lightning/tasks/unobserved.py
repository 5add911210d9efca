"""The part that cells without a label have in the training loss of many yes/no labels.

Only cells of rows with at least one label of the task can be assumed to be a no: in a row without
any, the question was not asked. An assumed cell is no label: it is in no count, weight, statistic
or metric, and evaluation is over labelled cells alone.
"""

from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor, nn

from mtl_lightning.system.errors import UserError

Unobserved = Literal[
    "ignore", "negative", "negative_smoothed", "large_loss_rejected", "large_loss_corrected"
]
"""``ignore``: such a cell has no loss. ``negative``: it is assumed to be a no.
``negative_smoothed``: likewise, with targets moved towards 1/2, also of labelled cells (both Cole
et al. 2021, "Multi-Label Learning from Single Positive Labels", AN and AN-LS).
``large_loss_rejected``: assumed to be a no, except where the network disagrees most, which has no
loss. ``large_loss_corrected``: except where it disagrees most, which is a yes (both Kim et al.
2022, "Large Loss Matters in Weakly Supervised Multi-Label Classification", LL-R and LL-Ct)."""

_LIMIT = 16.0  # logits; an assumed cell beyond it has a loss of 16, or one of 1e-7
_PER_UNIT = 64  # bins of a unit of logits
_BINS = int(2 * _LIMIT * _PER_UNIT)
_NEVER = _BINS  # no logit is in this bin
_SCALE = 1000  # so that integers can fade


class Assumption(nn.Module):
    """Decides about assumed cells, by the losses of recent steps if large losses matter.

    In epoch t = 0, 1, ... the share ``growth * t`` of assumed cells with the largest losses is
    rejected or corrected. Kim et al. take it of each batch. The losses of a step are on several
    ranks and in several micro-batches, of which the first is over before the last begins; so here
    cells are compared with the loss that bounds this share in the steps before, of which each
    counts 0.9 times as much as the next. That is the same on any number of ranks and
    micro-batches. The outputs of a network that knows little rise and fall by more than they
    differ, so that the bound alone would sometimes take all cells, and nothing would push them
    down again: only the same share of a row's own assumed cells, rounded up, are ever large.

    The loss of a no grows with its logit, so that logits are counted, in bins of 1/64, and added
    up over ranks as integers; the bound is an edge of a bin, with the share or less above it. Both
    are part of the checkpoint.

    Args:
        unobserved: The decision, see `Unobserved`.
        smoothing: The smoothing of ``negative_smoothed``: half of it is the probability of the
            other answer.
        growth: See above.

    Attributes:
        bound: The first bin whose logits count as large.
        counts: ``(bins,)``, the faded counts of assumed cells.
        epoch: The epoch of the last step. All are int64, so that no precision of the network
            changes them.

    Raises:
        UserError: If an argument is out of range.
    """

    bound: Tensor
    counts: Tensor
    epoch: Tensor

    def __init__(self, unobserved: Unobserved, smoothing: float, growth: float) -> None:
        super().__init__()
        if not 0 <= smoothing < 1:
            raise UserError(
                f"unobserved_smoothing should be in 0..1 (1 excluded). Found {smoothing}"
            )
        if not 0 <= growth <= 1:
            raise UserError(f"large_loss_growth should be in 0..1. Found {growth}")
        self.unobserved = unobserved
        self.smoothing = smoothing
        self.growth = growth
        self.register_buffer("bound", torch.tensor(_NEVER))
        self.register_buffer("counts", torch.zeros(_BINS, dtype=torch.long))
        self.register_buffer("epoch", torch.tensor(0))

    @property
    def ignores(self) -> bool:
        """Whether cells without a label have no loss."""
        return self.unobserved == "ignore"

    @property
    def finds_large_losses(self) -> bool:
        """Whether the decision depends on the losses of other cells."""
        return self.unobserved.startswith("large_loss")

    def smoothed(self, targets: Tensor) -> Tensor:
        """Return the targets of labelled cells."""
        if self.unobserved != "negative_smoothed":
            return targets
        return targets * (1 - self.smoothing) + self.smoothing / 2

    def losses(
        self, outputs: Tensor, labelled: Tensor, loss: Callable[[Tensor, Tensor], Tensor]
    ) -> Tensor:
        """Return the loss of each assumed cell, and 0 for the others.

        Args:
            outputs: ``(B, L)`` logits in at least float32.
            labelled: The mask of labelled cells.
            loss: Returns the losses ``(B, L)`` of outputs and targets.

        Returns:
            ``(B, L)``.
        """
        mask = assumed(labelled)
        losses = loss(outputs, self.smoothed(torch.zeros_like(outputs)))
        if self.finds_large_losses:
            corrected = self.unobserved == "large_loss_corrected"
            yes = loss(outputs, torch.ones_like(outputs)) if corrected else torch.zeros_like(losses)
            losses = torch.where(self._large(outputs.detach(), mask), yes, losses)
        return torch.where(mask, losses, torch.zeros_like(losses))

    def _large(self, outputs: Tensor, mask: Tensor) -> Tensor:
        own = torch.where(mask, outputs, -torch.inf)
        place = own.argsort(dim=1, descending=True, stable=True).argsort(dim=1)
        share = (self.growth * self.epoch).clamp(max=1.0)
        most = (share * mask.sum(1, keepdim=True)).ceil()
        return (_bins(outputs) >= self.bound) & (place < most)

    @torch.no_grad()
    def end_step(self, counts: Tensor, epoch: int) -> None:
        """Set the bound for the next step.

        Args:
            counts: The assumed cells of a whole step by bin, see `count`.
            epoch: The epoch of this step, from 0.
        """
        self.epoch.fill_(epoch)
        self.counts.copy_(self.counts * 9 // 10 + _SCALE * counts.to(self.counts.device))
        above = self.counts.flip(0).cumsum(0).flip(0)  # in this bin or a higher one
        share = min(self.growth * epoch, 1.0)
        # With a share of 0, a logit higher than any before is not large either.
        self.bound.copy_((above > share * above[0]).sum())
        if share == 0 or above[0] == 0:
            self.bound.fill_(_NEVER)


def count(outputs: Tensor, labelled: Tensor) -> Tensor:
    """Return the numbers of assumed cells by the bin of their logit: ``(bins,)`` int64.

    Args:
        outputs: ``(B, L)`` logits.
        labelled: The mask of labelled cells.
    """
    return torch.bincount(_bins(outputs.detach()[assumed(labelled)]), minlength=_BINS)


def assumed(labelled: Tensor) -> Tensor:
    """Return which cells may be assumed: those without a label, in rows with one."""
    return labelled.any(1, keepdim=True) & ~labelled


def _bins(logits: Tensor) -> Tensor:
    wide = logits.to(torch.promote_types(logits.dtype, torch.float32))
    bins = ((wide.nan_to_num() + _LIMIT) * _PER_UNIT).floor()
    return bins.clamp(0, _BINS - 1).long()
