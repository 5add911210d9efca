"""The seed of a run, from which every random number of it is derived."""

import os


def global_seed() -> int:
    """Return the seed that Lightning's ``seed_everything`` was called with, 0 without a call."""
    return int(os.environ.get("PL_GLOBAL_SEED", 0))
