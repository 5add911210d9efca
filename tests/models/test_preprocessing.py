import pytest
import torch

from mtl_lightning.models.preprocessing import Normalize, Preprocessing
from mtl_lightning.system.errors import UserError

PIXEL = torch.tensor([255, 128, 0], dtype=torch.uint8).view(1, 3, 1, 1)  # red, green, blue
BY_HAND = {
    "imagenet": [(1 - 0.485) / 0.229, (128 / 255 - 0.456) / 0.224, (0 - 0.406) / 0.225],
    "caffe": [0 - 103.939, 128 - 116.779, 255 - 123.68],  # blue, green, red
    "none": [1.0, 128 / 255, 0.0],
}


@pytest.mark.parametrize("scheme", BY_HAND)
def test_values_of_a_known_pixel(scheme):
    out = Preprocessing(scheme)(PIXEL)
    assert out.dtype == torch.float32
    torch.testing.assert_close(out.flatten(), torch.tensor(BY_HAND[scheme]), rtol=1e-6, atol=1e-6)


def test_explicit_mean_and_std():
    out = Preprocessing(Normalize([0.5, 0.25, 0.0], [0.5, 0.1, 2.0]))(PIXEL)
    expected = torch.tensor([1.0, (128 / 255 - 0.25) / 0.1, 0.0])
    torch.testing.assert_close(out.flatten(), expected, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("scheme", BY_HAND)
def test_the_output_has_the_modules_dtype(scheme, dtype):
    out = Preprocessing(scheme).to(dtype)(PIXEL)
    assert out.dtype == dtype
    tolerance = {torch.float64: 1e-7, torch.bfloat16: 1e-2, torch.float16: 2e-3}[dtype]
    expected = torch.tensor(BY_HAND[scheme], dtype=dtype)
    grey_level = 30 if scheme == "caffe" else 1  # caffe stays on the scale of 0..255
    torch.testing.assert_close(out.flatten(), expected, rtol=tolerance, atol=tolerance * grey_level)


@pytest.mark.parametrize("scheme", BY_HAND)
def test_float_images_are_on_the_same_scale(scheme):
    layer = Preprocessing(scheme)
    assert torch.equal(layer(PIXEL.float()), layer(PIXEL))


@pytest.mark.parametrize("scheme", BY_HAND)
def test_channels_last_and_the_input_is_left_alone(scheme):
    images = torch.randint(0, 256, (2, 3, 4, 5), dtype=torch.uint8)
    before = images.clone()
    out = Preprocessing(scheme)(images)
    assert out.is_contiguous(memory_format=torch.channels_last)
    assert torch.equal(images, before)


def test_nothing_is_in_the_state_dict():
    assert not Preprocessing("imagenet").state_dict()


def test_matches_compares_with_what_weights_expect():
    mean, std = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]
    assert Preprocessing("imagenet").matches(mean, std)
    assert Preprocessing("imagenet").bfloat16().matches(mean, std)
    assert not Preprocessing("caffe").matches(mean, std)
    assert not Preprocessing("imagenet").matches([0.5] * 3, [0.5] * 3)
    bgr = [value / 255 for value in (103.939, 116.779, 123.68)]
    assert not Preprocessing("caffe").matches(bgr, [1 / 255] * 3)


@pytest.mark.parametrize(
    ("mean", "std", "message"),
    [
        ([0.5], [0.5] * 3, "mean should be 3 numbers.*Found 1"),
        ([0.5] * 3, [0.5] * 4, "std should be 3 numbers.*Found 4"),
        ([0.5] * 3, [0.5, 0.0, 0.5], "std should be above 0"),
        ([0.5] * 3, [0.5, float("nan"), 0.5], "std should be above 0"),
    ],
)
def test_impossible_normalisation(mean, std, message):
    with pytest.raises(UserError, match=message):
        Normalize(mean, std)


def test_unknown_name():
    with pytest.raises(UserError, match='did you mean "imagenet"'):
        Preprocessing("imagnet")
