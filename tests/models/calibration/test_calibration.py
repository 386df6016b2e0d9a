"""Calibrations of sweeps whose truth is known, and of the real one."""

from __future__ import annotations

import functools
from pathlib import Path

import numpy as np
import pytest
from threadpoolctl import ThreadpoolController

from evaluation.beads.bead_scores import correlate_depths, score_depths
from models.calibration.beads import crowding
from models.calibration.calibrating import calibrate
from models.calibration.calibration import Calibration
from models.calibration.depth_axis import depth_axis
from models.calibration.report import with_report
from models.calibration.sweep import Sweep
from models.errors import DataError
from service.commands.calibrate import checkerboard
from tests.models.bead_sweeps import CAMERA, PIXEL_UM, Truth, pattern, simulate


@functools.cache
def walked() -> tuple[Calibration, Truth]:
    sweep, truth = simulate(walk_px_per_um=(0.05, -0.03), bleaching=0.3, tilt_um=(1.0, -0.5), beads=16)
    return calibrate(sweep, z_range_um=(2, 16), camera=CAMERA), truth


def test_focus_walk_tilt_and_bleaching_come_back() -> None:
    calibration, truth = walked()
    evidence = calibration.evidence
    assert evidence is not None
    assert calibration.report["beads_used"] == 16
    assert calibration.focus_um == pytest.approx(truth.focus_um, abs=0.5)  # half of a step
    slope = [np.polyfit(evidence.z_um, evidence.walk_um[:, axis], 1)[0] for axis in (0, 1)]
    assert slope == pytest.approx([0.05, -0.03], abs=0.01)
    assert calibration.report["light_end_over_start"] == pytest.approx(0.73, abs=0.05)
    # All beads are alike, so nothing is left to vary.
    variation = calibration.report["variation"]
    assert variation["height_um"] < 0.1
    assert variation["axial_scale"] == calibration.size_variation < 0.02
    heights = np.array([bead.height_um for bead in evidence.beads if bead.used])
    found = np.array([(bead.x_px, bead.y_px) for bead in evidence.beads if bead.used])
    nearest = np.hypot(*(found[:, None] - truth.positions_px[None]).transpose(2, 0, 1)).argmin(axis=1)
    expected = truth.heights_um[nearest]
    assert heights - np.median(heights) == pytest.approx(expected - np.median(expected), abs=0.25)
    # Positions are those in focus: the walk is out of them.
    assert np.hypot(*(found - truth.positions_px[nearest]).T).max() < 0.15


def test_pattern_is_the_true_one_normalized_and_quiet_outside() -> None:
    calibration, truth = walked()
    psf = calibration.psf
    sums = psf.planes.sum(axis=(1, 2)) / psf.oversampling**2
    assert sums == pytest.approx(np.ones(len(sums)), abs=1e-3)
    assert psf.z_um[0] <= 2
    assert psf.z_um[-1] >= 16
    pixels = np.arange(-20.0, 21.0)
    for depth in (4.0, 8.0, 14.0):
        depth_true = depth + calibration.focus_um - truth.focus_um
        image = psf.evaluate(pixels[None] * PIXEL_UM, pixels[:, None] * PIXEL_UM, np.float64(depth))
        expected = pattern(*np.meshgrid(pixels, pixels), depth_true)
        error = np.sqrt(((image - expected) ** 2).sum() / (expected**2).sum())
        assert error < 0.06  # noise of 16 beads and the heights' residual
    edge = psf.planes[:, 0, :]
    assert np.abs(edge).max() < 1e-6


def test_depth_grows_away_from_the_objective_in_both_sweep_directions() -> None:
    # The same beads, swept up and down: once the sample is moved, once the objective.
    for moves in ("sample", "objective"):
        axis = depth_axis(moves, 1.0, 1.0)  # type: ignore[arg-type]
        z = np.arange(-6.0, 21.0)
        stage = z if axis.sign > 0 else -z[::-1]
        sweep, _ = simulate(z_um=stage, focus_um=0.0, sign=axis.sign, beads=9)
        calibration = calibrate(sweep, z_range_um=(2, 16), camera=CAMERA, sign=axis.sign, axial_scale=axis.axial_scale)
        pixels = np.arange(-20.0, 21.0)
        for depth in (6.0, 12.0):
            frame = CAMERA.expose((20 + 60_000 * pattern(*np.meshgrid(pixels, pixels), depth)).astype(np.float32), 5)
            answer = correlate_depths(calibration, frame[None], np.array([[20.0, 20.0]]))
            assert answer[0, 0] == pytest.approx(depth, abs=0.7)


def test_axial_scale_stretches_depth() -> None:
    sweep, _ = simulate(beads=9)
    calibration = calibrate(sweep, z_range_um=(3, 20), camera=CAMERA, axial_scale=1.33)
    assert calibration.psf.z_step_um == pytest.approx(1.33)
    assert calibration.psf.z_um[-1] == pytest.approx(1.33 * (20 - calibration.focus_um), abs=1.4)


def test_noise_free_sweep_is_valid_and_says_so() -> None:
    sweep, _ = simulate(beads=9, noise=False)
    calibration = calibrate(sweep, z_range_um=(2, 16))
    assert calibration.camera.read_noise_e == 0
    assert calibration.camera.electrons_per_adu == 1
    assert any("no noise" in note for note in calibration.report["notes"])


def test_few_beads_give_camera_pixels_and_no_field() -> None:
    sweep, _ = simulate(beads=4)
    calibration = calibrate(sweep, z_range_um=(2, 16), camera=CAMERA)
    assert calibration.psf.oversampling == 1
    assert calibration.field is None


def test_reasons_are_stated() -> None:
    sweep, truth = simulate(beads=9)
    planes = sweep.planes.copy()
    rows, columns = np.indices(sweep.shape)
    electrons = np.zeros((len(planes), *sweep.shape))
    for x, y, light in ((2.0, 90.0, 60_000.0), (truth.positions_px[4, 0] + 5, truth.positions_px[4, 1], 60_000.0)):
        for index, position in enumerate(sweep.z_um):
            electrons[index] += light * pattern(columns - x, rows - y, position - truth.focus_um)
    planes = (planes + (electrons / CAMERA.electrons_per_adu)[:, None]).clip(0, 65535).astype(np.uint16)
    x, y = truth.positions_px[0].round().astype(int)
    planes[8:10, 0, y, x] = 65535
    calibration = calibrate(Sweep(planes, sweep.z_um, PIXEL_UM), z_range_um=(2, 16), camera=CAMERA)
    assert calibration.evidence is not None
    reasons = {bead.reason.split(":")[0] for bead in calibration.evidence.beads if not bead.used}
    assert {"at the edge", "touching", "saturated"} <= reasons


def test_a_bead_that_moves_on_its_own_is_left_out() -> None:
    sweep, truth = simulate(beads=9)
    planes = sweep.planes.copy()
    x, y = truth.positions_px[4].round().astype(int)
    for index in range(len(planes)):
        block = planes[index, 0, y - 22 : y + 23, x - 22 : x + 23]
        planes[index, 0, y - 22 : y + 23, x - 22 : x + 23] = np.roll(block, round(0.35 * (index - 8)), axis=1)
    calibration = calibrate(Sweep(planes, sweep.z_um, PIXEL_UM), z_range_um=(2, 16), camera=CAMERA)
    assert calibration.evidence is not None
    (bad,) = [bead for bead in calibration.evidence.beads if not bead.used]
    assert bad.reason.split(":")[0] in ("moved", "unlike the others")


def test_object_that_moves_is_refused() -> None:
    sweep, _ = simulate(beads=9)
    planes = np.stack([np.roll(plane, 4 * (index > 12), axis=-1) for index, plane in enumerate(sweep.planes)])
    with pytest.raises(DataError, match="moved"):
        calibrate(Sweep(planes, sweep.z_um, PIXEL_UM), z_range_um=(2, 16), camera=CAMERA)


def test_empty_field_is_refused() -> None:
    sweep, _ = simulate(beads=9, photons=0.0)
    with pytest.raises(DataError, match=r"Nothing changes with focus|No bead"):
        calibrate(sweep, z_range_um=(2, 16), camera=CAMERA)


def test_range_beyond_the_sweep_is_refused() -> None:
    sweep, _ = simulate(beads=9)
    with pytest.raises(DataError, match="not covered"):
        calibrate(sweep, z_range_um=(2, 40), camera=CAMERA)


def test_backwards_sweep_is_refused_with_the_hint() -> None:
    sweep, _ = simulate(beads=9, sign=-1, z_um=np.arange(-16.0, 7.0))
    with pytest.raises(DataError, match="--flip-z"):
        calibrate(sweep, z_range_um=(5, 15), camera=CAMERA)


def test_focus_outside_is_refused_unless_stated() -> None:
    sweep, _ = simulate(beads=9, z_um=np.arange(3.0, 24.0))
    with pytest.raises(DataError, match="end of the sweep"):
        calibrate(sweep, z_range_um=(2, 16), camera=CAMERA)
    stated = calibrate(sweep, z_range_um=(2, 16), camera=CAMERA, focus_um=2.3)
    assert stated.focus_um == pytest.approx(2.3)


def test_mask_without_beads_is_refused() -> None:
    sweep, _ = simulate(beads=9)
    with pytest.raises(DataError, match="None of the 9 beads"):
        calibrate(sweep, z_range_um=(2, 16), camera=CAMERA, mask=np.zeros(sweep.shape, bool))


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"z_range_um": (16.0, 2.0)}, "below its high end"),
        ({"z_range_um": (2.0, float("nan"))}, "below its high end"),
        ({"focus_um": float("nan")}, "must be a number"),
        ({"sign": 0}, "1 or -1"),
        ({"axial_scale": 0.0}, "positive"),
        ({"mask": np.ones((3, 3), bool)}, "mask has shape"),
    ],
)
def test_bad_requests_are_refused(arguments: dict[str, object], says: str) -> None:
    sweep, _ = simulate(beads=4)
    with pytest.raises(DataError, match=says):
        calibrate(sweep, camera=CAMERA, **arguments)  # type: ignore[arg-type]


def test_threads_of_linear_algebra_change_nothing() -> None:
    sweep, _ = simulate(beads=4)
    libraries = ThreadpoolController().select(user_api="blas")
    during: list[int] = []

    def count(_done: float, what: str) -> None:
        if what == "aligning":
            during.extend(library["num_threads"] for library in libraries.info())

    with libraries.limit(limits=2):
        calibrate(sweep, z_range_um=(2, 16), camera=CAMERA, progress=count)
        assert {library["num_threads"] for library in libraries.info()} == {2}
    assert set(during) == {1}


def test_saved_calibration_comes_back_with_its_report(tmp_path: Path) -> None:
    calibration, _ = walked()
    with_report(calibration).save(tmp_path / "c")
    loaded = Calibration.load(tmp_path / "c")
    assert loaded.as_dict() == calibration.as_dict()
    np.testing.assert_array_equal(loaded.psf.planes, calibration.psf.planes)
    page = (tmp_path / "c" / "report.html").read_text(encoding="utf-8")
    assert page.count("data:image/png;base64,") >= 7
    assert "://" not in page  # nothing is fetched; the letters alone may be in a picture
    loaded.save(tmp_path / "again")
    assert (tmp_path / "again" / "report.html").read_text(encoding="utf-8") == page
    assert Calibration.is_folder(tmp_path / "again")
    assert not Calibration.is_folder(tmp_path)


@pytest.mark.parametrize("damage", ["missing", "cut", "other", "no psf"])
def test_damaged_folders_are_refused(tmp_path: Path, damage: str) -> None:
    calibration, _ = walked()
    folder = tmp_path / "c"
    if damage != "missing":
        calibration.save(folder)
    path = folder / "calibration.json"
    if damage == "cut":
        path.write_text(path.read_text(encoding="utf-8")[:100], encoding="utf-8")
    elif damage == "other":
        path.write_text('{"kind": "recipe", "version": 1}', encoding="utf-8")
    elif damage == "no psf":
        (folder / "psf.zarr" / "zarr.json").unlink()
    with pytest.raises(DataError):
        Calibration.load(folder)


@pytest.fixture(scope="module")
def real_sweep(shared_data: Path) -> Sweep:
    from hardware.sweeps import open_sweep

    recorded = open_sweep(shared_data / "beads-10x-na045" / "zsweep.ome.tif")
    return Sweep.from_steps(recorded.planes, pixel_size_um=1.6, z_step_um=1.0, z_start_um=-50.0)


@pytest.fixture(scope="module")
def black_squares(real_sweep: Sweep) -> Calibration:
    return calibrate(real_sweep, z_range_um=(3, 55), mask=checkerboard(real_sweep.shape, 64, "black"))


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_real_sweep_is_understood(black_squares: Calibration) -> None:
    calibration = black_squares
    assert 75 <= _usable(calibration) <= 92  # about 88 beads are usable, some of them touch
    assert calibration.focus_um + 50 == pytest.approx(49.6, abs=1.5)
    camera = calibration.camera
    assert 96 < camera.offset_adu < 101
    assert camera.read_noise_e / camera.electrons_per_adu == pytest.approx(3.9, rel=0.1)
    # The published figure is about 8.3 e-/ADU. Repeats of defocused planes, which shake least, give 9.8 to 10.5 at
    # every plane and binning: vibration adds to the noise of bright pixels, and lowers the gain read off them.
    assert camera.electrons_per_adu == pytest.approx(8.3, rel=0.3)
    assert calibration.size_variation < 0.03


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_beads_of_the_white_squares_are_found_with_the_pattern_of_the_black_ones(
    black_squares: Calibration, real_sweep: Sweep
) -> None:
    calibration, sweep = black_squares, real_sweep
    evidence, field = calibration.evidence, calibration.field
    assert evidence is not None
    assert field is not None
    white = checkerboard(sweep.shape, 64, "white")
    places = np.array([(bead.x_px, bead.y_px) for bead in evidence.beads])
    margin = float(calibration.psf.radius_px)
    inside = ((places > margin / 2) & (places < 511 - margin / 2)).all(axis=1)
    on_white = white[places[:, 1].round().astype(int).clip(0, 511), places[:, 0].round().astype(int).clip(0, 511)]
    # Isolated: patterns of 19 pixels radius do not overlap even at the end of the range.
    chosen = places[inside & on_white & (crowding(places) > 38)] * sweep.pixel_size_um
    z_um = sweep.z_um - calibration.focus_um
    planes = np.nonzero((z_um > 5) & (z_um <= 55))[0]  # as the published figures
    walk = np.stack([np.interp(z_um[planes], evidence.z_um, evidence.walk_um[:, axis]) for axis in (0, 1)], axis=1)
    depths = correlate_depths(calibration, sweep.planes[planes, 1], chosen, walk_um=walk)
    plain = score_depths(depths, z_um[planes], chosen)
    mapped = score_depths(depths - field.depth_error_at(chosen[:, 0], chosen[:, 1], depths), z_um[planes], chosen)
    print(f"{len(chosen)} unseen isolated beads\nplain  {plain}\nmapped {mapped}")
    assert plain.sigma_um is not None
    assert mapped.sigma_um is not None
    assert plain.found > 0.98
    assert plain.sigma_um <= 0.7
    assert mapped.sigma_um <= 0.4


def _usable(calibration: Calibration) -> int:
    """Beads that are used, or were left out only because they lie on the other squares."""
    assert calibration.evidence is not None
    return sum(bead.used or bead.reason.startswith("outside the places") for bead in calibration.evidence.beads)
