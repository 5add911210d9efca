"""Layers between backbone and heads get the gradients of one plain backward pass per task."""

import pytest
import torch
from torchjd import scalarization
from torchjd.aggregation import MGDA, Sum

from mtl_lightning.balancing.gradients.jacobian import Jacobian
from mtl_lightning.balancing.gradients.per_row import Groups
from mtl_lightning.balancing.gradients.segments import by_label_sets, by_rows
from mtl_lightning.balancing.gradients.split_pass import segmented_pass, whole_pass
from mtl_lightning.data.batch import Batch
from mtl_lightning.models import Hard
from mtl_lightning.system.errors import UserError
from tests.helpers.balancing import flat, module_of, one_step, reference, shared_names
from tests.helpers.data import make_data
from tests.helpers.models import (
    LAYERED,
    Adapters,
    Bottleneck,
    Interleaved,
    Layered,
    Opaque,
    make_network,
)
from tests.helpers.training import fit, largest_difference, weights

LABELLED = torch.tensor([[1, 1, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1], [0, 0, 0], [1, 1, 1]]).bool()
TASKS = ("a", "b", "c")


def network_and_batch(sharing):
    torch.manual_seed(0)
    network = make_network(sharing, Layered(), dict.fromkeys(TASKS, 2), (16, 16)).double().train()
    labelled = dict(zip(TASKS, LABELLED.T, strict=True))
    counts = {task: int(mask.sum()) for task, mask in labelled.items()}
    images = torch.randint(0, 256, (6, 3, 16, 16), dtype=torch.uint8)
    return network, Batch({"image": images}, {}, labelled, torch.arange(6), counts, 6, 1)


def losses_of(outputs):
    rows = zip(outputs.values(), LABELLED.T, strict=True)
    return [output[mask].square().sum() for output, mask in rows]


def expected(network, batch, parameters):
    """Each task's gradients, by one plain backward pass."""
    losses = losses_of(network(batch.inputs))
    grads = [
        torch.autograd.grad(loss, parameters, retain_graph=True, allow_unused=True)
        for loss in losses
    ]
    return [
        [torch.zeros_like(p) if g is None else g for p, g in zip(parameters, each, strict=True)]
        for each in grads
    ]


@pytest.mark.parametrize("kind", [Hard, Adapters, Opaque, Bottleneck, Interleaved])
def test_gradients_on_both_sides_of_the_cut(kind):
    network, batch = network_and_batch(kind())
    shared = network.shared_parameters()
    split = whole_pass(network, batch, 3)
    torch.testing.assert_close(split.outputs, network(batch.inputs, batch.labelled))
    heads = split.head_gradients(TASKS, losses_of(split.outputs), shared)
    for index, (task, (own, gradients)) in enumerate(zip(TASKS, heads.own, strict=True)):
        assert own == network.own_parameters(task)
        torch.testing.assert_close(gradients, expected(network, batch, own)[index])
    factors = [0.5, 2.0, -1.0]
    combined = split.backbone_gradients(TASKS, heads, factors, shared)
    plain = expected(network, batch, shared)
    for gradient, *of_tasks in zip(combined, *plain, strict=True):
        wanted = sum(f * g for f, g in zip(factors, of_tasks, strict=True))
        torch.testing.assert_close(gradient, wanted)


@pytest.mark.parametrize("way", ["rows", "label sets", "all rows"])
@pytest.mark.parametrize("kind", [Hard, Adapters, Bottleneck])
def test_the_jacobian_is_filled_segment_by_segment(kind, way):
    network, batch = network_and_batch(kind())
    shared, jacobian = network.shared_parameters(), Jacobian()
    if way == "all rows":
        split = whole_pass(network, batch, 3)
    else:
        divide = by_rows if way == "rows" else by_label_sets
        groups = Groups(jacobian.add) if way == "rows" else None
        backbone = network.sharing.shared_backbone
        split = segmented_pass(network, backbone, batch, divide(LABELLED.numpy()), groups)
    heads = split.head_gradients(TASKS, losses_of(split.outputs), shared)
    jacobian.begin(shared, 3)
    split.fill_jacobian(jacobian, TASKS, heads)
    jacobian.finish()
    for row, gradients in enumerate(expected(network, batch, shared)):
        jacobian.combine(torch.eye(3)[row])
        torch.testing.assert_close([p.grad for p in shared], gradients)


def test_a_rank_without_a_label_runs_its_heads_all_the_same():
    network, batch = network_and_batch(Adapters())
    split = segmented_pass(network, network.sharing.shared_backbone, batch, [], None)
    assert split.below == []
    losses = [output.sum() * 0 for output in split.outputs.values()]
    heads = split.head_gradients(TASKS, losses, network.shared_parameters())
    assert all((g == 0).all() for _, gradients in heads.own for g in gradients)


# --------------------------------------------------------------------- through the trainer


SHARINGS = {kind.__name__: kind for kind in (Adapters, Opaque, Bottleneck, Interleaved)}
SETTINGS = [(name, of) for name in ("Adapters", "Bottleneck") for of in ("parameters", "features")]
SETTINGS += [("Opaque", "parameters"), ("Interleaved", "parameters")]
ON_LAYERS = [("Adapters", "parameters", way) for way in LAYERED]
ON_LAYERS += [("Bottleneck", "parameters", "tasks"), ("Interleaved", "parameters", "tasks")]


@pytest.mark.parametrize(
    ("sharing", "of", "way"), [(*setting, None) for setting in SETTINGS] + ON_LAYERS
)
def test_layers_between_backbone_and_heads_get_the_gradients_of_plain_passes(
    tmp_path, sharing, of, way
):
    sharing = SHARINGS[sharing]()
    backbone = Layered(**LAYERED[way]) if way else None
    module = module_of(MGDA(), backbone, sharing=sharing, gradients=of)
    step = one_step(tmp_path, module, rows=20)
    plain, names = reference(module, step), shared_names(module)
    weights = module.balancer.weights
    assert len({round(float(w), 6) for w in weights.values()}) > 1
    if of == "parameters":
        rows = torch.stack([flat(own, names) for own in plain.values()])
        products = MGDA().gramian_weighting(rows @ rows.T)
        torch.testing.assert_close(torch.stack(list(weights.values())), products)
    pull = {} if sharing.penalty() is None else penalties(module)
    for name in names:
        expected = sum(weights[task] * plain[task][name] for task in plain)
        torch.testing.assert_close(step.found[name], expected + pull.get(name, 0.0))
    for task in plain:
        assert len(module.network.own_parameters(task)) > 2
        for name, parameter in module.network.named_parameters():
            if any(parameter is p for p in module.network.own_parameters(task)):
                expected = plain[task][name] + pull.get(name, 0.0)
                assert expected.norm() > 0
                torch.testing.assert_close(step.found[name], expected)


def penalties(module):
    named = {n: p for n, p in module.network.named_parameters() if p.requires_grad}
    parts = torch.autograd.grad(module.network.penalty(), list(named.values()), allow_unused=True)
    return {n: g for n, g in zip(named, parts, strict=True) if g is not None}


@pytest.mark.parametrize(("sharing", "of"), SETTINGS)
def test_a_sum_of_gradients_trains_such_layers_as_the_plain_sum_does(tmp_path, sharing, of):
    """Also in the steps between those that weigh, and where a task is absent."""
    trained = [
        fit(
            tmp_path,
            module=module_of(method, sharing=SHARINGS[sharing](), **options),
            max_epochs=2,
            precision="64-true",
        )
        for method, options in (
            (None, {}),
            (Sum(), {"gradients": of}),
            (Sum(), {"gradients": of, "balance_every_n_steps": 3}),
        )
    ]
    plain, *summed = map(weights, trained)
    for other in summed:
        for name, value in plain.items():
            torch.testing.assert_close(other[name], value, rtol=1e-10, atol=1e-12)


def test_accumulated_losses_train_such_layers_as_whole_steps_do(tmp_path):
    options = {"max_epochs": 2, "precision": "64-true"}
    whole, parts = (
        fit(
            tmp_path,
            make_data(train=40, batch_size=8 // number),
            module_of(scalarization.Sum(), sharing=Adapters()),
            accumulate_grad_batches=number,
            **options,
        )
        for number in (1, 2)
    )
    assert largest_difference(weights(whole), weights(parts)) < 1e-9
    with pytest.raises(UserError, match=r"accumulate_grad_batches should be 1 with"):
        fit(tmp_path, module=module_of(MGDA(), sharing=Adapters()), accumulate_grad_batches=2)


class Elsewhere(Adapters):
    def forward(self, inputs, rows=None):
        return super().forward({"image": inputs["image"].flip(0)}, rows)


def test_a_sharing_that_does_not_run_its_shared_backbone_as_it_says_is_refused(tmp_path):
    with pytest.raises(UserError, match="should run its shared_backbone once"):
        fit(tmp_path, module=module_of(MGDA(), sharing=Elsewhere()))
