"""Labels, splits and groups"""

from pathlib import Path

from tests.bad_inputs import Case
from tests.bad_inputs._shop import MILLION, cell, links, table, two_tables

CELL = 'error: shop/t.csv row 3, column "type": task type cannot read the label '
NUMBER = 'error: shop/t.csv row 3, column "price": task price cannot read the label '
RANGE = 'error: shop/t.csv row 3, column "share": task share cannot read the label "101"'
LOG = 'error: shop/t.csv row 3, column "cost": task cost cannot read the label "0"'
TAGS = 'error: shop/t.csv row 3, column "tags": task tags cannot read the label '
CLASSES = "; expected one of the classes Dress, Shirt"
MISSING = "; if it means .not labelled., name it in the source's `missing`"
FINE = "handled: a.jpg: Dress; b.jpg: Shirt; c.jpg: Shirt"


def number(name: str, text: str, expected: str) -> Case:
    """Return the case of a cell for a regression."""
    return cell(name, text, expected, "price")


def same_content() -> None:
    """Give two images of the shop one content."""
    for name in ("a", "b"):
        Path(f"shop/{name}.jpg").write_bytes(b"the same")


CELLS = [
    cell("a class that the task does not know", "Hat", CELL + '"Hat"' + CLASSES),
    cell("a class in other letters", "shirt", CELL + f'"shirt"{CLASSES}; did you mean "Shirt"\\?'),
    cell("spaces around a class", " Shirt ", FINE),
    cell("an empty cell", "", FINE.replace("b.jpg: Shirt", "b.jpg: not labelled")),
    cell("NaN for a class", "NaN", CELL + '"NaN"' + CLASSES + MISSING),
    cell("-1 for a class", "-1", CELL + '"-1"' + CLASSES + MISSING),
    cell("a label of a million characters", MILLION, ".*there are 1,000,000 characters .*"),
    cell("a label of a thousand characters", "x" * 1000, CELL + '"x+\\.\\.\\.x+" \\(1,000 .*'),
    cell("a label that clears the screen", "\x1b[2JShirt", CELL + r'"\\x1b\[2JShirt".*'),
    cell("a label with a line break", '"Shi\nrt"', CELL + r'"Shi\\nrt".*'),
    cell("a no-break space", "Sh\u00a0irt", CELL + r'"Sh\\xa0irt".*'),
    cell("votes that add up to infinity", "Dress:1e308|Shirt:1e308", CELL + ".*" + CLASSES),
    cell("votes for an unknown class", "Dress:1|Hat:2", CELL + '"Dress:1.Hat:2"' + CLASSES),
    cell("negative votes", "Dress:-1|Shirt:2", CELL + '"Dress:-1.Shirt:2"' + CLASSES),
    number("NaN for a number", "NaN", NUMBER + '"NaN"; expected a finite number' + MISSING),
    number("inf for a number", "-inf", NUMBER + '"-inf"; expected a finite number'),
    number("a number past float32", "1e39", NUMBER + '"1e39"; expected a finite number'),
    number("text for a number", "cheap", NUMBER + '"cheap"; expected a finite number'),
    number("a decimal comma", '"9,5"', NUMBER + '"9,5"; .*decimal point; or set .decimal: ","..*'),
    cell("a label that spreadsheets give", "#N/A", CELL + '"#N/A"' + CLASSES + MISSING),
    cell("a code for a missing label", "-100", CELL + '"-100"' + CLASSES + MISSING),
    number("a number with its unit", "9.5 EUR", NUMBER + '"9.5 EUR"; expected a finite number'),
    number("numbers as text", '" 12 "', "handled: a.jpg: 9.5; b.jpg: 12; c.jpg: 12"),
    cell(
        "a number outside the bounds",
        "101",
        f"{RANGE}; expected a finite number in 0..100 \\(bounds\\)",
        "share",
    ),
    cell(
        "0 on a logarithmic scale",
        "0",
        f"{LOG}; expected a finite number above 0 \\(scale: log\\)",
        "cost",
    ),
    cell("an unknown name among tags", "hat;bagg", TAGS + '"hat;bagg".*mean "bag".*', "tags"),
]
BOTH = (
    'error: shop/t.csv row 2, column "type" says "Dress", shop/t.csv row 4, column "type" says '
    '"Shirt" for /here/shop/a.jpg \\(task "type"\\); expected one answer, or '
    "data.on_conflict: first or drop"
)
TWICE = [
    table(
        "a class that is not in its coarse class",
        "image,tree,size\na.jpg,cat,big\nb.jpg,ant,big\n",
        'error: shop/t.csv row 3, column "size": task tree cannot read the label "big"; expected '
        "labels of the image that agree, each in the column of its level: big has the classes cat",
        task="tree",
    ),
    table(
        "unknown in a column whose classes are not named",
        "image,kind\na.jpg,Dress\nb.jpg,unknown\nsub/c.jpg,Shirt\n",
        'error: task kind: the label "unknown" may be a class or a missing label: name it in the '
        "task's classes .*, or in the source's `missing` .*",
        task="kind",
    ),
    table("a row twice", "image,type\na.jpg,Dress\nb.jpg,Shirt\na.jpg,Dress\n", FINE[:-14]),
    table(
        "an image twice, once without a label",
        "image,type\na.jpg,\nb.jpg,Shirt\na.jpg,Dress\n",
        FINE[:-14],
    ),
    table(
        "an image twice with two labels",
        "image,type\na.jpg,Dress\nb.jpg,Shirt\na.jpg,Shirt\n",
        BOTH,
    ),
    table(
        "an image under two paths with two labels",
        "image,type\na.jpg,Dress\nb.jpg,Shirt\n./sub/../a.jpg,Shirt\n",
        BOTH,
    ),
    table(
        "an image and a link to it with two labels",
        "image,type\na.jpg,Dress\nb.jpg,Shirt\nx.jpg,Shirt\n",
        BOTH,
        make=links(x_jpg="a.jpg"),
    ),
    table(
        "three images twice with two labels each",
        "image,type\n"
        + "a.jpg,Dress\nb.jpg,Dress\nsub/c.jpg,Dress\n" * 2
        + "a.jpg,Shirt\nb.jpg,Shirt\nsub/c.jpg,Shirt\n",
        '.* row 8, column "type" .* \\(task "type", and 2 more like this\\); .*',
    ),
    table(
        "an image twice with two labels, on_conflict: first",
        "image,type\na.jpg,Dress\nb.jpg,Shirt\na.jpg,Shirt\n",
        "handled: a.jpg: Dress; b.jpg: Shirt",
        merged={"on_conflict": "first"},
    ),
    table(
        "an image twice with two labels, on_conflict: drop",
        "image,type\nb.jpg,Dress\na.jpg,Shirt\nb.jpg,Shirt\n",
        "handled: b.jpg: not labelled; a.jpg: Shirt",
        merged={"on_conflict": "drop"},
    ),
    table(
        "an image without a key",
        "image,type,id\na.jpg,Dress,7\nb.jpg,Shirt,\n",
        'error: data.sources.shop: shop/t.csv row 3, column "id" is empty; expected the name .*',
        key="id",
    ),
    two_tables(
        "an image in two tables with two labels",
        "a.jpg,Dress,,\n",
        "b.jpg,Dress,,\na.jpg,Shirt,,\n",
        'error: shop/a.csv row 2, column "type" says "Dress", shop/b.csv row 3, column "type" .*',
    ),
]
SAME = [
    table(
        "a class written as 2 and as 2.0",
        "image,kind\na.jpg,1\nb.jpg,2.0\nb.jpg,2\n",
        "handled: a.jpg: 1; b.jpg: 2",
        task="kind",
    ),
    table(
        "a number written as 5 and as 5.00",
        "image,price\na.jpg,5\nb.jpg,7\na.jpg,5.00\n",
        "handled: a.jpg: 5; b.jpg: 7",
        task="price",
    ),
    table(
        "names in two orders",
        "image,tags\na.jpg,hat;bag\nb.jpg,hat\na.jpg,bag;hat\n",
        "handled: a.jpg: hat;bag; b.jpg: hat",
        task="tags",
    ),
    table(
        "votes in two orders",
        "image,type\na.jpg,Dress:2|Shirt:1\nb.jpg,Dress\na.jpg,Shirt:1|Dress:2\n",
        "handled: a.jpg: Dress:2.Shirt:1; b.jpg: Dress",
    ),
    table(
        "two annotators who disagree",
        "image,one,two\na.jpg,Dress,Dress\nb.jpg,Dress,Shirt\n",
        'error: shop/t.csv row 3, column "one" says "Dress", shop/t.csv row 3, column "two" says '
        '"Shirt" for .*; expected one answer, or data.on_conflict: first or drop',
        labels={"type": ["one", "two"]},
    ),
    table(
        "two annotators who disagree, on_conflict: drop",
        "image,one,two\na.jpg,Dress,Dress\nb.jpg,Dress,Shirt\n",
        "handled: a.jpg: Dress; b.jpg: not labelled",
        merged={"on_conflict": "drop"},
        labels={"type": ["one", "two"]},
    ),
]
DOUBTS = [
    table(
        "a label that may be a class or a missing label",
        "image,kind\na.jpg,cat\nb.jpg,dog\nsub/c.jpg,TBD\n",
        'error: task kind: the label "TBD" may be a class or a missing label: name it in .*',
        task="kind",
    ),
    table(
        "-1 next to 0 in a yes/no column",
        "image,hat,bag\na.jpg,1,0\nb.jpg,0,1\nsub/c.jpg,-1.0,1\n",
        'error: data.sources.shop: shop/t.csv row 4, column "hat": "-1" next to "0" may mean .*',
        task="tags",
    ),
    table(
        "-1 in a column of numbers, declared missing",
        "image,price\na.jpg,3.5\nb.jpg,-1.0\nsub/c.jpg,2\n",
        "handled: a.jpg: 3.5; b.jpg: not labelled; c.jpg: 2",
        task="price",
        missing=["-1"],
    ),
    table(
        "a class that only test images have",
        "image,kind,split\na.jpg,cat,train\nb.jpg,dog,train\nsub/c.jpg,eel,test\n",
        'error: shop/t.csv row 4, column "kind": task kind cannot read the label "eel"; expected '
        r"one of the classes cat, dog, for no training image has it \(1 in test, where a table .*",
        task="kind",
    ),
]
SPLITS = [
    table(
        "a date that could be two",
        "image,type,day\na.jpg,Dress,2024-03-01\nb.jpg,Shirt,03/04/2024\n",
        'error: data.sources.shop: shop/t.csv row 3, column "day": "03/04/2024" is not a date; '
        "expected .*ISO 8601; for others set .date_format.*",
        date="day",
    ),
    table(
        "a split that is none",
        "image,type,split\na.jpg,Dress,train\nb.jpg,Shirt,trian\nsub/c.jpg,Shirt,trian\n",
        'error: data.sources.shop: shop/t.csv row 3, column "split": "trian" is not a split '
        '\\(2 cells like this\\); expected train, val, test or .*; did you mean "train"\\?',
    ),
    two_tables(
        "an image in two splits",
        "a.jpg,Dress,train,\n",
        "a.jpg,Dress,test,\n",
        'error: shop/a.csv row 2 says "train", shop/b.csv row 2 says "test" for .* \\(split\\); .*',
    ),
    table(
        "a copy under another name in another split, same_by: content",
        "image,type,split\na.jpg,Dress,train\nb.jpg,Dress,test\n",
        'error: shop/t.csv row 2 says "train", shop/t.csv row 3 says "test" for .*/a.jpg .*',
        make=same_content,
        merged={"same_by": "content"},
    ),
    two_tables(
        "a group in two splits",
        "a.jpg,Dress,train,g\n",
        "b.jpg,Shirt,test,g\n",
        'error: group "g" is in two splits: shop/a.csv row 2 says train, shop/b.csv row 2 .*',
    ),
    table(
        "no label in train",
        "image,type,split\na.jpg,,train\nb.jpg,Shirt,test\n",
        r"error: task type: no label in the training split \(0 in train, 0 in val, 1 in test\), .*",
    ),
]

CASES = [*CELLS, *TWICE, *SAME, *DOUBTS, *SPLITS]
