from pathlib import Path

import pytest

import mtl_lightning
from mtl_lightning.__main__ import main
from tests.helpers.files import exported_tables, exports


@pytest.fixture
def run(tmp_path, monkeypatch, own_process):
    """The current folder, with a checkpoint of the run ``shop``."""
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "runs" / "shop" / "version_0" / "checkpoints"
    exports.made(folder).rename(folder / "best.ckpt")
    return folder / "best.ckpt"


def test_a_run_is_exported_by_its_name(run, capsys):
    options = ["--output", "out", "--format", "safetensors", "--tasks", "kind", "size"]
    assert main(["export", "--ckpt_path", "best", "--name", "shop", *options]) == 0
    out = capsys.readouterr().out
    assert out == (
        "written: out (safetensors; largest difference from PyTorch 0.0e+00 on 7 inputs)\n"
    )
    assert list(mtl_lightning.load("out").tasks) == ["kind", "size"]


def test_a_network_that_reads_columns_is_compared_on_rows_of_a_table(run, capsys):
    path = exported_tables.made(run.parent)
    rows = ["age in years,cat,visit,income", "3,red,,1e9", ",blue,2024-03-01,"]
    Path("t.csv").write_text("\n".join(rows))
    options = ["--output", "out", "--format", "safetensors", "--images"]
    assert main(["export", "--ckpt_path", str(path), *options, "t.csv"]) == 0
    assert "largest difference from PyTorch 0.0e+00 on 9 inputs" in capsys.readouterr().out
    (answer,) = mtl_lightning.load("out").predict(
        {"age in years": 3, "cat": "red", "visit": None, "income": 1e9}
    )
    assert list(answer) == ["kind", "kind:cat", "kind:dog", "kind:eel", "size"]
    Path("t.csv").write_text("\n".join(row.rpartition(",")[0] for row in rows))
    options = ["--output", "other", *options[2:]]
    assert main(["export", "--ckpt_path", str(path), *options, "t.csv"]) == 2
    err = capsys.readouterr().err
    assert 'should have a column "income", which the network reads' in err
    assert err.count("\n") == 1


def test_a_config_need_not_have_its_data_here(run, capsys):
    Path("shop.yaml").write_text(
        "tasks: {kind: Classification}\n"
        "data: {sources: {a: {class_path: TableSource, init_args: {path: elsewhere.csv}}}}\n"
    )
    options = ["--output", "out", "--format", "safetensors"]
    assert main(["export", "--ckpt_path", "best", "--config", "shop.yaml", *options]) == 0
    assert "written: out" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--ckpt_path", "best", "--name", "shop"], "export needs --output: the folder to write"),
        (["--output", "out", "--name", "shop"], "export needs --ckpt_path"),
        (["--ckpt_path", "best", "--name", "ship", "--output", "o"], "no best.ckpt in any run"),
        (["--ckpt_path", "best", "--output", "out"], "of which run? Give --name"),
        (["--output", "out", "--format", "tflite"], "--format should be one of onnx, safetensors"),
        (["--ckpt_path", "best", "--name", "shop", "--output", "runs"], "a folder that is not emp"),
        (["--ckpt_path", "best", "--name", "shop", "--output", "o", "--formt", "onnx"], "--formt"),
        (
            ["--ckpt_path", "best", "--name", "shop", "--output", "o", "--images", "nowhere"],
            "--images nowhere: no such file or folder",
        ),
    ],
    ids=str,
)
def test_mistakes_are_one_line_and_leave_nothing(run, capsys, options, message):
    assert main(["export", *options]) == 2
    err = capsys.readouterr().err
    assert message in err
    assert err.count("\n") == 1
    assert [path.name for path in run.parents[4].iterdir()] == ["runs"]


def test_help(capsys):
    assert main(["export", "--help"]) == 0
    assert "--format FORMAT" in capsys.readouterr().out
