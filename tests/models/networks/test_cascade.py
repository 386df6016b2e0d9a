"""Parts of the cascade: input, targets, proposals, read-out, folding."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from models.camera import CameraModel
from models.errors import DataError
from models.localization import Localizer
from models.networks.architecture import pad_frames
from models.networks.cascade import Cascade, CascadeSettings, Proposals
from models.networks.cascade_architecture import CascadeArchitecture
from models.networks.cascade_readout import PROPOSALS_PER_FRAME, read_out
from models.networks.cascade_targets import lateral_scale_um, make_batch
from models.networks.counts import CountStabilizer
from models.networks.packed import can_pack
from models.networks.stabilize import stabilize
from models.optics import Objective, computed_psf
from models.scene import reference_camera, reference_scene
from models.synthesis import PatternTable
from models.weights import reference_model

SMALL = CascadeSettings(
    channels=(8, 8, 8, 8, 8),
    bands_um=((0.0, 8.0), (6.0, 15.0), (13.0, 20.0)),
    classes=25,
    z_range_um=(0.0, 20.0),
    window_um=1.6,
    hidden=16,
)
SMALL_LIVE = replace(
    SMALL,
    first_cell_px=4,
    channels=(8, 8, 8, 8),
    down_blocks=(1, 1, 2, 2),
    up_convolutions=(1, 1, 2),
    bands_um=((0.0, 12.0), (8.0, 20.0)),
)


@pytest.mark.parametrize("level_e", [3.0, 30.0, 3000.0])
def test_stabilized_noise_is_the_same_at_every_level(level_e: float) -> None:
    rng = np.random.default_rng(1)
    electrons = torch.from_numpy((rng.poisson(level_e, (2, 64, 64)) + rng.normal(0, 1.5, (2, 64, 64))).astype("f4"))
    frames = stabilize(electrons, torch.full((2,), 1.5), (1, 4))
    for frame in frames:
        # asinh compresses unit noise by a little; the rest is sampling error.
        assert float(torch.sinh(frame).std()) == pytest.approx(1.0, abs=0.12)
        assert float(frame.median()) == pytest.approx(0.0, abs=0.1)


def test_binning_sums_light() -> None:
    electrons = torch.zeros(1, 32, 32)
    electrons[0, 8:12, 4:8] = 10.0
    _, by4 = stabilize(electrons, torch.zeros(1), (1, 4))
    assert by4.shape == (1, 1, 8, 8)
    assert int((by4 > 1).sum()) == 1
    assert by4[0, 0, 2, 1] > 3


def test_padding_mirrors_the_frame_and_keeps_what_fits() -> None:
    frames = np.random.default_rng(1).integers(0, 4096, (1, 40, 64), np.uint16)
    larger = pad_frames(frames, 32)
    assert larger.shape == (1, 64, 64)
    np.testing.assert_array_equal(larger[0, 40], frames[0, 38])
    assert pad_frames(larger, 32) is larger
    assert pad_frames(frames[:, :10, :12], 32).shape == (1, 32, 32)


@pytest.mark.parametrize("settings", [SMALL, SMALL_LIVE], ids=["full", "live"])
def test_stabilizing_counts_equals_stabilizing_electrons(settings: CascadeSettings) -> None:
    camera = CameraModel(offset_adu=100.0, electrons_per_adu=0.46, read_noise_e=1.6, bit_depth=12)
    rng = np.random.default_rng(5)
    counts = np.minimum(rng.poisson(rng.uniform(80, 600, (3, 64, 96))), 4095).astype(np.uint16)
    network = CascadeArchitecture(settings)
    wanted = network.inputs(torch.from_numpy(camera.to_electrons(counts)), torch.full((3,), 1.6))
    found = CountStabilizer(settings.first_cell_px, settings.binnings, torch.float32)(counts, camera)
    for a, b in zip(found, wanted, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-4)


@pytest.mark.skipif(
    not can_pack(torch.device("cpu"), torch.bfloat16), reason="this processor has no bfloat16 convolutions"
)
@pytest.mark.parametrize("settings", [SMALL, SMALL_LIVE], ids=["full", "live"])
def test_packed_networks_give_the_outputs_of_plain_ones(settings: CascadeSettings) -> None:
    torch.manual_seed(4)
    plain, packed = CascadeArchitecture(settings), CascadeArchitecture(settings)
    for _ in range(3):
        plain.module.features(plain.inputs(torch.rand(2, 64, 64) * 50, torch.zeros(2)))
    packed.module.load_state_dict(plain.module.state_dict())
    for network, dtype in ((plain, torch.float32), (packed, torch.bfloat16)):
        network.module.eval()
        network.fold(dtype)
    maps = plain.inputs(torch.rand(1, 64, 96) * 50, torch.zeros(1))
    with torch.inference_mode():
        wanted = plain.module.features(maps)
        found = packed.module.features([part.bfloat16() for part in maps])
    assert not any(isinstance(module, torch.nn.Conv2d) for module in packed.module.up.modules())
    for a, b in zip(found, wanted, strict=True):
        # bfloat16 keeps 8 bits, and the rounding errors of a dozen layers add up
        torch.testing.assert_close(a.float(), b, rtol=0.05, atol=0.05 * float(b.abs().max()))


def test_targets_peak_where_emitters_of_their_depth_are() -> None:
    emitters = [np.array([[20.0, 10.0, 4.0, 1e3], [30.0, 40.0, 14.0, 1e3]])]
    batch = make_batch(np.zeros((1, 128, 128), "f4"), np.zeros(1, "f4"), emitters, SMALL)
    shallow, middle, deep = batch.heat
    row, column = np.unravel_index(int(shallow[0].argmax()), shallow[0].shape)
    assert (column * 2 + 0.5, row * 2 + 0.5) == (pytest.approx(20 / 0.65, abs=1.01), pytest.approx(10 / 0.65, abs=1.01))
    assert int((shallow == 1).sum()) == 1
    # The second emitter lies in both deeper bands, where they overlap.
    assert (int((middle == 1).sum()), int((deep == 1).sum())) == (1, 1)


def test_an_emitter_outside_the_frame_gives_no_full_target() -> None:
    batch = make_batch(np.zeros((1, 64, 64), "f4"), np.zeros(1, "f4"), [np.array([[-0.6, 20.0, 4.0, 1.0]])], SMALL)
    assert float(batch.heat[0].max()) <= 1.0
    assert batch.heat[0][0, :, 8:].max() == 0


def test_proposals_are_local_maxima_in_camera_pixels() -> None:
    network = Cascade(SMALL)
    maps = [torch.full((1, 64 // 2**level, 64 // 2**level), -9.0) for level in (1, 2, 3)]
    maps[0][0, 5, 7] = 3.0
    maps[0][0, 5, 8] = 2.0
    maps[2][0, 1, 6] = 1.0
    found = network.propose(maps, 0.1, 10)
    assert sorted(zip(found.x_px.tolist(), found.y_px.tolist(), strict=True)) == [(14.5, 10.5), (51.5, 11.5)]
    strongest = network.propose(maps, 0.1, 1)
    assert strongest.x_px.tolist() == [14.5]


@pytest.mark.parametrize("settings", [SMALL, SMALL_LIVE], ids=["full", "live"])
@pytest.mark.parametrize(("side", "times"), [(64, 1), (256, 1), (512, 4)])
def test_the_limit_of_proposals_grows_with_the_area(
    settings: CascadeSettings, side: int, times: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    network = Cascade(settings).eval()
    limits: list[int] = []
    propose = network.propose

    def counted(maps: list[torch.Tensor], threshold: float, most: int) -> Proposals:
        limits.append(most)
        return propose(maps, threshold, most)

    monkeypatch.setattr(network, "propose", counted)
    maps = stabilize(torch.zeros(2, side, side), torch.ones(2), settings.binnings)
    maps[0] = torch.nn.functional.pixel_unshuffle(maps[0], settings.first_cell_px)
    with torch.inference_mode():
        read_out(network, maps)
    assert limits == [2 * times * PROPOSALS_PER_FRAME]


@pytest.mark.parametrize("settings", [SMALL, SMALL_LIVE], ids=["full", "live"])
def test_folding_keeps_the_features(settings: CascadeSettings) -> None:
    torch.manual_seed(3)
    network = CascadeArchitecture(settings)
    frames = torch.rand(2, 64, 64) * 50
    network.module.train()
    for _ in range(3):
        network.module.features(network.inputs(frames.clone(), torch.zeros(2)))
    network.module.eval()
    maps = network.inputs(frames, torch.zeros(2))
    with torch.inference_mode():
        before = network.module.features(maps)
        network.fold(torch.float32)
        after = network.module.features(maps)
    for a, b in zip(before, after, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-4)
    assert not any(isinstance(module, torch.nn.BatchNorm2d) for module in network.module.modules())


def test_bands_follow_the_width_of_the_pattern_and_overlap() -> None:
    table = PatternTable(computed_psf(Objective(0.45, 0.52, 0.65), np.arange(-2.0, 81.0)))
    network = CascadeArchitecture.for_optics(table, (0.0, 80.0), "full")
    (low, first), (second, third), (fourth, high) = network.module.settings.bands_um
    assert (low, high) == (0.0, 80.0)
    assert second < first
    assert fourth < third
    live = CascadeArchitecture.for_optics(table, (0.0, 80.0), "live")
    (low, first), (second, high) = live.module.settings.bands_um
    assert (low, high) == (0.0, 80.0)
    assert second < first
    again = CascadeArchitecture.from_settings(network.settings)
    assert again.module.settings == network.module.settings


def test_detections_may_lie_farther_from_deep_emitters() -> None:
    near, far = lateral_scale_um(np.array([0.0, 100.0]))
    assert far > 2 * near


def test_the_quantized_network_finds_the_same_emitters() -> None:
    localizer = Localizer.load(reference_model("live"), precision="float32")
    quantized = Localizer.load(reference_model("live"), precision="int8")
    camera, scene = reference_camera(), reference_scene((128, 128), 6, 3)
    frames = np.stack([camera.expose(scene.render(0.3 * n, 0.009, 0.0), n) for n in range(8)])
    wanted, found = (each.localize(frames, np.arange(8)) for each in (localizer, quantized))
    assert len(wanted) > 20
    pairs = [
        np.linalg.norm(found.xyz_um[found.frame == n] - place, axis=1).min(initial=np.inf)
        for n, place in zip(wanted.frame, wanted.xyz_um, strict=True)
    ]
    assert np.median(pairs) < 0.5
    assert np.mean(np.array(pairs) < 3) > 0.9


def test_a_network_is_not_quantized_without_bounds() -> None:
    with pytest.raises(DataError, match="lacks the bounds"):
        Localizer.load(reference_model("full"), precision="int8")
