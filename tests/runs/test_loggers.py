import csv
from pathlib import Path

import pytest

from mtl_lightning.runs.loggers import EventsLogger, ResumableCSVLogger

FILE = Path("runs/a/version_0/metrics.csv")


def log(*rows: tuple[int, dict[str, float]], resumed: int | None = None) -> None:
    """Write as one process does."""
    logger = ResumableCSVLogger("runs", "a", "version_0", resumed)
    for step, values in rows:
        logger.log_metrics(values, step)
    logger.save()


def lines() -> list[dict[str, str]]:
    with FILE.open(newline="") as file:
        return list(csv.DictReader(file))


def test_a_second_process_appends():
    log((1, {"loss": 3.0}), (2, {"loss": 2.0}))
    log((3, {"loss": 1.0}))
    assert [(line["step"], line["loss"]) for line in lines()] == [
        ("1", "3.0"),
        ("2", "2.0"),
        ("3", "1.0"),
    ]


def test_a_new_column_leaves_the_earlier_lines():
    log((1, {"loss": 3.0}))
    log((2, {"lr": 0.1}))
    assert lines() == [
        {"loss": "3.0", "lr": "", "step": "1"},
        {"loss": "", "lr": "0.1", "step": "2"},
    ]


def test_a_resumed_run_forgets_the_steps_that_it_makes_again():
    log((1, {"loss": 3.0}), (2, {"loss": 2.0}), (3, {"loss": 9.0}), (3, {"lr": 9.0}))
    log((3, {"loss": 1.0}), resumed=3)
    assert [(line["step"], line["loss"]) for line in lines()] == [
        ("1", "3.0"),
        ("2", "2.0"),
        ("3", "1.0"),
    ]


def test_a_line_that_was_cut_off_is_dropped():
    log((1, {"loss": 3.0}), (2, {"loss": 2.0}))
    text = FILE.read_text()
    FILE.write_text(text[: text.rindex("2.0")].rstrip(",") + "1")
    log((2, {"loss": 1.0}), resumed=2)
    assert [line["loss"] for line in lines()] == ["3.0", "1.0"]


def test_a_rewritten_header_leaves_no_moment_without_a_file(monkeypatch):
    log((1, {"loss": 3.0}))
    before = FILE.read_text()

    def fail(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("os.replace", fail)
    with pytest.raises(KeyboardInterrupt):
        log((2, {"lr": 0.1}))
    assert FILE.read_text() == before


def test_an_empty_file_is_as_none():
    FILE.parent.mkdir(parents=True)
    FILE.touch()
    log((1, {"loss": 3.0}))
    assert [line["loss"] for line in lines()] == ["3.0"]


def test_no_hparams_file_next_to_config():
    logger = EventsLogger("runs", "a", "version_0", default_hp_metric=False)
    logger.log_metrics({"loss": 1.0}, 1)
    logger.save()
    log((1, {"loss": 3.0}))
    names = sorted(path.name.split(".")[0] for path in FILE.parent.iterdir())
    assert names == ["events", "metrics"]
