"""Train one network for many tasks, from images or rows that each carry only some of the labels.

Each room imports only from rooms below it, without cycles; pyproject.toml enforces this.

================  ===============================================================================
``__main__``      the entry of the command line: lists and dispatches commands, imports no torch
``commands/``     ``trainer`` runs ``fit``, ``validate``, ``test`` and ``predict`` by LightningCLI;
                  ``inspect``, ``init`` (with ``proposal/``), ``compare`` (with
                  ``comparison/``), ``report``, ``export``, ``pack`` and ``predict --model``
                  (``predict_exported``) have a module each;
                  ``prepare`` makes one complete, checked config from files, flags and checkpoint
``callbacks/``    what a run adds to a training: tables, checkpoints, signals, predictions, notes;
                  ``EMA`` and ``Unfreeze`` for configs
``reports/``      views of facts: terminal, HTML pages, sheets, and ``plots/``; they compute none
``training/``     the LightningModule: one shared step, optimizer and schedule, resuming, the cache
                  of features, losses that are not finite, checks before the first step
``inference/``    a trained network as an object, and as exported ``formats/`` that run elsewhere;
                  the table that ``predictions/`` are written to
``unlabelled/``   learning from cells without a label: the network's own guesses as targets
``audit/``        findings about data, before anything is trained
``balancing/``    how K losses or gradients become one update: methods, the exact step in
                  ``gradients/``, adapters of TorchJD's methods in ``torchjd/``
``data/``         sources -> one table of labels with a mask per task -> step plan -> batches:
                  ``sources/``, ``sampling/``, ``mirroring/``, caches, ``packs/`` of shards
``runs/``         a run on disk and in processes: its folder, checkpoints, loggers, ranks
``inputs/``       columns of tables that a network reads: what their cells become
``tasks/``        what a label means: target, loss, metrics, answer, plots
``models/``       inputs -> features -> outputs: ``backbones/``, ``sharing/``, heads; plain
                  ``nn.Module``, exportable
``config/``       YAML, flags, type annotations, values that are not trusted; knows no room above
``system/``       errors, files, hardware, progress, the seed, and Lightning's private parts
================  ===============================================================================

``data/`` knows no networks, ``tasks/`` and ``models/`` know no files; ``training/`` and
``commands/`` know both. The recipe for a new task, source, sampling, backbone, sharing or balancing
method is the docstring of the ``base`` module in its folder.
"""

import lazy_loader

# Imported when first used, so that `mtl-lightning --help` does not wait for torch.
__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
