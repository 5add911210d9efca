import json
from dataclasses import replace

from mtl_lightning.inference.card import card
from mtl_lightning.inference.description import Description
from tests.helpers.files import exported_tables
from tests.helpers.files.exports import TASKS


def test_the_card_of_a_run(tmp_path):
    run = tmp_path / "shop" / "version_3"
    (run / "checkpoints").mkdir(parents=True)
    reads = ("image",)
    description = Description(TASKS, {}, (32, 40), format="onnx", origin={"epoch": 3}, reads=reads)
    path = run / "checkpoints" / "best.ckpt"
    text = card(description, path)
    assert text.startswith("---\nlibrary_name: mtl-lightning\n")
    assert "# shop\n" in text
    assert "| kind | Classification | cat, dog, eel |" in text
    assert "| size | Regression | a number |" in text
    assert "(batch, 3, 32, 40)" in text
    assert "Not measured on a test split." in text
    measured = {"kind": {"n_labelled": 9, "accuracy": 0.71234, "none": None}, "other": {"a": 1.0}}
    (run / "test_metrics.json").write_text(json.dumps({"split": "test", "tasks": measured}))
    text = card(description, path)
    assert "| kind | accuracy | 0.7123 |" in text
    assert "none" not in text.partition("## Results")[2]
    assert "other" not in text


def test_the_card_of_a_table(tmp_path):
    description = Description(
        exported_tables.TASKS,
        {},
        (32, 40),
        inputs=exported_tables.INPUTS,
        reads=("numbers", "categories"),
    )
    text = card(description, tmp_path / "best.ckpt")
    assert "pipeline_tag: tabular-classification" in text
    assert "images" not in text
    assert '{"age in years": ..., "cat": ..., "visit": ..., "income": ...}' in text
    assert "| cat | Category | a code (int64): 0 missing, 1 unknown, from 2 on red, 2 |" in text
    assert "| visit | Date | days since 1970-01-01T00:00 in UTC (float64)" in text
    text = card(replace(description, reads=("image", "numbers")), tmp_path / "best.ckpt")
    assert '{"image": "photo.jpg", "age in years": ...' in text
    assert "(batch, 3, 32, 40)" in text
