import warnings

import pytest
import torch
from torch import nn
from torchjd.aggregation import IMTLG, MGDA, GradDrop, Krum, MoDoWeighting, PCGrad, Sum

from mtl_lightning.balancing.ranks import shared_seed
from mtl_lightning.data.datamodule import PartialLabels
from mtl_lightning.models import Soft
from mtl_lightning.system.errors import UserError
from tests.helpers.balancing import (
    GRADIENT,
    OURS,
    module_of,
    one_step,
    reference,
    shared_rows,
    shared_update,
)
from tests.helpers.data import Memory, make_data, make_tasks
from tests.helpers.models import LAYERED, Layered, Opaque
from tests.helpers.training import fit, weights

CPU = torch.device("cpu")
THEIRS = [name for name in GRADIENT if name not in OURS]


@pytest.mark.parametrize("name", THEIRS)
def test_the_shared_gradient_is_torchjds_of_the_whole_jacobian(tmp_path, name):
    module = module_of(GRADIENT[name](3))
    step = one_step(tmp_path, module)
    rows = shared_rows(reference(module, step))
    assert rows.norm(dim=1).min() > 0, "all tasks are there"
    theirs = GRADIENT[name](3)
    if name == "CR-MOGM":  # begins with its first weights: MGDA's
        theirs = MGDA()
    with shared_seed(0, CPU), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of NashMTL's solver
        expected = theirs(rows)
    found = shared_update(step)
    if name == "GradDrop":  # ours draws in another order: either all that push up, or all down
        up, down = rows.clamp(min=0).sum(0), rows.clamp(max=0).sum(0)
        assert torch.minimum((found - up).abs(), (found - down).abs()).max() < 1e-12
        assert 0.3 < ((found - up).abs() < 1e-12).double().mean() < 0.7
        return
    torch.testing.assert_close(found, expected, rtol=1e-7, atol=1e-9)


@pytest.mark.parametrize("of", ["parameters", "features"])
def test_a_head_follows_its_own_task(tmp_path, of):
    module = module_of(MGDA(), gradients=of)
    step = one_step(tmp_path, module)
    expected = reference(module, step)
    for name in module.tasks:
        for key in (f"heads.task_{name}.1.weight", f"heads.task_{name}.1.bias"):
            torch.testing.assert_close(step.found[key], expected[name][key])


@pytest.mark.parametrize("case", LAYERED)
def test_every_mode_gives_the_exact_gradients(tmp_path, case, capsys):
    module = module_of(PCGrad(), Layered(**LAYERED[case]))
    step = one_step(tmp_path, module, rows=20)
    message = capsys.readouterr().out
    rows = shared_rows(reference(module, step))
    with shared_seed(0, CPU):
        expected = PCGrad()(rows)
    torch.testing.assert_close(shared_update(step), expected, rtol=1e-9, atol=1e-12)
    result = module.balancer._probe.result
    assert result.mode == (case if case in ("label_sets", "tasks") else "rows")
    if case == "tasks":
        assert "batch norm (trunk.1) mixes the images" in message
        assert "each task needs a backward pass of all rows" in " ".join(message.split())


def test_features_give_the_weights_of_their_own_jacobian(tmp_path):
    module = module_of(IMTLG(), gradients="features")
    step = one_step(tmp_path, module)
    gradients = reference(module, step)
    batch = step.batch
    features = module.network.sharing.backbone(batch.inputs)["pooled"]
    rows = []
    for name, task in module.tasks.items():
        loss = task.masked_loss(
            module.network.heads[name](features), batch.targets[name], batch.labelled[name]
        )
        loss = loss * (task.weight / batch.counts[name])
        rows.append(torch.autograd.grad(loss, features, retain_graph=True)[0].flatten())
    matrix = torch.stack(rows)
    expected = IMTLG().gramian_weighting(matrix @ matrix.T) @ shared_rows(gradients)
    torch.testing.assert_close(shared_update(step), expected, rtol=1e-7, atol=1e-9)


@pytest.mark.parametrize("of", ["parameters", "features"])
def test_the_sum_of_gradients_is_the_plain_sum(tmp_path, of):
    plain = fit(tmp_path, module=module_of(None), max_epochs=2, precision="64-true")
    summed = fit(tmp_path, module=module_of(Sum(), gradients=of), max_epochs=2, precision="64-true")
    for name, value in weights(plain).items():
        torch.testing.assert_close(weights(summed)[name], value, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("of", ["parameters", "features"])
def test_weights_are_held_between_the_steps_that_weigh(tmp_path, of, monkeypatch):
    asked = []
    method = MGDA()
    module = module_of(method, gradients=of, balance_every_n_steps=3)
    weigh = module.balancer.method.weigh
    seen = []

    def counted(gramian, losses, active):
        asked.append((module.trainer.global_step, len(active)))
        return weigh(gramian, losses, active)

    monkeypatch.setattr(module.balancer.method, "weigh", counted)
    record = module.balancer.record_weights
    monkeypatch.setattr(
        module.balancer, "record_weights", lambda w, a: (seen.append(w), record(w, a))
    )
    fit(tmp_path, make_data(), module, max_epochs=2, precision="64-true")
    steps = [step for step, _ in asked]
    assert len(steps) < module.trainer.global_step
    assert {0, 3, 6, 9} <= set(steps)
    assert len(set(steps) - {0, 3, 6, 9}) <= 1, "but for a task that was never weighed"


def test_clipping_clips_what_was_combined(tmp_path):
    step = one_step(tmp_path, module_of(MGDA()), gradient_clip_val=1e-3)
    whole = torch.cat([g.flatten() for g in step.found.values() if g is not None])
    assert whole.norm() > 1e-2, "the gradient before clipping"
    module = module_of(MGDA())
    before = weights(module)
    fit(
        tmp_path,
        make_data(train=12, batch_size=12),
        module,
        max_steps=1,
        max_epochs=-1,
        gradient_clip_val=1e-3,
    )
    moved = torch.cat([(weights(module)[n] - before[n]).flatten() for n in before])
    assert moved.norm() == pytest.approx(0.05 * 1e-3, rel=1e-3)


@pytest.mark.parametrize("of", ["parameters", "features"])
def test_bf16_gives_the_gradients_of_bf16(tmp_path, of):
    exact = one_step(tmp_path, module_of(IMTLG(), Layered(), gradients=of), precision="32-true")
    mixed = one_step(tmp_path, module_of(IMTLG(), Layered(), gradients=of), precision="bf16-mixed")
    one, other = shared_update(exact), shared_update(mixed)
    assert other.dtype == torch.float32
    assert (one - other).norm() < 0.1 * one.norm()


@pytest.mark.parametrize("of", ["parameters", "features"])
def test_a_scaler_scales_gradients_and_changes_no_weight(tmp_path, of):
    plain = module_of(IMTLG(), gradients=of)
    step = one_step(tmp_path, plain)
    scaled = module_of(IMTLG(), gradients=of)
    backward = scaled.balancer.backward
    scaled.balancer.backward = lambda loss, scale: backward(loss, 1024.0)
    other = one_step(tmp_path, scaled)
    for name, gradient in step.found.items():
        torch.testing.assert_close(other.found[name], 1024 * gradient)
    assert plain.balancer.average_weights() == pytest.approx(scaled.balancer.average_weights())


def test_gradients_that_are_not_numbers_touch_no_state(tmp_path):
    module = module_of(GRADIENT["GradVac"](3), on_non_finite="skip_step")
    with torch.no_grad():
        module.network.heads["kind"][1].weight.fill_(torch.nan)
    step = one_step(tmp_path, module)
    assert torch.isnan(shared_update(step)).any(), "it shows where it shows without balancing"
    assert (module.balancer.method.state["cosines"] == 0).all()


# --------------------------------------------------------------------- messages before training


def apart():
    labels = {
        "kind": ["cat", "dog", None, None, None, None] * 4,
        "size": [None, None, 1, 2, None, None] * 4,
        "rare": [None, None, None, None, "no", "yes"] * 4,
    }
    source = Memory(labels, ["train"] * 24)
    options = {"image_size": 16, "num_workers": 0, "augmentation": "none", "splits": {}}
    return PartialLabels(make_tasks(), {"m": source}, batch_size=12, **options)


def test_features_are_blind_where_rows_carry_one_label(tmp_path, capsys):
    module = module_of(PCGrad(), gradients="features")
    fit(tmp_path, apart(), module)
    message = " ".join(capsys.readouterr().out.split())
    assert "only in images that carry several labels: 0 of 24." in message
    products = module.balancer.gramian
    assert torch.equal(products, products.diagonal().diag())
    fit(tmp_path, apart(), module_of(PCGrad()))
    assert "carry several labels" not in capsys.readouterr().out


@pytest.mark.parametrize(
    ("method", "options", "trainer", "message"),
    [
        (
            MGDA(),
            {},
            {"accumulate_grad_batches": 2},
            "should be 1 with model.balancing: MGDA",
        ),
        (MGDA(), {"sharing": Soft(1.0)}, {}, "which weighs their gradients. Found Soft"),
        (MGDA(), {"balance_every_n_steps": 0}, {}, "should be 1 or more"),
        (
            MGDA(),
            {"sharing": Opaque(), "gradients": "features"},
            {},
            "Opaque, which has no one tensor of features for all tasks",
        ),
        (
            GradDrop(),
            {"gradients": "features"},
            {},
            "which gives one gradient and no weights",
        ),
        (
            GradDrop(),
            {"balance_every_n_steps": 2},
            {},
            "which gives one gradient and no weights",
        ),
        (MoDoWeighting(), {}, {}, "two independent batches"),
        (Krum(1), {}, {}, "needs 4 tasks at least. Found 3"),
        (None, {"gradients": "features"}, {}, "need a balancing"),
    ],
)
def test_what_cannot_be_right_is_refused(tmp_path, method, options, trainer, message):
    with pytest.raises(UserError, match=message):
        fit(tmp_path, make_data(), module_of(method, **options), **trainer)


def test_a_compiled_network_is_refused(tmp_path):
    module = module_of(MGDA())
    module.network.compile(backend="eager")
    with pytest.raises(UserError, match="or do not compile it"):
        fit(tmp_path, make_data(), module)
    assert isinstance(module.network, nn.Module)
