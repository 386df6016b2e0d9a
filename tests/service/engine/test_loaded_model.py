"""A model and a microscope that do not belong together."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest

from hardware.limits import LimitedMicroscope
from hardware.microscope import Frame
from models.errors import DataError
from models.localization import Localizer
from models.scene import reference_camera, reference_scene
from models.weights import reference_model
from service.engine.loaded_model import check_fit, load_model
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
    with pytest.raises(DataError, match="8-bit counts"):
        check_fit(localizer, microscope.description, microscope.camera_settings)


def test_a_model_refines_with_its_own_psf(settings: Settings) -> None:
    loaded = load_model(None, settings)
    camera, scene = reference_camera(), reference_scene((96, 96), 1, 5)
    frame = Frame(camera.expose(scene.render(0.0, 0.009, 0.0), 1), 0, 0.0, "test", 0.0)
    found = loaded.localizer.localize(frame.pixels[None], np.zeros(1, np.int64))
    assert len(found)
    refinement = loaded.live_refinement()
    refined = refinement.refine([frame], [found], [None], until_s=np.inf)[0]
    assert refinement.frames == 1
    assert np.isfinite(refined.chi2).all()
