"""The published pair: windows, patches, training, and the published recipe."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from models.networks.patches import cut_patches
from models.networks.vgg import Vgg, VggSettings
from models.networks.vgg_architecture import VggArchitecture
from models.synthesis import SceneSettings
from tests.models.tiny_training import PIXEL_UM, RANGE_UM, detect_emitters, small_table, train_briefly

TINY = VggSettings(
    channels=(8, 16, 16),
    convolutions=(2, 2, 2),
    unpadded_blocks=2,
    hidden=32,
    dropout=0.0,
    patch_px=32,
    stride_px=2,
    label_um=1.3,
    z_range_um=RANGE_UM,
    classes=8,
    radii_px=(8.0,) * 8,
    pixel_size_um=PIXEL_UM,
)


def network_with_statistics(settings: VggSettings, outputs: int = 3) -> Vgg:
    """A network whose normalization has statistics of a few patches."""
    torch.manual_seed(2)
    network = Vgg(settings, outputs)
    for _ in range(3):
        network(torch.randn(4, 1, settings.patch, settings.patch))
    return network.eval()


@pytest.mark.parametrize(
    "settings",
    [
        TINY,
        replace(TINY, stride_px=4),
        replace(TINY, unpadded_blocks=1, stride_px=1, patch_px=31),
        replace(TINY, cell_px=2, patch_px=64, stride_px=4),
        VggSettings(channels=(2, 2, 4, 4, 4), hidden=8),
    ],
    ids=["tiny", "stride 4", "stride 1", "binned", "layers of VGG-19"],
)
def test_windows_with_shared_blocks_equal_separate_patches(settings: VggSettings) -> None:
    network = network_with_statistics(settings)
    assert settings.shares_features
    stride, side = settings.stride, settings.patch
    maps = torch.randn(2, 1, 16, 24)
    with torch.inference_mode():
        found = network.classify_windows(maps)
        batch, row, column = torch.tensor([[0, 0, 0], [1, 1, 2], [1, 16 // stride - 1, 24 // stride - 1]]).T
        before = (side - stride) // 2
        wanted = network(cut_patches(maps, batch, column * stride - before, row * stride - before, side))
        chosen = network.classify_selected(maps, batch, row, column)
    torch.testing.assert_close(found[batch, :, row, column], wanted, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(chosen, wanted, rtol=1e-4, atol=1e-4)
    assert found.shape == (2, 3, 16 // stride, 24 // stride)


@pytest.mark.parametrize("contrast", [False, True])
def test_padded_networks_compute_each_window_separately(contrast: bool) -> None:
    settings = replace(TINY, unpadded_blocks=0, contrast=contrast, by_place=not contrast)
    network = network_with_statistics(settings)
    assert not settings.shares_features
    with torch.inference_mode():
        assert network.classify_windows(torch.randn(1, 1, 8, 12)).shape == (1, 3, 4, 6)


def test_folding_keeps_the_outputs() -> None:
    network = network_with_statistics(TINY)
    maps = torch.randn(1, 1, 16, 16)
    with torch.inference_mode():
        before = network.classify_windows(maps)
        network.fold(torch.float32)
        torch.testing.assert_close(network.classify_windows(maps), before, rtol=1e-3, atol=1e-4)
    assert not any(isinstance(module, torch.nn.BatchNorm2d) for module in network.modules())


def test_settings_survive_json() -> None:
    network = VggArchitecture.for_optics(small_table(), RANGE_UM, "narrow")
    again = VggArchitecture.from_settings(json.loads(json.dumps(network.settings)))
    assert again.settings == network.settings
    assert (again.settings["classes"], len(again.settings["radii_px"])) == (8, 8)


def test_frames_are_two_patches_wide_and_stack_emitters() -> None:
    scene = VggArchitecture(TINY).adapt_scene(SceneSettings(shape=(32, 32), count=(1, 10)))
    assert (scene.shape, scene.count) == ((64, 64), (1, 20))
    assert scene.stacked_share > 0


@pytest.mark.parametrize(
    "settings", [TINY, replace(TINY, cell_px=2, stride_px=2, unpadded_blocks=1)], ids=["pixels", "binned"]
)
def test_a_tiny_pair_learns_to_find_a_bright_emitter(settings: VggSettings) -> None:
    torch.manual_seed(1)
    network = VggArchitecture(settings)
    train_briefly(network, 48, 100)
    found = detect_emitters(network, np.array([[20.0, 12.0, 7.0, 2e4]]), 48)
    best = int(found.probability.argmax())
    assert found.probability[best] > 0.4
    assert np.hypot(found.x_um[best] - 20.0, found.y_um[best] - 12.0) < 1.5
    assert abs(found.z_um[best] - 7.0) < 3.0
    # the square around the pattern holds no other light
    assert found.photons[best] == pytest.approx(2e4, rel=0.3)


def test_the_published_recipe_explodes() -> None:
    torch.manual_seed(1)
    network = VggArchitecture.for_optics(small_table(), (0.0, 100.0), "printed")
    recipe = network.recipe
    assert (recipe.optimizer, recipe.learning_rate, recipe.rate(0.5, 2000)) == ("sgd", 1e-3, pytest.approx(5e-4))
    assert (recipe.batch, recipe.samples, recipe.longest_gradient) == (8, 1_000_000, None)
    with torch.inference_mode():
        scores = network.lateral(torch.rand(2, 1, 128, 128))
    # 16 layers, each with a gain of sqrt(0.01 * 9 * channels / 2): up to 4.8
    assert float(scores.abs().max()) > 1e4
