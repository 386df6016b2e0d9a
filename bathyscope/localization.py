"""Localization from a script: a movie becomes a table of 3D positions."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from hardware.agreement import agreed_pixel_size
from hardware.movies import open_movie
from models.errors import DataError
from models.localization import Localizer
from models.movie_localization import dark_level_note, localize_movie
from models.weights import reference_model
from service.files.camera_choice import camera_model

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from models.background.mode import StaticLightMode
    from models.camera import CameraModel
    from models.tables import Localizations

__all__ = ["load_model", "localize"]

_SHIPPED = ("full", "live")


def load_model(
    model: str | Path = "full", *, device: str = "auto", camera: CameraModel | str | Path | None = None
) -> Localizer:
    """Open a model.

    Parameters
    ----------
    model : str or Path
        Folder that `train` wrote, or ``"full"`` or ``"live"``: the shipped models of a 10x/0.45 objective with
        0.65 µm per pixel and depths of 0 to 100 µm. ``"full"`` localizes best, ``"live"`` is three times as fast.
    device : str
        ``"auto"``, ``"cpu"`` or ``"cuda"``.
    camera : CameraModel, str or Path, optional
        Camera of the movie, its name (`bathyscope cameras`), or the file that `bathyscope camera` wrote; the camera of
        the calibration by default.

    Returns
    -------
    Localizer

    Raises
    ------
    DataError
        When the folder is missing or damaged, or the file is no camera description.

    Examples
    --------
    >>> import bathyscope
    >>> model = bathyscope.load_model("live")
    >>> model.card.pixel_size_um, model.card.z_range_um
    (0.65, (0.0, 100.0))
    """
    folder = reference_model(model) if isinstance(model, str) and model in _SHIPPED else Path(model)
    return Localizer.load(folder, device, camera=camera_model(camera))


def localize(
    movie: str | Path | NDArray[Any],
    model: Localizer | str | Path,
    *,
    refine: bool = False,
    static_light: StaticLightMode = "auto",
    pixel_size_um: float | None = None,
    progress: Callable[[float], None] | None = None,
) -> Localizations:
    """Find the emitters of every frame of a movie.

    Parameters
    ----------
    movie : str, Path or ndarray of uint16, shape (T, H, W)
        File or folder of the movie, or its camera counts. Frames are numbered from 0.
    model : Localizer, str or Path
        Model of the same optics, or what `load_model` takes.
    refine : bool
        Fit all emitters of a frame jointly after the network: more precise, and many times slower.
    static_light : {"auto", "on", "off"}
        Whether light that stands still over time is removed: autofluorescence, uneven illumination. ``"auto"`` keeps
        what emitters explain, such as beads that do not move. Movies of fewer than 32 frames are left as they are.
    pixel_size_um : float, optional
        Pixel of the movie at the sample, µm. The movie is rejected when it differs from that of the model.
    progress : callable, optional
        Called with the number of frames done.

    Returns
    -------
    Localizations
        Frame by frame; positions and standard deviations in µm.

    Raises
    ------
    DataError
        When the array is no movie, or the counts cannot come from the camera of the model.
    MicroscopeError
        When the file cannot be read, or the pixel sizes of movie and model differ by more than 1 %.

    Warns
    -----
    UserWarning
        For each remark on the movie, such as dark pixels that do not fit the camera's offset.

    Examples
    --------
    Three frames of the simulated microscope:

    >>> import bathyscope, numpy as np
    >>> from models.scene import reference_camera, reference_scene
    >>> scene, camera = reference_scene((128, 128), emitters=4), reference_camera()
    >>> movie = np.stack([camera.expose(scene.render(i / 100, 0.01, 0), seed=i) for i in range(3)])
    >>> found = bathyscope.localize(movie, "live")
    >>> sorted({int(frame) for frame in found.frame}), found.xyz_um.shape[1]
    ([0, 1, 2], 3)
    """
    localizer = model if isinstance(model, Localizer) else load_model(model)
    of_array = isinstance(movie, np.ndarray)
    with _Frames(movie) if isinstance(movie, np.ndarray) else open_movie(movie) as source:
        _, remark = agreed_pixel_size(source.pixel_size_um, pixel_size_um, localizer.card.pixel_size_um)
        localizer.check_bit_depth(source.bit_depth)
        remarks = [*source.notes, None if of_array else remark, dark_level_note(source, localizer.camera)]
        for text in filter(None, remarks):
            warnings.warn(text, stacklevel=2)
        refiner = localizer.refiner() if refine else None
        return localize_movie(source, localizer, refiner, progress or (lambda done: None), static_light=static_light)


class _Frames:
    """Frames in memory, as a file of a movie gives them.

    Parameters
    ----------
    counts : ndarray of uint8 or uint16, shape (T, H, W)
    """

    pixel_size_um = None
    notes = ()

    def __init__(self, counts: NDArray[Any]) -> None:
        if counts.ndim != 3 or 0 in counts.shape or counts.dtype not in (np.uint8, np.uint16):
            raise DataError(
                f"The movie has shape {counts.shape} and type {counts.dtype}; it is (T, H, W) of unsigned 8-bit or "
                "16-bit counts.",
                "Give the frames as the camera gave them; a single frame as frame[None].",
            )
        self._counts = counts
        self.shape = (counts.shape[0], counts.shape[1], counts.shape[2])
        self.bit_depth = 8 * counts.dtype.itemsize

    def read(self, start: int, stop: int) -> NDArray[np.uint16]:
        return self._counts[start:stop].astype(np.uint16, copy=False)

    def __enter__(self) -> _Frames:
        return self

    def __exit__(self, *_: object) -> None:
        """Nothing to release."""
