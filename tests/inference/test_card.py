import json

from mtl_lightning.inference.card import card
from mtl_lightning.inference.description import Description
from tests.helpers.files.exports import TASKS


def test_the_card_of_a_run(tmp_path):
    run = tmp_path / "shop" / "version_3"
    (run / "checkpoints").mkdir(parents=True)
    description = Description(TASKS, {}, (32, 40), format="onnx", origin={"epoch": 3})
    path = run / "checkpoints" / "best.ckpt"
    text = card(description, path)
    assert text.startswith("---\nlibrary_name: mtl-lightning\n")
    assert "# shop\n" in text
    assert "| kind | Classification | cat, dog, eel |" in text
    assert "| size | Regression | a number |" in text
    assert "(batch, 3, 32, 40)" in text
    assert "Not measured on test images." in text
    measured = {"kind": {"n_labelled": 9, "accuracy": 0.71234, "none": None}, "other": {"a": 1.0}}
    (run / "test_metrics.json").write_text(json.dumps({"split": "test", "tasks": measured}))
    text = card(description, path)
    assert "| kind | accuracy | 0.7123 |" in text
    assert "none" not in text.partition("## Results")[2]
    assert "other" not in text
