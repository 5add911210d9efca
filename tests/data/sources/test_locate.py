import os

import pytest

from mtl_lightning.data.sources.locate import (
    absence,
    locate,
    outside,
    relative_keys,
    url,
)
from mtl_lightning.system.errors import UserError


@pytest.fixture
def root(tmp_path):
    for name in ["a.jpg", "sub/b.jpg", "sub/deep/c.jpg"]:
        (tmp_path / "shop" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "shop" / name).touch()
    (tmp_path / "shop/link.jpg").symlink_to("sub/b.jpg")
    (tmp_path / "shop/dead.jpg").symlink_to("nowhere.jpg")
    (tmp_path / "shop/folder").symlink_to("sub/deep", target_is_directory=True)
    return tmp_path / "shop"


def test_every_way_to_one_file_resolves_to_it(root):
    paths = ["sub/b.jpg", "./sub/b.jpg", "link.jpg", "folder/../b.jpg", str(root / "sub/b.jpg")]
    images, exists = locate(root, paths)
    assert exists.all()
    assert set(images) == {os.path.realpath(root / "sub/b.jpg")}
    assert locate(root, ["folder/c.jpg"])[0][0] == os.path.realpath(root / "sub/deep/c.jpg")


def test_what_is_no_file_is_reported(root):
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


@pytest.fixture
def elsewhere(root, tmp_path):
    (tmp_path / "rooted").mkdir()  # its name begins as the root's
    (tmp_path / "rooted/x.jpg").touch()
    (root / "out.jpg").symlink_to("../rooted/x.jpg")
    (root / "out").symlink_to("../rooted", target_is_directory=True)
    (root / "sub/up").symlink_to("../..", target_is_directory=True)
    return tmp_path / "rooted"


LEAVING = ["../rooted/x.jpg", "out.jpg", "out/x.jpg", "sub/up/rooted/x.jpg", "out/../rooted/x.jpg"]


def test_what_leaves_the_root_is_found_only_if_that_is_allowed(root, elsewhere):
    paths = [*LEAVING, str(elsewhere / "x.jpg")]
    images, exists = locate(root, [*paths, "a.jpg"])
    assert exists.tolist() == [False] * 6 + [True]
    assert images[:6].tolist() == paths
    images, exists = locate(root, paths, allow_outside_root=True)
    assert exists.all()
    assert set(images) == {os.path.realpath(elsewhere / "x.jpg")}
    for path in paths:
        assert outside(root, path) == os.path.realpath(elsewhere / "x.jpg")


def test_a_way_round_that_ends_below_the_root_is_fine(root, elsewhere, tmp_path):
    paths = ["sub/up/shop/a.jpg", "../shop/a.jpg", "out/../shop/a.jpg", str(root / "a.jpg")]
    assert locate(root, paths)[1].all()
    (tmp_path / "view").symlink_to("shop", target_is_directory=True)
    paths = ["a.jpg", str(root / "a.jpg"), str(tmp_path / "view/a.jpg")]
    assert locate(tmp_path / "view", paths)[1].all()
    assert not any(outside(tmp_path / "view", path) for path in paths)
    assert locate("/", [str(elsewhere / "x.jpg")])[1].all()


def test_no_folder_elsewhere_is_listed(root, elsewhere, monkeypatch):
    listed = []
    scandir = os.scandir
    monkeypatch.setattr(os, "scandir", lambda path: listed.append(path) or scandir(path))
    locate(root, [*LEAVING, "/etc/passwd", "/none/x.jpg"])
    assert set(listed) == {os.path.realpath(root)}


@pytest.mark.parametrize(
    "path",
    [
        "x" * 300 + "/a.jpg",
        "x/" * 500_000,
        "a\0/b.jpg",
        "a\0.jpg",
        "\ud800/a.jpg",
        "loop/a.jpg",
        "~",
    ],
)
def test_what_can_be_no_file_is_not_there(root, path):
    (root / "loop").symlink_to("loop")
    (root / "self.jpg").symlink_to("self.jpg")
    _, exists = locate(root, [path, "self.jpg", "a.jpg"])
    assert exists.tolist() == [False, False, True]
    assert absence(root, path)[0].startswith("there is no file ")
    assert len(absence(root, path)[0]) < 300 + len(str(root))


def test_where_a_link_leads_is_reported(root, elsewhere):
    real = os.path.realpath(elsewhere / "x.jpg")
    leads = f'"out.jpg" links to {real}, outside of the root {root}'
    assert absence(root, "out.jpg")[0] == leads
    message = f'"../rooted/x.jpg" is outside of the root {root}'
    assert absence(root, "../rooted/x.jpg")[0] == message
    assert absence(root, r"sub\b.jpg")[1] == "write / between folders"
    assert absence(root / "none", "a.jpg")[0].endswith("/none, which is not a folder")


@pytest.mark.parametrize(
    ("written", "there", "how"),
    [
        ("Fotos/a.jpg", "Fotos/a.JPG", "upper and lower case, or in its suffix"),
        ("Fotos/a.jpg", "fotos/A.jpg", "upper and lower case, or in its suffix"),
        ("Fotos/a.jpg", "Fotos/a.jpeg", "upper and lower case, or in its suffix"),
        ("Fotos/a", "Fotos/a.png", "upper and lower case, or in its suffix"),
        (
            "caf\u00e9/e\u0301.jpg",
            "cafe\u0301/\u00e9.jpg",
            "the Unicode normalization of its accents",
        ),
        ("./caf\u00e9//e.jpg", "cafe\u0301/e.JPG", "upper and lower case, or in its suffix"),
    ],
)
@pytest.mark.parametrize("absolute", [False, True])
def test_the_file_that_is_meant_is_named(root, written, there, how, absolute):
    (root / there).parent.mkdir(exist_ok=True)
    (root / there).touch()
    (root / there).with_name("other.jpg").touch()
    path, meant = (f"{root}/{written}", f"{root}/{there}") if absolute else (written, there)
    what, remedy = absence(root, path)
    assert what.startswith("there is no file ")
    assert remedy.startswith(f'there is "{meant}", which differs in {how}')
    assert remedy.endswith(": write the path like that")


def test_nothing_is_meant_where_nothing_looks_alike(root, elsewhere, monkeypatch):
    (root / "c.txt").touch()
    (root / "d.jpg").mkdir()
    listed = []
    listdir = os.listdir
    monkeypatch.setattr(os, "listdir", lambda path: listed.append(path) or listdir(path))
    for path in ("c.jpg", "D.jpg", "none/a.jpg", "a.jpg/b.jpg", "OUT/x.jpg", "sub/UP/rooted/x.jpg"):
        assert absence(root, path)[1].startswith("is `root` the folder that"), path
    assert {os.path.realpath(path) for path in listed} <= {
        os.path.realpath(path) for path in (root, root / "sub", root / "a.jpg", root / "none")
    }


def test_urls():
    assert all(map(url, ["https://a/b.jpg", "S3://a", "file:///a.jpg", "gs+x://y"]))
    assert not any(map(url, ["a.jpg", "//a/b", "http:/a", "C:/a", "a/b://c", "1x://a", "://a"]))


def test_a_folder_that_may_not_be_listed(root, monkeypatch):
    def refuse(path):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "scandir", refuse)
    with pytest.raises(UserError, match=r"shop cannot be listed: Permission denied"):
        locate(root, ["a.jpg"])


def test_keys_do_not_depend_on_the_machine(root):
    paths = ["a.jpg", "./a.jpg", "b/../a.jpg", "b//c.jpg", str(root / "a.jpg"), "../x/a.jpg"]
    expected = ["a.jpg", "a.jpg", "a.jpg", "b/c.jpg", "a.jpg", "../x/a.jpg"]
    assert relative_keys(root, paths).tolist() == expected
    for path, key in zip(paths, expected, strict=True):
        assert relative_keys(root, [path, "a"]).tolist() == [key, "a"]
    assert relative_keys(root, ["/other/a.jpg"]).tolist() == ["/other/a.jpg"]
