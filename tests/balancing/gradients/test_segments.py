import numpy as np
import pytest
import torch

from mtl_lightning.balancing.gradients.segments import (
    FEW,
    ONE_MORE_PASS,
    all_rows,
    by_label_sets,
    by_rows,
)


def mask(*rows):
    """One string per row: ``x`` for a label of the task."""
    return np.array([[label == "x" for label in row] for row in rows])


def plain(segments):
    """Rows as lists, also where they are slices."""
    return [
        (
            segment.rows.tolist(),
            [
                [(task, torch.arange(len(segment.rows))[rows].tolist()) for task, rows in tasks]
                for tasks in segment.passes
            ],
        )
        for segment in segments
    ]


def test_rows_with_one_label_share_a_pass_whatever_their_task():
    (segment,) = by_rows(mask("x..", "..x", "x..", "...", ".x."))
    assert plain([segment]) == [([0, 2, 4, 1], [[(0, [0, 1]), (1, [2]), (2, [3])]])]
    assert all(isinstance(rows, slice) for _, rows in segment.passes[0])


def test_a_row_with_two_labels_gets_two_passes():
    (segment,) = by_rows(mask("xx", "x.", ".x"))
    assert segment.rows.tolist() == [1, 2, 0]
    assert plain([segment])[0][1] == [[(0, [0, 2]), (1, [1])], [(1, [2])]]
    assert isinstance(segment.passes[0][0][1], torch.Tensor), "rows 0 and 2 are not contiguous"


@pytest.mark.parametrize("more", [0, 1])
def test_rows_with_fewer_labels_join_the_others_if_they_are_few(more):
    """They then carry nothing in the second pass, which is cheaper than a segment of their own."""
    single = ONE_MORE_PASS + more
    segments = by_rows(mask(*["x."] * single, *["xx"] * 5))
    assert [len(s.rows) for s in segments] == ([single, 5] if more else [single + 5])
    assert [len(s.passes) for s in segments] == ([1, 2] if more else [2])


def test_passes_cover_every_label_once():
    labelled = np.random.default_rng(0).random((40, 6)) < 0.4
    seen = np.zeros_like(labelled, dtype=int)
    for rows, passes in plain(by_rows(labelled)):
        for tasks in passes:
            used = [position for _, positions in tasks for position in positions]
            assert len(used) == len(set(used)), "one derivative a row"
            for task, positions in tasks:
                seen[np.array(rows)[positions], task] += 1
    assert np.array_equal(seen, labelled.astype(int))


def test_rows_with_the_same_labels_form_a_segment_and_rare_sets_one():
    segments = by_label_sets(mask(*["x.."] * FEW, ".xx", "..x", "..."))
    everyone = list(range(FEW))
    assert plain(segments) == [
        (everyone, [[(0, everyone)]]),
        ([FEW, FEW + 1], [[(1, [0, 1])], [(2, [0, 1])]]),
    ]


@pytest.mark.parametrize("divide", [by_rows, by_label_sets])
def test_a_batch_without_labels_has_no_segment(divide):
    assert divide(mask("..", "..")) == []
    assert divide(np.zeros((3, 0), bool)) == []


def test_all_rows_for_each_task():
    assert plain([all_rows([3, 1], [0, 2])]) == [([3, 1], [[(0, [0, 1])], [(2, [0, 1])]])]
