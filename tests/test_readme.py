"""What the README shows is run, word for word, on small data."""

import re
import shlex
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from mtl_lightning.__main__ import main

README = (Path(__file__).resolve().parents[1] / "README.md").read_text(encoding="utf-8")
QUICK = [
    *("--trainer.max_epochs", "1", "--trainer.limit_train_batches", "2"),
    *("--model.backbone.init_args.weights", "null"),
    *("--data.image_size", "32", "--data.num_workers", "0", "--trainer.accelerator", "cpu"),
]


def block(mark: str) -> str:
    """Return the fenced block below a mark such as ``<!-- file: clothes.yaml -->``."""
    found = re.search(rf"<!-- {re.escape(mark)} -->\n```\w+\n(.*?)```", README, re.DOTALL)
    assert found, mark
    return found[1]


@pytest.fixture
def clothes(tmp_path, monkeypatch):
    """Photos, and the two tables about them that the README describes."""
    monkeypatch.chdir(tmp_path)
    draw = np.random.default_rng(0)
    (tmp_path / "photos").mkdir()
    names = [f"photos/{i:03}.png" for i in range(40)]
    for name in names:
        pixels = draw.integers(0, 256, (40, 36, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / name)
    types = pd.DataFrame({"image": names[:30], "type": ["Dress", "Shirt", "Shoes"] * 10})
    audience = pd.DataFrame({"image": names[10:], "audience": ["adults", "kids", None] * 10})
    types.to_csv("types.csv", index=False)
    audience.to_csv("audience.csv", index=False)
    Path("clothes.yaml").write_text(block("file: clothes.yaml"))
    return tmp_path


def test_own_data_from_two_tables_to_predictions(clothes, capsys):
    for line in block("commands: clothes").strip().splitlines():
        program, command, *arguments = shlex.split(line)
        assert program == "mtl-lightning"
        quick = QUICK if command == "fit" else ["--trainer.accelerator", "cpu"]
        assert main([command, *arguments, *quick]) == 0, capsys.readouterr().err
    run = clothes / "runs/clothes/version_0"
    for name in ("config.yaml", "metrics.csv", "checkpoints/best.ckpt", "checkpoints/last.ckpt"):
        assert (run / name).is_file(), name
    assert (run / "test_metrics.json").is_file()
    table = pd.read_csv("predictions.csv")
    assert table["image"].tolist() == [f"photos/{i:03}.png" for i in range(40)]
    assert set(table["type"]) <= {"Dress", "Shirt", "Shoes"}
    assert np.allclose(table[["audience:adults", "audience:kids"]].sum(axis=1), 1, atol=1e-5)


def test_two_commands_from_tables_to_a_training_network(clothes, capsys, no_pictures):
    init, fit = block("commands: proposed").strip().splitlines()
    assert main(shlex.split(init)[1:]) == 0, capsys.readouterr().err
    assert main([*shlex.split(fit)[1:], *QUICK]) == 0, capsys.readouterr().err
    assert (clothes / "runs/proposed/version_0/checkpoints/best.ckpt").is_file()
    (inspect,) = block("commands: inspected").strip().splitlines()
    assert main(shlex.split(inspect)[1:]) == 0, capsys.readouterr().err
    assert (clothes / "report.html").is_file()


def test_data_are_packed_and_trained_on(clothes, capsys, no_pictures):
    Path("packed.yaml").write_text(block("file: packed.yaml"))
    pack, fit = block("commands: packed").strip().splitlines()
    assert main(shlex.split(pack)[1:]) == 0, capsys.readouterr().err
    assert main([*shlex.split(fit)[1:], *QUICK]) == 0, capsys.readouterr().err
    assert (clothes / "runs/packed/version_0/checkpoints/best.ckpt").is_file()


def test_an_own_source_from_the_current_folder(tmp_path, capsys, no_pictures):
    for file in ("shop.py", "shop.yaml"):
        Path(file).write_text(block(f"file: {file}"))
    Path("shop").mkdir()
    kinds = [("Dress", "kids"), ("Shirt", "x"), ("x", "adults"), ("Dress", "adults")]
    for i in range(24):
        Image.new("RGB", (32, 32), (i * 10, 0, 0)).save(f"shop/{'_'.join(kinds[i % 4])}_{i:04}.png")
    assert main(["fit", "--config", "shop.yaml", *QUICK]) == 0
    log = pd.read_csv("runs/shop/version_0/metrics.csv")
    assert {"train/type/n_labelled", "val/audience/loss"} <= set(log)
    best = ["--ckpt_path", "best", "--trainer.accelerator", "cpu"]
    assert main(["test", "--config", "shop.yaml", *best]) == 0
    capsys.readouterr()
    assert main(["test", "--name", "shop", *best]) == 2
    assert ' names the class "shop.FileNames", which is not a class of ' in capsys.readouterr().err


def test_the_error_message_is_as_shown(clothes, capsys):
    typed, shown = block("console: typo").strip().split("\n")
    assert main(shlex.split(typed.removeprefix("$ mtl-lightning "))) != 0
    assert capsys.readouterr().err.strip() == shown


def test_the_python_example_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    code = block("python: api").replace(
        "Trainer(", "Trainer(limit_train_batches=2, accelerator='cpu', limit_val_batches=1, "
    )
    exec(compile(code, "README.md", "exec"), {})


def test_the_commands_for_a_fresh_machine_are_what_ci_runs():
    ci = (Path(__file__).resolve().parents[1] / ".ci/run").read_text(encoding="utf-8")
    for mark in ("quickstart", "tests"):
        assert f"run {mark}\n" in ci
        assert "python3 -m venv" in block(f"run: {mark}")
