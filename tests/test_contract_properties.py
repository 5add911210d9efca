"""The absence contract on random tasks, masks, ranks and accumulation, against plain loops."""

import copy
import itertools
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from mtl_lightning.models import DecoderOptions
from mtl_lightning.tasks import (
    Classification,
    DenseRegression,
    HierarchicalClassification,
    MultiLabel,
    MultiRegression,
    Ordinal,
    Regression,
    Segmentation,
    Task,
)
from mtl_lightning.tasks.results import Results
from tests.helpers import reference
from tests.helpers.reference import Case, Simulation

# --------------------------------------------------------------------- what may be drawn

Drawn = tuple[tuple[type[Task], dict[str, Any]], list[Any]]
"""A task, and labels of it; those of the first two alone are enough to train."""


def factors(number: int) -> st.SearchStrategy[Any]:
    each = st.lists(st.sampled_from([1.0, 0.25, 3.0]), min_size=number, max_size=number)
    return st.none() | st.just("balanced") | each


@st.composite
def classifications(draw: st.DrawFn) -> Drawn:
    classes = ["ant", "bee", "cat"][: draw(st.integers(2, 3))]
    arguments = {
        "classes": classes,
        "class_weights": draw(factors(len(classes))),
        "label_smoothing": draw(st.sampled_from([0.0, 0.1, 0.9])),
    }
    if len(classes) > 2:
        arguments["top_k"] = draw(st.sampled_from([None, 2]))
    labels = [{name: 1} for name in classes]
    form = draw(st.sampled_from(["plain", "divided", "annotators"]))
    if form != "plain":  # with shares that float32 holds exactly
        labels += [{"ant": 3, "bee": 1}, {"bee": 5, "ant": 3}]
    if form == "annotators":
        arguments["annotators"] = [f"annotator {i}" for i in range(8)]
    return (Classification, arguments), labels


@st.composite
def hierarchies(draw: st.DrawFn) -> Drawn:
    size = {"large": ["cat", "dog"], "small": ["ant", "bee"]}
    home = {"tame": ["cat", "dog", "bee"], "wild": ["ant"]}
    levels = draw(st.sampled_from([{"size": size}, {"size": size, "home": home}]))
    labels = [{"": "cat"}, {"": "bee", "size": "small"}, {"size": "large"}, {"size": "small"}]
    if "home" in levels:
        labels += [{"home": "tame"}, {"home": "tame", "size": "small"}]
    labels = draw(st.permutations(labels))
    return (HierarchicalClassification, {"levels": levels}), list(labels)


@st.composite
def ordinals(draw: st.DrawFn) -> Drawn:
    classes = ["ant", "bee", "cat"][: draw(st.integers(2, 3))]
    method = draw(st.sampled_from(["corn", "coral", "squared"]))
    labels = [{name: 1} for name in classes]
    if draw(st.booleans()):
        labels += [{"ant": 3, "bee": 1}, {"bee": 5, "ant": 3}]
    return (Ordinal, {"classes": classes, "method": method}), labels


LOSSES = list(itertools.product(["mse", "l1", "huber", "beta_nll"], ["linear", "log"]))
"""Drawn as one, or hypothesis would hardly ever try some of these pairs."""


@st.composite
def regressions(draw: st.DrawFn) -> Drawn:
    loss, scale = draw(st.sampled_from(LOSSES))
    arguments = {
        "loss": loss,
        "huber_delta": draw(st.sampled_from([1.0, 0.1])),
        "scale": scale,
        "beta": draw(st.sampled_from([0.5, 0.0, 1.0])),
        "interval": draw(st.sampled_from([0.9, 0.5])),
    }
    least = 1 if scale == "log" else -4000
    quarters = st.integers(least, 4000).map(lambda number: number / 4)
    labels = draw(st.lists(quarters, min_size=2, max_size=6, unique=True))
    tight = [min(labels), max(labels)]
    wide = [0.125 if scale == "log" else -2000.0, 1500.0]
    arguments["bounds"] = draw(st.sampled_from([None, wide, tight]))
    return (Regression, arguments), labels


@st.composite
def several_numbers(draw: st.DrawFn) -> Drawn:
    (_, arguments), numbers = draw(regressions())
    names = ["x", "y", "w"][: draw(st.integers(1, 3))]
    whole = [dict.fromkeys(names, number) for number in numbers]
    parts = [{name: number} for name in names for number in numbers]
    return (MultiRegression, {**arguments, "numbers": names}), whole + parts


@st.composite
def multi_labels(draw: st.DrawFn) -> Drawn:
    names = ["hat", "bag", "tie"][: draw(st.integers(1, 3))]
    arguments = {"labels": names, "pos_weights": draw(factors(len(names)))}
    whole = [dict.fromkeys(names, answer) for answer in (True, False)]
    parts = [{name: answer} for name in names for answer in (True, False)]
    return (MultiLabel, arguments), whole + parts


NARROW = DecoderOptions(width=4)
DENSE = (Segmentation, DenseRegression)
"""Tasks that need an image."""


@st.composite
def segmentations(draw: st.DrawFn) -> Drawn:
    classes = ["ant", "bee", "cat"][: draw(st.integers(2, 3))]
    loss = draw(st.sampled_from(["cross_entropy", "dice", "both"]))
    pixel = st.tuples(st.integers(0, 15), st.integers(0, 15))
    masks = st.dictionaries(pixel, st.sampled_from(classes), min_size=1, max_size=4)
    labels = draw(st.lists(masks, min_size=2, max_size=4))
    if draw(st.booleans()):
        labels.append({})  # all pixels are ignored
    return (Segmentation, {"classes": classes, "loss": loss, "decoder": NARROW}), labels


@st.composite
def depths(draw: st.DrawFn) -> Drawn:
    arguments = {"scale": 0.25, "invalid": 255, "decoder": NARROW}
    arguments["loss"] = draw(st.sampled_from(["l1", "log"]))
    pixel = st.tuples(st.integers(0, 15), st.integers(0, 15))
    number = st.integers(1, 250).map(lambda stored: stored / 4)
    files = st.dictionaries(pixel, number, min_size=1, max_size=4)
    labels = [{(0, 0): 0.25, (3, 5): 4.0}, *draw(st.lists(files, min_size=1, max_size=3))]
    if draw(st.booleans()):
        labels.append({})
    return (DenseRegression, arguments), labels


KINDS = st.lists(
    classifications()
    | hierarchies()
    | ordinals()
    | regressions()
    | several_numbers()
    | multi_labels()
    | segmentations()
    | depths(),
    min_size=1,
    max_size=3,
)
DENSITIES = st.lists(st.sampled_from([0.5, 0.1, 0.9]), min_size=3, max_size=3)
FLOATS = st.lists(st.sampled_from([0.0, np.nan, np.inf, -np.inf, 3e38]), min_size=1, max_size=3)
INTEGERS = st.lists(st.sampled_from([0, -1, -100, 255, 2**62]), min_size=1, max_size=3)
SOFT = st.tuples(st.sampled_from([10.0, 0.0]), st.sampled_from(["mean", "pairwise"]))


@st.composite
def cases(draw: st.DrawFn) -> Case:
    tasks, labels = {}, {}
    for name, ((kind, arguments), known) in zip(("type", "a.b", "keys"), draw(KINDS), strict=False):
        weight = draw(st.sampled_from([1.0, 0.3, 20.0]))
        tasks[name], labels[name] = (kind, arguments | {"weight": weight}), known
    densities, seed = draw(DENSITIES), draw(st.integers(0, 2**32))

    def rows(number: int, *stream: int) -> list[dict[str, Any]]:
        """Labels by a generator: hypothesis alone hardly ever fills a table of any size."""
        found: list[dict[str, Any]] = [{} for _ in range(number)]
        for task, (name, known) in enumerate(labels.items()):
            dice = np.random.default_rng([seed, task, *stream])
            for row in found:  # fewer rows are the first of these
                present, which = dice.random() < densities[task], dice.integers(len(known))
                row |= {name: known[which]} if present else {}
        return found

    learnable = [{name: labels[name][number] for name in tasks} for number in range(2)]
    return Case(
        tasks=tasks,
        train=learnable + rows(draw(st.integers(0, 20)), 0),
        val=rows(draw(st.integers(0, 9)), 1),
        batch_size=draw(st.integers(1, 5)),
        ranks=draw(st.integers(1, 4)),
        accumulate=draw(st.integers(1, 4)),
        reduction=draw(st.sampled_from(["labelled", "batch"])),
        soft=draw(st.none() | SOFT),
        garbage=draw(FLOATS),
        stray=draw(INTEGERS),
        seed=seed,
        table=draw(st.booleans()) and not any(kind in DENSE for kind, _ in tasks.values()),
    )


# --------------------------------------------------------------------- what must hold


class Expected:
    """What plain loops say of a simulation, whose network is shown one image at a time."""

    def __init__(self, simulation: Simulation) -> None:
        # A copy: what holds soft sharing together writes weights, be it by a rate of 0.
        self.case, self.network = simulation.case, copy.deepcopy(simulation.module.network)
        self.loops = {
            name: reference.loop(task, [row[name] for row in self.case.train if name in row])
            for name, task in simulation.tasks.items()
        }
        self.rows = []
        for number, labels in enumerate(self.case.train + self.case.val):
            inputs = simulation.inputs(number)
            outputs = {name: values[0] for name, values in self.network(inputs).items()}
            self.rows.append((outputs, labels))

    def labelled(self, split: str) -> list[int]:
        in_split = range(len(self.rows))[: len(self.case.train)]
        if split == "val":
            in_split = range(len(self.case.train), len(self.rows))
        return [number for number in in_split if self.rows[number][1]]

    def step(self, numbers: list[int]) -> tuple[Tensor, dict[str, Tensor | None]]:
        """Return the loss of a step and its gradients: None where the optimizer has no part.

        That is where the loss does not depend on a weight; and the backbone of an absent task,
        which the penalty alone moves.
        """
        rows = [self.rows[number] for number in numbers]
        loss = reference.step_loss(self.loops, rows, self.case.reduction)
        if self.case.soft and self.case.soft[0] and len(self.loops) > 1:
            copies = [list(b.parameters()) for b in self.network.sharing.backbones.values()]
            loss = loss + reference.penalty(copies, *self.case.soft)
        names, weights = zip(*self.network.named_parameters(), strict=True)
        found: tuple[Tensor | None, ...] = (None,) * len(weights)
        if loss.requires_grad:  # not if each mask of the step is without a label
            found = torch.autograd.grad(loss, weights, retain_graph=True, allow_unused=True)
        of_weight = dict(zip(weights, found, strict=True))
        if self.case.soft:
            heads = self.network.heads
            for task, backbone in self.network.sharing.backbones.items():
                if all(of_weight[weight] is None for weight in heads[task].parameters()):
                    of_weight |= dict.fromkeys(backbone.parameters())
        return loss.detach(), dict(zip(names, of_weight.values(), strict=True))

    def check_results(self, split: str, found: Results) -> None:
        """Compare what was measured of a split; in training that is not every metric."""
        tasks = reference.split_metrics(self.loops, [self.rows[n] for n in self.labelled(split)])
        for name, values in tasks.items():
            if split == "train":
                values = {metric: values[metric] for metric in found.tasks[name]}
                assert ("loss" in values) == (values["n_labelled"] > 0)
            # Counts are divided in float32.
            assert found.tasks[name] == pytest.approx(values, rel=1e-6, nan_ok=True), name
        loss, score = reference.loss_and_score(self.loops, tasks)
        assert found.loss == (None if loss is None else pytest.approx(loss, rel=1e-10))
        assert found.score == (None if score is None else pytest.approx(score, rel=1e-6))


@settings(max_examples=200)
@given(cases())
def test_steps_are_those_of_a_loop_over_rows_and_labels(case):
    simulation = Simulation(case)
    expected = Expected(simulation)
    steps = simulation.train()
    assert sorted(row for step in steps for row in step.rows) == expected.labelled("train")
    for step in steps:
        loss, gradients = expected.step(step.rows)
        torch.testing.assert_close(step.loss, loss, rtol=1e-10, atol=1e-12)
        left_alone = {name for name, gradient in gradients.items() if gradient is None}
        assert left_alone == {name for name, found in step.gradients.items() if found is None}
        for name in gradients.keys() - left_alone:
            torch.testing.assert_close(
                step.gradients[name], gradients[name], rtol=1e-10, atol=1e-11, msg=name
            )
    expected.check_results("train", simulation.module.results["train"])


@given(cases())
def test_metrics_are_those_of_a_loop_over_labelled_rows(case):
    simulation = Simulation(case)
    expected = Expected(simulation)
    assert sorted(simulation.validate()) == expected.labelled("val")
    expected.check_results("val", simulation.module.results["val"])
