from __future__ import annotations

import pytest
import torch

from evaluation.weights.ablation import VARIANTS, ablate
from models.errors import DataError
from models.networks.cascade import Cascade, CascadeSettings
from models.networks.recipe import Recipe
from models.training import TrainingSettings


@pytest.mark.parametrize("name", VARIANTS)
def test_a_variant_is_something_that_can_be_trained(name: str) -> None:
    settings = TrainingSettings(**{"transfer": False} | VARIANTS[name].training)
    network = Cascade(CascadeSettings(**settings.shape or {}))
    assert len(network.presence) == len(network.settings.bands_um)
    network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    recipe = Recipe(optimizer=settings.optimizer or "muon")  # type: ignore[arg-type]
    assert recipe.optimizer_of(network).param_groups


def test_an_unknown_variant_is_refused() -> None:
    with pytest.raises(DataError, match="no variant 'deeper'; there are shipped"):
        ablate("deeper", 1.0, 1)


@pytest.mark.slow
def test_a_variant_is_trained_and_scored() -> None:
    row = ablate("shallow", 0.2, 1)
    assert row["frames"] > 0
    assert 0 <= row["jaccard"] <= row["recall"] <= row["proposed"] <= 1
