import math
from types import SimpleNamespace

import pytest
import torch
from pytorch_lightning import Callback
from pytorch_lightning.callbacks import EarlyStopping

from mtl_lightning.callbacks.checkpoints import Best, Checkpoints
from mtl_lightning.data.datamodule import PartialLabels
from mtl_lightning.system.errors import UserError
from mtl_lightning.tasks import Regression
from mtl_lightning.tasks.results import Results
from mtl_lightning.training.module import MultiTask
from tests.helpers.data import Memory, make_data, make_more_tasks
from tests.helpers.models import Small
from tests.helpers.training import fit, make_module, make_trainer, weights


def train(folder, callbacks, module=None, data=None, **trainer):
    module = module or make_module()
    data = data or make_data()
    return fit(folder, data, module, callbacks=callbacks, enable_checkpointing=True, **trainer)


def saved(path):
    return torch.load(path, weights_only=True)


def same(content, state):
    stored = {k.removeprefix("network."): v for k, v in content["state_dict"].items()}
    return all(torch.equal(stored[name], value) for name, value in state.items())


class After(Callback):
    """Keeps weights and score at the end of each validation."""

    def __init__(self):
        self.seen = []

    def on_validation_end(self, trainer, pl_module):
        if not trainer.sanity_checking:
            values = {name: float(value) for name, value in trainer.callback_metrics.items()}
            self.seen.append((trainer.global_step, values, weights(pl_module)))


def up_and_down(optimizer):
    """A rate that makes some epochs worse than the one before."""
    return torch.optim.lr_scheduler.LambdaLR(optimizer, lambda e: [1, 0.1, 40, 1, 0.1][e % 5])


@pytest.mark.parametrize(("monitor", "mode"), [("val/kind/loss", "min"), ("val/size/rmse", "max")])
def test_best_keeps_the_best_and_last_the_last(tmp_path, monitor, mode):
    after = After()
    module = make_module(optimizer=lambda p: torch.optim.SGD(p, lr=0.05), lr_scheduler=up_and_down)
    callbacks = [after, Checkpoints(tmp_path, monitor, mode)]
    train(tmp_path, callbacks, module, max_epochs=5)
    values = [logged[monitor] for _, logged, _ in after.seen]
    best = values.index(min(values) if mode == "min" else max(values))
    assert len(values) == 5
    assert 0 < best < 4, f"the course should make this a test: {values}"
    content = saved(tmp_path / "best.ckpt")
    assert same(content, after.seen[best][2])
    assert content["global_step"] == after.seen[best][0]
    value = pytest.approx(values[best])
    assert content["callbacks"]["Best"] == {"value": value, "average": value, "tasks": {}}
    content = saved(tmp_path / "last.ckpt")
    assert same(content, weights(module))
    assert content["global_step"] == after.seen[-1][0]
    assert content["epoch"] == 5
    assert not same(content, after.seen[best][2])


def test_the_best_of_each_task_is_kept_too_also_when_resumed(tmp_path):
    """The third epoch spoils what two have learned."""
    after = After()
    for last in (2, 5):
        module = make_module(
            optimizer=lambda p: torch.optim.SGD(p, lr=0.05), lr_scheduler=up_and_down
        )
        best = Checkpoints(tmp_path, "val/kind/loss", "min", per_task=True)
        trainer = make_trainer(
            tmp_path, max_epochs=last, callbacks=[after, best], enable_checkpointing=True
        )
        checkpoint = tmp_path / "last.ckpt" if last == 5 else None
        trainer.fit(module, datamodule=make_data(), ckpt_path=checkpoint)
    for name, metric in (("kind", "balanced_accuracy"), ("size", "r2")):
        scores = [max(values[f"val/{name}/{metric}"], 0.0) for _, values, _ in after.seen]
        step, _, state = after.seen[scores.index(max(scores))]
        content = saved(tmp_path / f"best-{name}.ckpt")
        assert content["global_step"] == step
        assert same(content, state)


def test_a_smoothed_course_by_hand():
    best = Best(0.5)
    assert best.is_improved_by(0.4)
    assert best.is_improved_by(0.8)
    assert best.value == pytest.approx(0.6)
    assert not best.is_improved_by(math.nan)
    assert not best.is_improved_by(0.5)
    assert best.average == pytest.approx(0.55)
    again = Best(0.5)
    again.restore(best.state())
    assert not again.is_improved_by(0.6)
    assert again.is_improved_by(0.9)
    assert again.value == pytest.approx((0.575 + 0.9) / 2)


@pytest.mark.parametrize(("smooth", "expected"), [(0.0, [0, 1]), (0.7, [0, 1, 2, 3, 4])])
def test_a_jump_is_not_the_best_of_a_smoothed_course(tmp_path, smooth, expected):
    best = Checkpoints(tmp_path, "val/score", "max", smooth=smooth)
    module = SimpleNamespace(results={"val": Results("val", {}, None, None)}, tasks={})
    improved = []
    for epoch, value in enumerate([0.50, 0.80, 0.60, 0.72, 0.74]):
        trainer = SimpleNamespace(
            sanity_checking=False,
            state=SimpleNamespace(fn="fit"),
            callback_metrics={"val/score": torch.tensor(value)},
        )
        before = best.state_dict()["value"]
        best.on_validation_end(trainer, module)
        improved += [epoch] if best.state_dict()["value"] != before else []
    assert improved == expected


def test_of_equals_the_first_is_kept(tmp_path):
    after = After()
    callbacks = [after, Checkpoints(tmp_path, "val/kind/n_labelled", "max")]
    train(tmp_path, callbacks, max_epochs=3)
    assert saved(tmp_path / "best.ckpt")["global_step"] == after.seen[0][0]


def test_a_resumed_training_does_not_replace_the_best_by_what_is_worse(tmp_path):
    def callbacks():
        return [Checkpoints(tmp_path, "val/kind/loss", "min")]

    module = make_module()
    train(tmp_path, callbacks(), module, max_epochs=2)
    first = saved(tmp_path / "best.ckpt")
    trainer = make_trainer(tmp_path, max_epochs=3, callbacks=callbacks(), enable_checkpointing=True)
    content = saved(tmp_path / "last.ckpt")
    for state in content["optimizer_states"]:
        for group in state["param_groups"]:
            group["lr"] = 10.0
    torch.save(content, tmp_path / "last.ckpt")
    trainer.fit(make_module(), datamodule=make_data(), ckpt_path=tmp_path / "last.ckpt")
    assert float(trainer.callback_metrics["val/kind/loss"]) > 2
    assert saved(tmp_path / "best.ckpt")["global_step"] == first["global_step"]
    assert saved(tmp_path / "last.ckpt")["epoch"] == 3


def test_what_is_undefined_is_never_the_best(tmp_path):
    source = Memory({"size": [*range(8), 3, 3]}, ["train"] * 8 + ["val"] * 2)
    data = PartialLabels(
        {"size": Regression()}, {"m": source}, image_size=16, batch_size=4, num_workers=0
    )
    module = MultiTask({"size": Regression()}, Small(), image_size=16)
    train(tmp_path, [Checkpoints(tmp_path, "val/score", "max")], module, data)
    assert module.results["val"].score is None
    assert not (tmp_path / "best.ckpt").exists()
    assert (tmp_path / "last.ckpt").exists()


def test_last_is_written_where_max_steps_ends_training_within_an_epoch(tmp_path):
    module = make_module()
    train(tmp_path, [Checkpoints(tmp_path, "val/score", "max")], module, max_steps=3, max_epochs=-1)
    content = saved(tmp_path / "last.ckpt")
    assert content["global_step"] == 3
    assert same(content, weights(module))
    assert module.trainer.num_training_batches > 3


def test_the_sanity_check_and_a_validation_of_its_own_save_nothing(tmp_path):
    data, module = make_data(), make_module()
    best = Checkpoints(tmp_path, "val/kind/n_labelled", "max")
    trainer = make_trainer(tmp_path, callbacks=[best], enable_checkpointing=True)
    trainer.validate(module, datamodule=data, verbose=False)
    assert list(tmp_path.glob("*.ckpt")) == []
    train(tmp_path, [best], module, data, num_sanity_val_steps=2, max_epochs=0)
    assert not (tmp_path / "best.ckpt").exists()


def test_a_trial_leaves_nothing_behind(tmp_path):
    callbacks = [Checkpoints(tmp_path, "val/score", "max")]
    train(tmp_path, callbacks, fast_dev_run=1)
    assert list(tmp_path.glob("**/*.ckpt")) == []


# ------------------------------------------------------------------- names


def test_best_may_be_chosen_by_a_metric_of_many_labels(tmp_path):
    data = make_data(val=20, tasks=make_more_tasks())
    best = Checkpoints(tmp_path, "val/tags/mean_ap", "max")
    module = train(tmp_path, [best], make_module(tasks=data.tasks), data)
    assert saved(tmp_path / "best.ckpt")["callbacks"]["Best"]["value"] == pytest.approx(
        module.results["val"].tasks["tags"]["mean_ap"]
    )


def test_a_misspelt_name_is_found_before_training(tmp_path):
    best = Checkpoints(tmp_path, "val/kind/acuracy", "max")
    with pytest.raises(
        UserError,
        match=r'^checkpoint\.monitor: nothing is logged as "val/kind/acuracy"; '
        r'did you mean "val/kind/accuracy"\?; known: val/loss, val/score, ',
    ):
        train(tmp_path, [best])


def test_best_is_not_chosen_by_what_the_epoch_before_has_logged(tmp_path):
    with pytest.raises(UserError, match=r'^checkpoint\.monitor: nothing is logged as "train/loss"'):
        train(tmp_path, [Checkpoints(tmp_path, "train/loss", "min")])


def test_early_stopping_is_checked_too(tmp_path):
    callbacks = [Checkpoints(tmp_path, "val/score", "max"), EarlyStopping("val_loss")]
    with pytest.raises(
        UserError, match=r'^EarlyStopping\.monitor: nothing is logged as "val_loss"'
    ):
        train(tmp_path, callbacks)
