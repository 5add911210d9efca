import json
from pathlib import Path

import pytest
import torch
from pytorch_lightning.utilities.exceptions import MisconfigurationException

from mtl_lightning.commands.library_errors import _raised_by, as_user_error, reason, short_message
from mtl_lightning.system.errors import UserError

OPTIONS = ["--images", "--output", "--name", "--images.help"]


@pytest.mark.parametrize(
    ("message", "short"),
    [
        ("Unrecognized arguments: --imges x", '--imges: no such option; did you mean "--images"?'),
        ("unrecognized arguments: --zzz=3", "--zzz: no such option"),
        ("unrecognized arguments: extra", '"extra": not expected here; options start with --'),
        ("argument --images: expected one argument", "--images needs a value"),
        (
            "Parser key \"a.b\": Expected a <class 'int'>. Got value: x",
            "a.b should be an integer. Found x",
        ),
        (
            "Problem with key \"trainer.callbacks\":\n  Errors:\n    - Expected a <class 'bool'>\n"
            "    - Expected a <class 'NoneType'>\n  Given value type: <class 'str'>\n"
            "  Given value: x\nusage: pages",
            "trainer.callbacks should be true or false or null. Found x",
        ),
    ],
)
def test_one_line_of_what_a_parser_says(message, short):
    assert short_message(message, OPTIONS) == short


def wrapped(inner: Exception, outer: Exception) -> Exception:
    try:
        try:
            raise inner
        except Exception as error:
            raise outer from error
    except Exception as error:
        return error


def test_the_reason_is_our_own_error_where_there_is_one():
    assert reason(wrapped(UserError("ours"), ValueError("pages"))) == "ours"


def test_the_reason_is_what_pages_are_about():
    error = wrapped(ImportError("no module wandb"), ValueError("does not validate\nagainst any"))
    assert reason(error) == "no module wandb (--debug shows where)"
    error = wrapped(KeyError("x"), ValueError("one line"))
    assert reason(error) == "one line (--debug shows where)"
    assert reason(ZeroDivisionError()) == "ZeroDivisionError (--debug shows where)"


def test_who_raised_an_error():
    with pytest.raises(ValueError, match="Expecting") as caught:
        json.loads("{")
    assert _raised_by(caught.value, "torch", "json")
    assert not _raised_by(caught.value, "torch", "js", __name__)


def test_nobody_raised_an_error_that_was_not_raised():
    assert not _raised_by(ValueError(), "json")


# --------------------------------------------------------------------- for the user


def test_a_file_that_cannot_be_used_is_named():
    found = as_user_error(PermissionError(13, "Permission denied", "a.csv"), None)
    assert isinstance(found, UserError)
    assert str(found) == "a.csv: Permission denied"


def test_weights_that_do_not_fit_are_about_the_checkpoint():
    error = RuntimeError("Error(s) in loading state_dict for MultiTask:\n\tMissing key(s): a, b.")
    found = as_user_error(error, Path("x.ckpt"))
    assert isinstance(found, UserError)
    assert str(found).startswith("checkpoint x.ckpt: does not fit the network of the config (Miss")


def test_what_libraries_refuse_is_the_users():
    assert isinstance(as_user_error(MisconfigurationException("no"), None), UserError)
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.1)
    with pytest.raises(ValueError, match="positive integer") as caught:
        torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=1, total_steps=-3)
    assert isinstance(as_user_error(caught.value, None), UserError)


def test_a_package_that_is_missing_is_named_with_what_installs_it():
    text = (
        "Does not validate against any of the Union subtypes\nErrors:\n  - Not a valid subclass\n"
        "  - Problem with given class_path 'pytorch_lightning.loggers.MLFlowLogger':\n"
        "      Requirement 'mlflow>=1.0.0' not met. HINT: Try running `pip install -U 'mlflow'`\n"
    )
    wanted = "MLFlowLogger needs a package that is not there; pip install -U 'mlflow'"
    assert reason(ValueError(text)) == wanted


def test_an_error_without_a_message_is_about_no_weights():
    error = NotImplementedError()
    assert as_user_error(error, Path("x.ckpt")) is error


@pytest.mark.parametrize("error", [OSError("no file"), ValueError("ours"), RuntimeError("other")])
def test_what_is_no_fault_of_the_user_stays_as_it_is(error):
    assert as_user_error(error, Path("x.ckpt")) is error
