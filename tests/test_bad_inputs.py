import re

import pytest

from tests.bad_inputs import DOCUMENT, areas, document, outcome

CASES = [
    pytest.param(case, id=f"{area.__name__.rpartition('.')[2]}: {case.name}")
    for area in areas()
    for case in area.CASES
]


@pytest.mark.parametrize("case", CASES)
def test_the_user_reads_one_clear_line(case):
    assert re.fullmatch(case.expected, outcome(case)), outcome(case)
    assert outcome(case).isprintable()


@pytest.mark.parametrize("area", areas(), ids=lambda area: area.__name__)
def test_no_two_cases_bear_one_name(area):
    names = [case.name for case in area.CASES]
    assert len(set(names)) == len(names)


def test_the_document_is_what_the_corpus_gives():
    assert DOCUMENT.read_text(encoding="utf-8") == document(), "run python -m tests.bad_inputs"
