import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml
from PIL import Image

from mtl_lightning.__main__ import main
from tests.helpers.files import downloads

TINY = [
    *("--model.backbone", "Torchvision", "--model.backbone.name", "squeezenet1_1"),
    *("--model.backbone.weights", "null", "--trainer.max_epochs", "1"),
    *("--trainer.limit_train_batches", "2", "--trainer.limit_val_batches", "1"),
    *("--data.image_size", "32", "--data.num_workers", "0", "--trainer.accelerator", "cpu"),
]


@pytest.fixture
def tables(own_process):
    """Two tables about photos that overlap, in a folder beside them."""
    draw = np.random.default_rng(0)
    Path("shop/photos").mkdir(parents=True)
    names = [f"photos/{i:02}.png" for i in range(60)]
    for name in names:
        pixels = draw.integers(0, 256, (40, 52, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(f"shop/{name}")
    kinds = draw.choice(["Dress", "Shirt", "no: shoes"], 40).tolist()
    types = {"id": range(40), "photo": names[:40], "kind": kinds}
    types |= {"price": draw.normal(20, 5, 40).round(2), "hat": ["yes", "no"] * 20}
    types |= {"bag": [1, 0, 0, None] * 10, "tags": ["red;blue", "red", "none", "blue"] * 10}
    pd.DataFrame(types).to_csv("shop/types.csv", index=False)
    audience = {"image": names[20:], "audience": ["kids", *["adults"] * 4] * 8}
    audience |= {"sender": [f"s{i // 4}" for i in range(40)]}
    pd.DataFrame(audience).to_csv("shop/audience.tsv", index=False, sep="\t")
    return ["shop/types.csv", "shop/audience.tsv"]


def test_from_two_tables_to_a_training_network_in_two_commands(tables, capsys):
    assert main(["init", *tables, "--output", "new/shop.yaml"]) == 0
    out, err = capsys.readouterr()
    assert out == (
        "written: new/shop.yaml (60 images; tasks attributes, kind, price, tags, audience)\n"
    )
    assert err == ('left out: shop/types.csv, column "id": it names rows, or groups of rows\n')
    assert main(["fit", "--config", "new/shop.yaml", *TINY]) == 0, capsys.readouterr().err
    log = pd.read_csv("runs/shop/version_0/metrics.csv")
    for task in ("attributes", "kind", "price", "tags", "audience"):
        assert log[f"train/{task}/n_labelled"].max() > 0


def test_without_output_the_config_alone_is_printed(tables, capsys):
    assert main(["init", *tables]) == 0
    out, err = capsys.readouterr()
    config = yaml.safe_load(out)
    assert list(config) == ["tasks", "model", "data", "trainer"]
    assert config["data"]["sources"]["types"]["init_args"]["image"] == "photo"
    assert '#   shop/types.csv, column "id": it names rows' in out
    assert err.startswith("left out: shop/types.csv")
    assert "--config config.yaml" in out


def test_a_folder_of_tables(tables, capsys):
    assert main(["init", "shop"]) == 0
    config = yaml.safe_load(capsys.readouterr().out)
    paths = [source["init_args"]["path"] for source in config["data"]["sources"].values()]
    assert paths == ["shop/audience.tsv", "shop/types.csv"]


@pytest.mark.parametrize("name", ["utkface", "celeba", "fashionai"])
def test_data_sets_as_they_are_downloaded_run_as_they_are(name, no_pictures, capsys):
    getattr(downloads, name)(Path(name), 40)
    assert main(["init", name, "--output", "c.yaml"]) == 0
    assert "`fit` will refuse" not in capsys.readouterr().err
    assert main(["fit", "--config", "c.yaml", *TINY]) == 0, capsys.readouterr().err


def test_folders_two_deep_run_as_they_are(no_pictures, capsys):
    names = [f"{a}/{b}/{i}.jpg" for a in ("art", "photo") for b in ("dog", "elk") for i in range(9)]
    downloads.photos(Path("pacs"), names)
    assert main(["init", "pacs", "--output", "c.yaml"]) == 0
    assert capsys.readouterr().out == ("written: c.yaml (36 images; tasks folder, subfolder)\n")
    assert main(["fit", "--config", "c.yaml", *TINY]) == 0, capsys.readouterr().err


def test_a_column_that_is_left_out_can_be_made_a_task(tables, capsys):
    assert main(["init", *tables, "--task", "sender", "--task", "id"]) == 0
    out = capsys.readouterr().out
    config = yaml.safe_load(out)
    assert {"sender", "id"} <= set(config["tasks"])
    assert "#   mtl-lightning init shop/types.csv shop/audience.tsv --task sender --task id" in out
    assert "group" not in config["data"]["sources"]["audience"]["init_args"]


def test_decimal_commas_and_chest_x_ray_labels_are_proposed_as_they_are_meant(tables, capsys):
    frame = pd.DataFrame({"image": [f"photos/{i:02}.png" for i in range(60)]})
    frame["edema"] = [1.0, 0.0, -1.0, None] * 15
    frame["cough"] = [1.0, 0.0, 0.0, 1.0] * 15
    frame["dose"] = [f"{i},{i % 10}" for i in range(60)]
    frame["group"] = ["child", "adult", "adult"] * 20
    frame.to_csv("shop/chest.csv", index=False)
    assert main(["init", "shop/chest.csv", "--output", "c.yaml"]) == 0
    err = capsys.readouterr().err
    assert "fit` will refuse" not in err
    assert 'note: column "edema": -1 next to 0 and 1 is taken to mean not labelled' in err
    assert "--task group makes it a task" in err
    config = yaml.safe_load(Path("c.yaml").read_text())
    assert config["tasks"]["dose"] == {"class_path": "Regression"}
    arguments = config["data"]["sources"]["chest"]["init_args"]
    assert (arguments["decimal"], arguments["missing"]) == (",", ["-1"])
    assert arguments["group"] == ""


def test_what_fit_would_refuse_is_reported_but_proposed(tables, capsys):
    frame = pd.DataFrame({"image": [f"photos/{i:02}.png" for i in range(30)]})
    frame["kind"] = ["Hat", "Dress", "Shirt"] * 10
    frame.to_csv("shop/more.csv", index=False)
    assert main(["init", *tables, "shop/more.csv", "--output", "c.yaml"]) == 0
    err = capsys.readouterr().err.splitlines()
    assert err[-1].startswith("note: `fit` will refuse the data as they are: shop/types.csv row ")
    assert Path("c.yaml").is_file()


def test_nothing_is_overwritten(cli, tables):
    Path("mine.yaml").write_text("precious")
    Path("link.yaml").symlink_to("nowhere")
    for name in ("mine.yaml", "link.yaml"):
        message = cli.refused("init", *tables, "--output", name)
        assert message.startswith(
            f"--output should be a file that does not exist yet. Found {name}, which is"
        )
    assert Path("mine.yaml").read_text() == "precious"
    assert not Path("nowhere").exists()


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ("", "init needs a table or a folder"),
        ("shop --outptu x.yaml", '--outptu: no such option of init; did you mean "--output"?'),
        ("shop --output", "--output needs a value"),
        ("shop --output c.json", "--output should be a name that ends in .yaml. Found c.json"),
        ("shopp", 'shopp: no such file or folder; did you mean "shop"?'),
        ("shop --output shop/types.csv/c.yaml", "shop/types.csv"),
    ],
)
def test_what_cannot_be(cli, tables, flags, message):
    assert cli.refused("init", *flags.split()).startswith(message)


def test_help_imports_no_torch():
    code = (
        "import sys\nfrom mtl_lightning.__main__ import main\n"
        "assert main(['init', '--help']) == 0\n"
        "print(sorted({'torch', 'pandas', 'numpy', 'rich'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.startswith("usage: mtl-lightning init TABLE_OR_FOLDER...")
    assert done.stdout.splitlines()[-1] == "[]"
