import os
from pathlib import Path

import pytest

from mtl_lightning.data.sources.rooted import rooted
from mtl_lightning.system.errors import UserError


@pytest.fixture
def root(tmp_path):
    for name in ("shop/a.jpg", "shop/sub/b.jpg", "other/c.jpg"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    return tmp_path / "shop"


def refused(root: Path, *paths: str, allowed: bool = False) -> str:
    with pytest.raises(UserError) as error:
        rooted(root, paths, "row {}".format, allowed)
    return str(error.value)


def test_files_below_the_root(root):
    paths = ["a.jpg", "sub/b.jpg", os.path.join(root, "sub/../a.jpg"), "../shop/a.jpg"]
    found = [os.path.relpath(path, os.path.realpath(root)) for path in rooted(root, paths, str)]
    assert found == ["a.jpg", "sub/b.jpg", "a.jpg", "a.jpg"]


def test_the_first_that_is_not_there_is_named_and_all_are_counted(root):
    assert refused(root, "a.jpg", "b.jpg", "c.jpg") == (
        f'row 1: there is no file "b.jpg" in {root} (2 of 3 images do not exist); '
        "is `root` the folder that the paths are relative to?"
    )


def test_messages_call_the_files_what_they_are(root):
    with pytest.raises(UserError, match=r"\(1 of 2 masks do not exist\)"):
        rooted(root, ["a.jpg", "b.jpg"], str, files="masks")


def test_what_is_elsewhere_is_taken_only_where_that_is_allowed(root):
    assert refused(root, "../other/c.jpg") == (
        f'row 0: "../other/c.jpg" is outside of the root {root} (1 of 1 images do not exist); '
        "put it below, or, if you trust these paths, set `allow_outside_root: true`"
    )
    found = rooted(root, ["../other/c.jpg"], str, allow_outside_root=True)
    assert found[0] == os.path.realpath(root / "../other/c.jpg")
    assert "there is no file" in refused(root, "../other/d.jpg", allowed=True)


def test_a_url_is_reported_whatever_is_allowed(root):
    for allowed in (False, True):
        message = refused(root, "s3://shop/a.jpg", allowed=allowed)
        assert '"s3://shop/a.jpg" is a URL' in message
    assert "is a URL" not in refused(root, "C:/a.jpg")
