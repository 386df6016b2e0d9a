from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from models.networks.muon import Muon


def network() -> Any:
    torch.manual_seed(0)
    layers: Any = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 4, 3, padding=1))
    return layers.to(memory_format=torch.channels_last)


def optimizer_of(layers: Any) -> Muon:
    return Muon(layers, [layers[0].weight], 1e-2, 0.0)


def frames() -> Tensor:
    return torch.rand(2, 3, 16, 16, generator=torch.Generator().manual_seed(1))


def step(layers: Any, optimizer: Muon) -> float:
    inputs = frames()
    loss = (layers(inputs) - inputs.mean()).square().mean()
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    return float(loss.detach())


def test_steps_change_the_kernels_of_the_module() -> None:
    layers = network()
    before = copy.deepcopy(layers.state_dict())
    optimizer = optimizer_of(layers)
    losses = [step(layers, optimizer) for _ in range(30)]
    assert losses[-1] < 0.2 * losses[0]
    for name, weight in layers.state_dict().items():
        assert not torch.equal(weight, before[name]), name


def test_the_step_of_a_kernel_is_orthogonal() -> None:
    layers = network()
    before = layers[0].weight.detach().clone()
    step(layers, optimizer_of(layers))
    strengths = torch.linalg.svdvals((layers[0].weight.detach() - before).flatten(1))
    assert strengths.min() > 0.4 * strengths.max()


def test_a_restored_optimizer_continues_alike() -> None:
    first = network()
    optimizer = optimizer_of(first)
    for _ in range(3):
        step(first, optimizer)
    second = network()
    second.load_state_dict(first.state_dict())
    resumed = optimizer_of(second)
    resumed.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    for _ in range(2):
        assert step(first, optimizer) == step(second, resumed)


def test_the_learning_rate_applies_to_every_weight() -> None:
    layers = network()
    optimizer = optimizer_of(layers)
    for group in optimizer.param_groups:
        group["lr"] = 0.0
    before = copy.deepcopy(layers.state_dict())
    step(layers, optimizer)
    for name, weight in layers.state_dict().items():
        assert torch.equal(weight, before[name]), name


def test_a_kernel_without_a_matrix_view_is_refused() -> None:
    plain: Any = nn.Sequential(nn.Conv2d(3, 8, 3))
    with pytest.raises(ValueError, match="not stored channels last"):
        Muon(plain, [plain[0].weight], 1e-2, 0.0)
