"""Every shipped config is run through fit, test and predict, on small data."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from mtl_lightning.__main__ import main
from tests.conftest import leave_pictures
from tests.helpers.data import SHARED
from tests.helpers.files import downloads
from tests.helpers.files.downloads import photos
from tests.helpers.training import refused

CONFIGS = Path(__file__).resolve().parents[1] / "configs"
QUICK = [
    *("--trainer.max_epochs", "1", "--trainer.limit_train_batches", "2"),
    *("--trainer.limit_val_batches", "1", "--trainer.check_val_every_n_epoch", "1"),
    *("--data.num_workers", "0"),
    *("--data.batch_size", "8", "--trainer.accelerator", "cpu"),
]
SMALL = ["--data.image_size", "32", "--trainer.precision", "32-true"]


def tables(folder: Path) -> None:
    """Write the collections that configs/template.yaml speaks of."""
    names = [f"photos/{i:03}.jpg" for i in range(30)]
    photos(folder, names)
    photos(folder, [f"folders/{c}/{i}.jpg" for c in ("adults", "kids") for i in range(5)])
    photos(folder, ["named/Dress_kids_1.jpg", "named/Shirt__2.jpg"])
    types = [
        "dress",
        None,
        "Shirt",
        "Shoes",
        "unknown",
        "Dress",
        "Shoes",
        "Shirt",
        "Dress",
        None,
    ] * 2
    splits = (["train"] * 6 + ["val"] * 2 + ["test"] * 2) * 2
    senders = np.repeat(np.arange(10), 2)
    senders = [f"{sender}-{split}" for sender, split in zip(senders, splits, strict=True)]
    pd.DataFrame({"image": names[:20], "type": types, "split": splits, "sender": senders}).to_csv(
        folder / "types.csv", index=False
    )
    pd.DataFrame(
        {
            "image": names[10:],
            "audience": ["ad", None] * 10,
            "stripes": ["yes", "no", None, "no"] * 5,
            "bare_arms": [None, 0, 1, 1] * 5,
            "fits": ["S", "XL", None, "M", "L"] * 4,
            "width": [None if i % 4 == 0 else 1.5 + i for i in range(20)],
            "height": [None if i % 5 == 0 else 20 - i for i in range(20)],
            "price_eur": [None if i % 3 == 0 else 9.5 + i for i in range(20)],
        }
    ).to_csv(folder / "shop.csv", index=False)


def run(*arguments: str) -> None:
    assert main([*arguments, "--debug"]) == 0


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def undrawn(here, monkeypatch):
    """An empty folder, and neither pictures nor pages, which take longer than the small training.

    The other configs draw every kind, and .ci/run the quickstart.
    """
    leave_pictures(monkeypatch)
    return here


def test_template(here):
    tables(here / "clothes")
    config = str(CONFIGS / "template.yaml")
    small = ["--model.backbone.init_args.weights", "null", "--data.image_size", "32"]
    run("fit", "--config", config, *QUICK, *small)
    run("test", "--name", "clothes", "--ckpt_path", "best")
    run("predict", "--name", "clothes", "--ckpt_path", "last", "--images", "clothes/photos")
    assert {
        "type",
        "type:Dress",
        "audience",
        "price",
        "size",
        "size:XL",
        "tags",
        "tags:striped",
    } <= set(pd.read_csv("predictions.csv"))


def test_quickstart(undrawn):
    run("fit", "--config", str(CONFIGS / "quickstart.yaml"), *QUICK)
    run("test", "--config", str(CONFIGS / "quickstart.yaml"), "--ckpt_path", "best")
    photos(undrawn, ["a.png", "b.webp", "c.bmp"])
    run("predict", "--name", "quickstart", "--ckpt_path", "best", "--images", "*.*")
    assert pd.read_csv("predictions.csv")["image"].tolist() == ["a.png", "b.webp", "c.bmp"]


def test_patients(undrawn):
    config = str(CONFIGS / "patients.yaml")
    run("fit", "--config", config, *QUICK, "--trainer.limit_val_batches", "1.0")
    run("test", "--config", config, "--ckpt_path", "best")
    Path("new.csv").write_text("age,sex,bmi,hdl,triglycerides\n50,1,,40,\n61,3,25,38,4.1\n")
    run("predict", "--name", "patients", "--ckpt_path", "best", "--images", "new.csv")
    found = pd.read_csv("predictions.csv")
    tasks = ("progression", "blood_pressure", "glucose", "cholesterol")
    columns = [f"{task}{end}" for task in tasks for end in ("", ":low", ":high")]
    assert list(found) == ["row", *columns]
    assert found["row"].tolist() == [2, 3]
    assert found.notna().all(axis=None)
    other = ["--data.inputs.age", "mtl_lightning.Category"]
    message = refused("test", "--config", config, "--ckpt_path", "best", *other)
    assert message.startswith("data.inputs.age: the config has mtl_lightning.Category, the check")


def test_market(undrawn):
    few = ["--data.sources.market.init_args.days", "60"]
    run("fit", "--config", str(CONFIGS / "market.yaml"), *QUICK, *few)
    run("test", "--name", "market", "--ckpt_path", "best")
    measured = json.loads(Path("runs/market/version_0/test_metrics.json").read_text())["tasks"]
    assert 40 < measured["direction"]["n_labelled"] < 100, "9 of 60 days, half of the labels"
    facts = json.loads(Path("runs/market/version_0/run.json").read_text())
    assert facts["sizes"]["image"] == []


def whole(name: str, images: str, *arguments: str) -> set[str]:
    """Run fit, test and predict with a config; return the columns of the predictions."""
    run("fit", "--config", str(CONFIGS / f"{name}.yaml"), *QUICK, *SMALL, *arguments)
    here = ["--data.num_workers", "0", "--trainer.accelerator", "cpu"]
    run("test", "--config", str(CONFIGS / f"{name}.yaml"), "--ckpt_path", "best", *here, *SMALL)
    run("predict", "--name", name, "--ckpt_path", "best", "--images", images, *here)
    return set(pd.read_csv("predictions.csv"))


def test_fashionai(undrawn):
    downloads.fashionai(undrawn / "fashionai")
    columns = whole("fashionai", "fashionai/rank", "--model.backbone.init_args.weights", "null")
    tasks = ("collar", "neck", "lapel", "neckline", "sleeve", "skirt", "pant", "coat")
    heads = {task: sum(name.startswith(f"{task}:") for name in columns) for task in tasks}
    assert list(heads.values()) == [5, 5, 5, 10, 9, 6, 6, 8]
    measured = json.loads(Path("runs/fashionai/version_0/test_metrics.json").read_text())
    assert 0 <= measured["tasks"]["neckline"]["shared_ap"] <= 1


def test_celeba(undrawn):
    downloads.celeba(undrawn / "celeba")
    columns = whole("celeba", "celeba", "--model.backbone.init_args.weights", "null")
    labels = {name.partition(":")[2] for name in columns if ":" in name}
    assert labels == (set(downloads.CELEBA.split()) - {"Male"}) | {"male", "female"}


def test_utkface(undrawn, capsys):
    downloads.utkface(undrawn / "UTKFace")
    columns = whole("utkface", "UTKFace", "--model.backbone.init_args.weights", "null")
    assert {"age", "gender:male", "race:White", "race:Others"} <= columns
    message = " ".join(capsys.readouterr().out.split())
    assert "1 of 31 file names do not match and are left out" in message


def test_cifar100(undrawn, monkeypatch):
    downloads.cifar100(undrawn / "data", monkeypatch)
    photos(undrawn / "new", ["a.png"])
    assert {"fine:fine_07", "coarse:coarse_09"} <= whole("cifar100", "new")


def test_vehicles(undrawn):
    downloads.vehicles(undrawn / "vehicles")
    columns = whole("vehicles", "vehicles", "--model.backbone.init_args.weights", "null")
    assert {"colour:gray", "type:suv", "pose:front"} <= columns
    assert "colour:grey" not in columns


def test_nyuv2(undrawn):
    downloads.nyuv2(undrawn / "nyuv2")
    columns = whole("nyuv2", "nyuv2/image", "--model.backbone.init_args.weights", "null")
    assert columns == {"image", "segmentation", "depth", "normals"}
    written = {path.name for path in Path("predictions_maps").iterdir()}
    assert written == {"segmentation", "depth", "normals"}
    measured = json.loads(Path("runs/nyuv2/version_0/test_metrics.json").read_text())["tasks"]
    assert 0 <= measured["segmentation"]["miou"] <= 1
    assert measured["depth"]["mae"] > 0
    assert measured["normals"]["angle_mean"] > 0


def test_shapes(here):
    few = ["--data.sources.shapes.init_args.scenes", "60"]
    run("fit", "--config", str(CONFIGS / "shapes.yaml"), *QUICK, *few)
    run("test", "--config", str(CONFIGS / "shapes.yaml"), "--ckpt_path", "best", *few)
    assert Path("runs/shapes/version_0/test_segmentation.png").exists()
    assert Path("runs/shapes/version_0/test_depth.png").exists()


@pytest.mark.skipif(not SHARED.is_dir(), reason="needs the real photographs of ../shared")
def test_clothing(undrawn, monkeypatch):
    monkeypatch.chdir(CONFIGS.parent)
    out = ["--trainer.default_root_dir", str(undrawn / "runs")]
    run("fit", "--config", str(CONFIGS / "clothing.yaml"), *QUICK, *out)
    few = ["--trainer.limit_test_batches", "2"]
    run("test", "--name", "clothing", "--ckpt_path", "best", *few, *out)


def test_every_shipped_config_has_a_test():
    tested = {name.removeprefix("test_") for name in globals() if name.startswith("test_")}
    assert {path.stem for path in CONFIGS.glob("*.yaml")} <= tested
