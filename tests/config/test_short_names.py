import mtl_lightning.commands.trainer  # noqa: F401 - imports all there is
from mtl_lightning.audit import report  # noqa: F401
from mtl_lightning.commands.first_checks import KINDS
from mtl_lightning.config.classes import concrete_subclasses
from mtl_lightning.config.short_names import short_names
from mtl_lightning.data import Sampling, Source
from mtl_lightning.inputs import Input
from mtl_lightning.models import Backbone, Sharing
from mtl_lightning.tasks import Task


def test_they_are_those_of_the_classes():
    bases = {base.__name__: base for base in (Task, Source, Input, Backbone, Sharing, Sampling)}
    assert set(bases) == {wanted for wanted, _ in KINDS.values()}
    for wanted, folder in KINDS.values():
        ours = {
            name
            for name, classes in concrete_subclasses((bases[wanted],)).items()
            if any(cls.__module__.startswith("mtl_lightning.") for cls in classes)
        }
        assert set(short_names(folder)) == ours
