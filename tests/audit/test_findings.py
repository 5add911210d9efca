from mtl_lightning.audit.findings import Finding, Level, ordered


def test_the_worst_comes_first_and_equals_keep_their_order():
    levels = [Level.NOTE, Level.WARNING, Level.ERROR, Level.WARNING]
    found = ordered(Finding(level, str(number)) for number, level in enumerate(levels))
    assert [finding.what for finding in found] == ["2", "1", "3", "0"]


def test_a_line_says_what_and_how_to_fix_it():
    assert Finding(Level.NOTE, "a is b", "make it c").line() == "a is b; make it c"
    assert Finding(Level.NOTE, "a is b").line() == "a is b"
