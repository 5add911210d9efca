"""Labels that swap in mirrored images"""

from collections.abc import Mapping
from typing import Any

from torchvision.transforms import v2

from mtl_lightning import Mirror, TableSource
from tests.bad_inputs import Case
from tests.bad_inputs._shop import labelled, shop

CONTENT = {
    "type": "image,type\na.jpg,Dress\nb.jpg,Shirt\n",
    "tags": "image,tags\na.jpg,hat\nb.jpg,bag\n",
    "price": "image,price\na.jpg,9.5\nb.jpg,12\n",
}


def swap(
    name: str,
    pairs: Mapping[str, dict[str, str]],
    expected: str,
    task: str = "type",
    probability: float = 0.5,
    **options: Any,
) -> Case:
    """Return the case of ``data.mirror`` for a table of one task."""

    def read() -> str:
        mirror = Mirror(dict(pairs), probability)
        return labelled(task, {"shop": TableSource("shop/t.csv")}, mirror=mirror, **options)

    return Case(name, lambda: shop({"t.csv": CONTENT[task]}), read, expected)


AT = r"error: data\.mirror\.swap\."
CASES = [
    swap("classes that swap", {"type": {"Dress": "Shirt"}}, "handled: a.jpg: Dress; .*"),
    swap("an unknown task", {"typ": {"a": "b"}}, AT + 'typ: no such task; did you mean "type".*'),
    swap(
        "an unknown class",
        {"type": {"Dress": "Shrit"}},
        AT + 'type: there is no class "Shrit"; did you mean "Shirt"\\?; known: Dress, Shirt',
    ),
    swap("an unknown label", {"tags": {"hat": "cap"}}, AT + 'tags: .* no label "cap".*', "tags"),
    swap(
        "a class with two partners",
        {"type": {"Dress": "Shirt", "Shirt": "Shirt"}},
        AT + 'type: "Shirt" swaps with "Shirt" and with "Dress"; expected one partner .*',
    ),
    swap("numbers that should swap", {"price": {"9": "12"}}, AT + "price: Regression .*", "price"),
    swap(
        "a probability of 2", {}, r"error: data\.mirror\.probability .* 0\.\.1.*", probability=2.0
    ),
    swap(
        "a flip in the augmentation as well",
        {},
        r"error: data\.mirror and a RandomHorizontalFlip .* leave the labels behind; .*",
        augmentation=[v2.RandomHorizontalFlip()],
    ),
]
