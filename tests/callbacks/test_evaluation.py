import pytest

from mtl_lightning.callbacks.evaluation import EvaluationCallback
from tests.helpers.data import Memory, make_data, make_more_tasks, sparse_labels
from tests.helpers.training import make_module, make_trainer


def data():
    splits = [("train", "val", "test")[3 * i // 60] for i in range(60)]
    return make_data(
        tasks=make_more_tasks(), sources={"memory": Memory(sparse_labels(60), splits)}, batch_size=8
    )


class Seen(EvaluationCallback):
    def __init__(self):
        self.calls = []

    def start(self, trainer, pl_module, split):
        self.calls.append(split)

    def add(self, trainer, pl_module, outputs, batch):
        self.calls.append((sorted(outputs), len(batch)))

    def finish(self, trainer, pl_module, split):
        self.calls.append(split)


@pytest.mark.parametrize(("command", "split"), [("test", "test"), ("validate", "val")])
def test_each_batch_of_the_two_commands(tmp_path, command, split):
    seen = Seen()
    trainer = make_trainer(tmp_path, callbacks=[seen])
    module = make_module(tasks=make_more_tasks())
    getattr(trainer, command)(module, data(), verbose=False)
    first, *batches, last = seen.calls
    assert first == last == split
    assert batches
    assert all(names == ["kind", "rare", "size", "tags"] for names, _ in batches)


def test_no_validation_within_a_training(tmp_path):
    seen = Seen()
    trainer = make_trainer(tmp_path, callbacks=[seen], max_epochs=1)
    trainer.fit(make_module(tasks=make_more_tasks()), data())
    assert seen.calls == []
