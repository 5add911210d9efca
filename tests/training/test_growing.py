"""A trained network takes on classes and tasks; what it has learned stays, bit for bit."""

from pathlib import Path
from typing import Any

import pytest
import torch
from pytorch_lightning import seed_everything
from torch import nn

from mtl_lightning.callbacks import EMA
from mtl_lightning.inputs import Category, Number
from mtl_lightning.models import HeadOptions, Soft
from mtl_lightning.system.errors import UserError
from mtl_lightning.tasks import (
    Classification,
    DenseRegression,
    HierarchicalClassification,
    MultiLabel,
    MultiRegression,
    Ordinal,
    Regression,
    Segmentation,
)
from mtl_lightning.tasks.base import Task
from mtl_lightning.training.agreement import described
from mtl_lightning.training.growing import Growth
from mtl_lightning.training.module import MultiTask
from tests.helpers.data import KINDS, Memory, make_data, make_tasks, sparse_labels
from tests.helpers.tables import known_inputs, small_tabm, table_data, table_module
from tests.helpers.training import fit, make_module, make_trainer

STILL = {"optimizer": lambda parameters: torch.optim.SGD(parameters, lr=0.0)}
FAST = {"optimizer": lambda parameters: torch.optim.SGD(parameters, lr=0.1)}
BEFORE = {
    "kind": lambda **o: Classification(list(KINDS), **o),
    "size": lambda **o: Regression(**o),
    "tags": lambda **o: MultiLabel(["hat", "bag"], **o),
    "grade": lambda **o: Ordinal(list(KINDS), "coral", **o),
    "box": lambda **o: MultiRegression(["y"], **o),
}
AFTER = BEFORE | {
    "kind": lambda **o: Classification(["ant", "eel", "cat", "dog"], **o),
    "tags": lambda **o: MultiLabel(["tie", "bag", "hat"], **o),
    "grade": lambda **o: Ordinal(["ant", *KINDS], "coral", **o),
    "box": lambda **o: MultiRegression(["x", "y"], **o),
    "rare": lambda **o: Classification(["no", "yes"], **o),
}
ROWS = {
    "kind": ([1, 2, 3], [2, 0, 1]),
    "tags": ([1, 2], [1, 0]),
    "box": ([1], [0]),
}
"""Places of kept outputs, and where they were."""


def tasks(kinds: dict[str, Any], head: HeadOptions | None = None) -> dict[str, Task]:
    return {name: make(head=head) for name, make in kinds.items()}


def source(rows: int, shift: float = 0.0) -> Memory:
    labels = sparse_labels(rows)
    size = [None if value is None else value + shift for value in labels["size"]]
    labels |= {
        "size": size,
        "grade": labels["kind"][::-1],
        "tags/tie": labels["tags/hat"],
        "box/x": size,
        "box/y": size[::-1],
    }
    return Memory(labels, ["train"] * (rows - 7) + ["val"] * 7)


def trained(
    folder: Path, module: MultiTask, shift: float = 0.0, callbacks: list[Any] | None = None
) -> Any:
    """Train; return the trainer."""
    own = dict(module.tasks.items())
    data = make_data(tasks=own, sources={"memory": source(52, shift)})
    seed_everything(3, verbose=False)
    trainer = make_trainer(folder, max_steps=3, max_epochs=-1, callbacks=callbacks or [])
    trainer.fit(module, datamodule=data)
    return trainer


def before(folder: Path, callbacks: list[Any] | None = None, **options: Any) -> Path:
    """Train a network, and return its checkpoint."""
    head = options.pop("head", None)
    module = make_module(tasks=tasks(BEFORE, head), **FAST, **options)
    trainer = trained(folder, module, callbacks=callbacks)
    trainer.save_checkpoint(folder / "old.ckpt")
    return folder / "old.ckpt"


def content(path: Path) -> dict[str, Any]:
    loaded: dict[str, Any] = torch.load(path, weights_only=True)
    return loaded


CASES = [
    {"sharing": None},
    {"sharing": 10.0},
    {"sharing": None, "head": HeadOptions(pooling="gem", hidden=5)},
]


@pytest.mark.parametrize("case", CASES, ids=str)
def test_what_was_learned_stays_and_what_is_new_is_fresh(tmp_path, case, capsys):
    head = case.get("head")

    def sharing():
        return None if case["sharing"] is None else Soft(case["sharing"])

    path = before(tmp_path, sharing=sharing(), head=head)
    module = make_module(seed=5, tasks=tasks(AFTER, head), sharing=sharing(), **STILL)
    fresh = {key: value.clone() for key, value in module.state_dict().items()}
    module.grow_from(path)
    trained(tmp_path, module, shift=100.0)
    old, new = content(path)["state_dict"], module.state_dict()
    last = {"kind": "1", "tags": "1", "box": "1"} if head is None else dict.fromkeys(ROWS, "5")
    for key, value in new.items():
        task = next((t for t in AFTER if f"task_{t}." in key), "")
        if not key.startswith("network."):
            continue
        if task == "rare":
            assert torch.equal(value, fresh[key]), key
        elif task in ROWS and f".{last[task]}." in key and "heads" in key:
            places, were = ROWS[task]
            assert torch.equal(value[places], old[key][were]), key
            new_rows = [i for i in range(len(value)) if i not in places]
            assert torch.equal(value[new_rows], fresh[key][new_rows]), key
        elif (
            task == "grade"
            and "heads" in key
            and key.endswith("2.bias" if head is None else "6.bias")
        ):
            assert torch.equal(value[1:], old[key]), key
        else:
            assert torch.equal(value, old[key]), key
    assert "kind: 3 outputs kept, new: ant" in (shown := capsys.readouterr().out)
    assert "grade: 2 outputs kept, new: ant | cat" in shown
    assert "heads of size; " in shown
    assert "new tasks: rare; optimizer and epochs start afresh" in shown
    assert "\n" not in shown[shown.index("grown from") :].rstrip()


def test_answers_of_what_was_learned_stay_in_their_unit(tmp_path):
    path = before(tmp_path)
    module = make_module(seed=5, tasks=tasks(AFTER), **STILL)
    module.grow_from(path)
    trained(tmp_path, module, shift=100.0)
    old = content(path)["state_dict"]
    assert torch.equal(module.tasks["size"].mean, old["tasks.task_size.mean"])
    box = module.tasks["box"]
    assert box.mean[1] == old["tasks.task_box.mean"][0]
    assert box.std[1] == old["tasks.task_box.std"][0]
    assert box.mean[0] > 140, "of the new labels"


def test_an_average_of_weights_goes_on(tmp_path):
    path = before(tmp_path, callbacks=[EMA(0.9)])
    saved = content(path)
    ema = EMA(0.9)
    module = make_module(seed=5, tasks=tasks(AFTER), **STILL)
    module.grow_from(path)
    trainer = trained(tmp_path, module, callbacks=[ema])
    trainer.save_checkpoint(tmp_path / "new.ckpt")
    grown = content(tmp_path / "new.ckpt")
    key = "network.heads.task_size.1.weight"
    old, trained_weight = saved["state_dict"][key], saved["training_weights"][key]
    assert not torch.equal(old, trained_weight)
    assert torch.equal(grown["training_weights"][key], trained_weight)
    expected = old
    for update in range(3, 6):
        decay = min(0.9, (1 + update) / (10 + update))
        expected = decay * expected + (1 - decay) * trained_weight
    assert grown["callbacks"]["EMA"] == {"updates": 6}
    torch.testing.assert_close(grown["state_dict"][key], expected)
    plain = make_module(seed=5, tasks=tasks(AFTER), **STILL)
    plain.grow_from(path)
    trained(tmp_path, plain)
    assert torch.equal(plain.state_dict()[key], old), "without EMA training starts at the average"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({}, r"neither a task nor a class is new"),
        ({"kind": lambda **_: Classification(["cat", "dog", "fox"])}, r'knows "eel", which is not'),
        ({"kind": lambda **_: Classification(["cat", "dog", "Eel", "fox"])}, r'did you mean "Eel"'),
        ({"size": lambda **_: Regression(scale="log")}, "the scale should be that of the check"),
        ({"kind": lambda **_: Ordinal([*KINDS, "fox"])}, "the kind should be that of the check"),
    ],
)
def test_what_cannot_be_kept_is_refused(tmp_path_factory, change, message):
    folder = tmp_path_factory.getbasetemp() / "growing"
    folder.mkdir(exist_ok=True)
    path = folder / "old.ckpt"
    path = path if path.exists() else before(folder)
    module = make_module(tasks={name: make() for name, make in (BEFORE | change).items()})
    with pytest.raises(UserError, match=message) as error:
        module.grow_from(path)
    assert str(error.value).startswith("--grow: ")


def test_a_task_that_is_gone_or_another_network_is_refused(tmp_path):
    path = before(tmp_path)
    fewer = {"kindd" if name == "kind" else name: make for name, make in AFTER.items()}
    with pytest.raises(UserError, match=r'the task kind .*did you mean "kindd"\?; keep it'):
        make_module(tasks=tasks(fewer)).grow_from(path)
    module = make_module(tasks=tasks(AFTER, HeadOptions(hidden=4)), **STILL)
    module.grow_from(path)
    with pytest.raises(UserError, match=r"keep backbone, sharing and heads as they were|numbers"):
        trained(tmp_path, module)


def test_a_network_that_reads_columns_grows_by_a_task(tmp_path):
    old = table_module(**STILL)
    fit(tmp_path, table_data(["train"] * 20, inputs=dict(old.inputs), splits={}), old)
    old.trainer.save_checkpoint(path := tmp_path / "old.ckpt")
    more = make_tasks() | {"new": Regression()}
    labels = sparse_labels(20) | {"new": [str(row) for row in range(20)]}
    module = table_module(more, **STILL)
    module.grow_from(path)
    data = table_data(["train"] * 20, labels, inputs=dict(module.inputs), splits={}, tasks=more)
    fit(tmp_path, data, module)
    kept = {n: v for n, v in old.network.state_dict().items() if "task_new" not in n}
    assert {n for n in module.network.state_dict() if "task_new" not in n} == set(kept)
    for name, value in kept.items():
        assert torch.equal(module.network.state_dict()[name], value), name
    other = table_module(more, inputs=known_inputs() | {"one more": Number(False, 0.0, 1.0)})
    with pytest.raises(
        UserError, match=r"^--grow: the inputs of the checkpoint should be .*alone$"
    ):
        other.grow_from(path)
    other = table_module(more, inputs=known_inputs() | {"sex": Category(["f", "m", "x", "y"])})
    with pytest.raises(UserError, match=r"^--grow: input sex: the values of the checkpoint"):
        other.grow_from(path)


def test_each_member_of_an_ensemble_grows_by_a_class(tmp_path):
    old = table_module(backbone=small_tabm(), **STILL)
    data = table_data(["train"] * 20, inputs=dict(old.inputs), splits={})
    fit(tmp_path, data, old)
    old.trainer.save_checkpoint(path := tmp_path / "old.ckpt")
    more = make_tasks() | {"kind": Classification(["ant", *KINDS])}
    module = table_module(more, small_tabm(), **STILL)
    module.grow_from(path)
    fit(
        tmp_path, table_data(["train"] * 20, inputs=dict(old.inputs), splits={}, tasks=more), module
    )
    inputs = {"numbers": torch.randn(5, 4), "categories": torch.full((5, 1), 2)}
    before, after = (each.train().network(inputs)["kind"] for each in (old, module))
    assert before.shape == (5 * 3, len(KINDS))
    assert torch.equal(after[:, 1:], before)


class Heads(nn.Module):
    """A network with a linear or 1 x 1 convolutional head for each task."""

    def __init__(self, tasks: dict[str, Task], layer: type[nn.Module]) -> None:
        super().__init__()
        size = () if layer is nn.Linear else (1,)
        self.heads = nn.ModuleDict(
            {f"task_{name}": layer(4, task.num_outputs, *size) for name, task in tasks.items()}
        )


def grown(old: Task, new: Task, layer: type[nn.Module] = nn.Linear) -> tuple[Any, Any]:
    """Return what an old head answers to random features, and what the one grown from it does."""
    before, after = Heads({"t": old}, layer), Heads({"t": new}, layer)
    state = {f"network.{key}": value for key, value in before.state_dict().items()}
    state |= {f"tasks.task_t.{key}": value for key, value in old.state_dict().items()}
    checkpoint = {
        "state_dict": state,
        "outputs": {"t": old.output_names},
        "tasks": {"t": described(old)},
    }
    later = Classification(["no", "yes"])
    tasks = {"t": new, "later": later}
    after.heads["task_later"] = layer(4, 2, *(() if layer is nn.Linear else (1,)))
    growth = Growth(tasks, {"t": described(new), "later": described(later)}, checkpoint, "old")
    growth.load(after, averaged=False)
    features = torch.randn(5, 4) if layer is nn.Linear else torch.randn(5, 4, 3, 3)
    first = before.heads["task_t"](features), after.heads["task_t"](features)
    return first, (old.predict(first[0]), new.predict(first[1]))


def test_hierarchical_classes_keep_their_outputs():
    coarse = {"t": ["a"], "u": ["b", "c"]}
    old = HierarchicalClassification({"group": coarse})
    new = HierarchicalClassification(
        {
            "group": {"new": ["n"], "u": ["c", "b", "m"], "t": ["a"]},
            "half": {"l": ["a", "n"], "r": ["b", "c", "m"]},
        }
    )
    (before, after), _ = grown(old, new)
    torch.testing.assert_close(after[:, [new.classes.index(name) for name in old.classes]], before)


def test_segments_keep_their_outputs_though_values_are_others():
    old = Segmentation(["bg", "car", "man"])
    new = Segmentation({3: "man", 5: "dog", 0: "bg", 9: "car"})
    (before, after), _ = grown(old, new, nn.Conv2d)
    torch.testing.assert_close(after[:, [2, 3, 0]], before)


@pytest.mark.parametrize("loss", ["l1", "log"])
def test_depths_keep_their_unit(loss):
    old, new = DenseRegression(loss=loss), DenseRegression(loss=loss)
    old.fit_targets([torch.rand(1, 6, 6) + 3.0])
    new.fit_targets([torch.rand(1, 6, 6) + 50.0])
    _, (before, after) = grown(old, new, nn.Conv2d)
    torch.testing.assert_close(before["value"], after["value"])


def test_numbers_with_their_spread_keep_their_unit():
    old, new = (Regression(loss="beta_nll", interval=0.9) for _ in range(2))
    old.fit_statistics(torch.tensor([1.0, 2.0, 4.0]), torch.ones(3, dtype=torch.bool))
    new.fit_statistics(torch.tensor([100.0, 300.0]), torch.ones(2, dtype=torch.bool))
    _, (before, after) = grown(old, new)
    assert set(before) == {"value", "low", "high"}
    for key, value in before.items():
        torch.testing.assert_close(value, after[key])


def test_heads_that_no_row_can_be_added_to_are_refused():
    old, new = (Classification([*"ab"]), Classification([*"abc"]))
    checkpoint = {
        "state_dict": {
            "network.heads.task_t.weight": torch.zeros(2, 3),
            "network.heads.task_t.bias": torch.zeros(2),
        },
        "outputs": {"t": old.output_names},
        "tasks": {"t": described(old)},
    }
    network = Heads({"t": new}, nn.Linear)
    growth = Growth({"t": new}, {"t": described(new)}, checkpoint, "old")
    with pytest.raises(UserError, match=r"head should read \(3,\) numbers.*Found \(4,\)"):
        growth.load(network, averaged=False)
    network.heads["task_t"] = nn.Linear(3, 5)
    with pytest.raises(UserError, match=r"no row for each of its outputs \(a, b, c\)"):
        growth.load(network, averaged=False)


def test_a_class_written_otherwise_is_not_new():
    old, new = Classification(["1.0", "2"]), Classification(["1", "2", "3"])
    checkpoint = {
        "state_dict": {},
        "outputs": {"t": old.output_names},
        "tasks": {"t": described(old)},
    }
    growth = Growth({"t": new}, {"t": described(new)}, checkpoint, "old")
    assert growth.new_outputs == {"t": ["3"]}
