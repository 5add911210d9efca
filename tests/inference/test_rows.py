"""Networks that read columns answer for rows of tables, in every format alike."""

import datetime as dt

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

import mtl_lightning
from mtl_lightning.inference.exporting import export
from mtl_lightning.inference.rows import _columns
from mtl_lightning.system.errors import UserError
from tests.helpers.files import exported_tables

ROW = {"age in years": 30, "cat": "red", "visit": "2024-03-01T12:00", "income": 1e9 + 0.125}
MORE = [
    {**ROW, "age in years": None, "cat": "2.0"},
    {**ROW, "cat": "new", "visit": None},
    {**ROW, "cat": None, "income": float("nan")},
]


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    return exported_tables.made(tmp_path_factory.mktemp("table"))


@pytest.fixture(scope="module")
def both(tmp_path_factory):
    return exported_tables.made(tmp_path_factory.mktemp("both"), exported_tables.BOTH)


@pytest.fixture(scope="module")
def model(table):
    return mtl_lightning.load(table)


def image(seed=0):
    return np.random.default_rng(seed).integers(0, 256, (40, 50, 3), dtype=np.uint8)


@pytest.mark.parametrize("kind", ["onnx", "safetensors", "torch"])
def test_every_format_gives_the_answers_of_the_checkpoint(table, model, tmp_path, kind):
    rows = [ROW, *MORE]
    result = export(table, tmp_path / "out", kind, images=rows)
    assert result.compared == 1 + 3 + 3 + 4
    one, two = (
        each.predict_frame(rows, batch_size=3)
        for each in (model, mtl_lightning.load(tmp_path / "out"))
    )
    assert list(one["kind"]) == list(two["kind"])
    for name in ("kind:cat", "kind:dog", "kind:eel"):
        np.testing.assert_allclose(one[name], two[name], rtol=0, atol=1e-6)
        assert one[name].nunique() == 4, "each row is another one"


def test_bins_are_in_the_graph(tmp_path):
    init_args = {**exported_tables.TABLE["init_args"], "numbers": "piecewise"}
    path = exported_tables.made(tmp_path, {**exported_tables.TABLE, "init_args": init_args})
    assert export(path, tmp_path / "out", "onnx", images=[ROW, *MORE]).compared == 11


def test_an_ensemble_is_exported_as_one(tmp_path):
    arguments = {"blocks": 2, "width": 8, "members": 3}
    path = exported_tables.made(
        tmp_path, {"class_path": "mtl_lightning.TabM", "init_args": arguments}
    )
    for kind in ("onnx", "torch", "safetensors"):
        assert export(path, tmp_path / kind, kind, images=[ROW, *MORE]).compared == 11


def test_a_transformer_over_columns_is_exported_as_weights(tmp_path):
    arguments = {"blocks": 1, "width": 8, "heads": 2}
    backbone = {"class_path": "mtl_lightning.FTTransformer", "init_args": arguments}
    path = exported_tables.made(tmp_path, backbone)
    assert export(path, tmp_path / "out", "safetensors").compared == 7
    with pytest.raises(UserError, match="the network cannot be exported as a graph: ") as caught:
        export(path, tmp_path / "graph", "torch")  # its package fixes the batch size
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("kind", ["onnx", "safetensors", "torch"])
def test_an_image_and_columns_in_every_format(both, tmp_path, kind):
    rows = [
        {**ROW, "image": image()},
        {**ROW, "image": image(1)},
        {**ROW, "image": None},
        ROW,
        {**MORE[0], "image": image()},
    ]
    export(both, tmp_path / "out", kind, images=rows)
    one, two = (
        each.predict_frame(rows, batch_size=2)
        for each in (mtl_lightning.load(both), mtl_lightning.load(tmp_path / "out"))
    )
    np.testing.assert_allclose(one["kind:cat"], two["kind:cat"], rtol=0, atol=1e-6)
    assert one["kind:cat"][2] == pytest.approx(one["kind:cat"][3], abs=1e-6)
    assert one["kind:cat"].round(7).nunique() == 4


def test_rows_of_every_kind_are_the_same_rows(model):
    expected = model.predict([ROW, *MORE])
    frame = pd.DataFrame([ROW, *MORE])
    assert model.predict(frame) == expected
    assert model.predict(frame.convert_dtypes()) == expected
    assert model.predict([row for _, row in frame.iterrows()]) == expected
    assert model.predict(iter([ROW, *MORE])) == expected
    assert model.predict(ROW) == model.predict(pd.Series(ROW)) == model.predict([ROW])
    assert model.predict([]) == []
    moment = dt.datetime(2024, 3, 1, 12)
    typed = [{**ROW, "visit": moment}, {**ROW, "visit": pd.Timestamp(moment)}]
    typed += [{**ROW, "visit": np.datetime64(moment)}, {**ROW, "age in years": np.float32(30)}]
    typed += [{**ROW, "age in years": torch.tensor(30)}, {**ROW, "age in years": np.array(30)}]
    assert model.predict(typed) == model.predict([ROW] * 6)


def test_cells_are_read_as_the_training_reads_them(model):
    inputs = model.description.built_inputs()
    cells = np.array(["30"], dtype=object), np.array(["red"], dtype=object)
    visit, income = np.array([ROW["visit"]], dtype=object), np.array(["1000000000.125"], object)
    columns = dict(zip(inputs, [*cells, visit, income], strict=True))
    numbers = [
        inputs[name].encode(columns[name]).values for name in ("age in years", "visit", "income")
    ]
    network = model.description.build().network
    found = {
        "numbers": torch.from_numpy(np.concatenate(numbers, axis=1)),
        "categories": torch.from_numpy(inputs["cat"].encode(columns["cat"]).values),
    }
    assert set(network.input_specs) == set(found)
    state = {}

    def keep(_, given):
        state.update(given[0])

    run = model.description.build()
    run.network.register_forward_pre_hook(keep)
    values = next(model.reader.batches(ROW, 1))
    run(columns={n.removeprefix("inputs/"): torch.from_numpy(v) for n, v in values.items()})
    assert state.keys() == found.keys()
    for name, tensor in found.items():
        assert torch.equal(state[name], tensor)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (
            {"age": 3, "cat": "red", "visit": None, "income": 1},
            r'the given rows, row 0 should have a column "age in years", which the network reads '
            r"\(None if it is missing\). Found age, cat, visit, income$",
        ),
        ([ROW, {}], r"the given rows, row 1 should have .* Found none"),
        (pd.DataFrame([ROW]).drop(columns="cat"), r'the given table should have a column "cat"'),
        ("photo.jpg", r"row 0 should be a dict with age in years, cat.* Found str"),
        ([ROW, 3], r"row 1 should be a dict .* Found int"),
        (
            [ROW, {**ROW, "income": "much"}],
            r'the given rows, row 1, column "income": input income cannot read "much"; expected a '
            r"finite number .*, or None$",
        ),
        ({**ROW, "cat": {"a": 1}}, r'row 0, column "cat" should be a text, .* Found dict; give a'),
        ({**ROW, "cat": ["red", "blue"]}, r'row 0, column "cat" should be a text, .* Found list'),
        ({**ROW, "cat": torch.ones(2)}, r'row 0, column "cat" should be a text, .* Found Tensor'),
        (
            pd.DataFrame([ROW, ROW])[["age in years", "cat", "cat", "visit", "income"]],
            r'the given table should have a column "cat" once. Found it twice$',
        ),
    ],
    ids=str,
)
def test_what_is_no_row_is_one_line(model, given, message):
    with pytest.raises(UserError, match=message) as caught:
        model.predict(given)
    assert "\n" not in str(caught.value)


def test_it_says_what_it_reads(model, both):
    names = "age in years, cat, visit, income"
    assert repr(model) == f"Model(checkpoint, inputs: {names}, tasks: kind, size)"
    assert "32 x 40 px, inputs: " in repr(mtl_lightning.load(both))


def test_an_image_that_is_a_file(both, tmp_path):
    Image.fromarray(image()).save(tmp_path / "a.png")
    model = mtl_lightning.load(both)
    row = {**ROW, "image": str(tmp_path / "a.png")}
    assert model.predict(row) == model.predict({**ROW, "image": image()})
    frame = pd.DataFrame([{**ROW, "image": image()}, {**ROW, "image": None}])
    assert model.predict(frame) == model.predict([row for _, row in frame.iterrows()])
    with pytest.raises(UserError, match=r"nowhere\.png"):
        model.predict({**ROW, "image": "nowhere.png"})
    for wrong in (image()[None], image() / 255):
        with pytest.raises(UserError, match="the given rows, row 1: image should be uint8, an arr"):
            model.predict([row, {**ROW, "image": wrong}])


def test_names_of_columns_are_compared_as_text():
    columns, count = _columns(pd.DataFrame({1: [5, 6], "b": ["x", None]}), ["b", "1"])
    assert (columns, count) == ({"b": ["x", None], "1": [5, 6]}, 2)
    columns, count = _columns([{1: 5, "b": "x"}], ["b", "1"])
    assert (columns, count) == ({"b": ["x"], "1": [5], "image": [None]}, 1)


def test_an_image_is_needed_where_nothing_replaces_it(both):
    model = mtl_lightning.load(both)
    model.reader.reads = tuple(name for name in model.reader.reads if name != "has_image")
    with pytest.raises(UserError, match=r'row 2 should have an image in "image"\. Found none'):
        model.predict([{**ROW, "image": image()}] * 2 + [ROW], batch_size=2)
