"""HTML in which every value is escaped, because nothing is HTML that was not built here."""

import html

from mtl_lightning.system.errors import one_line


class Html(str):
    """Text that is HTML already; only `node` and `joined` make it."""

    __slots__ = ()


Child = str | int | float
_EMPTY = ("img", "meta")


def node(tag: str, *children: Child, **attributes: str | int | float | None) -> Html:
    """Return an element.

    Args:
        tag: Its name.
        children: What is in it; escaped unless it is an element itself.
        attributes: Without those that are None; ``class_`` is ``class``, ``_`` is ``-``.
    """
    written = "".join(
        f' {name.rstrip("_").replace("_", "-")}="{_escaped(value)}"'
        for name, value in attributes.items()
        if value is not None
    )
    inside = joined(*children)
    return Html(f"<{tag}{written}>" if tag in _EMPTY else f"<{tag}{written}>{inside}</{tag}>")


def joined(*children: Child) -> Html:
    """Return children one after the other; escaped unless they are elements."""
    return Html("".join(c if isinstance(c, Html) else _escaped(c) for c in children))


def table(head: list[str], rows: list[list[Child]], numbers_from: int = 1) -> Html:
    """Return a table.

    Args:
        head: The names of the columns.
        rows: Their cells.
        numbers_from: Columns from this one on are aligned as numbers.
    """

    def line(tag: str, cells: list[Child], **attributes: str) -> Html:
        return node(
            "tr",
            *(
                node(tag, cell, class_="number" if i >= numbers_from else None, **attributes)
                for i, cell in enumerate(cells)
            ),
        )

    body = [line("td", row) for row in rows]
    whole = node("table", node("thead", line("th", [*head], scope="col")), node("tbody", *body))
    return node("div", whole, class_="wide")


def histogram(counts: list[int], names: list[str], title: str) -> Html:
    """Return a picture of bars, as SVG.

    Args:
        counts: Their heights.
        names: What each is, shown when it is pointed at; the first, middle and last stand below.
        title: What the picture shows, for those who do not see it.
    """
    width, height, most = 600, 120, max([*counts, 1])
    step = width / max(len(counts), 1)
    bars = [
        node(
            "rect",
            node("title", f"{name}: {count:,}"),
            x=f"{i * step + 1:.1f}",
            y=f"{height - height * count / most:.1f}",
            width=f"{step - 2:.1f}",
            height=f"{height * count / most:.1f}",
        )
        for i, (count, name) in enumerate(zip(counts, names, strict=True))
    ]
    shown = {0: "start", len(names) // 2: "middle", len(names) - 1: "end"} if names else {}
    ends = [
        node("text", names[i], x=f"{(i + 0.5) * step:.0f}", y=height + 16, text_anchor=anchor)
        for i, anchor in shown.items()
    ]
    return node(
        "svg",
        node("title", title),
        *bars,
        *ends,
        viewBox=f"0 0 {width} {height + 20}",
        role="img",
        class_="histogram",
    )


def _escaped(value: Child) -> str:
    # Control characters are no HTML, and a file name may hold what is no Unicode.
    return html.escape(one_line(str(value)))
