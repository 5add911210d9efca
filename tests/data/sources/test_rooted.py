import os

import pytest

from mtl_lightning.data.sources.rooted import rooted
from mtl_lightning.errors import UserError


def test_files_are_resolved_or_the_first_that_is_not_there_is_named(tmp_path):
    (tmp_path / "a.jpg").touch()
    assert rooted(tmp_path, ["a.jpg"], str).tolist() == [os.path.realpath(tmp_path / "a.jpg")]
    with pytest.raises(UserError) as caught:
        rooted(tmp_path, ["a.jpg", "b.jpg", "c.jpg"], "t.csv row {}".format)
    assert str(caught.value) == (
        f't.csv row 1: there is no file "b.jpg" in {tmp_path} (2 of 3 images are not there); '
        "is `root` the folder that the paths are relative to?"
    )
