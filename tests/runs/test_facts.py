from dataclasses import replace

import pytest

from mtl_lightning.runs.facts import (
    Checkpoint,
    Checkpoints,
    Epoch,
    Evaluation,
    RunFacts,
    Session,
    TaskCourse,
    TaskFacts,
    Validation,
)
from mtl_lightning.tasks.results import Results


def results(value: float = 0.5) -> Results:
    return Results("val", {"kind": {"n_labelled": 3, "accuracy": value}}, 1.0, value)


def made() -> RunFacts:
    """Two epochs of ten steps, with a validation in their middles and at their ends."""
    facts = RunFacts("name", "version_0", {"kind": TaskFacts("Classification", "accuracy")})
    for epoch, step in ((0, 5), (0, 10), (1, 15), (1, 20)):
        facts.add_validation(Validation(epoch, step, results(step / 100)))
    for epoch in (0, 1):
        facts.add_epoch(Epoch(epoch, 10 * epoch + 10, 1.0, None, results()))
    return facts


def steps(facts: RunFacts) -> tuple[list[int], list[int]]:
    return [e.step for e in facts.epochs], [v.step for v in facts.validations]


@pytest.mark.parametrize(
    ("step", "left"),
    [
        (0, ([], [])),
        (10, ([10], [5, 10])),
        (17, ([10], [5, 10, 15])),
        (20, ([10, 20], [5, 10, 15, 20])),
    ],
)
def test_a_resumed_training_drops_what_came_after(step, left):
    facts = made()
    facts.rewind(step)
    assert steps(facts) == left


def test_what_is_measured_again_replaces_what_was_there():
    facts = made()
    facts.add_validation(Validation(1, 15, results(0.9)))
    assert [v.step for v in facts.validations] == [5, 10, 15]
    facts.add_epoch(Epoch(1, 19, 2.0, None, results()))
    assert [(e.epoch, e.step) for e in facts.epochs] == [(0, 10), (1, 19)]


def test_the_best_ignores_what_is_undefined():
    facts = made()
    assert facts.best() == {"kind": 0.2}
    facts.add_validation(Validation(2, 25, results(float("nan"))))
    facts.add_validation(Validation(2, 30, Results("val", {"kind": {"n_labelled": 0}}, None, None)))
    assert facts.best() == {"kind": 0.2}


def test_checkpoints_keep_what_this_session_has_not_written():
    checkpoints = Checkpoints("val/score", "max", Checkpoint(10, 0.5), Checkpoint(10))
    checkpoints.update({"last": Checkpoint(20)})
    assert checkpoints.best == Checkpoint(10, 0.5)
    assert checkpoints.last == Checkpoint(20)


def test_best_checkpoints_of_tasks_are_kept_by_task():
    checkpoints = Checkpoints("val/score", "max", tasks={"a": Checkpoint(5, 0.1)})
    checkpoints.update({"best-b-c": Checkpoint(10, 0.2), "last": Checkpoint(10)})
    assert checkpoints.tasks == {"a": Checkpoint(5, 0.1), "b-c": Checkpoint(10, 0.2)}


def test_the_course_of_a_task():
    facts = made()
    facts.add_validation(Validation(2, 30, results(0.15)))
    assert facts.courses() == {"kind": TaskCourse(0.15, 0.2, 1, None, None)}
    facts.checkpoints = Checkpoints("val/score", "max", Checkpoint(10, 0.5))
    assert facts.courses() == {"kind": TaskCourse(0.15, 0.2, 1, 0.1, 0)}
    facts.add_validation(Validation(3, 40, Results("val", {"kind": {"n_labelled": 0}}, None, None)))
    facts.checkpoints.best = Checkpoint(40, 0.5)
    assert facts.courses() == {"kind": TaskCourse(0.15, 0.2, 1, None, 3)}


def test_there_is_no_course_before_a_second_validation():
    facts = made()
    facts.validations = facts.validations[:1]
    assert facts.courses() == {}


def test_what_another_command_recorded_meanwhile_is_taken_over():
    fit = Session("fit", "2026-01-01T10:00", {}, "cpu", "32-true")
    test = Session("test", "2026-01-01T11:00", {}, "cpu", "32-true", ended="2026-01-01T12:00")
    old = Evaluation("test", "2026-01-01T11:30", None, "best.ckpt", results(0.1))
    new = replace(old, time="2026-01-01T12:00")
    mine, there = made(), made()
    mine.sessions, mine.evaluations = [fit], {"test": old, "val": new}
    there.sessions, there.evaluations = [replace(fit), test], {"test": new, "val": old}
    mine.adopt(there)
    assert mine.sessions == [fit, test]
    assert mine.sessions[0] is fit, "which goes on to change here"
    assert mine.evaluations == {"test": new, "val": new}
    ended = replace(fit, ended="2026-01-01T13:00")
    there.sessions = [ended]
    mine.adopt(there)
    assert mine.sessions == [ended, test]
