import subprocess
from pathlib import Path

import pytest
import torch

from mtl_lightning.system import environment

GIT = ["git", "-c", "user.name=a", "-c", "user.email=a@b.c", "-c", "commit.gpgsign=false"]


def git(*arguments):
    done = subprocess.run([*GIT, *arguments], check=True, capture_output=True, text=True)
    return done.stdout.strip()


@pytest.fixture
def repository(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    git("init", "--quiet")
    Path("a.txt").write_text("a")
    git("add", "a.txt")
    git("commit", "--quiet", "-m", "first")
    git("tag", "v1")
    return git("rev-parse", "HEAD")


def test_the_revision_is_the_commit_of_the_current_folder(repository):
    assert environment.git_revision() == repository
    Path("new.txt").write_text("b")  # not tracked
    assert environment.git_revision() == repository
    Path("a.txt").write_text("b")
    assert environment.git_revision() == f"{repository}-dirty"


def test_outside_a_repository_or_without_git_there_is_no_revision(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    assert environment.git_revision() is None
    monkeypatch.setenv("PATH", "")
    assert environment.git_revision() is None


def test_a_repository_that_takes_too_long_is_not_waited_for(repository, monkeypatch):
    def slow(*_, timeout, **__):
        raise subprocess.TimeoutExpired("git", timeout)

    monkeypatch.setattr(subprocess, "run", slow)
    assert environment.git_revision() is None


def test_versions_and_devices():
    versions = environment.versions()
    assert versions["torch"] == torch.__version__
    assert set(versions) == {"python", "torch", "pytorch_lightning", "mtl_lightning"}
    assert environment.device_name(torch.device("cpu")).startswith("cpu, ")
    assert environment.device_name(torch.device("mps")) == "mps"
