"""Sources that compute several kinds of labels for each image."""

from collections.abc import Collection, Mapping, Sequence

from mtl_lightning.system.errors import UserError, did_you_mean, listed


def checked_kinds(
    origin: str,
    known: Collection[str],
    tasks: Sequence[str],
    labels: Mapping[str, str] | None,
    missing: Mapping[str, float],
) -> Mapping[str, str]:
    """Map tasks to kinds of labels, after checking every name that the user wrote.

    Args:
        origin: The name of the source in messages.
        known: The kinds of labels; the first is the example.
        tasks: The tasks of the run.
        labels: The user's choice; None for tasks named like kinds.
        missing: Task to the fraction of its labels to leave out.

    Raises:
        UserError: If a name or a fraction is wrong.
    """
    for task, kind in (labels or {}).items():
        if kind not in known:
            raise UserError(
                f'{origin}: task "{task}" asks for "{kind}", expected one of '
                f"{listed(known)}{did_you_mean(kind, known)}"
            )
        if task not in tasks:
            raise UserError(
                f'{origin}: `labels` names the task "{task}", expected one of '
                f"{listed(tasks)}{did_you_mean(task, tasks)}"
            )
    kinds = {kind: kind for kind in known} if labels is None else labels
    if not set(kinds) & set(tasks):
        raise UserError(
            f"{origin}: it has labels for {listed(known)}, but the tasks are {listed(tasks)}; "
            f"set `labels: {{<task>: {next(iter(known))}}}`"
        )
    for task, fraction in missing.items():
        if task not in kinds:
            raise UserError(
                f'{origin}: `missing` names the task "{task}", expected one of '
                f"{listed(kinds)}{did_you_mean(task, kinds)}"
            )
        if not 0 <= fraction < 1:
            raise UserError(
                f"{origin}: `missing` of {task} is {fraction}, expected a fraction from 0 to "
                "below 1"
            )
    return kinds
