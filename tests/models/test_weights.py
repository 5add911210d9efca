from urllib.error import URLError

import pytest
import safetensors.torch
import torch
from torch import nn

from mtl_lightning.models.weights import (
    LoadReport,
    download,
    is_file,
    load_matching,
    read_weights,
    unknown_weights,
)
from mtl_lightning.system.errors import UserError


def trunk() -> nn.Module:
    """Shaped like a small VGG with batch norm: 7 tensors and a counter."""
    layers = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Conv2d(4, 4, 1, bias=False))
    return nn.ModuleDict({"features": layers})


def filled(value: float = 0.5) -> dict[str, torch.Tensor]:
    tensors = {k: torch.full_like(v, value) for k, v in trunk().state_dict().items()}
    return {k: v for k, v in tensors.items() if not k.endswith("num_batches_tracked")}


def is_filled(module: nn.Module, value: float = 0.5) -> bool:
    return all(
        bool((v == value).all()) for k, v in module.state_dict().items() if "num_batches" not in k
    )


CLASSIFIER = {"classifier.0.weight": torch.zeros(2, 4), "classifier.0.bias": torch.zeros(2)}


@pytest.mark.parametrize("suffix", [".pth", ".pt", ".ckpt", ".bin", ".safetensors"])
def test_a_file_with_another_head_loads_where_it_fits(tmp_path, suffix):
    file = tmp_path / f"net{suffix}"
    if suffix == ".safetensors":
        safetensors.torch.save_file(filled() | CLASSIFIER, file)
    else:
        torch.save(filled() | CLASSIFIER, file)
    module = trunk()
    report = load_matching(module, read_weights(str(file)), file.name)
    assert is_filled(module)
    assert report.complete
    assert sorted(report.not_used) == sorted(CLASSIFIER)
    assert str(report).startswith(f"weights net{suffix}: 7 of 7 tensors loaded; not used: classif")
    assert str(report).endswith("(2)")


@pytest.mark.parametrize("nesting", ["state_dict", "model"])
def test_nesting_is_unwrapped(tmp_path, nesting):
    file = tmp_path / "net.pth"
    torch.save({nesting: filled(), "epoch": 3, "optimizer": {"lr": 1.0}}, file)
    assert read_weights(str(file)).keys() == filled().keys()


@pytest.mark.parametrize(
    "prefix",
    ["module.", "model.", "backbone.", "_orig_mod.", "module.backbone.", "network.sharing.trunk."],
)
def test_common_prefixes_are_taken_off(prefix):
    tensors = {prefix + key: value for key, value in (filled() | CLASSIFIER).items()}
    module = trunk()
    report = load_matching(module, tensors, "file")
    assert is_filled(module)
    assert report.not_used == [prefix + key for key in CLASSIFIER]


def test_of_two_prefixes_the_one_that_fits_more_wins():
    student = {f"student.{key}": value for key, value in filled(0.25).items()}
    del student["student.features.0.bias"]
    module = trunk()
    load_matching(module, student | {f"teacher.{k}": v for k, v in filled(0.5).items()}, "file")
    assert is_filled(module, 0.5)


def test_of_two_prefixes_that_fit_alike_the_shorter_wins():
    ema = {f"averaged.{key}": value for key, value in filled(0.25).items()}
    module = trunk()
    report = load_matching(module, ema | filled(0.5), "file")
    assert is_filled(module, 0.5)
    assert report.not_used == list(ema)


def test_a_key_next_to_the_chosen_prefix_is_not_used():
    tensors = {f"model.{key}": value for key, value in filled().items()}
    report = load_matching(trunk(), tensors | {"features.0.bias": torch.zeros(4)}, "file")
    assert report.not_used == ["features.0.bias"]


def test_what_is_missing_or_of_another_shape_is_reported_and_left_alone():
    tensors = filled()
    del tensors["features.0.bias"]
    tensors["features.2.weight"] = torch.zeros(9, 4, 1, 1)
    module = trunk()
    before = {key: value.clone() for key, value in module.state_dict().items()}
    report = load_matching(module, tensors, "file")
    assert report.missing == ["features.0.bias"]
    assert report.mismatched == ["features.2.weight"]
    assert not report.complete
    assert str(report) == (
        "weights file: 5 of 7 tensors loaded; missing: features.0.bias (1); "
        "other shape: features.2.weight (1)"
    )
    for key in ("features.0.bias", "features.2.weight"):
        assert torch.equal(module.state_dict()[key], before[key])


def test_a_loaded_counter_is_counted_and_long_lists_are_cut():
    module = trunk()
    tensors = dict(module.state_dict())
    assert str(load_matching(module, tensors, "file")) == "weights file: 8 of 8 tensors loaded"
    report = LoadReport("file", ["a"], ["b", "c", "d", "e"], [], [], note="mind the gap")
    assert str(report) == (
        "weights file: 1 of 1 tensors loaded; not used: b, c, d, ... (4); mind the gap"
    )


def test_half_precision_files_are_cast():
    module = trunk()
    load_matching(module, {key: value.half() for key, value in filled().items()}, "file")
    assert is_filled(module)
    assert module["features"][0].weight.dtype == torch.float32


def test_a_file_that_fits_nothing_names_keys_of_both_sides():
    with pytest.raises(UserError) as caught:
        load_matching(trunk(), CLASSIFIER, "head.pth")
    message = str(caught.value)
    assert "\n" not in message
    for part in (
        "head.pth",
        "classifier.0.weight [2, 4]",
        "features.0.weight [4, 3, 3, 3]",
        "null",
    ):
        assert part in message


def test_a_first_layer_in_common_by_accident_is_not_a_fit():
    module = nn.Sequential(*[nn.Linear(i + 1, 1, bias=False) for i in range(11)])
    before = module[0].weight.clone()
    with pytest.raises(UserError, match="1 of its 11 tensors"):
        load_matching(module, {"0.weight": torch.full((1, 1), 7.0)}, "other")
    assert torch.equal(module[0].weight, before)


def test_missing_file_suggests_a_neighbour(tmp_path):
    (tmp_path / "vgg16.pth").touch()
    with pytest.raises(UserError, match=r'does not exist.*did you mean "vgg16\.pth"'):
        read_weights(str(tmp_path / "vg16.pth"))


@pytest.mark.parametrize("name", ["a.pth", "a.safetensors"])
@pytest.mark.parametrize("content", [b"", b"not a weight file at all", b"PK\x03\x04" + b"\0" * 40])
def test_a_corrupt_file_is_one_line(tmp_path, name, content):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError, match="cannot read weights file") as caught:
        read_weights(str(tmp_path / name))
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 400 + len(str(tmp_path))


def test_a_pickled_module_is_refused_without_running_it(tmp_path):
    torch.save(trunk(), tmp_path / "module.pth")
    with pytest.raises(UserError, match=r"other things than tensors.*expected a state dict"):
        read_weights(str(tmp_path / "module.pth"))


def test_a_file_without_tensors(tmp_path):
    torch.save({"epoch": 3}, tmp_path / "a.pth")
    with pytest.raises(UserError, match="holds no tensors"):
        read_weights(str(tmp_path / "a.pth"))
    torch.save([torch.zeros(1)], tmp_path / "b.pth")
    with pytest.raises(UserError, match="holds no tensors"):
        read_weights(str(tmp_path / "b.pth"))


def test_files_and_names_are_distinguished(tmp_path):
    (tmp_path / "no_suffix").touch()
    assert is_file("not/there.pth")
    assert is_file("UPPER.SAFETENSORS")
    assert is_file(str(tmp_path / "no_suffix"))
    assert not is_file("IMAGENET1K_V1")
    assert not is_file("VGG16_Weights.IMAGENET1K_V1")


def test_unknown_names_list_the_known_ones():
    error = unknown_weights("IMAGENET1K", "vgg16", ["IMAGENET1K_V1", "DEFAULT"])
    assert "IMAGENET1K_V1, DEFAULT" in str(error)
    assert 'did you mean "IMAGENET1K_V1"' in str(error)


def test_a_download_that_fails_is_one_line_that_says_what_to_do():
    def fetch() -> None:
        raise URLError("Name or service not known\nwith a second line")

    with pytest.raises(UserError) as caught:
        download("VGG16_Weights.IMAGENET1K_V1", "https://example.org/vgg16.pth", fetch)
    message = str(caught.value)
    assert "\n" not in message
    for part in (
        "cannot download VGG16_Weights.IMAGENET1K_V1 (https://example.org/vgg16.pth)",
        "Name or service not known",
        "no network?",
        "set model.backbone.init_args.weights to the file, or to null",
    ):
        assert part in message
