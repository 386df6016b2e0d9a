"""Exports with the figures of tracks, read back."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pyarrow.parquet
import pytest
import zarr

from models.measures import TrackMeasures, measure
from models.table_files import read_table, write_table
from models.tables import Localizations, Tracks
from service.export.formats import FORMATS
from service.export.measured import COLUMNS, FIGURES, Measured
from service.export.source import tracks_of_run, tracks_of_table
from service.files.library import Library
from service.store.result_batch import ResultBatch
from service.store.runs import LEDGER_KEYS
from service.store.store import Store
from tests.service.export.samples import ORIGIN, readable_tracks
from tests.service.export.test_formats import parts, read_elsewhere

LENGTH = 60


def walks() -> tuple[Tracks, Localizations]:
    """Two random walks of 60 points and a track of one point, and their localizations."""
    rng = np.random.default_rng(3)
    frame = np.tile(np.arange(LENGTH), 2)
    place = np.cumsum(rng.normal(0, 0.3, (2, LENGTH, 3)), axis=1).reshape(-1, 3) + 40.0
    ids = np.repeat([2, 5], LENGTH)
    frame, ids, place = np.append(frame, 7), np.append(ids, 9), np.vstack([place, [80.0, 80.0, 80.0]])
    half = {name: np.full(len(ids), 0.5) for name in {*Tracks.names(), *Localizations.names()}}
    half |= {"frame": frame, "t_s": frame / 100, "track_id": ids, "observed": np.ones(len(ids))}
    half |= dict(zip(("x_um", "y_um", "z_um"), place.T, strict=True))
    half |= {f"sigma_{axis}_um": np.full(len(ids), 0.05) for axis in "xyz"}
    order = np.argsort(frame, kind="stable")
    found = Localizations.from_columns({name: half[name][order] for name in Localizations.names()})
    return Tracks.from_columns({name: half[name] for name in Tracks.names()}), found


def exported(folder: Path, name: str) -> tuple[Path, TrackMeasures]:
    tracks, found = walks()
    table = measure(tracks, found).tracks
    path = folder / f"tracks{FORMATS[name].suffixes[0]}"
    FORMATS[name].write(path, parts(tracks), ORIGIN, Measured.of(table))
    assert FORMATS[name].is_ours(path)
    return path, table


def per_point(table: TrackMeasures, name: str) -> np.ndarray:
    return np.repeat(table.columns()[name], [LENGTH, LENGTH, 1])


def test_each_figure_has_its_name_and_its_value() -> None:
    tracks, found = walks()
    table = measure(tracks, found).tracks
    columns = Measured.of(table).of_points(tracks)
    assert list(columns) == list(COLUMNS) == [f"track_{name}" for name in FIGURES]
    assert np.isfinite(table.diffusion_um2_s[:2]).all()
    for column, name in COLUMNS.items():
        np.testing.assert_array_equal(columns[column], per_point(table, name))
    assert np.isnan(Measured.of(TrackMeasures.empty()).of_points(tracks)["track_speed_um_s"]).all()


@pytest.mark.parametrize("name", ["csv", "napari"])
def test_a_csv_table_repeats_the_figures_at_each_point(tmp_path: Path, name: str) -> None:
    path, table = exported(tmp_path, name)
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0])[-len(COLUMNS) :] == list(COLUMNS)
    for column, figure in COLUMNS.items():
        values = [float(row[column] or "nan") for row in rows]
        np.testing.assert_allclose(values, per_point(table, figure), rtol=1e-12)
    assert rows[-1]["track_speed_um_s"] == ""
    if name == "csv":  # it is still a table of tracks
        assert len(read_table(path, Tracks, lambda _: None)) == 2 * LENGTH + 1


def test_a_parquet_table_has_the_figures(tmp_path: Path) -> None:
    path, table = exported(tmp_path, "parquet")
    read = pyarrow.parquet.read_table(path)
    for column, figure in COLUMNS.items():
        values = read.column(column).to_numpy()
        np.testing.assert_array_equal(values, per_point(table, figure))
    assert read.column("track_speed_um_s").null_count == 1


def test_geff_has_the_figures_as_properties_of_nodes(tmp_path: Path) -> None:
    path, table = exported(tmp_path, "geff")
    group = zarr.open_group(path, mode="r")
    about: object = group.attrs["geff"]
    assert isinstance(about, dict)
    for column, figure in COLUMNS.items():
        assert about["node_props_metadata"][column]["unit"] == FIGURES[figure]
        values, missing = np.asarray(group[f"nodes/props/{column}/values"]), np.isnan(per_point(table, figure))
        np.testing.assert_array_equal(values[~missing], per_point(table, figure)[~missing])
        if missing.any():
            np.testing.assert_array_equal(np.asarray(group[f"nodes/props/{column}/missing"]), missing)


def test_trackmate_has_the_figures_as_features_of_tracks(tmp_path: Path) -> None:
    path, table = exported(tmp_path, "trackmate")
    root = ElementTree.parse(path).getroot()
    declared = {each.attrib["feature"]: each.attrib for each in root.iter("Feature")}
    tracks = [each.attrib for each in root.iter("Track")]
    assert [track["TRACK_ID"] for track in tracks] == ["2", "5"]
    names = {
        "TRACK_DURATION": "duration_s",
        "TRACK_DISPLACEMENT": "displacement_um",
        "TOTAL_DISTANCE_TRAVELED": "path_um",
        "TRACK_MEAN_SPEED": "speed_um_s",
        "CONFINEMENT_RATIO": "straightness",
        "DIFFUSION_COEFFICIENT": "diffusion_um2_s",
        "DIFFUSION_LOW": "diffusion_um2_s_low",
        "DIFFUSION_HIGH": "diffusion_um2_s_high",
        "MSD_EXPONENT": "exponent",
    }
    assert declared["TRACK_MEAN_SPEED"]["dimension"] == "VELOCITY"
    for feature, name in names.items():
        assert feature in declared
        values = [float(track.get(feature, "nan")) for track in tracks]
        np.testing.assert_allclose(values, table.columns()[name][:2], rtol=1e-12, err_msg=name)
    assert {key for track in tracks for key in track} - declared.keys() == {"name"}


_GEFF = """
import json, sys
from geff.core_io import read_to_memory
from geff.validate.structure import validate_structure
validate_structure(sys.argv[1])
found = read_to_memory(sys.argv[1])
print(json.dumps({name: part["values"].tolist() for name, part in found["node_props"].items()}))
"""

_NAPARI = """
import json, sys
import pandas
from napari.layers import Tracks
table = pandas.read_csv(sys.argv[1])
layer = Tracks(table[["track_id", "t", "z", "y", "x"]], features=table)
print(json.dumps({name: layer.features[name].fillna(-1).tolist() for name in layer.features}))
"""

_PYCELLIN = """
import json, sys
from pycellin.io.trackmate.loader import load_TrackMate_XML
model = load_TrackMate_XML(sys.argv[1])
print(json.dumps({str(key): {name: float(value) for name, value in each.graph.items() if name.isupper()
    and isinstance(value, (int, float))} for key, each in model.data.cell_data.items()}))
"""


@pytest.mark.parametrize(("name", "program"), [("geff", _GEFF), ("napari", _NAPARI)])
def test_other_programs_read_the_figures_of_points(tmp_path: Path, name: str, program: str) -> None:
    path, table = exported(tmp_path, name)
    read = read_elsewhere(program, path)
    for column in ("track_diffusion_um2_s", "track_straightness"):
        np.testing.assert_allclose(read[column][: 2 * LENGTH], per_point(table, COLUMNS[column])[:-1], rtol=1e-12)


def test_another_reader_of_trackmate_reads_the_figures_of_tracks(tmp_path: Path) -> None:
    path, table = exported(tmp_path, "trackmate")
    read = read_elsewhere(_PYCELLIN, path)
    for row, key in enumerate(("2", "5")):
        assert read[key]["TRACK_MEAN_SPEED"] == pytest.approx(table.speed_um_s[row])
        assert read[key]["DIFFUSION_COEFFICIENT"] == pytest.approx(table.diffusion_um2_s[row])


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    store = Store.open(tmp_path / "bathyscope.db")
    store.migrate()
    yield store
    store.close()


def test_a_run_is_measured_on_its_localizations(store: Store, tmp_path: Path) -> None:
    tracks, found = walks()
    run = store.runs.create(model_id="reference-10x-0.45-live", record=False).id
    batch = ResultBatch(found, tracks, (0.0, 1.0), frames=(0, LENGTH - 1))
    store.append(run, batch, dict.fromkeys(LEDGER_KEYS, 0))
    library = Library(tmp_path, tmp_path)
    for exposure_s in (0.0, 0.005):
        source = tracks_of_run(store, library, run, measures=True, exposure_s=exposure_s)
        expected = Measured.of(measure(tracks, found, exposure_s).tracks)
        assert source.measured is not None
        np.testing.assert_array_equal(source.measured.ids, expected.ids)
        for name, column in expected.figures.items():
            np.testing.assert_allclose(source.measured.figures[name], column, rtol=1e-4, err_msg=name)
    assert tracks_of_run(store, library, run).measured is None


def test_a_table_is_measured_with_its_localizations_or_without(tmp_path: Path) -> None:

    tracks, found = walks()
    write_table(tmp_path / "tracks.parquet", tracks)
    write_table(tmp_path / "found.parquet", found)
    with_found = tracks_of_table(
        tmp_path / "tracks.parquet", measures=True, localizations=tmp_path / "found.parquet"
    ).measured
    without = tracks_of_table(tmp_path / "tracks.parquet", measures=True).measured
    for measured, expected in ((with_found, measure(tracks, found)), (without, measure(tracks))):
        assert measured is not None
        np.testing.assert_allclose(measured.figures["diffusion_um2_s"], expected.tracks.diffusion_um2_s, rtol=1e-9)
    write_table(tmp_path / "empty.csv", readable_tracks().select(slice(0)))
    none = tracks_of_table(tmp_path / "empty.csv", measures=True).measured
    assert none is not None
    assert len(none.ids) == 0
