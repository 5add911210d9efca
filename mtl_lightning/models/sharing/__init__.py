"""How tasks share the backbone: one file each; ``base`` says how to add one."""

from mtl_lightning.models.sharing.base import Sharing
from mtl_lightning.models.sharing.hard import Hard
from mtl_lightning.models.sharing.soft import Soft

__all__ = ["Hard", "Sharing", "Soft"]
