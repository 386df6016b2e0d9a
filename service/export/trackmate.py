"""Tracks as TrackMate XML, which Fiji opens with *Plugins > Tracking > Load a TrackMate file*.

The elements are those that TrackMate's reader demands (class `TmXmlReader` of
TrackMate 7). A spot is a track point, an edge joins a point to the next one
of its track. A file names no image: TrackMate then shows the tracks on an
empty one. A track of a single point has no edge, and is only a spot there.

TrackMate lists spots by frame, tables of tracks list them by track, so that
all points are in memory at once.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TextIO
from xml.sax.saxutils import escape

import numpy as np
from numpy.typing import NDArray

from models.memory import require_memory
from models.tables import Tracks
from service.export.blocks import located
from service.export.measured import Measured
from service.export.origin import Origin

__all__ = ["is_ours", "write"]

_FORMAT_VERSION = "7.14.0"
_MARK = "Exported by Bathyscope"

_RADIUS_UM = 1.0
"""Radius with which spots are drawn: TrackMate demands one, and tracks have none."""

_LARGEST_ID = 2**31 - 1
"""TrackMate's ids are Java's int."""

_BYTES_PER_POINT = 4 * 14 * 8
"""The points, their parts before they are joined, and one more copy while they are sorted."""

_FEATURES = {
    "POSITION_X": "x_um",
    "POSITION_Y": "y_um",
    "POSITION_Z": "z_um",
    "POSITION_T": "t_s",
    "FRAME": "frame",
    "VELOCITY_X": "vx_um_s",
    "VELOCITY_Y": "vy_um_s",
    "VELOCITY_Z": "vz_um_s",
    "SIGMA_X": "sigma_x_um",
    "SIGMA_Y": "sigma_y_um",
    "SIGMA_Z": "sigma_z_um",
    "OBSERVED": "observed",
    "PROBABILITY": "probability",
}
"""Feature of a spot to column."""

_SPOT_FEATURES = (
    ("QUALITY", "Quality", "QUALITY", False),
    ("POSITION_X", "X", "POSITION", False),
    ("POSITION_Y", "Y", "POSITION", False),
    ("POSITION_Z", "Z", "POSITION", False),
    ("POSITION_T", "T", "TIME", False),
    ("FRAME", "Frame", "NONE", True),
    ("RADIUS", "Radius", "LENGTH", False),
    ("VISIBILITY", "Visibility", "NONE", True),
    *((f"VELOCITY_{axis}", f"Velocity {axis}", "VELOCITY", False) for axis in "XYZ"),
    *((f"SIGMA_{axis}", f"Sigma {axis}", "LENGTH", False) for axis in "XYZ"),
    ("OBSERVED", "Observed", "NONE", True),
    ("PROBABILITY", "Probability", "NONE", False),
)
_EDGE_FEATURES = (
    ("SPOT_SOURCE_ID", "Source spot ID", "NONE", True),
    ("SPOT_TARGET_ID", "Target spot ID", "NONE", True),
    ("DISPLACEMENT", "Displacement", "LENGTH", False),
    ("SPEED", "Speed", "VELOCITY", False),
)
_TRACK_FEATURES = (
    ("TRACK_INDEX", "Track index", "NONE", True),
    ("TRACK_ID", "Track ID", "NONE", True),
    ("NUMBER_SPOTS", "Number of spots in track", "NONE", True),
    ("TRACK_START", "Track start", "TIME", False),
    ("TRACK_STOP", "Track stop", "TIME", False),
    ("TRACK_DURATION", "Track duration", "TIME", False),
)
"""Feature to name, dimension, and whether it is a whole number; the names of TrackMate where it has the feature."""

_FIGURES = {
    "displacement_um": ("TRACK_DISPLACEMENT", "Track displacement", "LENGTH", False),
    "path_um": ("TOTAL_DISTANCE_TRAVELED", "Total distance traveled", "LENGTH", False),
    "speed_um_s": ("TRACK_MEAN_SPEED", "Track mean speed", "VELOCITY", False),
    "straightness": ("CONFINEMENT_RATIO", "Confinement ratio", "NONE", False),
    "diffusion_um2_s": ("DIFFUSION_COEFFICIENT", "Diffusion coefficient (µm²/s)", "NONE", False),
    "diffusion_um2_s_low": ("DIFFUSION_LOW", "Diffusion, low end (µm²/s)", "NONE", False),
    "diffusion_um2_s_high": ("DIFFUSION_HIGH", "Diffusion, high end (µm²/s)", "NONE", False),
    "exponent": ("MSD_EXPONENT", "Exponent of the MSD", "NONE", False),
    "exponent_low": ("MSD_EXPONENT_LOW", "Exponent of the MSD, low end", "NONE", False),
    "exponent_high": ("MSD_EXPONENT_HIGH", "Exponent of the MSD, high end", "NONE", False),
}
"""Figure to feature of a track; the duration is one of all files."""


def write(destination: Path, blocks: Iterable[Tracks], origin: Origin, measured: Measured | None = None) -> None:
    """Write tracks as TrackMate XML.

    The quality of a spot is the probability that its track exists, or 1 where it is not known. Points without a
    position are left out.

    Parameters
    ----------
    destination : Path
    blocks : iterable of Tracks
        By track, then by frame.
    origin : Origin
    measured : Measured, optional
        Figures of the tracks, as their features.

    Raises
    ------
    DataError
        When the points do not fit into the memory.
    """
    tracks = _joined(blocks)
    with destination.open("w", encoding="utf-8", newline="\n") as file:
        file.write('<?xml version="1.0" encoding="UTF-8"?>\n')
        file.write(f'<TrackMate version="{_FORMAT_VERSION}">\n')
        facts = "\n".join(f"{name}: {value}" for name, value in origin.facts().items())
        file.write(f"  <Log>{_MARK}\n{escape(_printable(facts))}</Log>\n")
        file.write('  <Model spatialunits="µm" timeunits="sec">\n    <FeatureDeclarations>\n')
        of_tracks = _TRACK_FEATURES if measured is None else (*_TRACK_FEATURES, *_FIGURES.values())
        for kind, features in (("Spot", _SPOT_FEATURES), ("Edge", _EDGE_FEATURES), ("Track", of_tracks)):
            file.writelines(_declarations(kind, features))
        file.write("    </FeatureDeclarations>\n")
        _write_spots(file, tracks)
        _write_tracks(file, tracks, measured)
        file.write("  </Model>\n")
        file.write(_settings(tracks, origin))
        file.write('  <GUIState state="ConfigureViews" />\n</TrackMate>\n')


def is_ours(path: Path) -> bool:
    """Whether `path` is such a file."""
    try:
        with path.open("rb") as file:
            return f"<Log>{_MARK}".encode() in file.read(256)
    except OSError:
        return False


def _joined(blocks: Iterable[Tracks]) -> Tracks:
    held: list[Tracks] = []
    for block in located(blocks):
        require_memory(
            len(block) * _BYTES_PER_POINT + sum(map(len, held)) * _BYTES_PER_POINT // 2,
            "A TrackMate file of this many points",
            "Export as geff, csv or parquet, which are written block by block.",
        )
        held.append(block)
    return Tracks.concatenate(held)


def _declarations(kind: str, features: Iterable[tuple[str, str, str, bool]]) -> Iterator[str]:
    yield f"      <{kind}Features>\n"
    for feature, name, dimension, whole in features:
        yield (
            f'        <Feature feature="{feature}" name="{name}" shortname="{name}" dimension="{dimension}" '
            f'isint="{str(whole).lower()}" />\n'
        )
    yield f"      </{kind}Features>\n"


def _write_spots(file: TextIO, tracks: Tracks) -> None:
    """Write all spots by frame; the id of a spot is its row."""
    order = np.argsort(tracks.frame, kind="stable")
    frames, begins, counts = np.unique(tracks.frame[order], return_index=True, return_counts=True)
    file.write(f'    <AllSpots nspots="{len(tracks)}">\n')
    for frame, begin, count in zip(frames.tolist(), begins, counts, strict=True):
        rows = order[begin : begin + count]
        file.write(f'      <SpotsInFrame frame="{frame}">\n')
        file.writelines(_spots(rows, tracks.select(rows)))
        file.write("      </SpotsInFrame>\n")
    file.write("    </AllSpots>\n")


def _spots(rows: NDArray[np.int64], points: Tracks) -> Iterator[str]:
    quality = np.where(np.isfinite(points.probability), points.probability, 1.0).tolist()
    columns = [getattr(points, column).tolist() for column in _FEATURES.values()]
    for row, value, *numbers in zip(rows.tolist(), quality, *columns, strict=True):
        # A number is equal to itself, NaN is not: a feature that is not known is left out.
        features = " ".join(
            f'{name}="{number}"' for name, number in zip(_FEATURES, numbers, strict=True) if number == number
        )
        yield (
            f'        <Spot ID="{row}" name="ID{row}" QUALITY="{value}" {features} RADIUS="{_RADIUS_UM}" '
            'VISIBILITY="1" />\n'
        )


def _write_tracks(file: TextIO, tracks: Tracks, measured: Measured | None) -> None:
    ids, begins, counts = np.unique(tracks.track_id, return_index=True, return_counts=True)
    chosen = np.flatnonzero(counts > 1)
    # Ids beyond Java's int are replaced by their rank; the name keeps the id in any case.
    numbers = ids if len(ids) == 0 or (ids[0] >= 0 and ids[-1] <= _LARGEST_ID) else np.arange(len(ids))
    file.write("    <AllTracks>\n")
    for index, track in enumerate(chosen.tolist()):
        begin = int(begins[track])
        points = tracks.select(slice(begin, begin + int(counts[track])))
        figures = {} if measured is None else measured.of_track(int(ids[track]))
        file.writelines(_track(index, int(numbers[track]), begin, points, figures))
    file.write("    </AllTracks>\n    <FilteredTracks>\n")
    file.writelines(f'      <TrackID TRACK_ID="{number}" />\n' for number in numbers[chosen].tolist())
    file.write("    </FilteredTracks>\n")


def _track(index: int, number: int, begin: int, points: Tracks, figures: dict[str, float]) -> Iterator[str]:
    """One track: `begin` is the row of its first point, and so the id of its first spot."""
    start_s, stop_s = float(points.t_s[0]), float(points.t_s[-1])
    more = "".join(f' {_FIGURES[name][0]}="{value}"' for name, value in figures.items() if name in _FIGURES)
    yield (
        f'      <Track name="Track_{points.track_id[0]}" TRACK_ID="{number}" TRACK_INDEX="{index}" '
        f'NUMBER_SPOTS="{len(points)}" TRACK_START="{start_s}" TRACK_STOP="{stop_s}" '
        f'TRACK_DURATION="{stop_s - start_s}"{more}>\n'
    )
    steps = np.stack([np.diff(column) for column in (points.x_um, points.y_um, points.z_um)])
    lengths = np.sqrt((steps**2).sum(axis=0))
    durations = np.diff(points.t_s)
    speeds = np.divide(lengths, durations, out=np.zeros_like(lengths), where=durations > 0)
    for row, (length, speed) in enumerate(zip(lengths.tolist(), speeds.tolist(), strict=True), begin):
        yield (
            f'        <Edge SPOT_SOURCE_ID="{row}" SPOT_TARGET_ID="{row + 1}" DISPLACEMENT="{length}" '
            f'SPEED="{speed}" />\n'
        )
    yield "      </Track>\n"


def _settings(tracks: Tracks, origin: Origin) -> str:
    """The settings that TrackMate demands: the image that the tracks belong to, and manual detection and tracking."""
    pixel_um = origin.pixel_size_um or 1.0
    frames = int(tracks.frame.max()) + 1 if len(tracks) else 1
    width, height = (
        int(np.ceil(float(np.max(side, initial=0.0)) / pixel_um)) + 1 for side in (tracks.x_um, tracks.y_um)
    )
    empty = "".join(f"      <{kind}Analyzers />\n" for kind in ("Spot", "Edge", "Track"))
    return (
        "  <Settings>\n"
        f'    <ImageData filename="" folder="" width="{width}" height="{height}" nslices="1" nframes="{frames}" '
        f'pixelwidth="{pixel_um}" pixelheight="{pixel_um}" voxeldepth="1.0" '
        f'timeinterval="{_frame_period_s(tracks)}" />\n'
        f'    <BasicSettings xstart="0" xend="{width - 1}" ystart="0" yend="{height - 1}" zstart="0" zend="0" '
        f'tstart="0" tend="{frames - 1}" />\n'
        f'    <DetectorSettings DETECTOR_NAME="MANUAL_DETECTOR" RADIUS="{_RADIUS_UM}" />\n'
        '    <InitialSpotFilter feature="QUALITY" value="0.0" isabove="true" />\n'
        "    <SpotFilterCollection />\n"
        '    <TrackerSettings TRACKER_NAME="MANUAL_TRACKER" />\n'
        "    <TrackFilterCollection />\n"
        f"    <AnalyzerCollection>\n{empty}    </AnalyzerCollection>\n"
        "  </Settings>\n"
    )


def _frame_period_s(tracks: Tracks) -> float:
    """Time per frame by the first and the last frame; 1 when there is only one."""
    if not len(tracks):
        return 1.0
    first, last = int(np.argmin(tracks.frame)), int(np.argmax(tracks.frame))
    frames, seconds = int(tracks.frame[last] - tracks.frame[first]), float(tracks.t_s[last] - tracks.t_s[first])
    return seconds / frames if frames and seconds > 0 else 1.0


def _printable(text: str) -> str:
    """The text without characters that XML 1.0 does not take."""
    return "".join(letter if letter.isprintable() or letter in "\n\t" else "?" for letter in text)
