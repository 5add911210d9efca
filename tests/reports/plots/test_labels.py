import numpy as np
import pytest

from mtl_lightning.reports.plots.canvas import pixels
from mtl_lightning.reports.plots.labels import DRAWN_UP_TO, labels_chart

NAN = float("nan")


def marks(axes) -> dict[str, list[float]]:
    return {
        own.get_label(): np.ma.filled(own.get_offsets()[:, 0], NAN).tolist()
        for own in axes.collections
        if not own.get_label().startswith("_")
    }


def test_labels_are_sorted_by_precision_and_marked_against_chance():
    counts = np.array([[1, 1, 4, 4], [3, 1, 6, 0], [0, 0, 2, 2], [0, 0, 0, 0]])
    precision = np.array([0.3, 0.9, NAN, NAN])
    figure = labels_chart(["hat", "bag", "never", "unseen"], precision, counts, "wears", "test")
    pixels(figure)
    left, right = figure.axes
    shown = [tick.get_text() for tick in left.get_yticklabels()]
    assert shown == [
        "bag (4 yes of 10)",
        "hat (2 yes of 10)",
        "never (0 yes of 4)",
        "unseen (0 yes of 0)",
    ]
    same = {"nan_ok": True}
    assert marks(left)["average precision"] == pytest.approx([0.9, 0.3, NAN, NAN], **same)
    assert marks(left)["chance: share of yes"] == pytest.approx([0.4, 0.2, 0, NAN], **same)
    assert marks(right)["recall of yes"] == pytest.approx([0.75, 0.5, NAN, NAN], **same)
    assert marks(right)["recall of no"] == pytest.approx([1, 0.5, 0.5, NAN], **same)
    assert marks(right)["their mean (mA)"] == pytest.approx([0.875, 0.5, NAN, NAN], **same)


def test_of_very_many_labels_the_lowest_are_drawn():
    many = DRAWN_UP_TO + 20
    precision = np.linspace(0, 1, many)
    precision[-1] = NAN  # undefined, not low
    names = [f"label {i}" for i in range(many)]
    figure = labels_chart(names, precision, np.ones((many, 4), dtype=int), "many", "val")
    shown = [tick.get_text().split(" (")[0] for tick in figure.axes[0].get_yticklabels()]
    assert shown == names[:DRAWN_UP_TO][::-1]
    assert figure.texts[1].get_text() == f"val · the {DRAWN_UP_TO} lowest of {many} labels"


def test_few_known_labels_of_very_many_are_all_drawn():
    many = DRAWN_UP_TO + 20
    precision = np.full(many, NAN)
    precision[[70, 75]] = 0.1, 0.9
    figure = labels_chart(
        [str(i) for i in range(many)], precision, np.ones((many, 4), dtype=int), "many", ""
    )
    shown = [tick.get_text().split(" (")[0] for tick in figure.axes[0].get_yticklabels()]
    assert (shown[:3], len(shown)) == (["75", "70", "0"], DRAWN_UP_TO)


def test_nothing_labelled_is_reported():
    figure = labels_chart(["hat"], np.array([NAN]), np.zeros((1, 4), dtype=int), "wears", "test")
    pixels(figure)
    assert [text.get_text() for text in figure.axes[0].texts] == ["nothing is labelled"]
