import os
import sys
from pathlib import Path

import pytest

from mtl_lightning.config import import_path


def is_open() -> bool:
    return os.getcwd() in sys.path


@pytest.mark.parametrize("entry", ["", ".", None])
def test_it_is_closed_however_it_was_opened(entry):
    sys.path.insert(0, os.getcwd() if entry is None else entry)
    others = [path for path in sys.path if os.path.abspath(path) != os.getcwd()]
    import_path.remove_cwd()
    assert sys.path == others


def test_the_folder_of_the_package_itself_stays(monkeypatch):
    home = str(Path(import_path.__file__).parents[2])
    monkeypatch.chdir(home)
    sys.path.insert(0, home)
    import_path.remove_cwd()
    assert sys.path[0] == home


@pytest.mark.parametrize(
    "named",
    [
        ["fit", "--tasks.a", "mine.Own"],
        ["fit", "--trainer.callbacks+=mine.Callback"],
        ["--data.augmentation", "[{class_path: mine.Blur}]"],
        {"tasks": {"a": {"class_path": "mine.Own"}}},
        {"model": {"lr_scheduler": {"init_args": {"lr_lambda": ["mine.rate"]}}}},
        {"model": {"sharing": "package.part.Share"}},
    ],
)
def test_a_module_of_it_that_is_named_opens_it(named):
    Path("mine.py").touch()
    Path("package").mkdir()
    sys.path.insert(0, os.getcwd())
    import_path.remove_cwd()
    import_path.add_cwd_for(named)
    assert sys.path[-1] == os.getcwd()
    assert sys.path.count(os.getcwd()) == 1


@pytest.mark.parametrize(
    "named",
    [
        ["fit", "--config", "mine", "--data.sources.a.path", "tables/mine.csv"],
        {"class_path": "torch.mine.Own", "root": "../mine.d", "note": "mine. And more", "n": 1.5},
        {"mine.Own": "x"},
        {"class_path": "elsewhere.Own"},
    ],
)
def test_nothing_else_does(named):
    Path("mine.py").touch()
    import_path.remove_cwd()
    import_path.add_cwd_for(named)
    assert not is_open()
