from types import SimpleNamespace

import pytest
from pytorch_lightning.strategies import DDPStrategy, DeepSpeedStrategy, SingleDeviceStrategy

from mtl_lightning.system.errors import UserError
from mtl_lightning.system.strategy import check_whole_weights, is_trial
from tests.helpers.training import make_trainer


def trainer(strategy):
    # Without its __init__, which asks for packages and devices.
    return SimpleNamespace(strategy=object.__new__(strategy))


@pytest.mark.parametrize("strategy", [SingleDeviceStrategy, DDPStrategy])
def test_whole_weights_pass(strategy):
    check_whole_weights(trainer(strategy), "EMA")


@pytest.mark.parametrize("strategy", [DeepSpeedStrategy])
def test_divided_weights_are_refused(strategy):
    with pytest.raises(UserError, match=r"EMA needs .* Found trainer\.strategy DeepSpeedStrategy"):
        check_whole_weights(trainer(strategy), "EMA")


@pytest.mark.parametrize("fast", [False, True, 3])
def test_a_fast_dev_run_is_a_trial(tmp_path, fast):
    assert is_trial(make_trainer(tmp_path, fast_dev_run=fast)) == bool(fast)
