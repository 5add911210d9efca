import pytest
import pytorch_lightning.callbacks
import pytorch_lightning.loggers

from tests.lightning_tools import DOCUMENT, TOOLS, WORKS, document, outcome

SHIPPED = {*pytorch_lightning.callbacks.__all__, *pytorch_lightning.loggers.__all__} - {"Logger"}


def test_every_callback_and_logger_that_lightning_ships_is_tried():
    assert {tool.name for tool in TOOLS} == SHIPPED


@pytest.mark.parametrize("tool", TOOLS, ids=lambda tool: tool.name)
def test_it_works_or_is_one_line(tool):
    found = outcome(tool)
    if tool.is_missing:
        assert found.startswith("error: ")
        assert "pip install" in found or f"`{tool.package}` is not installed" in found
    else:
        assert found == WORKS or found.startswith(f"error: trainer.{'call' * tool.is_callback}")


def test_the_document_is_what_they_give():
    message = "run python -m tests.lightning_tools"
    assert DOCUMENT.read_text(encoding="utf-8") == document(), message
