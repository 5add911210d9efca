import numpy as np
import pytest

from mtl_lightning.data.resizing import image_shape, resize
from mtl_lightning.system.errors import UserError


def test_image_shape():
    assert image_shape(32) == (32, 32)
    assert image_shape([32, 48]) == (32, 48)
    for wrong in (0, [32], [32, 32, 3], [32, -1], []):
        with pytest.raises(UserError, match=r"image_size should be pixels: .* Found "):
            image_shape(wrong)


def test_resize_covers_without_distorting():
    random = np.random.default_rng(0)
    for _ in range(30):
        height, width, *size = (int(n) for n in random.integers(5, 90, 4))
        out = resize(np.zeros((height, width, 3), np.uint8), (size[0], size[1]))
        assert out.dtype == np.uint8
        h, w = out.shape[:2]
        assert h >= size[0]
        assert w >= size[1]
        assert h == size[0] or w == size[1]
        scale = max(size[0] / height, size[1] / width)
        assert abs(h - height * scale) <= 0.5
        assert abs(w - width * scale) <= 0.5


def test_resize_is_antialiased_and_keeps_what_fits():
    stripes = np.zeros((64, 64, 3), np.uint8)
    stripes[:, ::2] = 255
    small = resize(stripes, (8, 8))
    assert abs(small.astype(int) - 127).max() < 20
    assert resize(stripes, (64, 32)) is stripes


def test_resize_contains_between_black_bars():
    tall = np.full((160, 80, 3), 200, np.uint8)
    out = resize(tall, (64, 64), mode="contain")
    assert out.shape == (64, 64, 3)
    assert (out[:, 16:48] == 200).all()
    assert not out[:, :16].any()
    assert not out[:, 48:].any()
    assert resize(out, (64, 64), mode="contain") is out
    strip = resize(np.full((1, 100_000, 3), 9, np.uint8), (8, 8), mode="contain")
    assert (strip.any(axis=(1, 2)).sum(), strip.shape) == (1, (8, 8, 3))
    draw = np.random.default_rng(0)
    for _ in range(30):
        height, width, *size = (int(n) for n in draw.integers(1, 90, 4))
        out = resize(np.full((height, width, 3), 7, np.uint8), (size[0], size[1]), mode="contain")
        assert out.shape == (*size, 3)
        inside = out.any(axis=2)
        assert inside.any(axis=1).all() or inside.any(axis=0).all()


def test_resize_stretches_to_the_size():
    halves = np.repeat(np.array([0, 200], np.uint8), 80)[:, None, None]
    out = resize(np.broadcast_to(halves, (160, 80, 3)).copy(), (64, 64), mode="stretch")
    assert out.shape == (64, 64, 3)
    assert not out[:30].any()
    assert (out[34:] == 200).all()


@pytest.mark.parametrize("shape", [(1, 100_000), (100_000, 1)])
def test_a_strip_that_would_grow_without_bound_is_refused(shape):
    with pytest.raises(UserError, match=r"cover 128 x 128 as .*12800000.*data\.max_pixels allows"):
        resize(np.zeros((*shape, 3), np.uint8), (128, 128))
    assert resize(np.zeros((1, 50, 3), np.uint8), (2, 2), max_pixels=200).shape == (2, 100, 3)
    with pytest.raises(UserError):
        resize(np.zeros((1, 50, 3), np.uint8), (2, 2), max_pixels=199)
