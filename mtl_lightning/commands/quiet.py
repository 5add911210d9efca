"""Warnings and tips of Lightning and torch that a user of this package cannot act on."""

import logging
import os
import warnings

NOISE = (
    # The config sets the number of workers; two is a deliberate default.
    r".*does not have many workers.*",
    # Small data sets log once per epoch, which the epoch's table shows.
    r".*smaller than the logging interval.*",
    # Our metrics have added up the ranks before they are logged.
    r".*sync_dist=True.*",
    # Our loader resumes at the position of the training, which Lightning cannot see.
    r".*your dataloader is not resumable.*",
    # A resumed or tested run writes into the folder that it resumes or tests, on purpose.
    r".*Checkpoint directory .* exists and is not empty.*",
    # `test` needs no Best callback for a checkpoint that one has saved.
    r".*callbacks used to create the checkpoint need to be provided.*",
    # Without validation images there is no validation; a note at the start says so.
    r".*Total length of `list` across ranks is zero.*",
    # Our loader for predictions returns every image once; Lightning cannot see that.
    r".*You are using a custom batch sampler `PlanSampler`.*",
    # An upstream deprecation inside Lightning's own use of torch's pytree.
    r".*LeafSpec.*",
    # Channels-last weights of 1 x 1 filters have two equal layouts; DDP copies, as it would anyway.
    r".*Grad strides do not match bucket view strides.*",
    # The backbone's frozen batch norm is in eval mode by its config.
    r".*module\(s\) in eval mode at the start of training.*",
)


REMARKS = r"PIL\."
"""Modules whose remarks on single files (invalid tags) would fill a terminal; what makes a file
unusable is an error anyway."""


def quieten() -> None:
    """Hide tips, banners and warnings that are not about the user's own run."""
    # Lightning calls parts of jsonargparse that are deprecated.
    os.environ.setdefault("JSONARGPARSE_DEPRECATION_WARNINGS", "off")
    for name in ("pytorch_lightning", "lightning.pytorch", "lightning_fabric", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.WARNING)
    for message in NOISE:
        warnings.filterwarnings("ignore", message=message)
    warnings.filterwarnings("ignore", module=REMARKS)
