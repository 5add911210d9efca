"""Rendered scenes of coloured shapes, for a first run of dense tasks without a download."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from mtl_lightning.data.images import Pixels, encode
from mtl_lightning.data.sources.base import Source, SourceTable, Texts
from mtl_lightning.data.sources.kinds import checked_kinds
from mtl_lightning.data.sources.locate import texts
from mtl_lightning.data.splits import hashed
from mtl_lightning.system.errors import UserError

SHAPES = ("circle", "square", "triangle")
KINDS = ("shape", "count", "segmentation", "depth")
DENSE = ("segmentation", "depth")
MILLIMETRES = 1000
_MOST_SHAPES = 4
_NEAREST, _FARTHEST = 1.0, 6.0
"""Distances of shapes, in metres."""
_TILT = 0.25
"""The largest angle by which a square or triangle is turned, in radians."""
_HORIZON = 10.0
"""The distance of the background at the top; at the bottom it is that of the farthest shape."""
_HAZE = np.array([150.0, 160.0, 175.0])
_VISIBILITY = 4.5
"""The distance in metres over which haze takes all but 1/e of a colour (Koschmieder 1924)."""


class ShapesSource(Source):
    """Scenes with one to four circles, squares and triangles, nearer ones in front of others.

    Every scene is rendered from its number and the seed when it is loaded; there are no files. The
    farther a shape, the hazier its colour, which says nothing about its kind. There are four kinds
    of labels: ``shape``, the kind of the largest visible shape; ``count``, how many are visible;
    ``segmentation``, a mask of 0 (background), 1 (circle), 2 (square), 3 (triangle); and ``depth``,
    in mm (16 bits). Of ten scenes, one is val and two are test.

    Args:
        scenes: Number of scenes.
        size: Their height and width, in pixels.
        missing: Task to the fraction of its *training* labels to leave out; val and test keep all.
        seed: The seed of the scenes and of the labels left out.
        labels: Task to one of the four kinds; by default the tasks of these names.

    Raises:
        UserError: If there are no scenes, or they are too small.
    """

    def __init__(
        self,
        scenes: int = 2000,
        size: int = 64,
        missing: dict[str, float] | None = None,
        seed: int = 0,
        labels: dict[str, str] | None = None,
    ) -> None:
        for name, value, least in (("scenes", scenes, 10), ("size", size, 16), ("seed", seed, 0)):
            if value < least:
                raise UserError(f"shapes: {name} should be at least {least}. Found {value}")
        self.scenes = scenes
        self.size = size
        self.missing = missing or {}
        self.seed = seed
        self.labels = labels

    @property
    def threadsafe(self) -> bool:
        """Rendering has no state."""
        return True

    def read(self, tasks: Sequence[str]) -> SourceTable:
        """Compute the labels; see `Source.read`."""
        kinds = checked_kinds("shapes", KINDS, tasks, self.labels, self.missing)
        keys = texts([f"shapes:{self.seed}:{self.size}:{i}" for i in range(self.scenes)])
        splits = texts(
            [("val", "test", "test", *["train"] * 7)[i % 10] for i in range(self.scenes)]
        )
        labels = {task: self._labels(kind, keys) for task, kind in kinds.items() if task in tasks}
        train = np.flatnonzero(splits == "train")
        for task, fraction in self.missing.items():
            if task in labels:
                order = np.argsort(hashed((f"{task}:{key}" for key in keys[train]), self.seed))
                labels[task][train[order[: round(fraction * len(train))]]] = None
        return SourceTable("shapes", images=keys, keys=keys, labels=labels, splits=splits)

    def _labels(self, kind: str, keys: Texts) -> Texts:
        if kind in DENSE:
            return texts([f"{key}:{kind}" for key in keys])
        scenes = [_scene(key) for key in keys]
        if kind == "count":
            return texts([str(len(np.unique(scene.owner)) - 1) for scene in scenes])
        return texts([scene.largest() for scene in scenes])

    def target_files(self, table: SourceTable, task: str) -> Texts:
        """Return the keys of masks and depth maps, which are rendered when they are loaded."""
        return table.labels[task]

    def target_content(self, target: str) -> bytes:
        """Render a mask or a depth map, as a PNG file."""
        return _target_content(target)

    def load(self, image: str) -> Pixels:
        """Render a scene, (size, size, 3) RGB, uint8."""
        pixels: Pixels = _scene(image).pixels.copy()
        return pixels


@dataclass(frozen=True)
class Scene:
    """A rendered scene.

    Attributes:
        pixels: (size, size, 3) RGB, uint8.
        owner: (size, size): the number of the visible shape from 1 on, 0 for the background.
        depth: (size, size), in metres.
        kinds: The positions of the shapes' kinds in `SHAPES`, by number.
    """

    pixels: Pixels
    owner: npt.NDArray[np.int64]
    depth: npt.NDArray[np.float64]
    kinds: npt.NDArray[np.int64]

    def classes(self) -> npt.NDArray[np.uint8]:
        """Return the class of each pixel: 0, or the position in `SHAPES` plus 1."""
        by_owner = np.concatenate([[0], self.kinds + 1]).astype(np.uint8)
        return by_owner[self.owner]

    def largest(self) -> str:
        """Return the kind of the shape with the most visible pixels."""
        areas = np.bincount(self.owner.ravel(), minlength=len(self.kinds) + 1)[1:]
        return SHAPES[self.kinds[areas.argmax()]]


@lru_cache(maxsize=64)
def render(seed: int, size: int, number: int) -> Scene:
    """Render a scene, which depends only on these numbers."""
    random = np.random.default_rng([seed, size, number])
    y, x = np.mgrid[:size, :size] / size
    depth = _HORIZON + (_FARTHEST - _HORIZON) * y
    colours = np.broadcast_to(np.array([90.0, 120.0, 90.0]), (size, size, 3)).copy()
    owner = np.zeros((size, size), dtype=np.int64)
    count = int(random.integers(1, _MOST_SHAPES + 1))
    kinds = random.integers(0, len(SHAPES), count)
    distances = -np.sort(-random.uniform(_NEAREST, _FARTHEST - 0.5, count))  # the farthest first
    for shape in range(count):
        radius = random.uniform(0.16, 0.26)
        centre = random.uniform(0.2, 0.8, 2)
        inside = _inside(int(kinds[shape]), x - centre[0], y - centre[1], radius, random)
        owner[inside], depth[inside] = shape + 1, distances[shape]
        colours[inside] = _colour(random)
    haze = 1 - np.exp(-depth / _VISIBILITY)[..., None]
    hazy = colours * (1 - haze) + _HAZE * haze + random.normal(0, 4, colours.shape)
    return Scene(np.clip(hazy, 0, 255).astype(np.uint8), owner, depth, kinds)


def _scene(key: str) -> Scene:
    _, seed, size, number = key.split(":")
    return render(int(seed), int(size), int(number))


@lru_cache(maxsize=20_000)  # of a few KB each; rendering takes a tenth of a training step
def _target_content(target: str) -> bytes:
    key, _, kind = target.rpartition(":")
    scene = _scene(key)
    if kind == "segmentation":
        return encode(scene.classes())
    return encode(np.rint(scene.depth * MILLIMETRES).astype(np.uint16))


def _inside(
    kind: int,
    x: npt.NDArray[np.float64],
    y: npt.NDArray[np.float64],
    radius: float,
    random: np.random.Generator,
) -> npt.NDArray[np.bool_]:
    """Return which pixels are inside of a shape around the origin, upright but for a tilt."""
    angle = np.pi / 2 + random.uniform(-_TILT, _TILT)  # the first side is at the bottom
    if SHAPES[kind] == "circle":
        return x**2 + y**2 < radius**2
    sides = 4 if SHAPES[kind] == "square" else 3
    normals = angle + np.arange(sides) * (2 * np.pi / sides)
    # The circle around a regular polygon, scaled so that the shapes' areas are alike.
    around = radius * np.sqrt(2 * np.pi / (sides * np.sin(2 * np.pi / sides)))
    reach = np.stack([x * np.cos(n) + y * np.sin(n) for n in normals]).max(0)
    inside: npt.NDArray[np.bool_] = reach < around * np.cos(np.pi / sides)
    return inside


def _colour(random: np.random.Generator) -> npt.NDArray[np.float64]:
    """Return a saturated colour: one channel high, one near 0, which shows haze, one anywhere."""
    return random.permutation(
        [random.uniform(200, 255), random.uniform(0, 6), random.uniform(0, 255)]
    )
