import base64
import io
import re
from html.parser import HTMLParser

from PIL import Image

from mtl_lightning.audit.absence_odds import StepSize
from mtl_lightning.audit.findings import Finding, Level
from mtl_lightning.audit.report import Report
from mtl_lightning.reports import audit_page as pages
from mtl_lightning.reports.audit_page import page, write
from tests.helpers.data import make_data
from tests.helpers.files import messy


class Outline(HTMLParser):
    """Elements that are opened and closed in order, with their attributes and text."""

    def __init__(self, text):
        super().__init__()
        self.open, self.seen, self.text = [], [], []
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag, attributes):
        self.seen.append((tag, dict(attributes)))
        if tag not in ("img", "meta"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if "style" not in self.open:
            self.text.append(data)


def test_the_page_is_whole_and_needs_nothing_else(messy_report):
    outline = Outline(page(messy_report))
    tags = [tag for tag, _ in outline.seen]
    assert not {"script", "link", "iframe", "object", "base", "form"} & set(tags)
    for tag, attributes in outline.seen:
        assert not {"href", "srcset", "onload", "onerror"} & set(attributes), tag
        if tag == "img":
            assert attributes["src"].startswith("data:image/jpeg;base64,")
            assert attributes["alt"]
    policy = next(a for _, a in outline.seen if a.get("http-equiv") == "Content-Security-Policy")
    assert policy["content"].startswith("default-src 'none'; img-src data:")
    css = page(messy_report).partition("</style>")[0]
    assert "url(" not in css
    assert "@import" not in css
    assert "prefers-color-scheme: dark" in css


def test_the_page_has_every_part(messy_report):
    outline = Outline(page(messy_report))
    text = " ".join(outline.text)
    for words in (
        "messy: data audit",
        "50 images, 3 sources, 3 tasks",
        *(finding.what for finding in messy_report.findings),
        *(place for finding in messy_report.findings for place in finding.where[:2]),
        "Labelled images",
        "Classes",
        "Training images with labels of two tasks",
        "Chance to have no label of a task",
        "batch size 8, devices 2, batches accumulated 1",
        "Shorter side, pixels",
        "3 images are there under several names.",
        "Samples",
    ):
        assert words.replace("\x1b", r"\x1b") in text, words
    pictures = [attributes for tag, attributes in outline.seen if tag == "img"]
    samples = 24 + 24 + 3
    broken = sum(attributes.get("class") == "error" for _, attributes in outline.seen)
    assert len(pictures) + broken == 6 + samples, "copies too"
    assert broken == 3
    for attributes in pictures[:3]:
        content = base64.b64decode(attributes["src"].partition(",")[2])
        assert max(Image.open(io.BytesIO(content)).size) <= 112


def test_hostile_values_stay_text(messy_report):
    text = page(messy_report)
    assert messy.HOSTILE not in text
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in text
    assert "more &lt;i&gt;" in text
    assert "\x1b" not in text
    assert re.findall(r"<(?![a-z/!])", text) == []


def test_classes_are_ordered_by_how_often_they_occur(messy_report):
    text = page(messy_report)
    order = [text.index(f"<td>{name}</td>") for name in ("Hat", "T-shirt", "tshirt")]
    assert order == sorted(order)


def test_long_lists_are_folded_and_cut(monkeypatch):
    report = Report("r", make_data(), StepSize(8))
    report.findings = [
        Finding(Level.ERROR, "few", where=("a",)),
        Finding(Level.NOTE, "many", where=tuple(f"p{i}" for i in range(30))),
    ]
    monkeypatch.setattr(pages, "PLACES", 20)
    text = page(report)
    assert text.count("<li>") == 1 + 20 + 1
    assert "and 10 more" in text
    assert text.count('<details open="">') == 1


def test_a_report_without_images(tmp_path):
    report = Report("r", make_data(), StepSize(8))
    path = tmp_path / "new/r.html"
    write(report, path)
    assert "Nothing to complain about." in path.read_text(encoding="utf-8")
    Outline(path.read_text(encoding="utf-8"))
