"""Paths of images"""

import os
from collections.abc import Callable
from pathlib import Path

from tests.bad_inputs._shop import MILLION, folder, image, links, predicted, table

OUT = "error: .*outside of the root /here/shop.*; put it below, or, .* `allow_outside_root: true`"
ROW = 'error: data.sources.shop: shop/t.csv row 3, column "image": '
ALLOWED = "handled: a.jpg: Dress; d.jpg: Shirt"
FINE = "handled: a.jpg: Dress; b.jpg: Shirt"
NONE = ROW + "there is no file .*; is `root` the folder that the paths are relative to\\?"


def absolute() -> None:
    """Write a table with an absolute path below the root."""
    Path("shop/t.csv").write_text(f"image,type\na.jpg,Dress\n{os.getcwd()}/shop/b.jpg,Shirt\n")


def view() -> None:
    """Make a link to the whole shop."""
    Path("view").symlink_to("shop")


def files(*paths: str) -> Callable[[], None]:
    """Make empty files."""

    def make() -> None:
        for path in paths:
            Path(path).parent.mkdir(parents=True, exist_ok=True)
            Path(path).touch()

    return make


FOLDERS = "handled: e.jpg: Dress; f.jpg: Shirt"
CASES = [
    image("`../` that leaves the root", "../private/d.jpg", OUT),
    image("`../` to a file that does not exist", "../private/none.jpg", OUT),
    image("`../`, allowed", "../private/d.jpg", ALLOWED, allow_outside_root=True),
    image("`../` that stays below the root", "sub/../b.jpg", FINE),
    image("`../` that leaves the root and comes back", "../shop/b.jpg", FINE),
    image("an absolute path", "/etc/passwd", OUT),
    image("an absolute path below the root", "", FINE, absolute),
    image("a link to a file elsewhere", "x.jpg", OUT, links(x_jpg="../private/d.jpg")),
    image(
        "a link to a file elsewhere, allowed",
        "x.jpg",
        ALLOWED,
        links(x_jpg="../private/d.jpg"),
        allow_outside_root=True,
    ),
    image("a link to a folder elsewhere", "x/d.jpg", OUT, links(x="../private")),
    image("`../` behind a link to a folder elsewhere", "x/../t.csv", OUT, links(x="../private")),
    image("a link to a file below the root", "x.jpg", FINE, links(x_jpg="b.jpg")),
    image("a link to itself", "x.jpg", NONE, links(x_jpg="x.jpg")),
    image("a link to nothing", "x.jpg", NONE, links(x_jpg="none.jpg")),
    image("the root is a link", "b.jpg", FINE, view, path="view/t.csv"),
    image("a web address", "https://example.com/b.jpg", ROW + ".* is a URL .*; download .*"),
    image("a file address", "file:///photos/b.jpg", ROW + ".* is a URL .*; download .*"),
    image("the root is a web address", "b.jpg", ".* root .* is a URL.*", root="s3://shop/photos"),
    image(
        "the root does not exist",
        "b.jpg",
        ".* /here/photos, which is not a folder .*",
        root="photos",
    ),
    image("a path of Windows", r"sub\c.jpg", ROW + ".*; write / between folders"),
    image("a path of a million characters", MILLION, ROW + "there are 1,000,000 characters .*"),
    image("a path of ten thousand folders", "x/" * 10_000 + "b.jpg", NONE),
    image("a name too long for the disk", "x" * 300, NONE),
    image("no path", " ", ROW[:-2] + " is empty; expected the path of an image"),
    image("a folder", "sub", NONE),
    image("a device", "x.jpg", OUT, links(x_jpg="/dev/zero")),
    image("a pipe", "x.jpg", NONE, lambda: os.mkfifo("shop/x.jpg")),
    image("colours and a line break", '"\x1b[31mb\n.jpg"', ROW + r'.*"\\x1b\[31mb\\n.jpg" .*'),
    image("text that runs backwards", "gpj.\u202ejpg", ROW + r'.*"gpj.\\u202ejpg" .*'),
    table(
        "a NUL in a path",
        '{"image": "a.jpg", "type": "Dress"}\n{"image": "b\\u0000/c.jpg", "type": "Shirt"}\n',
        'error: .*t.jsonl row 2, column "image": there is no file "b.x00/c.jpg" .*',
        file="t.jsonl",
    ),
    folder(
        "folder per class: a link to an image elsewhere",
        OUT,
        links(Dress__x_jpg="../../private/d.jpg"),
    ),
    folder("folder per class: a class that is a link elsewhere", OUT, links(Hat="../private")),
    folder(
        "folder per class: a link elsewhere, allowed",
        "handled: e.jpg: Dress; f.jpg: Shirt; d.jpg: Shirt",
        links(Shirt__x="../../private"),
        allow_outside_root=True,
    ),
    folder("folder per class: a link to the whole disk", OUT, links(Shirt__x="/")),
    folder(
        "folder per class: a link to the folder itself",
        FOLDERS,
        links(Shirt__x="../../shop"),
    ),
    folder(
        "folder per class: a class whose name is not UTF-8",
        "error: .*udce9.* is not a name in UTF-8; rename it",
        lambda: os.mkdir(b"shop/caf\xe9"),
    ),
    folder(
        "folder per class: two splits next to two classes",
        r"error: .*named like splits \(train, val\) next to others with images \(Dress, Shirt\).*",
        files("shop/train/Dress/1.jpg", "shop/val/Dress/2.jpg"),
    ),
    folder(
        "folder per class: a folder without images",
        FOLDERS,
        files("shop/annotations/readme.txt"),
    ),
    folder("folder per class: photos from a phone", FOLDERS, files("shop/Dress/g.heic")),
    predicted(
        "predict: photos from a phone",
        "photos",
        r"error: .*no image below; .* Found 1 \.heic; HEIC photos are not read, convert .*",
        make=files("photos/g.heic"),
    ),
    predicted("predict: `../` in a table", "shop/t.csv", OUT, "image\na.jpg\n../private/d.jpg\n"),
    predicted(
        "predict: `../` in a table, allowed",
        "shop/t.csv",
        "handled: images a.jpg, ../private/d.jpg",
        "image\na.jpg\n../private/d.jpg\n",
        allow_outside_root=True,
    ),
    predicted("predict: a link elsewhere in a folder", "shop", OUT, make=links(x="../private")),
    predicted(
        "predict: an image whose name is not UTF-8",
        "private",
        r"handled: images private/caf\\udce9.jpg, private/d.jpg",
        make=lambda: Path(os.fsdecode(b"private/caf\xe9.jpg")).touch(),
    ),
    predicted("predict: a web address", "https://example.com/b.jpg", "error: .* is a URL; .*"),
    predicted("predict: a table on the web", "https://example.com/t.csv", "error: .* is a URL; .*"),
]
