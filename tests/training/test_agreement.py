import pytest
import torch

from mtl_lightning.data.datamodule import PartialLabels
from mtl_lightning.system.errors import UserError
from mtl_lightning.tasks import Classification, MultiLabel, Regression, Task
from mtl_lightning.training.agreement import check_checkpoint, check_data, check_known, described
from mtl_lightning.training.module import MultiTask
from tests.helpers.data import KINDS, Memory
from tests.helpers.models import Small
from tests.helpers.training import fit, make_trainer

SPLITS = ["train"] * 8 + ["val"] * 4 + ["test"] * 4


def module(**tasks: Task) -> MultiTask:
    torch.manual_seed(1)
    return MultiTask(tasks, Small(), image_size=16)


def data(labels: list[str] | None = None, left_out: dict[str, Task] | None = None, **tasks: Task):
    kinds = labels or [KINDS[i % 3] for i in range(len(SPLITS))]
    source = Memory({"kind": kinds, "tags": ["hat", "bag"] * 8, "size": range(16)}, SPLITS)
    options = {"image_size": 16, "batch_size": 4, "num_workers": 0, "left_out": left_out}
    return PartialLabels(tasks, {"m": source}, **options)


def classes(*names: str) -> Classification:
    return Classification(list(names))


PERMUTED = (
    r"task kind: the classes of the data should be those of the model: cat, dog, eel, in this "
    r"order. Found eel, dog, cat; build the data with the same task"
)


@pytest.mark.parametrize("stage", ["fit", "validate", "test", "predict"])
def test_classes_in_another_order_are_refused_before_anything_is_measured(tmp_path, stage):
    own = data(kind=classes("eel", "dog", "cat"))
    own.predict_on(own.labels.table)
    with pytest.raises(UserError, match=f"^{PERMUTED}$"):
        getattr(make_trainer(tmp_path), stage)(module(kind=classes(*KINDS)), datamodule=own)


def test_classes_that_another_table_completed_are_refused(tmp_path):
    own = data(["ant", "dog"] * 8, kind=Classification())
    with pytest.raises(UserError, match="should be those of the model: cat, dog, eel"):
        make_trainer(tmp_path).fit(module(kind=classes(*KINDS)), datamodule=own)


@pytest.mark.parametrize(
    ("model", "found", "message"),
    [
        ({"a": Regression()}, {"b": Regression()}, r"should be those of the model \(a\). Found b"),
        ({"a": Regression()}, {}, "Found none"),
        ({"a": Regression()}, {"a": Regression(), "b": Regression()}, "left_out"),
        (
            {"a": MultiLabel(["x", "y"])},
            {"a": MultiLabel(["y", "x"])},
            "the labels of the data should be those of the model: x, y, in this order. Found y, x",
        ),
        (
            {"a": MultiLabel(["x", "y"])},
            {"a": classes("x", "y")},
            "the kind of the data should be that of the model: MultiLabel. Found Classification",
        ),
    ],
    ids=str,
)
def test_differences(model, found, message):
    with pytest.raises(UserError, match=message):
        check_data(model, found, predicts=False)


def test_equal_tasks_need_not_be_the_same_objects():
    check_data({"a": classes("x", "y")}, {"a": classes("x", "y")}, predicts=False)


def test_data_to_predict_may_leave_tasks_and_classes_open():
    model = {"a": classes("x", "y"), "b": Regression()}
    check_data(model, {"a": Classification()}, predicts=True)
    check_data(model, {}, predicts=True)


def test_an_outcome_of_the_right_number_of_names_is_compared_too():
    class Silent(Classification):
        def identity(self):
            return {}

    with pytest.raises(UserError, match="the outputs of the data should be those of the model: 2"):
        check_data({"a": Silent(["x", "y"])}, {"a": Silent(["x", "y", "z"])}, predicts=False)


# --------------------------------------------------------------------- classes that are open


def test_a_model_is_not_built_before_its_classes_are_known():
    with pytest.raises(UserError, match=r"task kind: Classification should know its classes.*none"):
        check_known({"size": Regression(), "kind": Classification()})
    with pytest.raises(UserError, match=r'data.setup\("fit"\), with the same task objects'):
        module(kind=Classification())


def test_the_data_complete_tasks_for_the_model(tmp_path):
    own = data(kind=Classification())
    own.setup("fit")
    trained = fit(tmp_path, own, MultiTask(own.tasks, Small(), image_size=16))
    assert trained.tasks["kind"].classes == list(KINDS)


def test_classes_that_nobody_knows_are_listed_as_open(tmp_path):
    with pytest.raises(UserError, match=r"task kind: .* before labels are read. Found none; give"):
        make_trainer(tmp_path).test(module(kind=classes(*KINDS)), data(kind=Classification()))


# --------------------------------------------------------------------- checkpoints


@pytest.fixture
def checkpoint(tmp_path):
    trained = fit(tmp_path, data(kind=classes(*KINDS)), module(kind=classes(*KINDS)))
    trained.trainer.save_checkpoint(tmp_path / "a.ckpt")
    return trained, tmp_path / "a.ckpt"


def test_a_checkpoint_of_python_says_what_to_pass(checkpoint):
    _, path = checkpoint
    with pytest.raises(UserError, match=r"a\.ckpt: it was written in Python.*tasks=tasks, \.\.\."):
        MultiTask.load_from_checkpoint(path)
    with pytest.raises(UserError, match=r"PartialLabels was built with; pass tasks"):
        PartialLabels.load_from_checkpoint(path)


def test_with_what_was_given_it_loads(checkpoint):
    trained, path = checkpoint
    tasks = {"kind": classes(*KINDS)}
    loaded = MultiTask.load_from_checkpoint(path, tasks=tasks, backbone=Small(), image_size=16)
    own = trained.state_dict()
    assert all(torch.equal(value, own[name]) for name, value in loaded.state_dict().items())


def test_with_another_backbone_it_is_one_line(checkpoint):
    tasks = {"kind": classes(*KINDS)}
    with pytest.raises(UserError, match="does not fit the network that is built") as error:
        MultiTask.load_from_checkpoint(
            checkpoint[1], tasks=tasks, backbone=Small(), head_hidden=3, image_size=16
        )
    assert "\n" not in str(error.value)


def test_classes_in_another_order_than_the_checkpoints_are_refused(checkpoint, tmp_path):
    message = "the classes of the model should be those of the checkpoint: cat, dog, eel"
    permuted = classes("eel", "dog", "cat")
    with pytest.raises(UserError, match=message):
        MultiTask.load_from_checkpoint(
            checkpoint[1], tasks={"kind": permuted}, backbone=Small(), image_size=16
        )
    trainer = make_trainer(tmp_path, max_epochs=2)
    with pytest.raises(UserError, match=message):
        trainer.fit(module(kind=permuted), data(kind=permuted), ckpt_path=checkpoint[1])


def test_other_tasks_than_the_checkpoints_are_refused():
    saved = {"a": described(Regression())}
    with pytest.raises(UserError, match=r"should be those of the checkpoint \(a\). Found a, b"):
        check_checkpoint({"a": Regression(), "b": Regression()}, saved)
    check_checkpoint({"a": Regression()}, saved)


def test_a_model_tested_with_new_task_objects_is_right_or_refused(checkpoint, tmp_path):
    """The case of the issue: `load_from_checkpoint`, then `test` with other task objects."""
    trained, path = checkpoint
    tasks = {"kind": classes(*KINDS)}
    loaded = MultiTask.load_from_checkpoint(path, tasks=tasks, backbone=Small(), image_size=16)
    (same,) = make_trainer(tmp_path).test(loaded, data(kind=classes(*KINDS)), verbose=False)
    (first,) = make_trainer(tmp_path).test(trained, data(**trained._tasks), verbose=False)
    assert same == first
    with pytest.raises(UserError, match=PERMUTED):
        make_trainer(tmp_path).test(loaded, data(kind=classes("eel", "dog", "cat")))
