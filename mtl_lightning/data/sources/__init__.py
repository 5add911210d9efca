"""Sources of images and labels: one file each; ``base`` says how to add one."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
