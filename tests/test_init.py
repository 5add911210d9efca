import ast
import subprocess
import sys
from pathlib import Path

import pytest

import mtl_lightning


@pytest.mark.parametrize("name", mtl_lightning.__all__)
def test_every_public_name_is_there(name):
    assert getattr(mtl_lightning, name) is not None


def test_public_names_are_listed():
    assert {"Classification", "PartialLabels", "UserError", "__version__"} <= set(
        dir(mtl_lightning)
    )
    assert dir(mtl_lightning) == mtl_lightning.__all__


def test_a_type_checker_is_asked_for_every_public_name():
    tree = ast.parse((Path(__file__).parent / "public_names.py").read_text())
    (imports,) = (n for n in ast.walk(tree) if getattr(n, "module", None) == "mtl_lightning")
    assert sorted(alias.name for alias in imports.names) == mtl_lightning.__all__


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="No mtl_lightning attribute Clasification"):
        mtl_lightning.Clasification  # noqa: B018


def test_importing_the_package_and_listing_commands_imports_nothing_heavy():
    code = (
        "import sys, mtl_lightning\n"
        "from mtl_lightning.__main__ import main\n"
        "assert main(['--help']) == 0\n"
        "heavy = {'torch', 'torchvision', 'pytorch_lightning', 'timm', 'pandas', 'numpy', 'rich'}\n"
        "print('heavy:', sorted(heavy & set(sys.modules)))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "heavy: []"
    assert "fit" in done.stdout
