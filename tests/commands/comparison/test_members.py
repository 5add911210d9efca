from pathlib import Path

import pytest

from mtl_lightning.commands.comparison.members import check_seeds, members, read_variants
from mtl_lightning.config.yaml_io import load
from mtl_lightning.system.errors import UserError


def made(seeds=(1, 2), variants=None, single=True, arguments=("--config", "c.yaml")):
    return members(arguments, ["type", "age"], seeds, variants or {}, single, Path("out"))


@pytest.fixture(autouse=True)
def config(tmp_path, own_process):
    Path("c.yaml").write_text("tasks: {}\n")


def test_every_variant_with_every_seed_and_one_seed_after_the_other():
    found = made(variants={"uw": {"model": {"balancing": "UW"}}})
    names = ["all", "only-type", "only-age", "uw"]
    assert [member.name for member in found] == [f"{n}-seed{s}" for s in (1, 2) for n in names]
    assert found[1].arguments == (
        *("--config", "c.yaml", "--only", "type", "--name", "only-type-seed1"),
        *("--seed_everything", "1", "--trainer.default_root_dir", "out/runs"),
    )
    assert found[3].arguments[2:4] == ("--config", "out/variants/uw.yaml")
    assert Path("out/variants/uw.yaml").read_text() == "model:\n  balancing: UW\n"


def test_variants_keep_their_numbers():
    text = "wide:\n  model:\n    dropout: 0.50\n    head_hidden: 64\n    classes: [1e3, no]\n"
    Path("variants.yaml").write_text(text)
    made(variants=read_variants(Path("variants.yaml")))
    written = Path("out/variants/wide.yaml")
    assert load(written) == load(Path("variants.yaml"))["wide"]


def test_seeds_and_variants_may_be_added_but_nothing_else_may_change():
    made(seeds=[1], single=False)
    made(seeds=[1, 2], variants={"uw": {"model": {"balancing": "UW"}}})
    with pytest.raises(UserError, match=r"out/variants/uw\.yaml is of another comparison"):
        made(variants={"uw": {"model": {"balancing": "MGDA"}}})
    with pytest.raises(UserError, match=r"out/arguments\.yaml is of another comparison"):
        made(arguments=("--config", "c.yaml", "--data.batch_size", "4"))
    Path("c.yaml").write_text("tasks: {type: Classification}\n")
    with pytest.raises(UserError, match=r"out/arguments\.yaml is of another comparison.*--output"):
        made()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("all: {model: {}}", 'and not all or only-... Found "all"'),
        ("only-type: {model: {}}", 'Found "only-type"'),
        ("a b: {model: {}}", 'Found "a b"'),
        ("uw: UW", "uw should be keys of a config"),
        ("uw: {}", "uw should be keys of a config"),
        ("{}", "no variant"),
    ],
)
def test_bad_variants(content, message):
    Path("v.yaml").write_text(content)
    with pytest.raises(UserError) as caught:
        read_variants(Path("v.yaml"))
    assert message in str(caught.value)
    assert str(caught.value).startswith("v.yaml: ")


@pytest.mark.parametrize("seeds", [["1", "1"], ["01", "1"], ["-1"], ["a"], ["1.5"]])
def test_bad_seeds(seeds):
    with pytest.raises(UserError, match="--seeds should be different whole numbers"):
        check_seeds(seeds)
