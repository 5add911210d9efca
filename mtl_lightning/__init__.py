"""Train one image network for many tasks, from images that carry few of the labels.

The folders stand in the order in which data flows:

====================  =============================================================================
``__main__``, ``cli``  the command line: ``fit``, ``validate``, ``test``, ``predict``
``commands/``         ``inspect``, ``init`` and ``pack``; what they do is in ``audit/`` (what is
                      wrong with data), ``proposal/`` (a config from data) and ``data/packs/``
``config``            from what was typed to one complete, checked config; with ``reading`` (YAML),
                      ``flags``, ``only``, ``checks`` (names and types), ``messages``
``data/``             sources -> one merged table with masks -> step plan -> batches, mirrored and
                      augmented here or on the device; what an epoch takes is in ``sampling/``,
                      what is decoded once in ``cache``, what a frozen backbone makes of it in
                      ``features``, merged data as shards in ``packs/``
``tasks/``            what a label means: target, head size, loss, metrics, decoding
``models/``           uint8 images -> ``{task: output}``; plain ``nn.Module``, exportable
``balancing/``        how K losses or gradients become one update, TorchJD's methods included
``module``            the LightningModule: one shared step, metrics, optimizer; with ``schedule``,
                      ``finite``, ``results`` (what was measured of a split) and ``hparams``
``callbacks/``        tables, checkpoints, resuming, signals, predictions; ``EMA``, ``Unfreeze``
``plots/``            numbers to figures: curves, confusion matrices, scatters, many labels
``runs``              the folder of a run, ``best`` and ``last``; with ``loggers``, ``files``,
                      ``checkpoint`` (reading one, and ``trust`` in it), ``checkpoint_io`` (writing)
``errors``, ``quiet`` what a user is told, and what is kept from them; with ``hardware`` (what of
                      the machine does not fit) and ``progress`` (bars for what takes long)
====================  =============================================================================

``data/`` knows nothing of networks, ``tasks/`` and ``models/`` nothing of files; only ``module``
and ``cli`` know both. The recipe for adding a task, a source, a backbone, a sharing or a method of
balancing is the docstring of the ``base`` module in its folder.
"""

import importlib
from typing import TYPE_CHECKING, Any

from mtl_lightning._version import __version__

if TYPE_CHECKING:
    from mtl_lightning.balancing import (
        DBMTL,
        Balancing,
        DynamicPrioritisation,
        GradientBalancing,
        GradNorm,
        LossBalancing,
        ScaleInvariant,
    )
    from mtl_lightning.data import (
        AtLeast,
        CelebASource,
        DigitsSource,
        FashionAISource,
        FilenameSource,
        FolderSource,
        HuggingFaceSource,
        LabelBalanced,
        Market1501AttributeSource,
        Mirror,
        Mixed,
        MultiMNISTSource,
        PartialLabels,
        Sampling,
        Shards,
        Source,
        SourceTable,
        StreamSource,
        TableSource,
        TorchvisionSource,
        UTKFaceSource,
    )
    from mtl_lightning.models import (
        VGG16,
        Backbone,
        Hard,
        Network,
        Sharing,
        Soft,
        Timm,
        Torchvision,
    )
    from mtl_lightning.system.errors import SourceError, UserError
    from mtl_lightning.tasks import (
        Classification,
        MultiLabel,
        Regression,
        Task,
    )
    from mtl_lightning.training.module import MultiTask

_HOMES = {
    "balancing": (
        "DBMTL",
        "Balancing",
        "DynamicPrioritisation",
        "GradNorm",
        "GradientBalancing",
        "LossBalancing",
        "ScaleInvariant",
    ),
    "data": (
        "AtLeast",
        "CelebASource",
        "DigitsSource",
        "FashionAISource",
        "FilenameSource",
        "FolderSource",
        "HuggingFaceSource",
        "LabelBalanced",
        "Market1501AttributeSource",
        "Mirror",
        "Mixed",
        "MultiMNISTSource",
        "PartialLabels",
        "Sampling",
        "Shards",
        "Source",
        "SourceTable",
        "StreamSource",
        "TableSource",
        "TorchvisionSource",
        "UTKFaceSource",
    ),
    "system.errors": ("SourceError", "UserError"),
    "models": ("VGG16", "Backbone", "Hard", "Network", "Sharing", "Soft", "Timm", "Torchvision"),
    "training.module": ("MultiTask",),
    "tasks": ("Classification", "MultiLabel", "Regression", "Task"),
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}

__all__ = [
    "DBMTL",
    "VGG16",
    "AtLeast",
    "Backbone",
    "Balancing",
    "CelebASource",
    "Classification",
    "DigitsSource",
    "DynamicPrioritisation",
    "FashionAISource",
    "FilenameSource",
    "FolderSource",
    "GradNorm",
    "GradientBalancing",
    "Hard",
    "HuggingFaceSource",
    "LabelBalanced",
    "LossBalancing",
    "Market1501AttributeSource",
    "Mirror",
    "Mixed",
    "MultiLabel",
    "MultiMNISTSource",
    "MultiTask",
    "Network",
    "PartialLabels",
    "Regression",
    "Sampling",
    "ScaleInvariant",
    "Shards",
    "Sharing",
    "Soft",
    "Source",
    "SourceError",
    "SourceTable",
    "StreamSource",
    "TableSource",
    "Task",
    "Timm",
    "Torchvision",
    "TorchvisionSource",
    "UTKFaceSource",
    "UserError",
    "__version__",
]


def __getattr__(name: str) -> Any:
    # Imported when first used, so that `mtl-lightning --help` does not wait for torch.
    if name in _HOME_OF:
        return getattr(importlib.import_module(f"{__name__}.{_HOME_OF[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
