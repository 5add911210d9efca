import os
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from mtl_lightning.runs import claim as claims
from mtl_lightning.runs.claim import claim
from mtl_lightning.system.errors import UserError

ROOT = Path("runs")


def make(*files: str) -> None:
    for file in files:
        path = ROOT / file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()


def claimed(checkpoint: Path | None = None) -> Path:
    return claim(ROOT, "a", checkpoint, trains=False).folder


def test_a_new_run_takes_the_next_number():
    make("a/version_4/x", "a/version_5")  # the last is a file
    assert claimed() == ROOT / "a/version_6"
    assert (ROOT / "a/version_6").is_dir()


def test_runs_that_begin_at_once_take_different_folders():
    start = threading.Barrier(8)

    def one(_: int) -> Path:
        start.wait()
        return claimed()

    with ThreadPoolExecutor(8) as pool:
        folders = set(pool.map(one, range(8)))
    assert folders == {ROOT / f"a/version_{n}" for n in range(8)}


def test_a_checkpoint_s_run_is_gone_on_with():
    make("a/version_0/checkpoints/last.ckpt", "a/version_1/x", "loose.ckpt")
    inside = ROOT / "a/version_0/checkpoints/last.ckpt"
    assert claimed(inside) == ROOT / "a/version_0"
    assert claimed(ROOT / "loose.ckpt") == ROOT / "a/version_2"


def test_further_ranks_take_the_folder_of_the_first(monkeypatch):
    first = claimed()
    make("a/version_0/config.yaml")  # the first rank has begun to write
    monkeypatch.setenv("LOCAL_RANK", "1")
    assert claim(ROOT, "a", None, trains=True) == (first, (), None)
    assert os.environ["MTL_LIGHTNING_RUN"] == str(first)


LAUNCHES = {
    "torchrun": {
        "TORCHELASTIC_RUN_ID": "none",
        "MASTER_ADDR": "localhost",
        "MASTER_PORT": "29500",
        "RANK": "{}",
        "LOCAL_RANK": "{}",
    },
    "slurm": {
        "SLURM_JOB_ID": "7",
        "SLURM_STEP_ID": "0",
        "SLURM_NTASKS": "2",
        "SLURM_PROCID": "{}",
    },
    "node": {"MASTER_ADDR": "10.0.0.1", "MASTER_PORT": "1234", "NODE_RANK": "{}"},
}


@pytest.mark.parametrize("launch", LAUNCHES)
def test_processes_that_were_started_next_to_the_first_find_its_folder(monkeypatch, launch):
    def as_rank(rank: int) -> None:
        monkeypatch.delenv("MTL_LIGHTNING_RUN", raising=False)
        for key, value in LAUNCHES[launch].items():
            monkeypatch.setenv(key, value.format(rank))

    as_rank(0)
    claimed()
    make("a/version_0/config.yaml")  # of a launch by the same name, which was killed
    monkeypatch.delenv("MTL_LIGHTNING_RUN")
    first = claim(ROOT, "a", None, trains=True)
    as_rank(1)
    assert claim(ROOT, "a", None, trains=True) == (ROOT / "a/version_1", (), None)
    first.end(failed=False)
    assert not first.folder.exists()
    monkeypatch.setattr(claims, "PATIENCE", 0.0)
    monkeypatch.delenv("MTL_LIGHTNING_RUN")
    with pytest.raises(UserError, match=r"runs/a should hold the run folder that the first proc"):
        claimed()


def test_one_process_at_a_time_trains_in_a_folder(monkeypatch):
    monkeypatch.setattr(claims, "LINGERING", 0.0)
    make("a/version_0/checkpoints/last.ckpt")
    last = ROOT / "a/version_0/checkpoints/last.ckpt"
    first = claim(ROOT, "a", last, trains=True)
    with pytest.raises(UserError, match=r"^run runs/a/version_0 is being trained by another pro"):
        claim(ROOT, "a", last, trains=True)
    claim(ROOT, "a", last, trains=False)  # a test beside it
    first.end(failed=False)
    assert os.listdir(ROOT / "a/version_0") == ["checkpoints"]
    claim(ROOT, "a", last, trains=True).end(failed=False)


def test_a_training_that_was_killed_is_in_nobody_s_way(monkeypatch):
    make("a/version_0/checkpoints/last.ckpt")
    last = ROOT / "a/version_0/checkpoints/last.ckpt"
    code = (
        "import os, pathlib\n"
        "from mtl_lightning.runs.claim import claim\n"
        f"held = claim(pathlib.Path('runs'), 'a', pathlib.Path('{last}'), trains=True)\n"
        "os._exit(1)\n"
    )
    subprocess.run([sys.executable, "-c", code], check=False, timeout=60)
    assert (ROOT / "a/version_0/.lock").exists()
    monkeypatch.setattr(claims, "LINGERING", 0.0)
    claim(ROOT, "a", last, trains=True).end(failed=True)
    assert last.exists()


@pytest.mark.parametrize("kept", ["checkpoints/last.ckpt", "metrics.csv", "bad_images.csv"])
def test_what_was_trained_stays(kept):
    own = claim(ROOT, "a", None, trains=True)
    make(f"a/version_0/{kept}")
    own.end(failed=True)
    assert (ROOT / "a/version_0" / kept).exists()


def test_a_run_that_failed_leaves_no_trace():
    own = claim(Path("new/runs"), "a", None, trains=True)
    (own.folder / "config.yaml").touch()
    own.end(failed=True)
    assert not Path("new").exists()


def test_what_was_there_stays():
    ROOT.mkdir()
    claim(ROOT, "a", None, trains=True).end(failed=True)
    assert os.listdir(ROOT) == []
    make("a/version_0/config.yaml")
    claim(ROOT, "a", None, trains=True).end(failed=True)
    assert os.listdir(ROOT / "a") == ["version_0"]
    claim(ROOT, "a", ROOT / "a/version_0/checkpoints/x.ckpt", trains=True).end(failed=True)
    assert os.listdir(ROOT / "a/version_0") == ["config.yaml"]


def test_a_run_that_wrote_nothing_leaves_nothing():
    claim(ROOT, "a", None, trains=True).end(failed=False)
    assert not ROOT.exists()
    own = claim(ROOT, "a", None, trains=False)
    make("a/version_0/config_test.yaml")
    own.end(failed=False)
    assert os.listdir(ROOT / "a/version_0") == ["config_test.yaml"]


def test_a_folder_that_cannot_be_made_is_an_error():
    ROOT.touch()
    with pytest.raises(OSError, match="runs"):
        claimed()
