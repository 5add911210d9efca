"""The trainings of a comparison: their names and arguments, known before the first one starts."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mtl_lightning.config import yaml_io
from mtl_lightning.runs.comparison import SINGLE, WHOLE
from mtl_lightning.system.errors import UserError, listed, quoted
from mtl_lightning.system.files import atomic_write


@dataclass(frozen=True)
class Member:
    """One training and its evaluation.

    Attributes:
        variant: ``all``, ``only-<task>``, or a name of the user's.
        seed: Its ``seed_everything``.
        arguments: The arguments of ``fit``.
    """

    variant: str
    seed: int
    arguments: tuple[str, ...]

    @property
    def name(self) -> str:
        """The name of its run."""
        return f"{self.variant}-seed{self.seed}"


def read_variants(file: Path) -> dict[str, dict[str, Any]]:
    """Read a file of variants: name to the keys of the config that it changes.

    Raises:
        UserError: If it is no such file.
    """
    variants = {}
    for name, changes in yaml_io.load(file).items():
        if not re.fullmatch(r"[\w-]+", str(name)) or name == WHOLE or str(name).startswith(SINGLE):
            raise UserError(
                f"{file}: a variant should be named by letters, digits, _ and -, and not {WHOLE} "
                f"or {SINGLE}... Found {quoted(str(name))}"
            )
        if not isinstance(changes, Mapping) or not changes:
            raise UserError(
                f"{file}: {name} should be keys of a config, as `{{model: {{balancing: UW}}}}`. "
                f"Found {quoted(str(changes))}"
            )
        variants[str(name)] = dict(changes)
    if not variants:
        raise UserError(f"{file}: no variant; expected `name: {{key: value}}` entries")
    return variants


def members(
    arguments: Sequence[str],
    tasks: Sequence[str],
    seeds: Sequence[int],
    variants: Mapping[str, Mapping[str, Any]],
    single_tasks: bool,
    output: Path,
) -> list[Member]:
    """Return all trainings, seed after seed, so that an early end leaves whole seeds.

    Args:
        arguments: The config and its flags, as for ``fit``.
        tasks: The tasks of the config.
        seeds: The seeds.
        variants: Name to changes of the config.
        single_tasks: Whether each task is also trained alone.
        output: The folder of the comparison, which gets a file for each variant.

    Raises:
        UserError: If the folder holds a comparison of other variants.
    """
    own: dict[str, list[str]] = {WHOLE: []}
    if single_tasks:
        own |= {f"{SINGLE}{task}": ["--only", task] for task in tasks}
    for name, changes in variants.items():
        path = output / "variants" / f"{name}.yaml"
        _write_same(path, yaml_io.dump(dict(changes)))
        own[name] = ["--config", str(path)]
    _write_same(output / "arguments.yaml", yaml_io.dump(_fixed(arguments)))
    found = []
    for seed in seeds:
        for variant, more in own.items():
            member = Member(variant, seed, ())
            line = (
                *arguments,
                *more,
                *("--name", member.name),
                *("--seed_everything", str(seed)),
                *("--trainer.default_root_dir", str(output / "runs")),
            )
            found.append(Member(variant, seed, line))
    return found


def _fixed(arguments: Sequence[str]) -> dict[str, Any]:
    """Return what may not change between two calls for one folder: flags, contents of configs."""
    contents = {
        argument: Path(argument).read_text(encoding="utf-8")
        for before, argument in zip(["", *arguments], arguments, strict=False)
        if before in ("-c", "--config")
    }
    return {"arguments": list(arguments), "configs": contents}


def _write_same(path: Path, text: str) -> None:
    """Write a file of the comparison, or check that an earlier call wrote the same."""
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        with atomic_write(path) as file:
            file.write(text)
    elif path.read_text(encoding="utf-8") != text:
        raise UserError(
            f"{path} is of another comparison, whose results would be mixed with these; give "
            f"another --output, or remove {path.parent}"
        )


def check_seeds(seeds: Sequence[str]) -> list[int]:
    """Return the seeds as numbers.

    Raises:
        UserError: If one is none, or occurs twice.
    """
    wrong = [seed for seed in seeds if not re.fullmatch(r"\d{1,9}", seed)]
    if wrong or len({int(seed) for seed in seeds}) < len(seeds):
        raise UserError(
            f"--seeds should be different whole numbers, 0 or more: --seeds 1 2 3. Found "
            f"{listed(seeds)}"
        )
    return [int(seed) for seed in seeds]
