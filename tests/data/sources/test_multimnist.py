import gzip

import numpy as np
import pytest

from mtl_lightning.data.sources import MultiMNISTSource
from mtl_lightning.system.errors import UserError
from tests.helpers.data import SHARED

TASKS = ["left", "right"]


def idx(array):
    """Return bytes as MNIST's files hold them: a magic number, the shape, the values."""
    shape = np.asarray(array.shape, dtype=">u4").tobytes()
    return bytes([0, 0, 8, array.ndim]) + shape + array.tobytes()


@pytest.fixture
def mnist(tmp_path):
    """MNIST's four files, two of them packed, with 60 and 20 digits; each scan is its own."""
    draw = np.random.default_rng(0)
    for part, count in (("train", 60), ("t10k", 20)):
        scans = draw.integers(0, 256, (count, 28, 28), dtype=np.uint8)
        digits = (np.arange(count) % 10).astype(np.uint8)
        (tmp_path / f"{part}-images-idx3-ubyte.gz").write_bytes(gzip.compress(idx(scans)))
        (tmp_path / f"{part}-labels-idx1-ubyte").write_bytes(idx(digits))
    return tmp_path


def small(path, **options):
    return MultiMNISTSource(path, **({"train": 100, "val": 20, "test": 20} | options))


def scans(path, part):
    content = gzip.decompress((path / f"{part}-images-idx3-ubyte.gz").read_bytes())
    return np.frombuffer(content, dtype=np.uint8, offset=16).reshape(-1, 28, 28)


def pairs(table):
    return np.array([key.split(":")[2:4] for key in table.keys], dtype=int)


def test_an_image_is_two_digits_one_over_the_other(mnist):
    source = small(mnist)
    table = source.read(TASKS)
    for row in (0, 130):  # of train and of test
        left, right = pairs(table)[row]
        digits = scans(mnist, "train" if row == 0 else "t10k")
        canvas = np.zeros((36, 36), dtype=np.uint8)
        canvas[0:28, 0:28] = digits[left]
        canvas[6:34, 6:34] = np.maximum(canvas[6:34, 6:34], digits[right])
        image = source.load(table.images[row])
        assert image.shape == (28, 28, 3)
        assert image.dtype == np.uint8
        # By nearest neighbour: pixel 27 has its middle at 27.5 * 36 / 28 = 35.4.
        assert image[0, 0, 0] == canvas[0, 0]
        assert image[27, 14, 1] == canvas[35, 18]
        assert image[10, 20, 2] == canvas[13, 26]
        assert [table.labels[side][row] for side in TASKS] == [str(left % 10), str(right % 10)]


def test_no_digit_is_in_two_splits_and_all_are_used_equally(mnist):
    table = small(mnist).read(TASKS)
    assert {s: int((table.splits == s).sum()) for s in ("train", "val", "test")} == {
        "train": 100,
        "val": 20,
        "test": 20,
    }
    assert len(set(table.images)) == 140
    train, val = (set(pairs(table)[table.splits == s].ravel()) for s in ("train", "val"))
    assert len(train) == 50
    assert len(val) == 10
    assert not train & val
    uses = np.bincount(pairs(table)[table.splits == "train"].ravel(), minlength=60)
    assert set(uses[list(train)]) == {4}
    assert (pairs(table)[:, 0] != pairs(table)[:, 1]).all()


def test_the_seed_decides_and_nothing_else(mnist):
    one = small(mnist, seed=1).read(TASKS)
    assert (one.keys == small(mnist, seed=1).read(["left"]).keys).all()
    assert (one.keys != small(mnist, seed=2).read(TASKS).keys).any()


def test_one_label_an_image_in_training_only(mnist):
    table = small(mnist, one_label=True).read(TASKS)
    has = np.array([[cell is not None for cell in table.labels[side]] for side in TASKS])
    train = table.splits == "train"
    assert (has[:, train].sum(0) == 1).all()
    assert has[:, train].sum(1).tolist() == [50, 50]
    assert has[:, ~train].all()


def test_canvas_size_and_names(mnist):
    source = small(mnist, canvas=28, offset=0, size=14, labels={"upper": "left"})
    table = source.read(["upper", "right"])
    assert list(table.labels) == ["upper"]
    left, right = pairs(table)[0]
    both = np.maximum(*scans(mnist, "train")[[left, right]])
    np.testing.assert_array_equal(source.load(table.images[0])[..., 0], both[1::2, 1::2])
    with pytest.raises(UserError, match=r'no side "lef" .*did you mean "left"'):
        small(mnist, labels={"upper": "lef"}).read(["upper"])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"train": 0}, "train should be at least 1. Found 0"),
        ({"val": -1}, "val should be at least 0"),
        ({"canvas": 33}, "canvas should be at least 34. Found 33"),
        ({"offset": -1}, "offset should be at least 0"),
        ({"seed": -1}, "seed should be at least 0"),
    ],
)
def test_wrong_numbers(mnist, options, message):
    with pytest.raises(UserError, match=message):
        small(mnist, **options)


def test_wrong_files(mnist):
    packed = mnist / "train-images-idx3-ubyte.gz"
    whole = packed.read_bytes()
    packed.write_bytes(whole[:100])
    with pytest.raises(UserError, match=r"train-images-idx3-ubyte.gz cannot be read: "):
        small(mnist).read(TASKS)
    packed.write_bytes(whole)
    labels = mnist / "t10k-labels-idx1-ubyte"
    labels.write_bytes(labels.read_bytes()[:-1])
    with pytest.raises(
        UserError, match=r"t10k-labels-idx1-ubyte is not a complete IDX file.*cut short"
    ):
        small(mnist).read(TASKS)
    labels.write_bytes(idx(np.zeros(19, dtype=np.uint8)))
    with pytest.raises(UserError, match=r"hold 20 scans of \(28, 28\) and 19 digits up to 0"):
        small(mnist).read(TASKS)
    labels.unlink()
    with pytest.raises(UserError, match=r"has no file t10k-labels-idx1-ubyte \(or t10k"):
        small(mnist).read(TASKS)


def test_too_few_digits(mnist):
    with pytest.raises(UserError, match="has too few digits for 1 val images"):
        small(mnist, train=100, val=1).read(TASKS)


@pytest.mark.skipif(not SHARED.is_dir(), reason="needs the real MNIST of ../shared")
def test_real_mnist():
    source = MultiMNISTSource(SHARED / "data/mnist")
    table = source.read(TASKS)
    assert len(table.images) == 70_000
    train, val = (set(pairs(table)[table.splits == s].ravel()) for s in ("train", "val"))
    assert (len(train), len(val), len(train & val)) == (50_000, 10_000, 0)
    image = source.load(table.images[0])
    assert 0.05 < (image > 128).mean() < 0.4
