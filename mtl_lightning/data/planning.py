"""The step plan of a split, and of an epoch chosen by a sampling."""

from dataclasses import replace
from functools import partial

from mtl_lightning.data.labels import LabelTable
from mtl_lightning.data.plan import StepPlan
from mtl_lightning.data.sampling import Sampling, Shards, composition


def plan_split(
    labels: LabelTable, split: str, batch_size: int, world_size: int, unlabelled: bool = False
) -> StepPlan:
    """Return the plan that takes each labelled row of a split once, in order.

    Args:
        labels: The labels of all images.
        split: The split.
        batch_size: Rows of one rank in one micro-batch.
        world_size: Number of ranks.
        unlabelled: Whether to take also the rows without any label.
    """
    rows = labels.rows(split, unlabelled)
    counts = {name: encoded.counts()[rows] for name, encoded in labels.encoded.items()}
    return StepPlan(rows, counts, batch_size, world_size)


def plan_training(
    labels: LabelTable,
    sampling: Sampling | None,
    batch_size: int,
    world_size: int,
    accumulate: int,
    shuffle_seed: int | None,
    unlabelled: bool = False,
) -> StepPlan:
    """Return the plan of the training split.

    Args:
        labels: The labels of all images.
        sampling: Chooses what an epoch takes; ``None`` for each image once, and if images are in
            shards, for `Shards` with its defaults.
        batch_size: Rows of one rank in one micro-batch.
        world_size: Number of ranks.
        accumulate: Micro-batches of one optimizer step.
        shuffle_seed: ``None`` for each image once, in order, whatever the sampling.
        unlabelled: Whether to take also the images without any label.

    Raises:
        UserError: If these images do not allow the sampling.
    """
    plan = plan_split(labels, "train", batch_size, world_size, unlabelled)
    terms = {n: own.terms(plan.rows) for n, own in labels.encoded.items() if own.assumed}
    plan = replace(plan, accumulate=accumulate, shuffle_seed=shuffle_seed, terms=terms)
    if sampling is None and labels.table.is_sharded:
        sampling = Shards()
    if shuffle_seed is None or sampling is None:
        return plan
    population = labels.population(plan.rows)
    sampling.check(population, plan.step_width)
    return replace(plan, draw=partial(sampling.draw, population))


def limit_plan(plan: StepPlan, limit: int | float) -> StepPlan:
    """Apply ``trainer.limit_train_batches``, so that the counts of the last step respect it."""
    if isinstance(limit, float):
        return plan if limit == 1.0 else replace(plan, limit=int(len(plan) * limit))
    return replace(plan, limit=limit)


def sampling_notes(labels: LabelTable, sampling: Sampling, plan: StepPlan) -> list[str]:
    """Return notes for the user on a sampling, before training, one line each."""
    name, table = type(sampling).__name__, labels.table
    notes = [f"{name}: {composition(plan, table.source, table.names)}"]
    if table.is_sharded and not isinstance(sampling, Shards):
        notes.append(
            f"{name} ignores shards: each step opens many, which is slow where they are fetched; "
            "data.sampling: Shards takes a few at a time"
        )
    return notes
