import numpy as np
from PIL import Image

from mtl_lightning.audit.absence_odds import StepSize
from mtl_lightning.audit.report import Report
from mtl_lightning.reports.audit_sheet import (
    ACROSS,
    GAP,
    SIDE,
    draw,
    write,
)
from tests.helpers.data import make_data


def test_a_sheet_has_a_band_for_each_task(messy_report, tmp_path):
    write(messy_report, tmp_path / "new/sheet.png")
    sheet = Image.open(tmp_path / "new/sheet.png")
    assert sheet.mode == "RGB"
    assert sheet.width == GAP + ACROSS * (SIDE + GAP)
    dark = (np.asarray(sheet) < 250).any(axis=(1, 2))
    assert dark.sum() > 7 * 40, "three rows of kind and of price, one of audience"


def test_nothing_to_draw():
    sheet = draw(Report("r", make_data(), StepSize(8)))
    assert (np.asarray(sheet) < 250).any()
