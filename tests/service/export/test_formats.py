"""Exported tracks, read back: by this project's readers, by the structure, and by the programs they are meant for."""

from __future__ import annotations

import csv
import json
import re
import subprocess
import zipfile
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
import zarr

from models.errors import DataError
from models.table_files import read_table
from models.tables import Tracks
from service.export import geff, trackmate
from service.export.blocks import counted, located, of_equal_length, sorted_blocks
from service.export.formats import FORMATS
from service.export.origin import Origin
from tests.conftest import need
from tests.service.export.samples import EDGES, ORIGIN, long_tracks, readable_tracks, sample_tracks


def parts(tracks: Tracks) -> Iterable[Tracks]:
    """The tracks in blocks that divide a track, with an empty one between."""
    return [tracks.select(slice(0, 3)), Tracks.empty(), tracks.select(slice(3, 7)), tracks.select(slice(7, None))]


def exported(folder: Path, name: str, tracks: Tracks | None = None, origin: Origin = ORIGIN) -> Path:
    form = FORMATS[name]
    path = folder / f"tracks{form.suffixes[0]}"
    form.write(path, parts(sample_tracks() if tracks is None else tracks), origin)
    return path


def read_elsewhere(program: str, path: Path) -> Any:
    """What a program of the readers' environment prints as JSON; its argument is the path."""
    python = need("track readers")
    done = subprocess.run(
        [str(python), "-W", "ignore", "-c", program, str(path)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


# ---- all formats ----


@pytest.mark.parametrize("name", FORMATS)
def test_an_output_is_known_as_its_own_format_and_no_other(tmp_path: Path, name: str) -> None:
    path = exported(tmp_path, name)
    same = {"csv", "parquet"} if name in ("csv", "parquet") else {name}
    assert {other for other, form in FORMATS.items() if form.is_ours(path)} == same
    assert not any(form.is_ours(tmp_path / "none") for form in FORMATS.values())
    (tmp_path / "text.csv").write_text("a,b\n1,2\n")
    (tmp_path / "folder").mkdir()
    for other in ("text.csv", "folder"):
        assert not any(form.is_ours(tmp_path / other) for form in FORMATS.values())


@pytest.mark.parametrize("name", FORMATS)
def test_no_tracks_are_an_output_without_points(tmp_path: Path, name: str) -> None:
    path = tmp_path / f"tracks{FORMATS[name].suffixes[0]}"
    FORMATS[name].write(path, [], ORIGIN)
    assert FORMATS[name].is_ours(path)


@pytest.mark.parametrize("name", FORMATS)
def test_a_file_for_sending_is_one_file(tmp_path: Path, name: str) -> None:
    written = FORMATS[name].write_file(tmp_path, "run-r2", [sample_tracks()], ORIGIN)
    assert [written] == list(tmp_path.iterdir())
    if not FORMATS[name].is_folder:
        assert written.name == f"run-r2{FORMATS[name].suffixes[0]}"
        return
    assert written.name == "run-r2.geff.zip"
    with zipfile.ZipFile(written) as archive:
        archive.extractall(tmp_path)
    assert FORMATS[name].is_ours(tmp_path / "run-r2.geff")


def test_blocks_keep_every_row_in_order() -> None:
    tracks = sample_tracks()
    shuffled = tracks.select(np.array([4, 9, 0, 7, 1, 2, 8, 3, 5, 6]))
    blocks = list(of_equal_length(sorted_blocks(shuffled, 3), 4))
    assert [len(block) for block in blocks] == [4, 4, 2]
    whole = Tracks.concatenate(blocks)
    for name, column in tracks.columns().items():
        np.testing.assert_array_equal(getattr(whole, name), column)
    assert list(of_equal_length([], 4)) == []
    done: list[int] = []
    assert sum(len(block) for block in counted(parts(tracks), done.append)) == 10
    assert done == [0, 3, 3, 7, 10]
    lost = replace(tracks, z_um=np.where(np.arange(10) == 2, np.nan, tracks.z_um))
    assert len(Tracks.concatenate(located([lost]))) == 9


# ---- CSV and Parquet ----


@pytest.mark.parametrize("name", ["csv", "parquet"])
def test_a_table_holds_every_number(tmp_path: Path, name: str) -> None:
    known = readable_tracks()
    found = read_table(exported(tmp_path, name, known), Tracks)
    for column, values in known.columns().items():
        np.testing.assert_array_equal(getattr(found, column), values)


def test_an_unknown_figure_is_an_empty_cell(tmp_path: Path) -> None:
    with exported(tmp_path, "csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == list(Tracks.names())
    assert [row["probability"] for row in rows[:3]] == ["0.875", "", "0.875"]
    assert (rows[6]["sigma_z_um"], rows[9]["track_id"]) == ("", str(2**40))


# ---- GEFF ----


def test_geff_has_nodes_edges_axes_and_units(tmp_path: Path) -> None:
    tracks = sample_tracks()
    group = zarr.open_group(exported(tmp_path, "geff"), mode="r")
    about: Any = group.attrs["geff"]
    axes = [(axis["name"], axis["type"], axis["unit"]) for axis in about["axes"]]
    assert axes == [("t", "time", "second"), *((axis, "space", "micrometer") for axis in "zyx")]
    assert (about["axes"][3]["min"], about["axes"][3]["max"]) == (10.0, pytest.approx(10.9))
    assert about["extra"]["bathyscope"]["revision"] == 2
    assert about["extra"]["bathyscope"]["source"] == ORIGIN.source
    assert group["nodes/ids"][:].tolist() == list(range(10))  # type: ignore[index, union-attr]
    assert [tuple(pair) for pair in group["edges/ids"][:].tolist()] == EDGES  # type: ignore[index, union-attr]
    for name, column in {"t": "t_s", "z": "z_um", "vx": "vx_um_s", "sigma_z": "sigma_z_um", "frame": "frame"}.items():
        np.testing.assert_array_equal(group[f"nodes/props/{name}/values"][:], getattr(tracks, column))  # type: ignore[index]
    missing = group["nodes/props/probability/missing"][:]  # type: ignore[index]
    np.testing.assert_array_equal(missing, np.isnan(tracks.probability))
    assert "missing" not in group["nodes/props/x"]  # type: ignore[operator]


def test_geff_is_written_in_chunks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(geff, "_ROWS", 64)
    tracks = long_tracks(7, 50)
    geff.write(tmp_path / "a.geff", sorted_blocks(tracks, 33), ORIGIN)
    group = zarr.open_group(tmp_path / "a.geff", mode="r")
    edges = group["edges/ids"][:]  # type: ignore[index]
    np.testing.assert_array_equal(edges[:, 1] - edges[:, 0], 1)  # type: ignore[index, operator]
    assert len(edges) == 7 * 49  # type: ignore[arg-type]
    np.testing.assert_array_equal(group["nodes/props/x/values"][:], tracks.x_um)  # type: ignore[index]
    assert np.all(group["nodes/props/probability/missing"][:])  # type: ignore[index]


_GEFF = """
import json, sys
import numpy as np
from geff.core_io import read_to_memory
from geff.validate.data import ValidationConfig, validate_data
from geff.validate.structure import validate_structure
validate_structure(sys.argv[1])
found = read_to_memory(sys.argv[1])
validate_data(found, ValidationConfig(graph=True, tracklet=True, lineage=True))
props = {name: part["values"].tolist() for name, part in found["node_props"].items() if part["missing"] is None}
units = {axis.name: axis.unit for axis in found["metadata"].axes}
print(json.dumps({"props": props, "edges": found["edge_ids"].tolist(), "units": units}))
"""


@pytest.mark.parametrize("which", ["some", "none", "many"])
def test_the_package_geff_validates_and_reads_it(tmp_path: Path, which: str) -> None:
    tracks = {"some": sample_tracks(), "none": Tracks.empty(), "many": long_tracks(3, 30_000)}[which]
    found = read_elsewhere(_GEFF, exported(tmp_path, "geff", tracks))
    assert found["units"] == {"t": "second", "z": "micrometer", "y": "micrometer", "x": "micrometer"}
    assert len(found["edges"]) == {"some": len(EDGES), "none": 0, "many": 3 * 29_999}[which]
    for name, column in {"track_id": "track_id", "t": "t_s", "z": "z_um", "y": "y_um", "x": "x_um"}.items():
        assert found["props"][name] == getattr(tracks, column).tolist()


# ---- TrackMate ----


def test_trackmate_has_the_elements_that_its_reader_demands(tmp_path: Path) -> None:
    tracks = sample_tracks()
    root = ElementTree.parse(exported(tmp_path, "trackmate")).getroot()
    model, settings = root.find("Model"), root.find("Settings")
    assert model is not None
    assert settings is not None
    assert model.attrib == {"spatialunits": "µm", "timeunits": "sec"}
    assert root.findtext("Log") is not None
    assert "name: beads & <water>" in str(root.findtext("Log"))

    spots = {int(spot.attrib["ID"]): spot.attrib for spot in model.iter("Spot")}
    assert sorted(spots) == list(range(10))
    for row, spot in spots.items():
        assert (float(spot["POSITION_X"]), float(spot["POSITION_Z"])) == (tracks.x_um[row], tracks.z_um[row])
        assert (int(spot["FRAME"]), float(spot["POSITION_T"])) == (tracks.frame[row], tracks.t_s[row])
    frames = [int(frame.attrib["frame"]) for frame in model.iter("SpotsInFrame")]
    assert frames == sorted(tracks.frame.tolist())
    assert "PROBABILITY" not in spots[1]
    assert (spots[0]["QUALITY"], spots[1]["QUALITY"], spots[2]["OBSERVED"]) == ("0.875", "1.0", "0")
    declared = {feature.attrib["feature"] for feature in model.iter("Feature")}
    assert {*spots[0], *(name for each in model.iter("Edge") for name in each.attrib)} - declared == {"ID", "name"}

    edges = [(int(edge.attrib["SPOT_SOURCE_ID"]), int(edge.attrib["SPOT_TARGET_ID"])) for edge in model.iter("Edge")]
    assert edges == EDGES
    named = [(track.attrib["name"], track.attrib["TRACK_ID"]) for track in model.iter("Track")]
    # An id beyond Java's int is in the table, so that all of them are numbered; a single point is no track there.
    assert named == [("Track_3", "0"), ("Track_8", "1")]
    assert [track.attrib["TRACK_ID"] for track in model.iter("TrackID")] == ["0", "1"]
    image = settings.find("ImageData")
    assert image is not None
    assert (image.attrib["pixelwidth"], image.attrib["nframes"]) == ("0.65", "15")
    assert float(image.attrib["timeinterval"]) == pytest.approx(0.01)
    for name in ("BasicSettings", "DetectorSettings", "InitialSpotFilter", "SpotFilterCollection", "TrackerSettings"):
        assert settings.find(name) is not None
    assert root.find("GUIState") is not None


def test_trackmate_keeps_ids_that_it_can_hold(tmp_path: Path) -> None:
    path = exported(tmp_path, "trackmate", sample_tracks().select(slice(0, 9)))
    assert re.findall(r'<TrackID TRACK_ID="(\d+)"', path.read_text()) == ["3", "8"]


def test_a_trackmate_file_that_does_not_fit_into_the_memory_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("models.memory.spare_bytes", lambda: 100)
    with pytest.raises(DataError, match="TrackMate"):
        trackmate.write(tmp_path / "a.xml", [sample_tracks()], ORIGIN)


_PYCELLIN = """
import json, sys
from pycellin.io.trackmate.loader import load_TrackMate_XML
model = load_TrackMate_XML(sys.argv[1])
about = model.model_metadata
lineages = {str(key): [len(each.nodes), len(each.edges)] for key, each in model.data.cell_data.items()}
print(json.dumps({"lineages": lineages, "units": [about.space_unit, about.time_unit], "step": about.time_step}))
"""

_GEFF_OF_TRACKMATE = """
import json, sys, tempfile
import geff
from geff.convert import from_trackmate_xml_to_geff
target = tempfile.mkdtemp() + "/a.geff"
from_trackmate_xml_to_geff(sys.argv[1], target)
graph, about = geff.read(target, backend="networkx")
places = {str(node): values["POSITION_Z"] for node, values in graph.nodes.items()}
print(json.dumps({"edges": sorted(graph.edges), "places": places}))
"""


def test_other_readers_read_the_trackmate_file(tmp_path: Path) -> None:
    tracks = sample_tracks().select(slice(0, 9))
    path = exported(tmp_path, "trackmate", tracks)
    found = read_elsewhere(_PYCELLIN, path)
    assert found["lineages"] == {"3": [5, 4], "8": [4, 3]}
    assert found["units"] == ["µm", "sec"]
    assert found["step"] == pytest.approx(0.01)
    graph = read_elsewhere(_GEFF_OF_TRACKMATE, path)
    assert [tuple(edge) for edge in graph["edges"]] == EDGES
    assert graph["places"] == {str(row): tracks.z_um[row] for row in range(9)}


# ---- napari ----


def test_napari_gets_its_array_in_the_first_columns(tmp_path: Path) -> None:
    tracks = sample_tracks()
    with exported(tmp_path, "napari").open(newline="") as file:
        rows = list(csv.reader(file))
    assert rows[0][:6] == ["track_id", "t", "z", "y", "x", "t_s"]
    assert rows[0][-1] == "probability"
    array = np.array([row[:5] for row in rows[1:]], float)
    columns = (tracks.track_id, tracks.frame, tracks.z_um, tracks.y_um, tracks.x_um)
    np.testing.assert_array_equal(array, np.column_stack(columns))


_NAPARI = """
import json, sys
import pandas
from napari.layers import Tracks
table = pandas.read_csv(sys.argv[1])
layer = Tracks(table[["track_id", "t", "z", "y", "x"]], features=table)
print(json.dumps({"data": layer.data.tolist(), "sigma": layer.features["sigma_x_um"].tolist(), "n": layer.ndim}))
"""


def test_a_layer_of_napari_takes_it(tmp_path: Path) -> None:
    tracks = sample_tracks()
    found = read_elsewhere(_NAPARI, exported(tmp_path, "napari"))
    columns = (tracks.track_id, tracks.frame, tracks.z_um, tracks.y_um, tracks.x_um)
    np.testing.assert_array_equal(found["data"], np.column_stack(columns))
    assert found["sigma"] == tracks.sigma_x_um.tolist()
    assert found["n"] == 4
