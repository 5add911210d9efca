import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from pytorch_lightning import Callback, seed_everything

from mtl_lightning.__main__ import main
from mtl_lightning.callbacks import Unfreeze
from mtl_lightning.callbacks.checkpoints import Checkpoints
from mtl_lightning.data import transforms
from mtl_lightning.data.mirroring.mirror import Mirror
from mtl_lightning.models import Hard, Soft
from mtl_lightning.system.errors import UserError
from mtl_lightning.training import feature_cache
from mtl_lightning.training.module import MultiTask
from tests.conftest import small
from tests.helpers import ranks
from tests.helpers.data import make_data, make_more_tasks
from tests.helpers.models import Small
from tests.helpers.training import largest_difference, make_module, make_trainer, weights

EPOCHS = 3
PARTS = ("augmentation", "bad", "mirror")


def frozen(**arguments: Any) -> MultiTask:
    torch.manual_seed(1)
    options = {"dropout": 0.3, "image_size": 16, "head_hidden": 7} | arguments
    module = MultiTask(make_more_tasks(), Small(), **options)
    if isinstance(module.network.sharing, Hard):
        backbone = module.network.sharing.backbone
        backbone._frozen = ["trunk", "pooling"]
        for parameter in backbone.parameters():
            parameter.requires_grad_(False)
        backbone.train()
    return module


class Counted(Callback):
    """Counts the images that the backbone is run on."""

    def __init__(self) -> None:
        self.images = 0

    def setup(self, trainer: Any, pl_module: Any, stage: str) -> None:
        def seen(module: Any, given: Any) -> None:
            self.images += len(given[0]["image"])

        pl_module.network.sharing.backbone.register_forward_pre_hook(seen)


def train(folder: Path, views: int | None, **changes: Any) -> dict[str, Any]:
    """Train; return weights, losses and how many images went through the backbone."""
    options = {"max_epochs": EPOCHS} | changes
    parts = {key: options.pop(key) for key in PARTS if key in options}
    dropout = options.pop("dropout", 0.3)
    seed_everything(3, verbose=False)
    if "bad" in parts:
        parts |= {"on_bad_image": "skip", "max_bad_share": 0.2}
    batch_size = 8 // options.get("devices", 1)
    tasks = make_more_tasks()
    data = make_data(tasks=tasks, batch_size=batch_size, cache_features=views, **parts)
    counted = Counted()
    callbacks = [counted, *options.pop("callbacks", [])]
    ckpt_path = options.pop("ckpt_path", None)
    trainer = make_trainer(folder, callbacks=callbacks, **options)
    module = frozen(dropout=dropout)
    trainer.fit(module, data, ckpt_path=ckpt_path)
    return {
        "weights": weights(module),
        "logged": {k: float(v) for k, v in trainer.callback_metrics.items()},
        "images": counted.images,
        "bad": [bad.image for bad in data.bad],
    }


def same(one: dict[str, Any], other: dict[str, Any], tolerance: float = 1e-5) -> None:
    assert largest_difference(one["weights"], other["weights"]) < tolerance
    assert one["logged"].keys() == other["logged"].keys()
    for name in one["logged"].keys() - {"train/loss_step"}:  # which is of one rank
        value = one["logged"][name]
        assert other["logged"][name] == pytest.approx(value, rel=1e-4, abs=1e-6), name
    assert one["bad"] == other["bad"]


@pytest.mark.parametrize(
    "changes", [{}, {"accumulate_grad_batches": 2}, {"precision": "bf16-mixed"}]
)
def test_heads_are_trained_as_without_the_cache_though_each_image_is_seen_once(tmp_path, changes):
    cached = train(tmp_path, 1, **changes)
    plain = train(tmp_path, None, **changes)
    # In bfloat16 an image is rounded alike in any batch, but sums of a step may not be.
    same(cached, plain, 1e-5 if "precision" not in changes else 1e-2)
    rows = 44 + 7  # of the 45 training images 44 carry a label
    assert plain["images"] == EPOCHS * rows
    assert cached["images"] == rows


def test_as_many_views_as_epochs_are_a_plain_training(tmp_path, monkeypatch):
    draws = []
    augment = transforms.augment

    def seen(transform: Any, image: Any, seed: tuple[int, int, int], *more: Any) -> Any:
        draws.append(seed)
        return augment(transform, image, seed, *more)

    monkeypatch.setattr(transforms, "augment", seen)
    cached = train(tmp_path, EPOCHS, augmentation="default")
    assert {seed[1] for seed in draws} == set(range(EPOCHS))
    same(cached, train(tmp_path, None, augmentation="default"))


def test_views_are_mirrored_and_their_labels_swapped(tmp_path):
    changes = {"augmentation": "default", "mirror": Mirror({"tags": {"hat": "bag"}})}
    cached = train(tmp_path, EPOCHS, **changes)
    same(cached, train(tmp_path, None, **changes))
    other = train(tmp_path, EPOCHS, **(changes | {"mirror": Mirror()}))
    assert largest_difference(cached["weights"], other["weights"]) > 1e-4


def test_fewer_views_are_seen_again(tmp_path, monkeypatch):
    cached = train(tmp_path, 2, augmentation="default")
    augment = transforms.augment

    def twice(transform: Any, image: Any, seed: tuple[int, int, int], *more: Any) -> Any:
        return augment(transform, image, (seed[0], seed[1] % 2, seed[2]), *more)

    monkeypatch.setattr(transforms, "augment", twice)
    same(cached, train(tmp_path, None, augmentation="default"))
    monkeypatch.undo()
    whole = train(tmp_path, None, augmentation="default")
    assert largest_difference(cached["weights"], whole["weights"]) > 1e-4


def test_bad_images_are_skipped_as_without_the_cache(tmp_path):
    bad = (3, 21, 46)  # the last in val
    cached, plain = train(tmp_path, 1, bad=bad), train(tmp_path, None, bad=bad)
    same(cached, plain)
    assert sorted(cached["bad"]) == ["memory:21", "memory:3", "memory:46"]


def test_a_bad_image_is_an_error_before_training(tmp_path):
    data = make_data(cache_features=1, bad=(4,), tasks=make_more_tasks())
    with pytest.raises(UserError, match=r"memory:4 cannot be read .*on_bad_image: skip continues"):
        make_trainer(tmp_path).fit(frozen(), data)


def test_a_resumed_training_is_the_uninterrupted_one(tmp_path):
    def checkpoints(name: str) -> Checkpoints:
        return Checkpoints(tmp_path / name, "val/score", "max")

    options = {"augmentation": "default", "enable_checkpointing": True}
    whole = train(tmp_path, 3, callbacks=[checkpoints("whole")], **options)
    train(tmp_path, 3, callbacks=[checkpoints("part")], max_epochs=2, **options)
    last = tmp_path / "part" / "last.ckpt"
    gone_on = train(tmp_path, 3, callbacks=[checkpoints("part")], ckpt_path=last, **options)
    assert largest_difference(whole["weights"], gone_on["weights"]) == 0


# Which units a rank drops is its own: without dropout two are equal to one.
ON_RANKS = (
    {"views": 1, "dropout": 0.0},
    {"views": 2, "dropout": 0.0, "augmentation": "default", "bad": (3, 21, 46)},
)


@pytest.fixture(scope="module")
def pair(tmp_path_factory) -> list[dict[str, Any]]:
    folder = tmp_path_factory.mktemp("pair")
    options = {"folder": folder, "devices": 2, "precision": "64-true"}
    return ranks.run([(f"{__name__}.train", options | case) for case in ON_RANKS], folder)


@pytest.mark.parametrize("number", range(len(ON_RANKS)))
def test_two_ranks_train_what_one_process_trains(tmp_path, pair, number):
    one = train(tmp_path, precision="64-true", **ON_RANKS[number])
    same(one, pair[number], 1e-9)
    assert one["images"] > pair[number]["images"], "each computes its share"


@pytest.mark.parametrize(
    ("module", "data", "callbacks", "message"),
    [
        ({}, {"augmentation": "default"}, [], "1 view would show each image in one random way"),
        ({}, {"cache_features": 3}, [], "all 3 views would be the same"),
        ({}, {"mirror": Mirror()}, [], "1 view would show each image in one random way"),
        ({}, {"augment_on": "device"}, [], "views are augmented where images are loaded"),
        ({}, {}, [Unfreeze(1)], "the callback Unfreeze trains the backbone later on"),
        ({"sharing": Soft(1.0)}, {}, [], "with model.sharing: Soft the tasks do not read the same"),
    ],
)
def test_what_would_be_wrong_is_refused(tmp_path, module, data, callbacks, message):
    made = make_data(tasks=make_more_tasks(), **({"cache_features": 1} | data))
    trainer = make_trainer(tmp_path, callbacks=callbacks)
    with pytest.raises(UserError, match=rf"data\.cache_features: {message}"):
        trainer.fit(frozen(**module), made)


class Turned(Hard):
    """The features of each task in another order."""

    def forward(self, inputs, rows=None):
        pooled = super().forward(inputs, rows)[self.tasks[0]]["pooled"]
        return {task: {"pooled": pooled.roll(n, 1)} for n, task in enumerate(self.tasks)}


def test_features_that_differ_by_task_are_refused(tmp_path):
    data = make_data(tasks=make_more_tasks(), cache_features=1)
    with pytest.raises(UserError, match="sharing: Turned the tasks do not read the same features"):
        make_trainer(tmp_path).fit(frozen(sharing=Turned()), data)


def test_a_backbone_that_is_trained_is_refused_and_so_is_a_balancing(tmp_path):
    data = make_data(cache_features=1)
    with pytest.raises(UserError, match="the backbone is trained, so that features change"):
        make_trainer(tmp_path).fit(make_module(), data)
    from torchjd.aggregation import UPGrad

    module = frozen(balancing=UPGrad())
    with pytest.raises(UserError, match=r"model\.balancing weighs what tasks do to a backbone"):
        make_trainer(tmp_path).fit(module, make_data(cache_features=1, tasks=make_more_tasks()))


def test_features_that_do_not_fit_are_refused_before_they_are_computed(tmp_path, monkeypatch):
    monkeypatch.setattr(feature_cache, "free_memory", lambda: 10)
    data = make_data(cache_features=1, tasks=make_more_tasks())
    with pytest.raises(UserError, match=r"44 times 8 features take 0.0 GB, and 0.0 GB of memory"):
        make_trainer(tmp_path).fit(frozen(), data)


def test_a_refused_training_has_decoded_nothing(tmp_path, capsys):
    data = make_data(cache_features=1, cache="memory")
    with pytest.raises(UserError, match="the backbone is trained"):
        make_trainer(tmp_path).fit(make_module(), data)
    assert "decoded once" not in capsys.readouterr().err


def test_a_trial_of_a_few_batches_computes_no_features(tmp_path):
    counted = Counted()
    data = make_data(cache_features=1, tasks=make_more_tasks(), batch_size=4)
    make_trainer(tmp_path, fast_dev_run=True, callbacks=[counted]).fit(frozen(), data)
    assert counted.images == 8, "a batch of train and one of val"


def test_modes_that_somebody_has_set_stay(tmp_path):
    module = frozen()
    module.network.heads.eval()
    make_trainer(tmp_path).fit(module, make_data(cache_features=1, tasks=make_more_tasks()))
    assert not module.network.heads.training


def test_no_view_is_refused():
    with pytest.raises(UserError, match=r"data\.cache_features should be 1 or more\. Found 0"):
        make_data(cache_features=0)


def test_a_validation_of_its_own_runs_the_network(tmp_path):
    data = make_data(cache_features=1, tasks=make_more_tasks())
    module, counted = frozen(), Counted()
    make_trainer(tmp_path).fit(module, data)
    trainer = make_trainer(tmp_path, callbacks=[counted])
    trainer.validate(module, data, verbose=False)
    assert counted.images == 7
    assert np.isfinite(module.results["val"].loss)


@pytest.mark.usefixtures("no_pictures")
def test_ctrl_c_while_features_are_computed_leaves_a_run_that_says_so(monkeypatch, capsys):
    config = small(
        {
            "model.backbone.init_args.trainable_from": "heads",
            "data.augmentation": "none",
            "data.batch_size": 4,
            "data.cache_features": 1,
        }
    )
    computed, calls = feature_cache._computed, []

    def interrupted(*arguments: Any) -> Any:
        calls.append(1)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return computed(*arguments)

    monkeypatch.setattr(feature_cache, "_computed", interrupted)
    assert main(["fit", "--config", config]) == 130
    assert capsys.readouterr().err == "interrupted\n"
    run = Path("runs/small/version_0")
    facts = json.loads((run / "run.json").read_text())
    assert [session["outcome"] for session in facts["sessions"]] == ["stopped"]
    files = {path.name for path in run.rglob("*") if path.is_file()}
    events = {name for name in files if name.startswith("events.out.tfevents.")}
    assert files - events == {"config.yaml", "run.json"}
    assert main(["fit", "--config", config]) == 0
    assert Path("runs/small/version_1/checkpoints/last.ckpt").exists()
