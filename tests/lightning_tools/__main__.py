"""Writes docs/lightning-tools.md."""

from mtl_lightning.commands.quiet import quieten
from tests.lightning_tools import DOCUMENT, document

if __name__ == "__main__":
    quieten()
    DOCUMENT.write_text(document(), encoding="utf-8")
