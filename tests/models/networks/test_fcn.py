"""The fully convolutional pair, and the depth classes that it shares with `vgg`."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from models.networks.cascade import Proposals
from models.networks.depth_classes import depth_labels, emitters_at, find_peaks, read_depths
from models.networks.fcn import FcnSettings
from models.networks.fcn_architecture import FcnArchitecture
from models.networks.patches import box_photons, cut_patches, stretch_contrast
from tests.models.tiny_training import PIXEL_UM, RANGE_UM, detect_emitters, small_table, train_briefly

TINY = FcnSettings(
    channels=(8, 12, 16),
    convolutions=1,
    width=12,
    crop_px=32,
    crop_channels=(8, 12, 16),
    hidden=32,
    label_um=1.3,
    z_range_um=RANGE_UM,
    classes=8,
    radii_px=(8.0,) * 8,
    pixel_size_um=PIXEL_UM,
)


def test_a_tiny_pair_learns_to_find_a_bright_emitter() -> None:
    torch.manual_seed(1)
    network = FcnArchitecture(TINY)
    train_briefly(network, 48, 100)
    found = detect_emitters(network, np.array([[20.0, 12.0, 7.0, 2e4]]), 48)
    best = int(found.probability.argmax())
    assert found.probability[best] > 0.4
    assert np.hypot(found.x_um[best] - 20.0, found.y_um[best] - 12.0) < 1.0
    assert abs(found.z_um[best] - 7.0) < 3.0


def test_folding_keeps_the_outputs() -> None:
    torch.manual_seed(1)
    network = FcnArchitecture(TINY)
    for _ in range(3):
        network.lateral(torch.randn(2, 1, 32, 32))
        network.axial(torch.randn(4, 1, 32, 32))
    network.module.eval()
    maps = torch.randn(1, 1, 32, 32)
    with torch.inference_mode():
        wanted = network.lateral(maps), network.axial(maps)
        network.fold(torch.float32)
        found = network.lateral(maps), network.axial(maps)
    for a, b in zip(found, wanted, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-4)
    assert not any(isinstance(module, torch.nn.BatchNorm2d) for module in network.module.modules())


def test_an_empty_frame_gives_no_candidates() -> None:
    network = FcnArchitecture(TINY)
    torch.nn.init.constant_(network.lateral.heat.bias, -50.0)
    network.module.eval()
    found = detect_emitters(network, np.empty((0, 4)), 32)
    assert len(found.batch) == 0


def test_settings_survive_json_and_crops_hold_the_pattern() -> None:
    network = FcnArchitecture.for_optics(small_table(), RANGE_UM, "narrow")
    again = FcnArchitecture.from_settings(json.loads(json.dumps(network.settings)))
    assert again.settings == network.settings
    assert again.settings["crop_px"] % 32 == 0
    assert again.settings["crop_px"] >= 64


def test_two_depths_at_one_position_give_two_candidates() -> None:
    classes = torch.full((1, 50), 0.01)
    classes[0, 10] = 0.9
    classes[0, 25:27] = 0.45
    places = Proposals(
        torch.zeros(1, dtype=torch.int64), torch.tensor([20.0]), torch.tensor([30.0]), torch.tensor([0.9])
    )
    found = read_depths(
        places, classes, torch.ones(1, 64, 64), z_range_um=(0.0, 100.0), radii_px=(5.0,) * 50, pixel_size_um=0.65,
        sigma_lateral_um=0.7,
    )  # fmt: skip
    assert sorted(found.z_um) == [pytest.approx(21.0, abs=0.3), pytest.approx(52.0, abs=0.3)]
    assert found.probability == pytest.approx([0.91, 0.91], abs=0.02)
    np.testing.assert_allclose(found.x_um, 13.0)
    # The second depth is spread over two classes, so its sigma is larger.
    assert found.sigma_z_um[np.argmax(found.z_um)] > found.sigma_z_um[np.argmin(found.z_um)]


def test_labels_hold_every_depth_at_a_position() -> None:
    emitters = np.array([[0, 10.0, 10.0, 5.0, 1.0], [0, 11.0, 10.0, 35.0, 1.0], [1, 10.0, 10.0, 50.0, 1.0]])
    inside = emitters_at(emitters, np.array([[0, 10.5, 9.0], [0, 20.0, 10.0]]), 2.0)
    labels = depth_labels(inside, emitters[:, 3], (0.0, 100.0), 50)
    assert np.flatnonzero(labels[0]).tolist() == [2, 17]
    assert labels[1].sum() == 0


def test_peaks_are_refined_between_equal_cells() -> None:
    heat = torch.zeros(1, 12, 12)
    heat[0, 4, 5], heat[0, 4, 6] = 0.9, 0.88
    heat[0, 9, 2] = 0.6
    places = find_peaks(heat, 4, 10)
    order = np.argsort(-places.score.numpy())
    assert places.x_px[order].tolist() == [pytest.approx(23.5, abs=0.2), pytest.approx(9.5)]
    assert places.y_px[order].tolist() == [pytest.approx(17.5), pytest.approx(37.5)]


def test_patches_are_background_beyond_the_frame() -> None:
    maps = torch.arange(1.0, 65.0).view(1, 1, 8, 8)
    (patch,) = cut_patches(maps, torch.tensor([0]), torch.tensor([-2]), torch.tensor([6]), 4)
    assert patch[0].tolist() == [[0, 0, 49, 50], [0, 0, 57, 58], [0, 0, 0, 0], [0, 0, 0, 0]]
    scaled = stretch_contrast(torch.randn(2, 1, 64, 64) * 50)
    assert (float(scaled.min()), float(scaled.max())) == (0.0, 1.0)


def test_box_photons_subtracts_the_median_and_extrapolates_beyond_the_edge() -> None:
    electrons = torch.full((1, 32, 32), 3.0)
    electrons[0, 15:18, 9:12] += 10.0
    electrons[0, 0, 20] += 5.0
    light = box_photons(
        electrons,
        torch.zeros(2, dtype=torch.int64),
        torch.tensor([10.0, 20.0]),
        torch.tensor([16.0, 0.0]),
        torch.tensor([2.0, 1.0]),
    )
    assert light.tolist() == [pytest.approx(90.0), pytest.approx(5.0 * 9 / 6)]
