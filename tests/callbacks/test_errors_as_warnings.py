import pytest

from mtl_lightning.callbacks.errors_as_warnings import errors_as_warnings


def test_an_error_is_one_line(capsys):
    with errors_as_warnings("picture of [task]"):
        raise ValueError("no [such]\nfont")
    assert capsys.readouterr().out == (
        "warning: no picture of [task]: ValueError: no [such] font\n"
    )


def test_a_request_to_stop_is_no_error():
    with pytest.raises(KeyboardInterrupt), errors_as_warnings("picture"):
        raise KeyboardInterrupt
