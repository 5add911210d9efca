import threading

import matplotlib.pyplot as plt
import numpy as np

from mtl_lightning.reports.plots.canvas import (
    new_figure,
    note,
    pixels,
    plain,
    shortened,
)


def test_a_figure_is_drawn_without_pyplot_in_any_thread():
    shapes = []

    def draw() -> None:
        figure = new_figure(4, 2, "title", "small print")
        note(figure.subplots(), "nothing")
        image = pixels(figure)
        shapes.append((image.shape, image.dtype, int(image.min())))

    thread = threading.Thread(target=draw)
    thread.start()
    thread.join()
    (shape, dtype, darkest) = shapes[0]
    assert shape[1:] == (480, 3)
    assert dtype == np.uint8
    assert darkest < 50
    assert plt.get_fignums() == []


def test_small_print_breaks_between_its_parts_only():
    parts = ["val at the last validation", "602 labelled", "balanced accuracy 0.71", "loss 0.2"]
    title, small = new_figure(3, 2, "t", " · ".join(parts)).texts
    lines = small.get_text().split("\n")
    assert len(lines) > 1
    assert " · ".join(lines).split(" · ") == parts
    assert title.get_text() == "t"


def test_names_with_dollars_or_foreign_letters_are_drawn_without_a_warning():
    figure = new_figure(4, 2, "$5-$10 and $", "衣服 $x")
    assert pixels(figure).shape[2] == 3
    assert plain("$5") == r"\$5"


def test_a_long_name_keeps_both_ends():
    assert shortened("red shirt, long sleeves", 12) == "red shi…eves"
    assert shortened("red  shirt\n", 12) == "red shirt"
