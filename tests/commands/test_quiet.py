import logging
import warnings

import pytest

from mtl_lightning.commands.quiet import NOISE, quieten


def test_lightning_s_tips_are_not_shown_and_its_warnings_are(caplog):
    quieten()
    log = logging.getLogger("pytorch_lightning.utilities.rank_zero")
    assert not log.isEnabledFor(logging.INFO)
    assert log.isEnabledFor(logging.WARNING)


def test_only_what_is_listed_is_silenced():
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        quieten()
        warnings.warn("The 'x' does not have many workers which may be a bottleneck", stacklevel=1)
        warnings.warn("your loss is NaN", stacklevel=1)
        warnings.warn_explicit(
            "a tag makes no sense", UserWarning, "x.py", 1, "PIL.TiffImagePlugin"
        )
        warnings.warn_explicit("of another", UserWarning, "x.py", 1, "PILLAR")
    assert [str(w.message) for w in seen] == ["your loss is NaN", "of another"]


@pytest.mark.parametrize("message", NOISE)
def test_no_pattern_silences_everything(message):
    assert len(message.strip(".*")) > 5
