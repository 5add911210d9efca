"""Files to batches: sources, merging, splits, the step plan, loading."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
