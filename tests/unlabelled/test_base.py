import pytest

from mtl_lightning.unlabelled import UnlabelledLearning


def test_a_method_is_active_and_has_to_be_complete():
    assert UnlabelledLearning.active.fget(None) is True
    with pytest.raises(TypeError, match="abstract"):
        UnlabelledLearning()
