import torch

from mtl_lightning.unlabelled.thresholds import Thresholds

CPU = torch.device("cpu")


def add(thresholds, classes, confidences, counted=None):
    mask = torch.ones(len(classes), dtype=torch.bool) if counted is None else counted
    thresholds.add("a", torch.tensor(classes), torch.tensor(confidences), mask)


def test_they_fall_with_the_mean_confidence_of_a_class():
    thresholds = Thresholds(0.9, True, {"a": 3}, CPU)
    add(thresholds, [0, 0, 1, 1, 1], [0.9, 0.7, 0.3, 0.4, 0.5])
    every = torch.arange(3)
    assert thresholds.of("a", every).tolist() == torch.full((3,), 0.9).tolist(), "not yet"
    thresholds.end_epoch()
    expected = torch.tensor([0.9, 0.9 * 0.4 / 0.8, 0.9])  # nobody guessed class 2
    torch.testing.assert_close(thresholds.of("a", every), expected, rtol=1e-5, atol=0)


def test_what_is_masked_does_not_count():
    thresholds = Thresholds(0.9, True, {"a": 2}, CPU)
    add(thresholds, [0, 1, 1], [0.8, 0.4, float("nan")], torch.tensor([True, True, False]))
    thresholds.end_epoch()
    torch.testing.assert_close(thresholds.of("a", torch.tensor([1])), torch.tensor([0.45]))


def test_they_may_be_the_same_for_all():
    thresholds = Thresholds(0.9, False, {"a": 2}, CPU)
    add(thresholds, [0, 1], [0.8, 0.4])
    thresholds.end_epoch()
    assert thresholds.of("a", torch.arange(2)).unique().tolist() == torch.tensor([0.9]).tolist()


def test_an_epoch_forgets_the_one_before_unless_it_guessed_nothing():
    thresholds = Thresholds(0.9, True, {"a": 2}, CPU)
    add(thresholds, [0, 1], [0.8, 0.4])
    thresholds.end_epoch()
    thresholds.end_epoch()
    torch.testing.assert_close(thresholds.of("a", torch.tensor([1])), torch.tensor([0.45]))
    add(thresholds, [0, 1], [0.8, 0.8])
    thresholds.end_epoch()
    torch.testing.assert_close(thresholds.of("a", torch.tensor([1])), torch.tensor([0.9]))


def test_a_checkpoint_within_an_epoch_goes_on():
    whole, half = (Thresholds(0.9, True, {"a": 2}, CPU) for _ in range(2))
    for each in (whole, half):
        add(each, [0, 1], [0.8, 0.3])
    resumed, second = (Thresholds(0.9, True, {"a": 2}, CPU) for _ in range(2))
    resumed.load_state_dict(half.state_dict(), True)
    second.load_state_dict(half.state_dict(), False)
    for each in (whole, resumed):
        add(each, [1], [0.5])
        each.end_epoch()
    assert torch.equal(whole.of("a", torch.arange(2)), resumed.of("a", torch.arange(2)))
    assert second.state_dict()["counts"]["a"].tolist() == [0, 0]
