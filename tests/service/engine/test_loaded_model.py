"""A model and a microscope that do not belong together."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from hardware.limits import LimitedMicroscope
from models.errors import DataError
from models.localization import Localizer
from models.weights import reference_model
from service.engine.fit_time import EFFORTS
from service.engine.loaded_model import check_fit, load_model, warm_up
from service.engine.opening import open_instrument
from service.settings import Settings, load_settings


@pytest.fixture
def settings() -> Settings:
    return load_settings(command_line={"microscope": {"simulated": {"height": 64, "width": 64}}}, environment={})


@pytest.fixture
def microscope(settings: Settings) -> Iterator[LimitedMicroscope]:
    opened = open_instrument(settings)
    yield opened
    opened.close()


@pytest.fixture
def localizer() -> Localizer:
    return Localizer.load(reference_model())


def test_the_shipped_model_fits_the_simulated_microscope(localizer: Localizer, microscope: LimitedMicroscope) -> None:
    check_fit(localizer, microscope.description, microscope.camera_settings)


def test_a_model_of_other_optics_is_refused(localizer: Localizer, microscope: LimitedMicroscope) -> None:
    localizer.card = replace(localizer.card, pixel_size_um=1.6)
    with pytest.raises(DataError, match=r"0\.65 µm per pixel at the sample; the model .* was made for 1\.6 µm") as said:
        check_fit(localizer, microscope.description, microscope.camera_settings)
    assert "choose another model" in said.value.remedy


def test_a_model_of_a_camera_of_another_depth_is_refused(
    localizer: Localizer, microscope: LimitedMicroscope, monkeypatch: pytest.MonkeyPatch
) -> None:
    counts_of_8_bits = replace(microscope.description, bit_depth=8)
    monkeypatch.setattr(LimitedMicroscope, "description", counts_of_8_bits)
    with pytest.raises(DataError, match=r"counts with 8 bits; the model .* was made for a camera with 16"):
        check_fit(localizer, microscope.description, microscope.camera_settings)


def test_the_time_of_the_fit_is_measured_before_a_run(settings: Settings) -> None:
    loaded = load_model(None, settings)
    assert loaded.fit_cost is None
    warm_up(loaded, (64, 64), 0.01, settings, fits=False)
    assert loaded.fit_cost is None
    warm_up(loaded, (64, 64), 0.01, settings)
    assert loaded.fit_cost is not None
    assert loaded.fit_cost.emitter_s.keys() == EFFORTS.keys()
    assert all(cost_s > 0 for cost_s in loaded.fit_cost.emitter_s.values())


def test_a_model_without_a_psf_is_not_fitted(settings: Settings, tmp_path: Path) -> None:
    folder = shutil.copytree(reference_model("live"), tmp_path / "model")
    card = json.loads((folder / "model.json").read_text())
    (folder / "model.json").write_text(json.dumps({**card, "calibration_id": "lost"}))
    loaded = load_model(folder, settings)
    assert loaded.localizer.image_model is None
    warm_up(loaded, (64, 64), 0.01, settings)
    assert loaded.fit_cost is None
