import os

import pytest

from mtl_lightning.data.sources import TableSource
from mtl_lightning.system.errors import UserError

TASKS = ["type", "audience"]


@pytest.fixture
def write(tmp_path):
    for name in "abc":
        (tmp_path / f"{name}.jpg").touch()

    def write(content, name="t.csv"):
        (tmp_path / name).write_text(content)
        return tmp_path / name

    return write


def labels(source, tasks=TASKS):
    return {task: column.tolist() for task, column in source.read(tasks).labels.items()}


def test_columns_named_after_tasks_are_the_default(write, tmp_path):
    path = write("image,type,audience,other\na.jpg,Dress,kids,1\nb.jpg,,adults,2\n")
    table = TableSource(path).read(TASKS)
    assert table.origin == str(path)
    assert table.images.tolist() == [os.path.realpath(tmp_path / n) for n in ("a.jpg", "b.jpg")]
    assert table.keys.tolist() == ["a.jpg", "b.jpg"]
    assert {t: c.tolist() for t, c in table.labels.items()} == {
        "type": ["Dress", None],
        "audience": ["kids", "adults"],
    }
    assert table.splits is None
    assert table.groups is None
    assert table.location(1) == f"{path} row 3"


def test_labels_map_tasks_to_columns(write):
    path = write("image,kind,audience\na.jpg,Dress,kids\n")
    assert labels(TableSource(path, labels={"type": "kind"})) == {"type": ["Dress"]}


def test_split_and_group(write):
    path = write("image,type,split,group\na.jpg,x,Training,s1\nb.jpg,y,DEV,\nc.jpg,z,,s2\n")
    table = TableSource(path).read(TASKS)
    assert table.splits.tolist() == ["train", "val", None]
    assert table.groups.tolist() == ["s1", None, "s2"]


def test_split_and_group_by_other_names(write):
    path = write("image,type,fold,sender\na.jpg,x,test,s1\n")
    table = TableSource(path, split="fold", group="sender").read(TASKS)
    assert table.splits.tolist() == ["test"]
    assert table.groups.tolist() == ["s1"]


def test_a_label_called_split_is_no_split(write):
    path = write("image,split,group\na.jpg,banana,x\n")
    table = TableSource(path).read(["split", "group"])
    assert table.splits is None
    assert table.groups is None
    assert table.labels["split"].tolist() == ["banana"]


def test_missing_texts(write):
    path = write("image,type,audience\na.jpg,NA,-1\nb.jpg,no,1\nc.jpg,na,No\n")
    source = TableSource(path, missing=["NA", "-1", "no"])
    assert labels(source) == {"type": [None, None, "na"], "audience": [None, "1", "No"]}


def test_root_is_where_the_table_stands_by_name(write, tmp_path):
    real = write("image,type\na.jpg,x\n")
    (tmp_path / "views").mkdir()
    (tmp_path / "views/a.jpg").touch()
    (tmp_path / "views/t.csv").symlink_to(real)
    image = TableSource(tmp_path / "views/t.csv").read(TASKS).images[0]
    assert image == os.path.realpath(tmp_path / "views/a.jpg")
    image = TableSource(tmp_path / "views/t.csv", root=tmp_path).read(TASKS).images[0]
    assert image == os.path.realpath(tmp_path / "a.jpg")


def test_a_bare_name_in_the_current_folder(write, tmp_path, monkeypatch):
    write("image,type\na.jpg,x\n")
    monkeypatch.chdir(tmp_path)
    table = TableSource("t.csv").read(TASKS)
    assert table.location(0) == "t.csv row 2"
    assert table.images[0] == os.path.realpath(tmp_path / "a.jpg")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"image": "img"}, r't.csv has no column "img" \(image\).*did you mean "image"'),
        ({"labels": {"type": "tipe"}}, r'"tipe" \(labels of task "type"\).*did you mean "type"'),
        ({"labels": {"typ": "type"}}, r'names the task "typ".*did you mean "type"'),
        ({"labels": {}}, "`labels` is empty"),
        ({"split": "folds"}, r'no column "folds" \(split\).*did you mean "fold"'),
        ({"group": "x"}, r'no column "x" \(group\)'),
        ({"date": "x"}, r'no column "x" \(date\)'),
        ({"split": "fold"}, r't.csv row 3, column "fold": "trian" is not a split.*mean "train"'),
    ],
)
def test_wrong_names(write, options, message):
    path = write("image,type,fold\na.jpg,x,train\nb.jpg,y,trian\n")
    with pytest.raises(UserError, match=message):
        TableSource(path, **options).read(TASKS)


def test_no_column_for_any_task(write):
    path = write("image,kind\na.jpg,x\n")
    with pytest.raises(UserError, match="no column named after a task; tasks: type, audience"):
        TableSource(path).read(TASKS)


def test_images_that_are_not_there(write, tmp_path):
    path = write("image,type\na.jpg,x\nphotos/z.jpg,y\n\nc.png,y\n")
    with pytest.raises(UserError) as caught:
        TableSource(path).read(TASKS)
    assert str(caught.value) == (
        f'{path} row 3, column "image": there is no file "photos/z.jpg" in {tmp_path} '
        "(2 of 3 images do not exist); is `root` the folder that the paths are relative to?"
    )


def test_the_rows_whose_image_exists_can_be_read_alone(write):
    path = write("image,type\na.jpg,Dress\nz.jpg,Hat\n,Hat\nc.jpg,Shirt\n")
    source = TableSource(path)
    missing = source.missing_images()
    assert missing == {1: f"{path} row 3: z.jpg", 2: f"{path} row 4: an empty cell"}
    table = source.read_without(list(missing), ["type"])
    assert table.labels["type"].tolist() == ["Dress", "Shirt"]
    assert [table.location(i) for i in range(2)] == [f"{path} row 2", f"{path} row 5"]
    assert source.read_without(range(4), ["type"]) is None
    assert TableSource(write("image,type\na.jpg,Dress\n", "all.csv")).missing_images() == {}
    assert TableSource(write("name\na.jpg\n", "other.csv")).missing_images() == {}


def test_images_outside_of_the_root(write, tmp_path):
    (tmp_path / "in").mkdir()
    path = write("image,type\n../a.jpg,x\n", "in/t.csv")
    with pytest.raises(
        UserError, match=r'row 2, column "image": "../a.jpg" is outside of the root'
    ):
        TableSource(path).read(TASKS)
    images = TableSource(path, allow_outside_root=True).read(TASKS).images
    assert images.tolist() == [os.path.realpath(tmp_path / "a.jpg")]


def test_a_column_of_nothing_but_unknown_splits_is_one_message(write):
    rows = "".join(f"a.jpg,x,no split {i}\n" for i in range(100_000))
    with pytest.raises(
        UserError, match=r'row 2, column "split": "no split 0" is not a split; expected'
    ):
        TableSource(write("image,type,split\n" + rows)).read(TASKS)


def test_an_empty_image_cell(write):
    path = write("image,type\na.jpg,x\n ,y\n")
    with pytest.raises(UserError, match=r't.csv row 3, column "image" is empty'):
        TableSource(path).read(TASKS)


FIELDS = ["type", "tags", "tags/hat", "tags/bag"]


def test_labels_of_a_multi_label_task_have_a_column_each(write):
    path = write("image,has_hat,b\na.jpg,1,\nb.jpg,,no\n")
    source = TableSource(path, labels={"tags": {"hat": "has_hat", "bag": "b"}})
    table = source.read(FIELDS)
    assert {field: cells.tolist() for field, cells in table.labels.items()} == {
        "tags/hat": ["1", None],
        "tags/bag": [None, "no"],
    }
    assert table.location(0, "tags/hat") == f'{path} row 2, column "has_hat"'


def test_columns_that_bear_a_labels_name_are_found(write):
    path = write("image,hat,type\na.jpg,1,x\nb.jpg,,y\n")
    assert set(TableSource(path).read(FIELDS).labels) == {"tags/hat", "type"}
    # A task of that name comes first: its column is not a label's too.
    assert set(TableSource(path).read([*FIELDS, "hat"]).labels) == {"hat", "type"}


def test_an_unknown_label_is_an_error(write):
    path = write("image,hat\na.jpg,1\n")
    with pytest.raises(UserError, match=r'names the task "tags/hta".*did you mean "tags/hat"'):
        TableSource(path, labels={"tags": {"hta": "hat"}}).read(FIELDS)


def test_values_are_translated_and_several_columns_feed_one_task(write):
    path = write("image,sex,m_f,old\na.jpg,m,,\nb.jpg,,f,female\nc.jpg,,,?\n")
    source = TableSource(
        path,
        labels={"gender": ["sex", "m_f", "old"]},
        values={"gender": {"m": "male", "f": "female", "?": None}},
    )
    table = source.read(["gender"])
    assert table.labels["gender"].tolist() == [
        ["male", None, None],
        [None, "female", "female"],
        [None, None, None],
    ]
    assert table.location(1, "gender") == f'{path} row 3, column "sex" or "m_f" or "old"'


def test_one_of_several_columns_can_be_named(write):
    path = write("image,new,old\na.jpg,x,\nb.jpg,x,y\n")
    table = TableSource(path, labels={"type": ["new", "old"]}).read(TASKS)
    assert table.location(1, "type", 1) == f'{path} row 3, column "old"'
    assert table.location(1, "type") == f'{path} row 3, column "new" or "old"'


def test_keys_written_as_floats_are_those_written_as_integers(write):
    path = write("image,type,id\na.jpg,x,1.0\nb.jpg,x,12.10\n")
    table = TableSource(path, key="id").read(TASKS)
    assert table.keys.tolist() == ["1", "12.10"]


def test_a_text_without_a_meaning_names_the_row(write):
    path = write("image,type\na.jpg,m\nb.jpg,F\n")
    with pytest.raises(UserError, match=r't.csv row 3, column "type": "F" is not among the `val'):
        TableSource(path, values={"type": {"m": "male", "f": "female"}}).read(TASKS)


def test_decimal_commas(write):
    path = write('image,size,group,type\na.jpg,"12,5","1,0","a,b"\nb.jpg,"1.234,5",2,"x"\n')
    source = TableSource(path, labels={"type": "type", "size": "size"}, decimal=",")
    table = source.read(["type", "size"])
    assert table.labels["size"].tolist() == ["12.5", "1234.5"]
    assert table.labels["type"].tolist() == ["a,b", "x"]
    assert table.groups.tolist() == ["1.0", "2"]
    source = TableSource(path, labels={"size": "size"}, decimal=",", missing=["12.50"])
    assert source.read(["size"]).labels["size"].tolist() == [None, "1234.5"]


def test_dates_only_by_name(write):
    path = write("image,type,date,seen\na.jpg,x,2024-03-01,01.02.2023\nb.jpg,y,,\n")
    assert TableSource(path).read(TASKS).dates is None
    assert TableSource(path, date="date").read(TASKS).dates.astype(str).tolist() == [
        "2024-03-01T00:00:00.000000",
        "NaT",
    ]
    seen = TableSource(path, date="seen", date_format="%d.%m.%Y").read(TASKS).dates
    assert seen.astype(str)[0] == "2023-02-01T00:00:00.000000"
    with pytest.raises(
        UserError, match=r't\.csv row 2, column "seen": "01\.02\.2023" is not a date'
    ):
        TableSource(path, date="seen").read(TASKS)


def test_a_column_called_group_or_split_need_not_be_one(write):
    path = write("image,type,split,group\na.jpg,x,train,g\nb.jpg,y,test,g\n")
    table = TableSource(path, split="", group="").read(TASKS)
    assert (table.splits, table.groups) == (None, None)


def test_cells_that_name_target_files_are_resolved_as_images(write, tmp_path):
    path = write("image,mask,old\na.jpg,b.jpg,\nb.jpg,,\nc.jpg,a.jpg,b.jpg\n")
    source = TableSource(path)
    table = source.read(["mask"])
    assert source.target_files(table, "mask").tolist() == [
        f"{tmp_path}/b.jpg",
        None,
        f"{tmp_path}/a.jpg",
    ]
    assert table.labels["mask"].tolist() == ["b.jpg", None, "a.jpg"], "unchanged"
    several = TableSource(path, labels={"mask": ["mask", "old"]})
    assert several.target_files(several.read(["mask"]), "mask").tolist() == [
        [f"{tmp_path}/b.jpg", None],
        [None, None],
        [f"{tmp_path}/a.jpg", f"{tmp_path}/b.jpg"],
    ]


def test_a_cell_may_hold_an_encoded_mask_instead_of_a_file(write, tmp_path):
    mask = '{"size": [1, 2], "counts": "02"}'
    cell = mask.replace('"', '""')
    path = write(f'image,mask\na.jpg,"{cell}"\nb.jpg,a.jpg\nc.jpg,\n')
    source = TableSource(path)
    targets = source.target_files(source.read(["mask"]), "mask")
    assert targets.tolist() == [mask, f"{tmp_path}/a.jpg", None]
    assert source.target_content(mask) == mask.encode()
    (tmp_path / "a.jpg").write_bytes(b"an image")
    assert source.target_content(targets[1]) == b"an image"


@pytest.mark.parametrize(
    ("cell", "message"),
    [
        (
            "d.jpg",
            r't.csv row 3, column "old": there is no file "d.jpg" in .* \(1 of 2 target files ',
        ),
        (
            "../x.jpg",
            r't.csv row 3, column "old": "../x.jpg" is outside of the root .*allow_outside',
        ),
    ],
)
def test_a_target_file_that_may_not_be_taken_names_its_cell(write, cell, message):
    path = write(f"image,mask,old\na.jpg,b.jpg,\nb.jpg,,{cell}\n")
    source = TableSource(path, labels={"mask": ["mask", "old"]})
    with pytest.raises(UserError, match=message):
        source.target_files(source.read(["mask"]), "mask")


def wanting(source, *inputs):
    source.inputs_wanted = inputs
    return source


def test_a_table_may_have_no_images(write):
    path = write("type,audience\nDress,kids\nShirt,\n")
    table = TableSource(path, image=None).read(TASKS)
    assert table.keys.tolist() == ["t.csv:2", "t.csv:3"]
    assert table.images.tolist() == [f"row 2 of {path}", f"row 3 of {path}"]
    assert table.without_image.all()
    TableSource(path, image=None).check_files()


def test_a_key_identifies_a_row_without_image(write):
    path = write("id,type\n7.0,Dress\n8,Shirt\n")
    table = TableSource(path, image=None, key="id").read(TASKS)
    assert table.keys.tolist() == table.images.tolist() == ["7", "8"]


def test_inputs_are_columns_of_their_name_or_those_given(write):
    path = write("image,type,age,Sex\na.jpg,Dress,3.50,f\nb.jpg,,n/a,\n")
    source = wanting(TableSource(path, inputs={"sex": "Sex"}, missing=["n/a"]), "age", "sex", "bmi")
    table = source.read(TASKS)
    found = {name: cells.tolist() for name, cells in table.inputs.items()}
    assert found == {"age": ["3.5", None], "sex": ["f", None]}
    assert table.notes == []  # "n/a" is in a cell
    assert table.location(0, "sex").endswith('row 2, column "Sex"')
    assert table.without_image is None


def test_with_inputs_a_cell_of_an_image_may_be_empty(write):
    path = write("image,type,age\na.jpg,Dress,3\n,Shirt,4\n")
    table = wanting(TableSource(path), "age").read(TASKS)
    assert table.without_image.tolist() == [False, True]
    assert table.keys.tolist() == ["a.jpg", "t.csv:3"]
    with pytest.raises(UserError, match=r"row 3, column \"image\" is empty; expected the path of"):
        TableSource(path).read(TASKS)


def test_a_source_may_have_inputs_alone(write):
    path = write("id,age\n1,3\n")
    table = wanting(TableSource(path, image=None, key="id"), "age").read(TASKS)
    assert table.labels == {}
    assert table.inputs["age"].tolist() == ["3"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, r"has no column \"image\" \(image\).*; set `image: null` if rows have no image"),
        ({"inputs": {"agee": "age"}}, r"`inputs` should name inputs of .*did you mean \"age\"\?"),
        ({"inputs": {"age": "Age"}}, r"has no column \"Age\" \(input \"age\"\)"),
    ],
)
def test_inputs_and_images_that_are_not_there(write, options, message):
    path = write("type,age\nDress,3\n")
    with pytest.raises(UserError, match=message):
        wanting(TableSource(path, **options), "age").read(TASKS)


def test_columns_that_divide_results(write):
    source = TableSource(write("image,type,sender\na.jpg,x,anna\na.jpg,,\n"))
    assert source.read(["type"]).slices == {}
    source.slices_wanted = ("sender", "brand", "type")
    found = source.read(["type"]).slices
    assert {name: cells.tolist() for name, cells in found.items()} == {
        "sender": ["anna", None],
        "type": ["x", None],
    }
