"""Every method, by the name under which the documentation has it."""

from collections.abc import Callable
from typing import Any

import torch
from torchjd import aggregation, scalarization

from mtl_lightning import balancing


def preferences(tasks: int) -> torch.Tensor:
    return torch.linspace(1.0, 2.0, tasks, dtype=torch.float64)


LOSS: dict[str, Callable[[int], Any]] = {
    "COSMOS": lambda k: scalarization.COSMOS(0.5, preferences(k)),
    "Constant": lambda k: scalarization.Constant(preferences(k)),
    "DWA": lambda k: scalarization.DWA(),
    "DynamicPrioritisation": lambda k: balancing.DynamicPrioritisation(),
    "FAMO": lambda k: scalarization.FAMO(k),
    "GeometricMean": lambda k: scalarization.GeometricMean(),
    "IMTLL": lambda k: scalarization.IMTLL(k),
    "Mean": lambda k: scalarization.Mean(),
    "PBI": lambda k: scalarization.PBI(0.5, preferences(k)),
    "Random": lambda k: scalarization.Random(),
    "STCH": lambda k: scalarization.STCH(0.5),
    "ScaleInvariant": lambda k: balancing.ScaleInvariant(),
    "Sum": lambda k: scalarization.Sum(),
    "UW": lambda k: scalarization.UW(k),
}
"""Number of tasks to a method that reads losses."""

GRADIENT: dict[str, Callable[[int], Any]] = {
    "AlignedMTL": lambda k: aggregation.AlignedMTL(),
    "CAGrad": lambda k: aggregation.CAGrad(0.4),
    "CR-MOGM": lambda k: aggregation.CRMOGMWeighting(aggregation.MGDAWeighting()),
    "ConFIG": lambda k: aggregation.ConFIG(),
    "Constant (of gradients)": lambda k: aggregation.Constant(preferences(k)),
    "DBMTL": lambda k: balancing.DBMTL(),
    "DualProj": lambda k: aggregation.DualProj(),
    "ExcessMTL": lambda k: aggregation.ExcessMTL(),
    "FairGrad": lambda k: aggregation.FairGrad(1.0),
    "GradDrop": lambda k: aggregation.GradDrop(),
    "GradNorm": lambda k: balancing.GradNorm(),
    "GradVac": lambda k: aggregation.GradVac(),
    "IMTLG": lambda k: aggregation.IMTLG(),
    "Krum": lambda k: aggregation.Krum(0),
    "MGDA": lambda k: aggregation.MGDA(),
    "Mean (of gradients)": lambda k: aggregation.Mean(),
    "NashMTL": lambda k: aggregation.NashMTL(k),
    "PCD": lambda k: aggregation.PCD(),
    "PCGrad": lambda k: aggregation.PCGrad(),
    "Random (of gradients)": lambda k: aggregation.Random(),
    "Sum (of gradients)": lambda k: aggregation.Sum(),
    "TrimmedMean": lambda k: aggregation.TrimmedMean(1),
    "UPGrad": lambda k: aggregation.UPGrad(),
}
"""Number of tasks to a method that reads gradients."""

OURS = ("DBMTL", "DynamicPrioritisation", "GradNorm", "ScaleInvariant")
"""Methods that TorchJD has none of."""

SOLVED = ("CAGrad", "NashMTL", "UPGrad", "DualProj", "FairGrad", "ConFIG")
"""Found by a solver, or an inverse, whose tolerance is coarser than rounding."""
