import numpy as np
import pytest

from mtl_lightning.reports.plots.canvas import pixels
from mtl_lightning.reports.plots.drawing import draw
from mtl_lightning.reports.plots.maps import NO_LABEL, coloured
from mtl_lightning.tasks.map_examples import MapExamples, palette_of


def examples(count: int = 3, channels: int = 1, classes: tuple[str, ...] = ()) -> MapExamples:
    shape = (20, 30, 3)[: 2 + (channels == 3)]
    maps = [np.full(shape, 2, dtype=np.uint8) for _ in range(count)]
    images = [np.zeros((20, 30, 3), dtype=np.uint8) for _ in range(count)]
    return MapExamples(images, maps, maps, list(classes), 1.0, 9.0, "$m", 17)


def texts(record: MapExamples) -> list[str]:
    figure = draw(record, "depth", "val")
    assert pixels(figure).ndim == 3
    found = [text.get_text() for legend in figure.legends for text in legend.get_texts()]
    return found + [axes.get_ylabel() for axes in figure.axes if axes.get_ylabel()]


def test_classes_have_a_legend_and_numbers_a_scale():
    assert texts(examples(classes=("sky", "road"))) == ["sky", "road"]
    many = texts(examples(classes=tuple(f"c{i}" for i in range(30))))
    assert many[-2:] == ["c19", "and 10 more"]
    assert texts(examples()) == [r"\$m"]
    assert texts(examples(channels=3)) == []
    assert texts(examples(0)) == []


@pytest.mark.parametrize("count", [1, 4])
def test_image_label_and_answer_are_side_by_side(count):
    figure = draw(examples(count), "depth", "val")
    assert sum(bool(axes.images) for axes in figure.axes) == 3 * count
    assert [axes.get_title() for axes in figure.axes[:3]] == ["image", "label", "answer"]


def test_labels_and_answers_have_the_colours_of_their_classes():
    figure = draw(examples(1, classes=("sky", "road")), "parts", "val")
    image, label, answer = (axes.images[0].get_array() for axes in figure.axes[:3])
    assert not image.any()
    for drawn in (label, answer):
        assert (drawn == palette_of(2)[1]).all()


def test_colours():
    values = np.array([[0, 1], [2, 1]], dtype=np.uint8)
    found = coloured(values, ["a", "b"])
    assert found[0, 0].tolist() == NO_LABEL.tolist()
    assert found[1, 0].tolist() == palette_of(2)[1].tolist()
    shades = coloured(np.array([[1, 255, 0]], dtype=np.uint8), [])
    assert shades[0].tolist() == [[68, 1, 84], [253, 231, 37], NO_LABEL.tolist()]  # viridis
    assert coloured(np.zeros((1, 1, 3), dtype=np.uint8), []).tolist() == [[NO_LABEL.tolist()]]
