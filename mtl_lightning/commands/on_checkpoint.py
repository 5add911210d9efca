"""A config merged into that of a checkpoint: the same tasks, and the sources of either."""

from collections.abc import Mapping
from typing import Any

from mtl_lightning.commands.schema import SECTIONS, TRAINING_ONLY, check_tasks, get
from mtl_lightning.config import checks
from mtl_lightning.config.annotations import argument_hints
from mtl_lightning.config.flags import deep_merge, is_same_class
from mtl_lightning.config.values import display
from mtl_lightning.inputs import Input
from mtl_lightning.system.errors import UserError, did_you_mean, listed
from mtl_lightning.tasks import Task
from mtl_lightning.tasks.calibration import read_calibrations


def lay_on_checkpoint(
    remembered: Mapping[str, Any], given: Mapping[str, Any], command: str
) -> dict[str, Any]:
    """Merge a config into that of a checkpoint.

    Args:
        remembered: Tasks, model and data of the checkpoint.
        given: The config.
        command: The command.

    Raises:
        UserError: If their tasks contradict each other.
    """
    tasks = given.get("tasks")
    if isinstance(tasks, Mapping):
        check_same_tasks(tasks, remembered["tasks"])
        for name in remembered["tasks"]:
            if name not in tasks:
                raise UserError(
                    f"tasks: the checkpoint has a task {name} that the config does not name"
                )
    inputs = get(given, "data", "inputs")
    if inputs is not None:
        check_same_inputs(inputs, get(remembered, "data", "inputs") or {})
    below = {key: dict(remembered[key]) for key in ("tasks", "model", "data")}
    data = dict(given.get("data") or {})
    if command == "predict":
        data.pop("sources", None)
        if "intensity" not in given:
            given = {**given, "intensity": _trained_intensity(remembered)}
    if command == "predict" or data.get("sources") is not None:
        below["data"].pop("sources", None)
    elif "sources" in data:
        del data["sources"]
    if command != "fit":
        _drop_untrusted_training(below)
    config = deep_merge(below, {**given, "data": data})
    for name, entry in config["tasks"].items():
        trained = get(below, "tasks", name)
        for key, known in _identity(trained).items():
            if known is not None and get(entry, "init_args", key) is None:
                entry = config["tasks"][name] = deep_merge(entry, {"init_args": {key: known}})
    return config


def check_same_coverage(given: Any, calibrations: Mapping[str, Any]) -> None:
    """Refuse a coverage that sets and intervals of a checkpoint were not fitted for.

    Args:
        given: The coverage in the config, if any.
        calibrations: The calibrations of the checkpoint.

    Raises:
        UserError: If it is another.
    """
    known = {own.coverage for own in read_calibrations(calibrations).values()}
    if given is not None and known and given not in known:
        raise UserError(
            f"calibration.coverage should be that of the training "
            f"({listed(map(str, sorted(each for each in known if each is not None)))}), which fits "
            f"sets and intervals. Found {given}; leave it out, or train again"
        )


def grow_on_checkpoint(remembered: Mapping[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
    """Merge a config into that of a checkpoint whose network takes on tasks or classes.

    Classes that the config leaves out are inferred from its training labels.

    Args:
        remembered: Tasks, model and data of the checkpoint.
        given: The config.

    Raises:
        UserError: If it names no tasks, or not each of the checkpoint's; or one is of another kind;
            or it names other columns.
    """
    if not isinstance(given.get("tasks"), Mapping):
        raise UserError(
            "--grow needs a config with `tasks`: those of the checkpoint, and what is new"
        )
    tasks = check_tasks(given["tasks"])
    inputs = get(given, "data", "inputs")
    if inputs is not None:
        try:
            check_same_inputs(inputs, get(remembered, "data", "inputs") or {})
        except UserError as error:
            raise UserError(f"--grow: {error}") from None
    below: dict[str, Any] = {key: dict(remembered[key]) for key in ("model", "data")}
    if get(given, "data", "sources") is not None:
        below["data"].pop("sources", None)
    left_out = below["data"].get("left_out") or {}
    below["data"]["left_out"] = {n: own for n, own in left_out.items() if n not in tasks} or None
    below["tasks"] = {}
    for name, trained in remembered["tasks"].items():
        if name not in tasks:
            raise UserError(
                f"--grow: tasks should name {name}, which the checkpoint was trained for. Found "
                f"{listed(tasks)}{did_you_mean(name, tasks)}; a task cannot be removed or renamed"
            )
        entry = tasks[name]
        kind = entry if isinstance(entry, str) else get(entry, "class_path")
        kind = kind or trained["class_path"]
        if not is_same_class(kind, trained["class_path"]):
            raise UserError(
                f"--grow: tasks.{name}: the config has {kind}, the checkpoint "
                f"{trained['class_path']}"
            )
        own = get(entry, "init_args") or {}
        arguments = {
            key: value
            for key, value in trained["init_args"].items()
            if key != "classes" and not (key in own and isinstance(value, Mapping))
        }
        below["tasks"][name] = {**trained, "init_args": arguments}
    return deep_merge(below, {**given, "tasks": tasks})


def _trained_intensity(remembered: Mapping[str, Any]) -> Any:
    """Return the `Intensity` of the images of a training, as written in a config."""
    sources = get(remembered, "data", "sources") or {}
    found = [get(entry, "init_args", "intensity") for entry in sources.values()]
    if any(intensity != found[0] for intensity in found):
        written = [f"{name}: {own}" for name, own in zip(sources, found, strict=True)]
        raise UserError(
            f"predict: the sources of the training differ in `intensity` ({listed(written)}); "
            f"choose one: --intensity '{{min: 0, max: 4095}}', or null"
        )
    return found[0] if found else None


def check_same_tasks(tasks: Mapping[str, Any], trained: Mapping[str, Any]) -> None:
    """Refuse tasks other than the checkpoint's, which would relabel silently.

    Raises:
        UserError: For the first of them.
    """
    for name in tasks:
        if name not in trained:
            raise UserError(
                f"tasks.{name}: the checkpoint has no such task{did_you_mean(str(name), trained)}; "
                f"it has {listed(trained)}"
            )
    for name, below in trained.items():
        entry = tasks.get(name)
        entry = {"class_path": entry} if isinstance(entry, str) else entry
        if not isinstance(entry, Mapping) or "class_path" not in entry:
            continue  # wrong otherwise, which the check of the sections reports
        if not is_same_class(entry["class_path"], below["class_path"]):
            raise UserError(
                f"tasks.{name}: the config has {entry['class_path']}, the checkpoint "
                f"{below['class_path']}"
            )
        given = _identity(entry)
        for key, known in _identity(below).items():
            if key in given and given[key] != known:
                order = ", in this order" if isinstance(known, list) else ""
                raise UserError(
                    f"tasks.{name}.{key}: the config has {_shown(given[key])}; the checkpoint was "
                    f"trained with {_shown(known)}{order}. "
                    f"Leave {key} as it was, or start a new training"
                )


def check_same_inputs(inputs: Any, trained: Mapping[str, Any]) -> None:
    """Refuse columns other than the checkpoint's.

    Raises:
        UserError: For the first of them.
    """
    if not isinstance(inputs, Mapping):
        return  # wrong, which the check of the sections reports
    if list(inputs) != list(trained):
        raise UserError(
            f"data.inputs should be those of the checkpoint, in this order "
            f"({listed(trained) or 'none'}). Found {listed(map(str, inputs)) or 'none'}"
        )
    for name, below in trained.items():
        entry = inputs[name]
        entry = {"class_path": entry} if isinstance(entry, str) else entry
        if not isinstance(entry, Mapping) or "class_path" not in entry:
            continue
        if not is_same_class(entry["class_path"], below["class_path"]):
            raise UserError(
                f"data.inputs.{name}: the config has {entry['class_path']}, the checkpoint "
                f"{below['class_path']}"
            )
        known, given = _identity(below, Input), _identity(entry, Input)
        for key, value in given.items():
            if value is not None and key in (entry.get("init_args") or {}) and known[key] != value:
                raise UserError(
                    f"data.inputs.{name}.{key}: the config has {_shown(value)}; the checkpoint was "
                    f"trained with {_shown(known[key])}. Leave {key} as it was, or start a new "
                    f"training"
                )


def _shown(value: object) -> str:
    return listed(map(str, value)) if isinstance(value, list) else display(value)


def _identity(entry: Any, kind: type[Task] | type[Input] = Task) -> dict[str, object]:
    """Return what must agree for a task or an input; nothing if its entry is wrong.

    (Which the check of the sections reports.)
    """
    try:
        built = checks.try_build(kind, entry, "")
    except UserError:
        return {}
    return {} if built is None else dict(built.identity())


def _drop_untrusted_training(remembered: dict[str, dict[str, Any]]) -> None:
    """Remove what only training needs if it is not trusted: a test does not need it."""
    for section, key in TRAINING_ONLY:
        if key in remembered[section]:
            try:
                hint = argument_hints(SECTIONS[section])[key]
                checks.check_value(hint, remembered[section][key], f"{section}.{key}")
            except UserError:
                del remembered[section][key]
