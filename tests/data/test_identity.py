import numpy as np
import pytest

from mtl_lightning.data.identity import identities
from mtl_lightning.data.sources import SourceTable
from mtl_lightning.data.sources.locate import texts


def table(images, keys):
    return SourceTable("t", texts(images), texts(keys), {})


@pytest.mark.parametrize(
    ("by", "same"), [("path", "01233"), ("content", "00234"), ("key", "01203")]
)
def test_rows_are_about_one_image_by_path_content_or_key(tmp_path, by, same):
    for name, content in [("a", "A"), ("b", "A"), ("c", "C")]:
        (tmp_path / name).write_text(content)
    a, b, c = (str(tmp_path / name) for name in "abc")
    last = ["digits:1", "digits:1"] if by == "path" else ["digits:1", "digits:2"]
    found = identities([table([a, b], ["x", "y"]), table([c, *last], ["z", "x", "w"])], by)
    codes = np.unique(found, return_inverse=True)[1]
    expected = np.unique(list(same), return_inverse=True)[1]
    assert ((codes[:, None] == codes) == (expected[:, None] == expected)).all()
