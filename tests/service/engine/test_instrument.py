"""A model and a microscope that do not belong together."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import tifffile
from structlog.testing import capture_logs

from hardware.limits import LimitedMicroscope
from hardware.microscope import Frame, MicroscopeError
from models.errors import DataError
from models.localization import Localizer
from models.scene import reference_camera, reference_scene
from models.weights import reference_model
from service.engine.accuracy import truth_source
from service.engine.instrument import check_fit, load_model
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


def test_a_model_polishes_with_its_own_pattern(settings: Settings) -> None:
    loaded = load_model(None, settings)
    camera, scene = reference_camera(), reference_scene((96, 96), 1, 5)
    frame = Frame(camera.expose(scene.render(0.0, 0.009, 0.0), 1), 0, 0.0, "test", 0.0)
    found = loaded.localizer.localize(frame.pixels[None], np.zeros(1, np.int64))
    assert len(found)
    polish = loaded.polish()
    refined = polish.polish([frame], [found], until_s=np.inf)[0]
    assert polish.frames == 1
    assert np.isfinite(refined.chi2).all()


@pytest.mark.parametrize(
    ("table", "says"),
    [
        (",frame,x_um,y_um,z_um,who\n0,0.0,1.5,2,30,a\n1,1.0,4,5,60,b\n", None),
        ("frame;x_um;y_um;z_um\n0;1,5;2;30\n1;4;5;60\n", None),
        ("frame,x_um,y_um,z_um\n0,1.5,2,30\n2,4,5,60\n", "names the frames 0 to 2; .* has 2 from 0 on"),
        ("frame,x_um,y_um,z_um\n0,1500,2000,30000\n", "z_um is 30000.0; it must be at most 10000 µm"),
        ("frame,x [nm],y_um,z_um\n0,1.5,2,30\n", "'x .nm.' may be x_um"),
    ],
)
def test_the_truth_of_a_replayed_movie_may_come_from_any_program(tmp_path: Path, table: str, says: str | None) -> None:
    tifffile.imwrite(tmp_path / "movie.tif", np.zeros((2, 64, 64), np.uint16), photometric="minisblack")
    (tmp_path / "truth.csv").write_text(table)
    replay = {"movie": tmp_path / "movie.tif", "truth": tmp_path / "truth.csv", "fps": 10.0}
    settings = load_settings(command_line={"microscope": {"driver": "replay", "replay": replay}}, environment={})
    if says is not None:
        with pytest.raises((DataError, MicroscopeError), match=says):
            open_instrument(settings)
        return
    with capture_logs() as logged:
        microscope = open_instrument(settings)
    assert [entry["event"] for entry in logged] == (["truth_table"] if "who" in table else [])
    truth = truth_source(microscope)
    assert truth is not None
    assert truth(0).tolist() == [[-1, 1.5, 2, 30]]
    assert truth(1).tolist() == [[-1, 4, 5, 60]]
    microscope.close()
