import pytest

from mtl_lightning.inference import formats
from mtl_lightning.inference.formats import ExportFormat
from mtl_lightning.inference.names import FORMATS


def test_every_format_has_a_name():
    classes = {getattr(formats, name) for name, _ in FORMATS.values()}
    assert classes == set(ExportFormat.__subclasses__())
    with pytest.raises(TypeError, match="abstract"):
        ExportFormat()
