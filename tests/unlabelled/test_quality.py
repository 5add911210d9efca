import torch

from mtl_lightning.unlabelled.quality import Quality

CPU = torch.device("cpu")


def validated(quality, right, of):
    hits = torch.arange(of) < right
    quality.add("a", hits, torch.ones(of, dtype=torch.bool))
    return quality.end()


def test_the_accuracy_is_over_what_counts():
    quality = Quality({"a": None, "b": None}, CPU)
    quality.add("a", torch.tensor([True, False, True]), torch.tensor([True, True, False]))
    quality.add("a", torch.tensor([[True, True]]), torch.tensor([[True, False]]))
    assert quality.end() == ({"val/a/guess_accuracy": 2 / 3}, [])
    assert quality.end() == ({}, []), "of a task without a confident guess there is no value"


def test_guesses_that_get_worse_are_turned_down_and_named():
    quality = Quality({"a": None}, CPU)
    validated(quality, 850, 1000)
    validated(quality, 900, 1000)
    assert validated(quality, 890, 1000)[1] == [], "chance explains it"
    assert quality.factors == {"a": 1.0}
    (note,) = validated(quality, 850, 1000)[1]
    assert "guesses of a are right in 85.0% of the validation cells (90.0% before)" in note
    assert "their weight is now 0.5" in note
    validated(quality, 850, 1000)
    assert quality.factors == {"a": 0.25}
    assert validated(quality, 8, 10)[1] == [], "of ten cells chance explains much"


def test_a_checkpoint_continues():
    quality, other = Quality({"a": None}, CPU), Quality({"a": None}, CPU)
    validated(quality, 900, 1000)
    validated(quality, 800, 1000)
    other.load_state_dict(quality.state_dict())
    assert other.factors == {"a": 0.5}
    assert validated(other, 800, 1000) == validated(quality, 800, 1000)
