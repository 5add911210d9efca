import torch

from mtl_lightning.hparams import built_from_config
from tests.support import fit, make_data, make_module


def test_objects_given_in_python_are_not_hyper_parameters(tmp_path):
    assert not built_from_config()
    module = fit(tmp_path)
    assert not module.hparams
    assert not make_data().hparams


def test_a_checkpoint_made_in_python_holds_plain_values(tmp_path):
    module = fit(tmp_path)
    module.trainer.save_checkpoint(tmp_path / "a.ckpt")
    content = torch.load(tmp_path / "a.ckpt", weights_only=True)
    other = make_module(seed=5)
    other.load_state_dict(content["state_dict"])
    assert torch.equal(other.tasks["size"].mean, module.tasks["size"].mean)
