import pytest
from torchjd.aggregation import MGDA, MGDAWeighting
from torchjd.scalarization import UW

from mtl_lightning.balancing import DBMTL, ScaleInvariant
from mtl_lightning.balancing.build import make_balancer
from mtl_lightning.balancing.gradients.gradient_balancer import GradientBalancer
from mtl_lightning.balancing.loss_balancer import LossBalancer
from mtl_lightning.system.errors import UserError

TASKS = ("a", "b")


@pytest.mark.parametrize("method", [UW(2), ScaleInvariant()])
def test_methods_that_read_losses(method):
    balancer = make_balancer(method, TASKS)
    assert isinstance(balancer, LossBalancer)
    assert balancer.method.title == type(method).__name__
    assert balancer.method.tasks == TASKS


@pytest.mark.parametrize("method", [MGDA(), MGDAWeighting(), DBMTL()])
def test_methods_that_read_gradients(method):
    balancer = make_balancer(method, TASKS, "features", 3)
    assert isinstance(balancer, GradientBalancer)
    assert balancer.method.title == type(method).__name__
    assert (balancer.wrt, balancer.every_n_steps) == ("features", 3)


@pytest.mark.parametrize("settings", [("features", 1), ("parameters", 2)])
def test_settings_of_gradients_are_refused_where_losses_are_read(settings):
    message = (
        rf"should be left out with model\.balancing: UW, which reads losses\. Found gradients: "
        rf"{settings[0]}, balance_every_n_steps: {settings[1]}"
    )
    with pytest.raises(UserError, match=message):
        make_balancer(UW(2), TASKS, *settings)
