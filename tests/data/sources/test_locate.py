import os

import pytest

from mtl_lightning.data.sources.locate import locate, relative_keys
from mtl_lightning.errors import UserError


@pytest.fixture
def root(tmp_path):
    for name in ["a.jpg", "sub/b.jpg", "sub/deep/c.jpg"]:
        (tmp_path / "root" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "root" / name).touch()
    (tmp_path / "root/link.jpg").symlink_to("sub/b.jpg")
    (tmp_path / "root/dead.jpg").symlink_to("nowhere.jpg")
    (tmp_path / "root/folder").symlink_to("sub/deep", target_is_directory=True)
    return tmp_path / "root"


def test_every_way_to_one_file_resolves_to_it(root):
    paths = ["sub/b.jpg", "./sub/b.jpg", "link.jpg", "folder/../b.jpg", str(root / "sub/b.jpg")]
    images, exists = locate(root, paths)
    assert exists.all()
    assert set(images) == {os.path.realpath(root / "sub/b.jpg")}
    assert locate(root, ["folder/c.jpg"])[0][0] == os.path.realpath(root / "sub/deep/c.jpg")


def test_what_is_no_file_is_told(root):
    paths = ["a.jpg", "none.jpg", "no/where.jpg", "dead.jpg", "sub", "a.jpg/b.jpg", "sub/", ".."]
    images, exists = locate(root, paths)
    assert exists.tolist() == [True] + [False] * 7
    assert images[1:].tolist() == paths[1:]


def test_each_folder_is_listed_once_and_no_row_costs_a_call(root, monkeypatch):
    listed = []
    scandir = os.scandir
    monkeypatch.setattr(os, "scandir", lambda path: listed.append(path) or scandir(path))
    for name in ("stat", "lstat"):
        real = getattr(os, name)
        monkeypatch.setattr(
            os, name, lambda *a, real=real, **k: listed.append("stat") or real(*a, **k)
        )
    locate(root, ["a.jpg", "sub/b.jpg"])
    few, listed[:] = list(listed), []
    locate(root, ["a.jpg", "sub/b.jpg"] * 500)
    assert listed == few
    assert len([path for path in listed if path != "stat"]) == 2


def test_a_folder_that_may_not_be_listed(root, monkeypatch):
    def refuse(path):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "scandir", refuse)
    with pytest.raises(UserError, match=r"root cannot be listed: Permission denied"):
        locate(root, ["a.jpg"])


def test_keys_do_not_depend_on_the_machine(root):
    paths = ["a.jpg", "./a.jpg", "b/../a.jpg", "b//c.jpg", f"{root}/a.jpg", "../x/a.jpg"]
    expected = ["a.jpg", "a.jpg", "a.jpg", "b/c.jpg", "a.jpg", "../x/a.jpg"]
    assert relative_keys(root, paths).tolist() == expected
    assert relative_keys(root, ["/other/a.jpg"]).tolist() == ["/other/a.jpg"]
