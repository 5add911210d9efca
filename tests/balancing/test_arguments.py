from pathlib import Path

import pytest
import yaml

from mtl_lightning.balancing import arguments
from tests.conftest import small


def named(name, **init_args):
    return {"class_path": name, "init_args": init_args} if init_args else name


@pytest.mark.parametrize(
    ("method", "message"),
    [
        (named("UWW"), 'is called "UWW"; did you mean "UW"?'),
        (named("Mean"), "torchjd.aggregation.Mean, torchjd.scalarization.Mean"),
        (named("UW", shape=5), "init_args.shape should be 3, the number of tasks. Found 5"),
        (named("STCH"), "STCH needs mu"),
        (named("MGDA", epsilon=0), "epsilon must be positive"),
        (named("STCH", mu=-1), "`mu` should be strictly positive"),
        (named("torchjd.scalarization.Constant", weights="a"), "should be a list of numbers"),
        (named("torchjd.scalarization.Constant", weights=[1, 2]), "each of the 3 tasks"),
    ],
)
def test_what_a_config_says_wrong_is_one_line_before_anything_is_read(cli, method, message):
    refused = cli.refused("fit", "--config", small({"model.balancing": method}))
    assert refused.startswith("model.balancing")
    assert message in refused


def test_sizes_are_filled_in_and_numbers_by_task_are_kept(cli):
    method = named("torchjd.scalarization.Constant", weights=[1, 2, 0.5])
    quick = ("--trainer.limit_train_batches", "1", "--trainer.limit_test_batches", "1")
    cli.run("fit", "--config", small({"model.balancing": "UW"}), *quick[:2])
    cli.run("fit", "--config", small({"model.balancing": method}), *quick[:2])
    saved = [
        yaml.safe_load(Path(f"runs/small/version_{n}/config.yaml").read_text())["model"]
        for n in (0, 1)
    ]
    assert saved[0]["balancing"] == named("torchjd.scalarization.UW", shape=3)
    assert saved[1]["balancing"] == method
    path = "runs/small/version_1/checkpoints/last.ckpt"  # plain values: it remembers its balancing
    cli.run("test", "--ckpt_path", path, *quick[2:])
    cli.run("fit", "--ckpt_path", path, "--trainer.max_epochs", "2", *quick[:2])


def take_solvers_away(monkeypatch):
    gone = ("cvxpy", "ecos", "quadprog")
    found = arguments.find_spec

    def missing(name):
        return None if name in gone else found(name)

    monkeypatch.setattr(arguments, "find_spec", missing)
    monkeypatch.setattr("torchjd._mixins.find_spec", missing)


@pytest.mark.parametrize("method", ["NashMTL", "UPGrad"])
def test_a_method_that_lacks_its_solver_names_the_extra(cli, monkeypatch, method):
    take_solvers_away(monkeypatch)
    message = cli.refused("fit", "--config", small({"model.balancing": method}))
    assert "needs packages that are not installed (cvxpy, ecos, quadprog)" in message
    assert "pip install 'mtl-lightning[balancing]'" in message


def test_who_does_not_train_needs_no_solver(cli, monkeypatch):
    changes = {"model.balancing": "UPGrad", "model.gradients": "features"}
    config = small(changes)
    quick = ("--trainer.limit_train_batches", "1", "--trainer.limit_test_batches", "1")
    cli.run("fit", "--config", config, *quick[:2])
    take_solvers_away(monkeypatch)
    assert "not installed" in cli.refused("fit", "--config", config)
    cli.run("test", "--config", config, "--ckpt_path", "last", *quick[2:])
    cli.run("test", "--name", "small", "--ckpt_path", "last", *quick[2:])


def test_accumulation_is_refused_where_the_whole_step_decides(cli):
    config = small({"model.balancing": "FAMO", "trainer.accumulate_grad_batches": 2})
    message = cli.refused("fit", "--config", config)
    assert "should be 1 with model.balancing: FAMO, which needs the whole step at once" in message
    assert "Found 2; set data.batch_size higher" in message
