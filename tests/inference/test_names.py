import pytest

from mtl_lightning.inference import names
from mtl_lightning.system.errors import UserError


def test_a_format_that_does_not_exist():
    with pytest.raises(UserError, match="Found onx; did you mean"):
        names.check_format("onx")


def test_packages_that_are_missing_name_the_extra(monkeypatch):
    monkeypatch.setattr(names, "find_spec", lambda name: None if "onnx" in name else 1)
    names.check_format("torch")
    with pytest.raises(UserError, match=r"\(onnx, onnxruntime, onnxscript\): pip install 'mtl-"):
        names.check_format("onnx")
