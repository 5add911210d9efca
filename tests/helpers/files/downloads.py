"""Small data in the form in which the well-known data sets are downloaded."""

import hashlib
import pickle
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from torchvision import datasets

from mtl_lightning.data.sources.fashionai import ATTRIBUTES

CELEBA = """
5_o_Clock_Shadow Arched_Eyebrows Attractive Bags_Under_Eyes Bald Bangs Big_Lips Big_Nose Black_Hair
Blond_Hair Blurry Brown_Hair Bushy_Eyebrows Chubby Double_Chin Eyeglasses Goatee Gray_Hair
Heavy_Makeup High_Cheekbones Male Mouth_Slightly_Open Mustache Narrow_Eyes No_Beard Oval_Face
Pale_Skin Pointy_Nose Receding_Hairline Rosy_Cheeks Sideburns Smiling Straight_Hair Wavy_Hair
Wearing_Earrings Wearing_Hat Wearing_Lipstick Wearing_Necklace Wearing_Necktie Young
"""


def photos(folder: Path, names: list[str]) -> None:
    """Write images of noise."""
    draw = np.random.default_rng(0)
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(draw.integers(0, 256, (40, 36, 3), dtype=np.uint8)).save(path)


def fashionai(folder: Path, per_attribute: int = 6) -> None:
    """Write FashionAI's rounds `base` (with some `m`), `web` and `rank`, the last with answers."""
    for part, file in (
        ("base", "Annotations/label.csv"),
        ("web", "Annotations/skirt_length_labels.csv"),
        ("rank", "Tests/question.csv"),
    ):
        lines = []
        for attribute, classes in ATTRIBUTES.items():
            for i in range(per_attribute):
                letters = ["n"] * len(classes)
                letters[i % len(classes)] = "y"
                if i % 3 == 0:
                    letters[(i + 1) % len(classes)] = "m"
                name = hashlib.md5(f"{part}{attribute}{i}".encode()).hexdigest()
                lines.append(f"Images/{attribute}/{name}.jpg,{attribute},{''.join(letters)}")
        photos(folder / part, [line.partition(",")[0] for line in lines])
        (folder / part / file).parent.mkdir(parents=True, exist_ok=True)
        (folder / part / file).write_text("\n".join(lines) + "\n")


def celeba(folder: Path, count: int = 24) -> None:
    """Write CelebA's lists and images, all in one folder, as torchvision puts them."""
    attributes = CELEBA.split()
    draw = np.random.default_rng(0)
    answers = draw.choice([-1, 1], (count, len(attributes)))
    names = [f"{i + 1:06}.jpg" for i in range(count)]
    photos(folder / "img_align_celeba", names)
    rows = [
        " ".join([name, *(f"{answer:2}" for answer in own)])
        for name, own in zip(names, answers.tolist(), strict=True)
    ]
    lines = {
        "list_attr_celeba.txt": [str(count), " ".join(attributes) + " ", *rows],
        "list_eval_partition.txt": [f"{name} {i % 4 % 3}" for i, name in enumerate(names)],
        "identity_CelebA.txt": [f"{name} {i % 4}" for i, name in enumerate(names)],
        "list_bbox_celeba.txt": [
            *(str(count), "image_id x_1 y_1 width height"),
            *(f"{name} 1 2 3 4" for name in names),
        ],
        "list_landmarks_align_celeba.txt": [
            *(str(count), "lefteye_x lefteye_y "),
            *(f"{name} 1 2" for name in names),
        ],
    }
    for name, own in lines.items():
        (folder / name).write_text("\n".join(own) + "\n")


def utkface(folder: Path, count: int = 30) -> None:
    """Write faces whose names say age, gender and race, and one whose name lacks a part."""
    photos(
        folder,
        [
            *(
                f"{1 + 3 * (i % 30)}_{i % 2}_{i % 5}_201701161{i:08}.jpg.chip.jpg"
                for i in range(count)
            ),
            "61_1_20170109142408075.jpg.chip.jpg",
        ],
    )


def cifar100(root: Path, monkeypatch: pytest.MonkeyPatch, train: int = 40, test: int = 20) -> None:
    """Write CIFAR-100 as its archive holds it, and let torchvision expect these checksums."""
    folder = root / datasets.CIFAR100.base_folder
    folder.mkdir(parents=True)
    draw = np.random.default_rng(0)
    contents: dict[str, dict[str, object]] = {
        name: {
            "data": draw.integers(0, 256, (count, 3072), dtype=np.uint8),
            "fine_labels": [7 * (i % 10) for i in range(count)],
            "coarse_labels": [i % 10 for i in range(count)],
            "filenames": [f"{name}_{i}.png" for i in range(count)],
        }
        for name, count in (("train", train), ("test", test))
    }
    contents["meta"] = {
        "fine_label_names": [f"fine_{i:02}" for i in range(100)],
        "coarse_label_names": [f"coarse_{i:02}" for i in range(20)],
    }
    sums = {}
    for name, content in contents.items():
        (folder / name).write_bytes(pickle.dumps(content))
        sums[name] = hashlib.md5((folder / name).read_bytes()).hexdigest()
    monkeypatch.setattr(datasets.CIFAR100, "train_list", [["train", sums["train"]]])
    monkeypatch.setattr(datasets.CIFAR100, "test_list", [["test", sums["test"]]])
    meta = datasets.CIFAR100.meta | {"md5": sums["meta"]}
    monkeypatch.setattr(datasets.CIFAR100, "meta", meta)


def vehicles(folder: Path, count: int = 40) -> None:
    """Write three tables about photographs of vehicles, each of which has its own gaps."""
    names = [f"images/{i // 4:04}_c{i % 4:03}_{i:08}.jpg" for i in range(count)]
    photos(folder, names)
    for table, values in {
        "colour": ["white", "black", "gray", "grey", ""],
        "type": ["sedan", "suv", "", "truck"],
        "pose": ["front", "", "rear", "side", "front_side"],
    }.items():
        rows = [
            f"{name},{i // 4:04},{values[i // 4 % len(values)]}" for i, name in enumerate(names)
        ]
        header = f"image,vehicle,{table}"
        (folder / f"{table}.csv").write_text("\n".join([header, *rows]) + "\n")


def pets(root: Path) -> None:
    """Write Oxford-IIIT Pet: two breeds of dogs and one of cats in each list."""
    folder = root / "oxford-iiit-pet"
    breeds = {"Abyssinian": 1, "american_bulldog": 2, "pug": 2}
    for name in ("trainval", "test"):
        first = 100 if name == "test" else 1
        ids = [f"{breed}_{first + i}" for breed in breeds for i in range(2)]
        photos(folder / "images", [f"{each}.jpg" for each in ids])
        numbers = [(1 + i // 2, list(breeds.values())[i // 2]) for i in range(len(ids))]
        lines = [f"{each} {a} {b} 1" for each, (a, b) in zip(ids, numbers, strict=True)]
        (folder / "annotations").mkdir(parents=True, exist_ok=True)
        (folder / f"annotations/{name}.txt").write_text("\n".join(lines) + "\n")


def nyuv2(folder: Path, count: int = 12) -> None:
    """Write rooms with masks of 13 classes, depth in mm and normals, each for most of them."""
    draw = np.random.default_rng(0)
    photos(folder, [f"image/{i + 1:04}.png" for i in range(count)])
    for i in range(count):
        normals = draw.integers(1, 256, (40, 36, 3)).astype(np.uint8)
        files = {
            "segmentation": draw.integers(0, 14, (40, 36)).astype(np.uint8),
            "depth": draw.integers(0, 9000, (40, 36)).astype(np.uint16),
            "normal": normals,
        }
        for number, (name, values) in enumerate(files.items()):
            path = folder / f"{name}/{i + 1:04}.png"
            path.parent.mkdir(exist_ok=True)
            if i % 4 != number:
                Image.fromarray(values).save(path)


def cityscapes(folder: Path) -> None:
    """Write streets as Cityscapes has them; the mask of the last is missing."""
    names = [f"train/aachen/aachen_{i:06}_000019" for i in range(3)]
    names += ["train/bochum/bochum_000000_000313", "val/lindau/lindau_000000_000019"]
    photos(folder, [f"leftImg8bit/{name}_leftImg8bit.png" for name in names])
    for name in names[:-1]:
        path = folder / f"gtFine/{name}_gtFine_labelIds.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        values = np.random.default_rng(0).integers(0, 34, (40, 36), dtype=np.uint8)
        Image.fromarray(values).save(path)
        Image.fromarray(values).save(str(path).replace("labelIds", "instanceIds"))
