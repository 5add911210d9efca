import importlib
import subprocess
import sys

import pytest

import mtl_lightning


@pytest.mark.parametrize("name", mtl_lightning.__all__)
def test_every_public_name_is_there(name):
    assert getattr(mtl_lightning, name) is not None


def test_public_names_are_those_of_their_homes():
    assert set(mtl_lightning._HOME_OF) | {"__version__"} == set(mtl_lightning.__all__)
    for name, home in mtl_lightning._HOME_OF.items():
        module = importlib.import_module(f"mtl_lightning.{home}")
        assert getattr(mtl_lightning, name) is getattr(module, name)


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="has no attribute 'Clasification'"):
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
