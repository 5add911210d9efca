import os

import numpy as np
import pytest
from PIL import Image

from mtl_lightning.data.unlabelled import UnlabelledImages
from mtl_lightning.inputs import Category, Number
from mtl_lightning.system.errors import UserError


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "sub").mkdir()
    for value, name in enumerate(["b.png", "a.jpg", "sub/c.bmp"]):
        Image.new("RGB", (4, 3), (value * 40, 0, 0)).save(tmp_path / name)
    (tmp_path / "notes.txt").write_text("no image")
    return tmp_path


def test_a_folder_is_all_images_below_it_sorted(folder):
    images = UnlabelledImages.find(str(folder))
    expected = [str(folder / name) for name in ("a.jpg", "b.png", "sub/c.bmp")]
    assert sorted(images.names) == images.names == expected
    assert len(images) == 3
    assert images.load(2).shape == (3, 4, 3)
    assert images.load(2)[0, 0].tolist() == [80, 0, 0]
    assert images.load(2).dtype == np.uint8
    assert images.notes == ("files that are not images, skipped: 1 .txt",)


def test_a_folder_of_every_kind_of_file(folder):
    Image.new("L", (4, 3)).save(folder / "d.tif")
    Image.new("L", (4, 3)).save(folder / "e.gif")
    (folder / "f.heic").touch()
    images = UnlabelledImages.find(str(folder))
    assert [os.path.basename(name) for name in images.names[2:4]] == ["d.tif", "e.gif"]
    assert "1 .heic, 1 .txt; HEIC photos are not read" in images.notes[0]
    for name in images.names:
        os.remove(name)
    with pytest.raises(UserError, match=r"no image below; expected .* Found 1 \.heic, 1 \.txt; HE"):
        UnlabelledImages.find(str(folder))


@pytest.mark.parametrize("suffix", ["", os.sep])
def test_a_folder_with_or_without_a_slash(folder, suffix):
    assert len(UnlabelledImages.find(str(folder) + suffix)) == 3


def test_a_table_keeps_its_order_and_its_names(folder):
    (folder / "list.csv").write_text("id,image\n1,sub/c.bmp\n2,b.png\n3,a.jpg\n4,b.png\n")
    images = UnlabelledImages.find(str(folder / "list.csv"))
    assert images.names == ["sub/c.bmp", "b.png", "a.jpg", "b.png"]
    assert images.paths == [os.path.realpath(folder / name) for name in images.names]
    assert images.load(1)[0, 0].tolist() == [0, 0, 0]


def test_a_table_that_names_a_missing_file_names_its_row(folder):
    (folder / "list.csv").write_text("image\na.jpg\nnone.jpg\n")
    with pytest.raises(UserError, match=r'list\.csv row 3, column "image".*"none\.jpg"'):
        UnlabelledImages.find(str(folder / "list.csv"))


@pytest.mark.parametrize("spec", ["list.csv", "."])
def test_what_leaves_the_folder_is_refused_unless_allowed(folder, spec):
    inside = folder / "sub"
    (inside / "list.csv").write_text("image\n../a.jpg\n")
    (inside / "link.jpg").symlink_to("../a.jpg")
    with pytest.raises(UserError, match=r"outside of the root .*/sub"):
        UnlabelledImages.find(str(inside / spec))
    images = UnlabelledImages.find(str(inside / spec), allow_outside_root=True)
    assert len(images) == (2 if spec == "." else 1)


def test_a_link_to_nothing_is_found_when_it_is_read(folder):
    (folder / "dead.jpg").symlink_to("none.jpg")
    assert len(UnlabelledImages.find(str(folder))) == 4


def test_a_name_that_is_not_utf8_is_one_that_can_be_written(folder):
    os.rename(folder / "a.jpg", os.path.join(os.fsencode(folder), b"\xe9.jpg"))
    images = UnlabelledImages.find(str(folder / "*.jpg"))
    assert images.names == [str(folder / r"\udce9.jpg")]
    assert images.load(0).shape == (3, 4, 3)


def test_a_glob_is_sorted_and_may_go_deep(folder):
    assert [os.path.basename(p) for p in UnlabelledImages.find(f"{folder}/*.[jp][pn]g").paths] == [
        "a.jpg",
        "b.png",
    ]
    assert UnlabelledImages.find(f"{folder}/**/*.bmp").names == [str(folder / "sub/c.bmp")]


def test_one_image(folder):
    assert UnlabelledImages.find(str(folder / "a.jpg")).names == [str(folder / "a.jpg")]


def test_a_url_is_reported():
    for spec in ("https://a.b/c.jpg", "https://a.b/t.csv", "s3://shop/*.jpg"):
        with pytest.raises(UserError, match="is a URL; download the"):
            UnlabelledImages.find(spec)


def test_home_is_expanded(folder, monkeypatch):
    monkeypatch.setenv("HOME", str(folder))
    assert len(UnlabelledImages.find("~/sub")) == 1


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("a.jpeg", r'a\.jpeg: no such file or folder, .*; did you mean "a\.jpg"\?'),
        ("*.webp", "nothing matches it as a glob"),
        ("none.csv", "none.csv"),
        ("empty", "no image below; expected"),
        ("../https://a.b/c.jpg", "nothing matches it as a glob"),
    ],
)
def test_what_is_not_there(folder, spec, message):
    (folder / "empty").mkdir()
    with pytest.raises(UserError, match=message):
        UnlabelledImages.find(str(folder / spec))


def test_rows_of_a_table_need_no_image(folder):
    (folder / "rows.csv").write_text("age,sex\n40,f\n,m\n")
    inputs = {"sex": Category(["f"]), "age": Number()}
    found = UnlabelledImages.find(str(folder / "rows.csv"), inputs=inputs)
    assert found.names == ["2", "3"]
    assert not found.has_image.any()
    assert {n: cells.tolist() for n, cells in found.inputs.items()} == {
        "sex": ["f", "m"],
        "age": ["40", None],
    }
    assert found.notes == (
        'column "sex": 1 of 2 cells have a value that no training row had ("m"), and are read as '
        "unknown",
    )


def test_the_place_of_a_cell_is_its_line(folder):
    (folder / "rows.csv").write_text("age\n\n40\n\nx\n")
    found = UnlabelledImages.find(str(folder / "rows.csv"), inputs={"age": Number()})
    assert found.names == ["3", "5"]
    assert found.location_of_input(1, "age").endswith('rows.csv row 5, column "age"')


def test_images_may_have_columns(folder):
    (folder / "rows.csv").write_text("image,age\na.jpg,40\n,50\n")
    found = UnlabelledImages.find(str(folder / "rows.csv"), inputs={"age": Number()})
    assert found.names == ["a.jpg", "3"]
    assert found.has_image.tolist() == [True, False]
    assert found.load(0).shape[2] == 3


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("rows.csv", r'rows.csv should have a column "age", which the network reads. Found Age; '),
        ("a.jpg", r"--images should be a table with the columns that the network reads \(age\)."),
    ],
)
def test_columns_that_are_read_have_to_be_there(folder, spec, message):
    (folder / "rows.csv").write_text("Age\n40\n")
    with pytest.raises(UserError, match=message):
        UnlabelledImages.find(str(folder / spec), inputs={"age": Number()})
