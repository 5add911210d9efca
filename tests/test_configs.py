"""Every shipped config is run through fit, test and predict, on small data."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from mtl_lightning.__main__ import main
from tests.support import SHARED

CONFIGS = Path(__file__).resolve().parents[1] / "configs"
QUICK = [
    *("--trainer.max_epochs", "1", "--trainer.limit_train_batches", "2"),
    *("--trainer.limit_val_batches", "1", "--data.num_workers", "0"),
    *("--data.batch_size", "8", "--trainer.accelerator", "cpu"),
]


def photos(folder: Path, names: list[str]) -> None:
    draw = np.random.default_rng(0)
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(draw.integers(0, 256, (40, 36, 3), dtype=np.uint8)).save(path)


def tables(folder: Path) -> None:
    """Write the collections that configs/template.yaml speaks of."""
    names = [f"photos/{i:03}.jpg" for i in range(30)]
    photos(folder, names)
    photos(folder, [f"folders/{c}/{i}.jpg" for c in ("adults", "kids") for i in range(5)])
    types = [
        "Dress",
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
            "audience": ["adults", None] * 10,
            "stripes": ["yes", "no", None, "no"] * 5,
            "bare_arms": [None, 0, 1, 1] * 5,
            "price_eur": [None if i % 3 == 0 else 9.5 + i for i in range(20)],
        }
    ).to_csv(folder / "shop.csv", index=False)


def run(*arguments: str) -> None:
    assert main([*arguments, "--debug"]) == 0


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_template(here):
    tables(here / "clothes")
    config = str(CONFIGS / "template.yaml")
    small = ["--model.backbone.init_args.weights", "null", "--data.image_size", "32"]
    run("fit", "--config", config, *QUICK, *small)
    run("test", "--name", "clothes", "--ckpt_path", "best")
    run("predict", "--name", "clothes", "--ckpt_path", "last", "--images", "clothes/photos")
    assert {"type", "type:Dress", "audience", "price", "tags", "tags:striped"} <= set(
        pd.read_csv("predictions.csv")
    )


def test_quickstart(here):
    run("fit", "--config", str(CONFIGS / "quickstart.yaml"), *QUICK)
    run("test", "--config", str(CONFIGS / "quickstart.yaml"), "--ckpt_path", "best")
    photos(here, ["a.png", "b.webp", "c.bmp"])
    run("predict", "--name", "quickstart", "--ckpt_path", "best", "--images", "*.*")
    assert pd.read_csv("predictions.csv")["image"].tolist() == ["a.png", "b.webp", "c.bmp"]


@pytest.mark.skipif(not SHARED.is_dir(), reason="needs the real photographs of ../shared")
def test_clothing(here, monkeypatch):
    monkeypatch.chdir(CONFIGS.parent)
    out = ["--trainer.default_root_dir", str(here / "runs")]
    run("fit", "--config", str(CONFIGS / "clothing.yaml"), *QUICK, *out)
    few = ["--trainer.limit_test_batches", "2"]
    run("test", "--name", "clothing", "--ckpt_path", "best", *few, *out)


def test_every_shipped_config_has_a_test():
    tested = {name.removeprefix("test_") for name in globals() if name.startswith("test_")}
    assert {path.stem for path in CONFIGS.glob("*.yaml")} <= tested
