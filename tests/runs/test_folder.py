import os
from pathlib import Path

import pytest

from mtl_lightning.runs.folder import (
    discard,
    resolve_checkpoint,
    run_folder,
    versions,
)
from mtl_lightning.system.errors import UserError

ROOT = Path("runs")


def make(*files: str) -> None:
    for file in files:
        path = ROOT / file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()


def test_versions_are_sorted_as_numbers_and_other_folders_are_not_runs():
    make("a/version_9/x", "a/version_10/x", "a/version_2/x", "a/version_x/x", "a/version_11")
    assert [p.name for p in versions(ROOT, "a")] == ["version_10", "version_9", "version_2"]
    assert versions(ROOT, "b") == []


def test_best_is_of_the_newest_run_that_has_one():
    make("a/version_0/checkpoints/best.ckpt", "a/version_1/checkpoints/best.ckpt")
    make("a/version_2/checkpoints/last.ckpt", "a/version_3/config.yaml")
    assert resolve_checkpoint("best", ROOT, "a") == ROOT / "a/version_1/checkpoints/best.ckpt"
    assert resolve_checkpoint("last", ROOT, "a") == ROOT / "a/version_2/checkpoints/last.ckpt"


def test_a_missing_best_names_the_runs_that_are_there():
    make("a/version_0/checkpoints/best.ckpt")
    with pytest.raises(UserError, match=r"no best.ckpt in any run under runs/b; runs there: a "):
        resolve_checkpoint("best", ROOT, "b")


def test_a_path_is_of_something():
    make("x.ckpt")
    assert resolve_checkpoint("runs/x.ckpt", ROOT, "a") == Path("runs/x.ckpt")
    with pytest.raises(UserError, match=r"runs/y\.ckpt: no such file"):
        resolve_checkpoint("runs/y.ckpt", ROOT, "a")


def test_a_new_run_takes_the_next_number():
    assert run_folder(ROOT, "a", None) == ROOT / "a/version_0"
    make("a/version_4/x")
    assert run_folder(ROOT, "a", None) == ROOT / "a/version_5"


def test_a_checkpoint_s_run_is_gone_on_with():
    make("a/version_0/checkpoints/last.ckpt", "a/version_1/x", "loose.ckpt")
    inside = ROOT / "a/version_0/checkpoints/last.ckpt"
    assert run_folder(ROOT, "a", inside) == ROOT / "a/version_0"
    assert run_folder(ROOT, "a", ROOT / "loose.ckpt") == ROOT / "a/version_2"


def test_further_ranks_take_the_folder_of_the_first(monkeypatch):
    first = run_folder(ROOT, "a", None)
    make("a/version_0/config.yaml")  # the first rank has begun to write
    monkeypatch.setenv("LOCAL_RANK", "1")
    assert run_folder(ROOT, "a", None) == first
    assert os.environ["MTL_LIGHTNING_RUN"] == str(first)


@pytest.mark.parametrize("kept", ["checkpoints/last.ckpt", "metrics.csv"])
def test_what_was_trained_is_not_discarded(kept):
    make(f"a/version_0/{kept}")
    discard(ROOT / "a/version_0", ROOT)
    assert (ROOT / "a/version_0" / kept).exists()


def test_a_run_that_failed_leaves_no_trace():
    make("a/version_0/config.yaml")
    discard(ROOT / "a/version_0", ROOT)
    assert not ROOT.exists()


def test_other_runs_stay():
    make("a/version_0/config.yaml", "a/version_1/config.yaml")
    discard(ROOT / "a/version_1", ROOT)
    assert [p.name for p in (ROOT / "a").iterdir()] == ["version_0"]
