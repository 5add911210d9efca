import errno
import os
import resource
import signal
import sys

import pytest
import torch

from mtl_lightning.runs.checkpoint_writing import AtomicCheckpointIO
from tests.helpers import forks

BEFORE, AFTER = {"step": 1, "weights": torch.zeros(10)}, {"step": 2, "weights": torch.ones(10**6)}


def test_a_checkpoint_replaces_the_one_before(tmp_path):
    path = tmp_path / "checkpoints" / "last.ckpt"
    for content in (BEFORE, AFTER):
        AtomicCheckpointIO().save_checkpoint(content, path)
        assert AtomicCheckpointIO().load_checkpoint(path)["step"] == content["step"]
    assert [file.name for file in path.parent.iterdir()] == ["last.ckpt"]


def write_over_a_limit(path):
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10**6, 10**6))
    try:
        AtomicCheckpointIO().save_checkpoint(AFTER, path)
    except OSError as error:
        sys.exit(error.errno)


def test_a_full_disk_leaves_the_one_before(tmp_path):
    """The real thing: a limit on the size of files, in a process of its own."""
    path = tmp_path / "last.ckpt"
    AtomicCheckpointIO().save_checkpoint(BEFORE, path)
    process = forks.start(f"{__name__}.write_over_a_limit", path)
    assert process.wait() == errno.EFBIG, process.written()
    assert torch.load(path, weights_only=True)["step"] == 1
    assert [file.name for file in tmp_path.iterdir()] == ["last.ckpt"]


def write_and_be_killed(path):
    os.fsync = lambda _: os.kill(os.getpid(), signal.SIGKILL)
    AtomicCheckpointIO().save_checkpoint(AFTER, path)


def test_killed_while_it_is_written_the_one_before_is_whole(tmp_path):
    path = tmp_path / "last.ckpt"
    AtomicCheckpointIO().save_checkpoint(BEFORE, path)
    process = forks.start(f"{__name__}.write_and_be_killed", path)
    assert process.wait() == -signal.SIGKILL, process.written()
    assert torch.load(path, weights_only=True)["step"] == 1
    assert len(list(tmp_path.iterdir())) == 2, "the half of the new one lies beside"


def test_it_takes_no_storage_options(tmp_path):
    with pytest.raises(TypeError, match="a local file takes none"):
        AtomicCheckpointIO().save_checkpoint(BEFORE, tmp_path / "a", storage_options={"a": 1})
