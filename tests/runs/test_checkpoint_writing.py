import errno
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from mtl_lightning.runs.checkpoint_writing import AtomicCheckpointIO

BEFORE, AFTER = {"step": 1, "weights": torch.zeros(10)}, {"step": 2, "weights": torch.ones(10**6)}


def test_a_checkpoint_replaces_the_one_before(tmp_path):
    path = tmp_path / "checkpoints" / "last.ckpt"
    for content in (BEFORE, AFTER):
        AtomicCheckpointIO().save_checkpoint(content, path)
        assert AtomicCheckpointIO().load_checkpoint(path)["step"] == content["step"]
    assert [file.name for file in path.parent.iterdir()] == ["last.ckpt"]


def test_a_full_disk_leaves_the_one_before(tmp_path):
    """The real thing: a limit on the size of files, in a process of its own."""
    path = tmp_path / "last.ckpt"
    AtomicCheckpointIO().save_checkpoint(BEFORE, path)
    code = f"""
import resource, signal, torch
from mtl_lightning.runs.checkpoint_writing import AtomicCheckpointIO
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (10**6, 10**6))
try:
    AtomicCheckpointIO().save_checkpoint({{"weights": torch.ones(10**6)}}, {str(path)!r})
except OSError as error:
    print(error.errno)
"""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True
    )
    assert done.stdout.strip() == str(errno.EFBIG)
    assert torch.load(path, weights_only=True)["step"] == 1
    assert [file.name for file in tmp_path.iterdir()] == ["last.ckpt"]


def test_killed_while_it_is_written_the_one_before_is_whole(tmp_path):
    path = tmp_path / "last.ckpt"
    AtomicCheckpointIO().save_checkpoint(BEFORE, path)
    code = f"""
import os, signal, torch
from mtl_lightning.runs.checkpoint_writing import AtomicCheckpointIO
os.fsync = lambda _: os.kill(os.getpid(), signal.SIGKILL)
AtomicCheckpointIO().save_checkpoint({{"weights": torch.ones(10**6)}}, {str(path)!r})
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False)
    assert done.returncode == -signal.SIGKILL
    assert torch.load(path, weights_only=True)["step"] == 1
    assert len(list(tmp_path.iterdir())) == 2, "the half of the new one lies beside"


def test_it_takes_no_storage_options(tmp_path):
    with pytest.raises(TypeError, match="a local file takes none"):
        AtomicCheckpointIO().save_checkpoint(BEFORE, tmp_path / "a", storage_options={"a": 1})


ROOT = Path(__file__).resolve().parents[2]
