import csv
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mtl_lightning.callbacks import bad_images
from mtl_lightning.callbacks.bad_images import BadImagesFile
from mtl_lightning.data.bad_images import BadImage
from mtl_lightning.data.datamodule import PartialLabels
from mtl_lightning.system.errors import UserError
from tests.helpers.data import Memory, make_tasks
from tests.helpers.training import fit, make_module, make_trainer

HEADER = ["image", "where", "split", "reason"]


class Broken(Memory):
    """Images 1, 4 and 9 cannot be read."""

    def load(self, image: str) -> np.ndarray:
        if image in ("memory:1", "memory:4", "memory:9"):
            raise UserError(f'image {image} cannot be read (it is "broken", or so)')
        return super().load(image)


def make_data(share: float = 1.0, batch_size: int = 2) -> PartialLabels:
    labels = {"kind": ["cat", "dog"] * 6, "size": range(12), "rare": ["yes", "no"] * 6}
    splits = ["train"] * 6 + ["val"] * 2 + ["test"] * 4
    return PartialLabels(
        make_tasks(),
        {"memory": Broken(labels, splits)},
        image_size=16,
        batch_size=batch_size,
        num_workers=0,
        on_bad_image="skip",
        max_bad_share=share,
    )


def listed(folder: Path) -> list[list[str]]:
    with open(folder / "bad_images.csv", encoding="utf-8", newline="") as file:
        header, *lines = csv.reader(file)
    assert header == HEADER
    return lines


def line(number: int, split: str) -> list[str]:
    reason = 'cannot be read (it is "broken", or so)'
    return [f"memory:{number}", f"memory memory:{number}", split, reason]


def test_each_image_is_listed_once_and_the_end_says_where(tmp_path, capsys):
    run = tmp_path / "run"
    fit(tmp_path, make_data(), callbacks=[BadImagesFile(run)], max_epochs=3)
    assert sorted(listed(run)) == [line(1, "train"), line(4, "train")]
    message = capsys.readouterr().out
    assert message == f"note: skipped 2 images that could not be used; see {run}/bad_images.csv\n"
    assert [path.name for path in run.iterdir()] == ["bad_images.csv"]


def test_later_commands_keep_what_earlier_ones_listed(tmp_path, capsys):
    data, module, callback = make_data(), make_module(), BadImagesFile(tmp_path)
    fit(tmp_path, make_data(), callbacks=[BadImagesFile(tmp_path)])
    trainer = make_trainer(tmp_path, callbacks=[callback])
    trainer.fit(module, datamodule=data)  # meets the same again
    trainer.test(module, datamodule=data, verbose=False)
    lines = listed(tmp_path)
    assert sorted(lines) == [line(1, "train"), line(4, "train"), line(9, "test")]
    assert lines[2] == line(9, "test")
    assert capsys.readouterr().out.count("skipped 3 images") == 1


def test_without_a_bad_image_there_is_no_file_and_no_word(tmp_path, capsys):
    data = make_data()
    data.sources["memory"].load = lambda image: np.zeros((16, 16, 3), np.uint8)
    fit(tmp_path, data, callbacks=[BadImagesFile(tmp_path)])
    assert not (tmp_path / "bad_images.csv").exists()
    assert capsys.readouterr().out == ""


def test_the_list_is_there_when_too_many_stop_the_run(tmp_path, capsys):
    with pytest.raises(UserError, match="2 of 6 train images"):
        fit(tmp_path, make_data(share=0.2), callbacks=[BadImagesFile(tmp_path)])
    assert sorted(listed(tmp_path)) == [line(1, "train"), line(4, "train")]
    assert "skipped 2 images" in capsys.readouterr().out


@pytest.mark.parametrize(("pause", "times"), [(0.0, 2), (1000.0, 1)])
def test_it_is_written_when_an_image_is_found_but_not_all_the_time(
    tmp_path, monkeypatch, pause, times
):
    monkeypatch.setattr(bad_images, "PAUSE", pause)
    written = []

    class Callback(BadImagesFile):
        def on_train_batch_start(self, *_: Any) -> None:
            if self.path.exists():
                written.append(self.path.read_text())

    fit(tmp_path, make_data(batch_size=1), callbacks=[Callback(tmp_path)])
    assert len(set(written)) == times
    assert len(listed(tmp_path)) == 2


def test_a_name_that_is_no_text_is_listed_all_the_same(tmp_path):
    data = make_data()
    data.bad.found["train"] = {0: BadImage("/\udcff.png", "t.csv row 2", "train", "broken")}
    for _ in range(2):
        make_trainer(tmp_path, callbacks=[BadImagesFile(tmp_path)]).validate(
            make_module(), datamodule=data, verbose=False
        )
    assert listed(tmp_path) == [["/\\udcff.png", "t.csv row 2", "train", "broken"]]


def test_a_trial_leaves_nothing_behind(tmp_path, capsys):
    fit(tmp_path, make_data(), callbacks=[BadImagesFile(tmp_path)], fast_dev_run=3)
    assert not (tmp_path / "bad_images.csv").exists()
    assert not re.search("bad_images", capsys.readouterr().out)


def test_a_file_that_cannot_be_finished_leaves_the_one_before(tmp_path, monkeypatch):
    fit(tmp_path, make_data(), callbacks=[BadImagesFile(tmp_path)])
    before = (tmp_path / "bad_images.csv").read_bytes()
    monkeypatch.setattr("os.replace", lambda *_: (_ for _ in ()).throw(OSError("disk full")))
    with pytest.raises(OSError, match="disk full"):
        make_trainer(tmp_path, callbacks=[BadImagesFile(tmp_path)]).test(
            make_module(), datamodule=make_data(), verbose=False
        )
    assert (tmp_path / "bad_images.csv").read_bytes() == before
