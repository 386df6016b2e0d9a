"""``bathyscope track``: compute a table of tracks from localizations or from a movie."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from service.commands.checks import frame_rate, table_suffix
from service.commands.movie_options import (
    CameraFile,
    CameraOffset,
    Device,
    ElectronsPerAdu,
    PixelSize,
    ReadNoise,
    StaticLight,
    localizer_of_movie,
)

if TYPE_CHECKING:
    from hardware.movies import Movie
    from models.localization import Localizer
    from models.tables import Localizations, TrackEvents, Tracks
    from models.tracking.image_tracker import ImageModel
    from service.settings import Settings
    from service.tracking_settings import TrackingPart

__all__ = ["run"]

_RATE_TOLERANCE = 0.01
"""The rate of a camera differs from its nominal rate by less than one per cent."""

_TABLES = (".csv", ".parquet")


def run(
    source: Annotated[
        Path,
        typer.Argument(metavar="LOCALIZATIONS|MOVIE", help="Table of localizations (.csv, .parquet), or a movie."),
    ],
    out: Annotated[Path, typer.Option(callback=table_suffix, help="Table of tracks to write, .csv or .parquet.")],
    fps: Annotated[
        float | None,
        typer.Option(callback=frame_rate, help="Frames per second; default: as the movie states."),
    ] = None,
    preset: Annotated[
        str | None, typer.Option(help="default, or published: the published Kalman filter. Default: as in --settings.")
    ] = None,
    settings: Annotated[
        Path | None,
        typer.Option(help="Settings file (TOML) of the service; its tables tracking and analysis are used."),
    ] = None,
    smooth: Annotated[
        bool, typer.Option("--smooth", help="Smooth the tracks with all that came later, and close gaps.")
    ] = False,
    smooth_lag_frames: Annotated[
        int | None,
        typer.Option(help="Smooth by so many of the next frames, as stored live tracks; 0: as shown live."),
    ] = None,
    model: Annotated[
        Path | None, typer.Option("--model", help="Of a movie: folder made by `bathyscope train`.")
    ] = None,
    localizations: Annotated[
        Path | None, typer.Option(help="Of a movie: table of its localizations to write, .csv or .parquet.")
    ] = None,
    events: Annotated[
        Path | None,
        typer.Option(
            callback=table_suffix, help="Table of merges and splits of the tracks to write, .csv or .parquet."
        ),
    ] = None,
    fit: Annotated[
        str | None,
        typer.Option(
            help="Of a movie: auto (fit emitters to the images, with their tracks as priors) or off. "
            "Default: as in --settings."
        ),
    ] = None,
    static_light: StaticLight = None,
    device: Device = "auto",
    pixel_size_um: PixelSize = None,
    camera: CameraFile = None,
    camera_offset_adu: CameraOffset = None,
    electrons_per_adu: ElectronsPerAdu = None,
    read_noise_e: ReadNoise = None,
) -> None:
    """Join localizations to tracks, with the tracker that works live."""
    import numpy as np

    from hardware.movies import open_movie
    from models.errors import DataError
    from models.table_files import is_table, write_table
    from models.tables import Localizations, TrackEvents, Tracks
    from service.commands.console import note
    from service.files.camera_choice import CameraOptions
    from service.files.outputs import complete_output
    from service.settings import load_settings

    given = {
        "tracking": {"preset": preset, "fit": fit, "smooth_lag_frames": smooth_lag_frames},
        "analysis": {"static_light": static_light},
    }
    chosen = load_settings(settings, given, environment={})
    tracking = chosen.tracking
    if smooth and tracking.preset == "published":
        raise DataError("The published tracker has no smoothing.", "Leave --smooth out, or use --preset default.")
    is_movie = source.suffix.lower() not in _TABLES
    if is_movie and model is None:
        raise typer.BadParameter("a movie needs --model", param_hint="--model")
    of_movie = {
        "--model": model,
        "--localizations": localizations,
        "--fit": fit,
        "--static-light": static_light,
        "--pixel-size-um": pixel_size_um,
        "--camera": camera,
        "--camera-offset-adu": camera_offset_adu,
        "--electrons-per-adu": electrons_per_adu,
        "--read-noise-e": read_noise_e,
    }
    needless = [option for option, value in of_movie.items() if value is not None]
    if not is_movie and needless:
        raise typer.BadParameter(f"is for a movie, and {source.name} is a table", param_hint=needless[0])
    if not is_movie and fps is None:
        raise typer.BadParameter("a table needs --fps", param_hint="--fps")

    with complete_output(out, lambda path: is_table(path, Tracks)) as aside:
        if is_movie:
            options = CameraOptions(camera, camera_offset_adu, electrons_per_adu, read_noise_e)
            with open_movie(source) as movie:
                rate = _rate(movie, source, fps)
                localizer = localizer_of_movie(movie, Path(str(model)), device, pixel_size_um, options)
                tracks, happened, found = _tracked_movie(movie, localizer, chosen, rate, smooth=smooth)
            if localizations is not None:
                with complete_output(localizations, lambda path: is_table(path, Localizations)) as beside:
                    write_table(beside, found)
        else:
            tracks, happened = _tracked(_read(source, float(fps or 0)), fps, tracking, None, smooth=smooth)
        write_table(aside, tracks)
        if events is not None:
            with complete_output(events, lambda path: is_table(path, TrackEvents)) as beside:
                write_table(beside, happened)
    note(f"{out}: {len(np.unique(tracks.track_id))} tracks with {len(tracks)} points.")
    if events is not None:
        merges = np.count_nonzero(happened.kind == "merge")
        note(f"{events}: {merges} merges and {len(happened) - merges} splits.")


def _tracked(
    found: Localizations,
    fps: float | None,
    tracking: TrackingPart,
    times_s: Mapping[int, float] | None,
    *,
    smooth: bool,
) -> tuple[Tracks, TrackEvents]:
    """Tracks of a table of localizations, and their merges and splits."""
    from models.tables import TrackEvents
    from models.tracking import smoothed_tracks, track_table
    from models.tracking.events import EventObserver, TableObserver

    settings = tracking.tracker_settings
    observer = EventObserver(settings)
    if smooth:
        tracks, table = smoothed_tracks(found, fps, settings, times_s=times_s), TableObserver(observer)
        return tracks, TrackEvents.concatenate([table.add(tracks), table.finish()])
    events: list[TrackEvents] = []
    tracks = track_table(
        found,
        fps,
        settings,
        tracking.preset,
        times_s=times_s,
        lag_frames=tracking.lag_frames,
        observe=lambda state: events.append(observer.step(state)),
    )
    return tracks, TrackEvents.concatenate(events)


def _read(path: Path, fps: float) -> Localizations:
    """The localizations of a table that does not contradict the frame rate."""
    from models.errors import DataError
    from models.table_files import read_table, stated_rate
    from models.tables import Localizations
    from service.commands.console import note

    found = read_table(path, Localizations, note)
    rate = stated_rate(path)
    if rate is not None and abs(rate / fps - 1) > _RATE_TOLERANCE:
        raise DataError(
            f"--fps is {fps:g}, but the column t_s of {path} gives {rate:.6g} frames per second.",
            "Give the rate of the movie, or leave the column out.",
        )
    return found


def _rate(movie: Movie, path: Path, fps: float | None) -> float:
    """Frames per second: as given, or as the movie states."""
    from models.errors import DataError
    from service.commands.console import note

    period_s = movie.frame_period_s
    stated = None if period_s is None else 1 / period_s
    rate = fps if fps is not None else stated
    if rate is None:
        raise DataError(f"{path} does not state its frame rate.", "Give it with --fps.")
    if stated is not None and abs(stated / rate - 1) > _RATE_TOLERANCE:
        note(f"Note: {path} states {stated:.6g} frames per second; --fps {rate:g} is used.")
    return rate


def _tracked_movie(
    movie: Movie, localizer: Localizer, settings: Settings, rate: float, *, smooth: bool
) -> tuple[Tracks, TrackEvents, Localizations]:
    """Tracks of a movie, their merges and splits, and localizations: of the fit, or else all candidates."""
    from models.movie_localization import localize_movie
    from service.commands.console import note, progress

    tracking, static_light = settings.tracking, settings.analysis.static_light
    images = localizer.image_model if tracking.fits else None
    if images is not None:
        with progress("Tracking", len(movie), "frames") as advance:
            return _fitted(movie, localizer, images, rate, settings, advance, smooth=smooth)
    if tracking.fits:
        note("Note: the model has no PSF that can be read, so emitters are not fitted to the images.")
    with progress("Localizing", len(movie), "frames") as advance:
        found = localize_movie(movie, localizer, None, advance, tracking.candidates_from, static_light)
    times_s = {frame: frame / rate for frame in range(len(movie))}
    return *_tracked(found, None, tracking, times_s, smooth=smooth), found


def _fitted(
    movie: Movie,
    localizer: Localizer,
    images: ImageModel,
    rate: float,
    settings: Settings,
    advance: Callable[[float], None],
    *,
    smooth: bool,
) -> tuple[Tracks, TrackEvents, Localizations]:
    """As `_tracked_movie`, with a fit of each image."""
    from models.movie_tracking import track_movie
    from models.tables import TrackEvents
    from models.tracking.events import TableObserver

    observer = settings.tracking.observer()
    events: list[TrackEvents] = []
    tracks, found = track_movie(
        movie,
        localizer,
        images,
        rate,
        settings.tracking.tracker_settings,
        settings.analysis.static_light,
        smooth=smooth,
        lag_frames=settings.tracking.lag_frames,
        advance=advance,
        observe=(lambda _state: None) if smooth else lambda state: events.append(observer.step(state)),
    )
    if smooth:
        table = TableObserver(observer)
        events = [table.add(tracks), table.finish()]
    return tracks, TrackEvents.concatenate(events), found
