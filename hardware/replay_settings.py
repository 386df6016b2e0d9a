"""Settings of a movie that is played as a microscope, and its driver."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import Field

from hardware.driver import ComputedInputs, Driver, DriverSettings
from hardware.microscope import MicroscopeError
from hardware.setting_types import PathName

if TYPE_CHECKING:
    from hardware.microscope import Microscope

__all__ = ["DRIVER", "ReplaySettings"]


class ReplaySettings(DriverSettings):
    """A recorded movie, played as a microscope."""

    movie: PathName | None = Field(default=None, description="OME-Zarr, OME-TIFF or TIFF, (T, Y, X).")
    fps: float | None = Field(
        default=None, gt=0, le=10000, description="Frames a second; absent: the rate of the movie."
    )
    loop: bool = Field(default=True, description="Start again at the end.")
    back_and_forth: bool = Field(
        default=False, description="With loop: play backwards at the end, so that no emitter jumps."
    )
    in_memory: bool = Field(
        default=False, description="Read the whole movie into memory first, so that no frame waits for the disk."
    )
    truth: PathName | None = Field(
        default=None, description="Table (CSV, Parquet) of the true positions of the emitters; runs are then scored."
    )

    def check_complete(self) -> None:
        """Check that a movie is stated."""
        self.stated_movie()

    def stated_movie(self) -> Path:
        """Path of the movie.

        Raises
        ------
        ValueError
            When none is stated.
        """
        if self.movie is None:
            raise ValueError("movie is not set; state the movie to play")
        return self.movie


def _open(settings: ReplaySettings, inputs: ComputedInputs) -> Microscope:
    from hardware.movies import open_movie
    from hardware.replay import ReplayMicroscope

    movie = open_movie(settings.stated_movie())
    try:
        return ReplayMicroscope(
            movie,
            fps=settings.fps,
            loop=settings.loop,
            back_and_forth=settings.back_and_forth,
            in_memory=settings.in_memory,
            truth=inputs.truth,
        )
    except MicroscopeError:
        movie.close()
        raise


DRIVER = Driver(ReplaySettings, _open, needs_limits=False)
