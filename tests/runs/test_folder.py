from pathlib import Path

import pytest

from mtl_lightning.runs.folder import (
    check_name,
    resolve_checkpoint,
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


def test_the_best_of_a_task_is_found_by_its_name():
    make("a/version_0/checkpoints/best-type.ckpt", "a/version_1/checkpoints/best.ckpt")
    found = resolve_checkpoint("best-type", ROOT, "a")
    assert found == ROOT / "a/version_0/checkpoints/best-type.ckpt"
    with pytest.raises(
        UserError, match=r"no best-typ\.ckpt in any run.*checkpoint\.per_task: true"
    ):
        resolve_checkpoint("best-typ", ROOT, "a")
    with pytest.raises(UserError, match=r"no such file; give .*best, last, best-TASK"):
        resolve_checkpoint("best-type.ckpt", ROOT, "a")


def test_a_missing_best_names_the_runs_that_are_there():
    make("a/version_0/checkpoints/best.ckpt")
    with pytest.raises(UserError, match=r"no best.ckpt in any run under runs/b; runs there: a "):
        resolve_checkpoint("best", ROOT, "b")


def test_a_path_is_of_something():
    make("x.ckpt")
    assert resolve_checkpoint("runs/x.ckpt", ROOT, "a") == Path("runs/x.ckpt")
    with pytest.raises(UserError, match=r"runs/y\.ckpt: no such file"):
        resolve_checkpoint("runs/y.ckpt", ROOT, "a")


@pytest.mark.parametrize("name", ["..", ".", "../x", "/tmp/x", "a/b", "a\\b", "a\0b"])
def test_a_name_that_leads_elsewhere(name):
    with pytest.raises(UserError, match=r"^name should be that of one folder, .* Found \""):
        check_name(name)


@pytest.mark.parametrize("name", ["a", "a.b", "..a", "run-only-type", "Läufe 2"])
def test_a_name_of_a_folder(name):
    check_name(name)
