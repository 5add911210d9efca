from pytorch_lightning import seed_everything

from mtl_lightning.system.seeding import global_seed


def test_it_is_the_seed_that_lightning_was_given(monkeypatch):
    monkeypatch.delenv("PL_GLOBAL_SEED", raising=False)
    assert global_seed() == 0
    monkeypatch.setenv("PL_GLOBAL_SEED", "1")  # restored at the end
    seed_everything(7, verbose=False)
    assert global_seed() == 7
