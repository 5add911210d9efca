import os

import pytest

from mtl_lightning.data.sources import FashionAISource
from mtl_lightning.data.sources.fashionai import ATTRIBUTES
from mtl_lightning.system.errors import UserError
from mtl_lightning.tasks import Classification
from tests.helpers.data import column

TASKS = ["collar", "neck", "coat"]
BASE = [
    "Images/collar_design_labels/60951f5761ea3a01d6ed80e76b7f81ac.jpg,collar_design_labels,nynnn",
    "Images/collar_design_labels/f4e9b48df3645262a251c655bc15d5e3.jpg,collar_design_labels,ymnnm",
    "Images/coat_length_labels/02079ab34df5cc1df7626b2936393aca.jpg,coat_length_labels,nnnnnnny",
    "Images/pant_length_labels/b57d7f686821a87ea155ed65a5a5b021.jpg,pant_length_labels,nnnnny",
]
WEB = ["Images/neck_design_labels/0b2b4254f35ce3a41a2606705a5466ba.jpg,neck_design_labels,nnnyn,0"]
QUESTION = [
    "Images/neck_design_labels/92a57289b5766147c4ea61e64a4172e7.jpg,neck_design_labels,",
    "Images/collar_design_labels/ceb3b249ac875ce56558c442501bbd68.jpg,collar_design_labels,",
]


@pytest.fixture
def rounds(tmp_path):
    write(tmp_path / "base/Annotations/label.csv", BASE)
    write(tmp_path / "web/Annotations/neck_design_labels.csv", WEB)
    write(tmp_path / "rank/Tests/question.csv", QUESTION)
    return tmp_path


def write(path, lines):
    """Write a label file, with the images that it names in the folder above its own."""
    for line in lines:
        image = path.parents[1] / line.partition(",")[0]
        if image.suffix == ".jpg":
            image.parent.mkdir(parents=True, exist_ok=True)
            image.touch()
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(lines) + "\n")
    return path


def labels(path, **options):
    table = FashionAISource(path, **options).read(TASKS)
    return {task: cells.tolist() for task, cells in table.labels.items()}


def test_the_eight_attributes_have_54_classes():
    counts = {name.partition("_")[0]: len(classes) for name, classes in ATTRIBUTES.items()}
    assert counts == {
        "collar": 5,
        "neck": 5,
        "lapel": 5,
        "neckline": 10,
        "sleeve": 9,
        "skirt": 6,
        "pant": 6,
        "coat": 8,
    }
    assert all(len(set(classes)) == len(classes) for classes in ATTRIBUTES.values())


def test_each_image_is_labelled_for_its_attribute(rounds):
    path = rounds / "base/Annotations/label.csv"
    table = FashionAISource(path).read(TASKS)
    assert {task: cells.tolist() for task, cells in table.labels.items()} == {
        "collar": ["Shirt Collar", "Invisible:0.8|Shirt Collar:0.1|Rib Collar:0.1", None, None],
        "neck": [None] * 4,
        "coat": [None, None, "Ankle&Floor Length", None],
    }
    assert table.keys.tolist() == [line.partition(",")[0] for line in BASE]
    assert table.images[0] == os.path.realpath(rounds / "base" / table.keys[0])
    assert table.splits.tolist() == [None] * 4
    assert table.location(2, "coat") == f"{path} row 3"


def test_several_rounds_at_once_each_with_its_own_images(rounds):
    paths = [f"{rounds}/*/Annotations/*.csv", f"{rounds}/rank/Tests/question.csv"]
    table = FashionAISource(paths).read(["neck_design", "collar_design_labels"])
    assert table.labels["neck_design"].tolist() == [*[None] * 4, "Low Turtle Neck", None, None]
    assert table.labels["collar_design_labels"][0] == "Shirt Collar"
    assert table.images[4] == os.path.realpath(rounds / "web" / WEB[0].partition(",")[0])
    assert table.splits.tolist() == [None] * 5 + ["test"] * 2
    assert table.location(4) == f"{rounds}/web/Annotations/neck_design_labels.csv row 1"
    assert table.location(6) == f"{rounds}/rank/Tests/question.csv row 2"
    assert FashionAISource(paths, split="train").read(TASKS).splits.tolist() == ["train"] * 7


def test_the_share_of_maybe_can_be_chosen(rounds):
    path = rounds / "base/Annotations/label.csv"
    shared = labels(path, maybe=0.4)["collar"][1]
    assert shared == "Invisible:0.6|Shirt Collar:0.2|Rib Collar:0.2"
    target = Classification(ATTRIBUTES["collar_design_labels"]).encode(column([shared])).targets
    assert target[0].tolist() == pytest.approx([0.6, 0.2, 0, 0, 0.2])
    assert labels(path, maybe=0)["collar"][1] == "Invisible"
    for maybe in (-0.1, 0.5):
        with pytest.raises(UserError, match=r"maybe should be from 0 to below 0.5"):
            FashionAISource(path, maybe=maybe)


@pytest.mark.parametrize(
    ("letters", "cell"),
    [
        ("nmnnn", "Shirt Collar"),
        ("nmnnm", "Shirt Collar:0.5|Rib Collar:0.5"),
        ("yynnn", "Invisible:0.4|Shirt Collar:0.4|Rib Collar:0.2"),
    ],
)
def test_where_not_one_class_is_sure(tmp_path, letters, cell):
    letters = letters[:4] + "m" if letters == "yynnn" else letters
    path = write(tmp_path / "a/b.csv", [f"Images/x/1.jpg,collar_design_labels,{letters}"])
    assert labels(path)["collar"] == [cell]


def test_a_header_blank_rows_and_spaces_are_passed_over(tmp_path):
    path = write(tmp_path / "a/b.csv", ["1.jpg,"])
    path.write_text("image,attribute,label\n\n1.jpg , collar_design_labels, nnnny \n")
    assert labels(path)["collar"] == ["Rib Collar"]
    assert FashionAISource(path).read(TASKS).location(0) == f"{path} row 3"


def test_a_root_for_answers_that_came_without_images(rounds):
    answers = rounds / "fashionAI_attributes_answer_a.csv"
    answers.write_text(QUESTION[1] + "nnynn,0\n")
    assert labels(answers, root=rounds / "rank")["collar"] == ["Peter Pan"]
    with pytest.raises(UserError, match=r'answer_a.csv row 1: there is no file "Images/collar_'):
        labels(answers)


def test_tasks_by_the_users_names(rounds):
    path = rounds / "base/Annotations/label.csv"
    source = FashionAISource(path, labels={"length": "coat_length_labels"})
    assert source.read(["length", "collar"]).labels["length"][2] == "Ankle&Floor Length"
    with pytest.raises(UserError, match=r'no attribute "coat_lenght_labels".*mean "coat_length_'):
        FashionAISource(path, labels={"coat": "coat_lenght_labels"}).read(TASKS)
    with pytest.raises(UserError, match="no attribute named after a task; tasks: colour; attrib"):
        FashionAISource(path).read(["colour"])


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (
            "a.jpg,collar_design_label,nynnn",
            '"collar_design_label" is not an attribute.*did you mean',
        ),
        ("a.jpg,collar_design_labels,nynn", 'the label is "nynn"; expected 5 letters'),
        ("a.jpg,collar_design_labels,nYnnn", 'the label is "nYnnn"'),
        ("a.jpg,collar_design_labels,nnnnn", 'the label is "nnnnn"'),
        ("a.jpg,,", '"" is not an attribute'),
        ("a.jpg,collar_design_labels,ynnnn,0,1", "has 5 cells; expected image, attribute and"),
    ],
)
def test_wrong_rows_are_named(tmp_path, line, message):
    path = write(tmp_path / "a/b.csv", ["Images/1.jpg,collar_design_labels,ynnnn", line])
    with pytest.raises(UserError, match=f"a/b.csv row 2.*{message}"):
        labels(path)


def test_wrong_files(tmp_path):
    with pytest.raises(UserError, match="no file matches it as a glob"):
        labels(tmp_path / "*.csv")
    with pytest.raises(UserError, match=r"a/b.csv has no rows; expected image, attribute"):
        labels(write(tmp_path / "a/b.csv", ["image,attribute,label"]))
    (tmp_path / "a/b.csv").write_bytes(b"1.jpg,\xff")
    with pytest.raises(UserError, match=r"a/b.csv cannot be read: 'utf-8' codec"):
        labels(tmp_path / "a/b.csv")


def test_images_outside_of_the_root_are_taken_only_where_that_is_allowed(tmp_path):
    line = "../other/1.jpg,collar_design_labels,ynnnn"
    path = write(tmp_path / "base/Annotations/label.csv", [line])
    with pytest.raises(UserError, match=r'row 1: "../other/1.jpg" is outside of the root .*/base'):
        labels(path)
    assert labels(path, allow_outside_root=True)["collar"] == ["Invisible"]


def test_what_a_file_says_is_shown_short_and_in_one_line(tmp_path):
    path = write(tmp_path / "a/b.csv", [f"1.jpg,collar_design_labels,{'y' * 200}\x1b"])
    with pytest.raises(UserError, match=r'is "y+\.\.\.y+\\x1b" \(201 characters\); expected 5'):
        labels(path)


def test_it_is_recognised_by_its_rows(rounds):
    files = [
        str(rounds / name)
        for name in (
            "base/Annotations/label.csv",
            "rank/Tests/question.csv",
            "web/Annotations/neck_design_labels.csv",
        )
    ]
    write(rounds / "base/Annotations/other.csv", ["image,kind,note", "a.jpg,b,c"])
    known = FashionAISource.recognise(str(rounds))
    assert (known.arguments, known.labels) == ({"paths": files}, tuple(ATTRIBUTES))
    assert FashionAISource.recognise(files[1]).arguments == {"paths": files[1:2]}
    assert FashionAISource.recognise(str(rounds / "base/Annotations/other.csv")) is None
    assert FashionAISource.recognise(str(rounds / "base/Images")) is None


def test_it_is_recognised_below_a_header(rounds):
    write(rounds / "x/h.csv", ["image,attribute,label", *BASE])
    assert FashionAISource.recognise(str(rounds / "x/h.csv")) is not None
