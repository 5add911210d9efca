from pathlib import Path

import pytest

from mtl_lightning.runs import run_file
from tests.runs.test_run_file import made


@pytest.fixture
def runs(own_process):
    for number in (0, 1):
        facts = made()
        facts.version = f"version_{number}"
        folder = Path(f"runs/shop/version_{number}")
        folder.mkdir(parents=True)
        run_file.write(folder, facts)
        (folder / "config.yaml").write_text("seed_everything: 7\n")
    return Path("runs/shop")


@pytest.mark.parametrize("name", ["shop", "runs/shop", "runs/shop/version_1"])
def test_a_run_by_name_or_folder(cli, runs, name):
    out = cli.run("report", name)
    assert out.startswith("written: runs/shop/version_1/report.html (0.")
    content = (runs / "version_1/report.html").read_text(encoding="utf-8")
    assert "<h1>clothes ü/version_1</h1>" in content
    assert "seed_everything: 7" in content


def test_another_run_and_a_name_for_the_page(cli, runs):
    cli.run("report", "shop", "runs/shop/version_0", "--output", "page.html")
    assert "Compared with clothes ü/version_0" in Path("page.html").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "report needs the folder or name of a run, and at most one other. Found none"),
        (["shop", "shop", "shop"], "at most one other. Found shop, shop, shop"),
        (["shp"], 'shp: no such run; did you mean "shop"?; runs in runs: shop'),
        (["runs"], "runs should be a run's folder, which has a run.json. Found none"),
        (["shop", "--output", "page.pdf"], "--output should be a name that ends in .html"),
        (["shop", "--sheet", "x"], "--sheet: no such option of report; it has --output"),
    ],
    ids=str,
)
def test_mistakes_are_one_line(cli, runs, arguments, message):
    assert message in cli.refused("report", *arguments)


def test_a_damaged_file_is_named(cli, runs):
    (runs / "version_1/run.json").write_text("{")
    assert "runs/shop/version_1/run.json should be JSON" in cli.refused("report", "shop")
    assert not (runs / "version_1/report.html").exists()
