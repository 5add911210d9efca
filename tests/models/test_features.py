import pytest
import torch

from mtl_lightning.models.features import FeatureSpec, MapSpec, pack


def spec(earlier=None) -> FeatureSpec:
    return FeatureSpec(5, "b", MapSpec(4, (2, 3), (8.0, 8.0)), earlier or dict)


def test_a_map_has_channels_cells_and_pixels_to_a_cell():
    found = MapSpec.of(torch.zeros(1, 7, 5, 4), (20, 12))
    assert found == MapSpec(channels=7, size=(5, 4), stride=(4.0, 3.0))


def test_maps_are_in_order_and_the_earlier_are_looked_for_only_when_wanted():
    calls = []

    def earlier() -> dict[str, MapSpec]:
        calls.append(1)
        return {"a": MapSpec(2, (4, 6), (4.0, 4.0))}

    found = spec(earlier)
    assert found.shape("pooled") == (5,)
    assert found.shape("b") == (4, 2, 3)
    assert calls == []
    assert list(found.maps) == ["a", "b"]
    assert found.shape("a") == (2, 4, 6)
    assert calls == [1]
    with pytest.raises(KeyError):
        found.shape("c")


def test_packed_features_come_back():
    features = {"b": torch.rand(6, 4, 2, 3), "pooled": torch.rand(6, 5)}
    packed = pack(features)
    assert packed.shape == (6, spec().width(features)) == (6, 29)
    back = spec().unpack(packed, features)
    assert list(back) == list(features)
    assert all(torch.equal(back[name], values) for name, values in features.items())
