"""A replayed movie with a table of the truth."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tifffile
from structlog.testing import capture_logs

from hardware.microscope import MicroscopeError
from models.errors import DataError
from service.engine.opening import open_instrument
from service.settings import load_settings


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
    truth = microscope.truth
    assert truth is not None
    assert truth(0).tolist() == [[-1, 1.5, 2, 30]]
    assert truth(1).tolist() == [[-1, 4, 5, 60]]
    microscope.close()
