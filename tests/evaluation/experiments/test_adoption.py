"""Other optics: equal properties, calibration from their sweep, and the whole experiment in its quick size."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from evaluation.experiments import adoption
from evaluation.experiments.benchmark import Benchmark, MethodRun
from evaluation.optics.benchmark_optics import exact_optics, hidden_benchmark_optics
from evaluation.optics.hidden_optics import draw_hidden_optics
from evaluation.optics.other_optics import OTHER_OPTICS, calibrate_sweep, other_benchmark_optics, simulate_sweep
from models.errors import DataError
from models.optics import REFERENCE_OPTICS
from models.weights import reference_model
from tests.conftest import need


@pytest.mark.parametrize("other", OTHER_OPTICS, ids=lambda other: other.name)
def test_the_cone_is_as_wide_in_pixels_as_in_the_reference_optics(other: Any) -> None:
    radius_px = other.depths_um()[1] * other.in_sample.cone_tangent / other.objective.pixel_size_um
    reference_px = 100.0 * REFERENCE_OPTICS.cone_tangent / REFERENCE_OPTICS.pixel_size_um
    # Aberrations and diffraction widen patterns beside it, each optics' in its own way.
    assert radius_px == pytest.approx(reference_px, rel=0.15)
    assert other.side_um / other.objective.pixel_size_um == pytest.approx(100.0 / 0.65)
    assert other.hidden().spherical_waves != draw_hidden_optics().spherical_waves


def test_a_sweep_in_air_gives_the_depths_in_water(tmp_path: Path) -> None:
    need("psf_generator")
    water = OTHER_OPTICS[2]
    learned = calibrate_sweep(water, simulate_sweep(water, tmp_path, quick=True), lambda _done, _what: None, quick=True)
    assert learned.axial_scale == 1.33
    optics = other_benchmark_optics(water, learned, tmp_path, quick=True)
    depth = 25.0
    image = np.zeros((96, 96), np.float32)
    # In the middle of the small field that was calibrated, so that curvature is the same.
    optics.render(np.array([[31.0, 31.0, depth, 1e5]]), image)
    places = np.arange(96) * 0.65
    depths = np.arange(20.0, 30.0, 0.25)
    alike = [
        np.corrcoef(
            learned.psf.evaluate(places[None, :] - 31.0, places[:, None] - 31.0, np.array(z)).ravel(), image.ravel()
        )[0, 1]
        for z in depths
    ]
    # The mismatch makes the marginal rays' scale 3 % larger than the ratio of the indices; curvature adds a little.
    assert depths[int(np.argmax(alike))] == pytest.approx(depth, abs=0.05 * depth)
    assert max(alike) > 0.99


def test_adoption_without_the_network_is_refused() -> None:
    optics = exact_optics()
    benchmark = Benchmark(optics, [MethodRun("mle", "mle", optics.calibration, "exact")], True, 1)
    with pytest.raises(DataError, match="None of the methods is cascade"):
        adoption.run(benchmark)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_other_optics_are_adopted_and_an_interrupted_run_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    optics = hidden_benchmark_optics(tmp_path, quick=True)

    def benchmark() -> Benchmark:
        shipped = MethodRun("cascade (computed)", "cascade", optics.calibration, "computed", reference_model())
        return Benchmark(optics, [shipped], True, 5, minutes=0.1, workshop=tmp_path / "workshop")

    tables = adoption.run(benchmark())
    rows = [row for row in tables["adoption"] if row["tolerance_share"] == 0.1]
    assert [row["optics"] for row in rows] == ["reference optics", OTHER_OPTICS[0].name]
    assert rows[0]["over_reference"] == 0.0
    assert rows[1]["over_reference"] == rows[1]["jaccard"] - rows[0]["jaccard"]
    reference, other = tables["adoption-cost"]
    # Near focus, where the quick size stays, patterns are as wide as diffraction makes them, not as the cone does.
    assert 0.5 < other["seeding_density"] / reference["seeding_density"] < 2
    assert other["training_minutes"] > 0
    assert other["beads_used"] >= 5
    monkeypatch.setattr(adoption, "train", None)
    again = adoption.run(benchmark())
    assert json.dumps(again["adoption-cost"]) == json.dumps(tables["adoption-cost"])
    assert [row["jaccard"] for row in again["adoption"]] == [row["jaccard"] for row in tables["adoption"]]
    adoption.draw(tables, tmp_path, "Simulated.")
    assert (tmp_path / "adoption.png").stat().st_size > 20_000
