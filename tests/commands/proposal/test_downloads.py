from pathlib import Path

import pytest

from mtl_lightning.commands.proposal.columns import Kind
from mtl_lightning.commands.proposal.downloads import recognise
from mtl_lightning.commands.proposal.propose import propose
from mtl_lightning.system.errors import UserError
from tests.helpers.files import downloads
from tests.helpers.files.messy import photo


def test_utkface_is_known_by_its_names():
    downloads.utkface(Path("faces"), 60)
    found = propose(["faces"])
    (source,) = found.sources
    assert (source.name, source.class_path) == ("faces", "UTKFaceSource")
    labels = {"age": "age", "gender": "gender", "race": "race"}
    assert source.arguments == {"path": "faces", "malformed": "skip", "labels": labels}
    assert [(plan.name, plan.kind) for plan in found.tasks] == [
        ("age", Kind.NUMBERS),
        ("gender", Kind.CLASSES),
        ("race", Kind.CLASSES),
    ]
    assert found.images == 60
    assert not found.has_splits
    assert found.notes[0].startswith("folder faces/: 1 of 61 file names do not match and are left")


@pytest.mark.parametrize("path", ["celeba", "celeba/list_attr_celeba.txt"])
def test_celeba_is_known_by_its_list(path):
    downloads.celeba(Path("celeba"))
    found = propose([path])
    (source,) = found.sources
    assert source.class_path == "CelebASource"
    assert source.arguments["path"] == "celeba"
    (plan,) = found.tasks
    assert (plan.kind, len(plan.counts)) == (Kind.YES_NO, 40)
    assert source.arguments["labels"]["attributes"]["Bald"] == "Bald"
    assert found.has_splits


@pytest.mark.parametrize("path", ["fashion", "fashion/base", "fashion/base/Annotations/label.csv"])
def test_fashionai_is_known_by_its_rows(path):
    downloads.fashionai(Path("fashion"), 12)
    found = propose([path])
    (source,) = found.sources
    assert source.class_path == "FashionAISource"
    files = source.arguments["paths"]
    assert "fashion/base/Annotations/label.csv" in files
    assert len(files) == (3 if path == "fashion" else 1)
    assert len(found.tasks) == 8
    assert {plan.kind for plan in found.tasks} == {Kind.CLASSES}
    assert found.tasks[0].name == "collar_design_labels"


def test_oxford_pets_are_known_by_their_annotations():
    downloads.pets(Path("data"))
    for path in ("data", "data/oxford-iiit-pet"):
        download = recognise(path)
        assert download is not None
        assert download.class_path == "TorchvisionSource"
        assert download.arguments == {"dataset": "OxfordIIITPet", "root": "data"}
        assert set(download.labels) == {"category", "binary-category"}


def test_what_looks_like_a_download_and_cannot_be_read_is_an_error():
    photo(Path("m/bounding_box_train/0002_c1s1_000451_03.jpg"), 0)
    with pytest.raises(UserError) as error:
        propose(["m"])
    assert str(error.value) == (
        "m looks like data of Market1501AttributeSource, but m/market_attribute.mat does not "
        "exist; set the path of market_attribute.mat: `attributes: <file>`"
    )


def test_other_folders_and_tables_are_not_known():
    for i in range(30):
        photo(Path(f"p/{i}_{i % 2}_{i % 5}_x.jpg"), i)
    Path("t.csv").write_text("image,kind\np/0_0_0_x.jpg,a\n")
    assert recognise("p") is None
    assert recognise("t.csv") is None
    assert recognise("p/0_0_0_x.jpg") is None


def test_images_that_a_download_names_are_no_folder_of_their_own():
    downloads.celeba(Path("celeba"))
    found = propose(["celeba/list_attr_celeba.txt", "celeba/img_align_celeba"])
    assert len(found.sources) == 1
    assert found.left_out == []
