"""Known cameras by name: offset, gain and read noise of common models, each with its public source.

They are figures of a model, or of one camera of it; your camera differs by some
percent, and its offset can be set. A measured camera is better. A model is
here only when all three figures have a source that can be named.
"""

from __future__ import annotations

from dataclasses import dataclass

from models.camera import CameraModel
from models.errors import DataError

__all__ = ["KNOWN_CAMERAS", "KnownCamera", "known_camera"]

_PYME = (
    "python-microscopy (PYME), camera_noise.py, from the performance sheets that the maker ships with the cameras {}"
)
_GETFRAMES = "getframes, presets/data/{}, {}"
_DARKS = "measured there on dark frames at {} °C at low light"


@dataclass(frozen=True, slots=True)
class KnownCamera:
    """A camera model in one of its modes.

    Attributes
    ----------
    name : str
        For ``--camera``.
    title : str
        Maker, model and mode.
    offset_adu, electrons_per_adu, read_noise_e : float
        Count of a dark pixel, photo-electrons per count, read noise (rms, photo-electrons).
    bit_depth : int
        Bits of a count in this mode.
    source : str
        Where the figures are published.
    """

    name: str
    title: str
    offset_adu: float
    electrons_per_adu: float
    read_noise_e: float
    bit_depth: int
    source: str

    def camera(self) -> CameraModel:
        """The camera as a noise model."""
        figures = (self.offset_adu, self.electrons_per_adu, self.read_noise_e)
        return CameraModel(*figures, self.bit_depth, f"known camera {self.name}")


_EVERY = (
    KnownCamera(
        "hamamatsu-orca-flash4.0",
        "Hamamatsu ORCA-Flash4.0",
        100.0,
        0.47,
        1.64,
        16,
        _PYME.format("100233 and 301777 (0.47 e-/count, 1.65 and 1.63 e-)"),
    ),
    KnownCamera(
        "hamamatsu-orca-flash4.0-v3",
        "Hamamatsu ORCA-Flash4.0 V3",
        100.0,
        0.46,
        1.6,
        16,
        "SMLMData.jl, documentation of SCMOSCamera, after the maker's specifications; the offset is called typical",
    ),
    KnownCamera(
        "hamamatsu-orca-quest-2",
        "Hamamatsu ORCA-Quest 2 (C15550-22UP), standard scan",
        200.0,
        0.107,
        0.43,
        16,
        _GETFRAMES.format("hamamatsu_orca_quest_2.toml", "after the maker's catalog SCAS0166E"),
    ),
    KnownCamera(
        "andor-zyla",
        "Andor Zyla, 16 bit (low noise and high well capacity)",
        100.0,
        0.5,
        1.36,
        16,
        _PYME.format("VSC-00954, VSC-02858 and VSC-02698 (0.50, 0.50, 0.49 e-/count; 1.33, 1.42, 1.36 e-)"),
    ),
    KnownCamera(
        "andor-sona",
        "Andor Sona, 16 bit (high dynamic range)",
        100.0,
        1.08,
        1.84,
        16,
        _PYME.format("CSC-00425"),
    ),
    KnownCamera(
        "andor-marana-4.2b-11",
        "Andor Marana 4.2B-11, 16 bit (high dynamic range)",
        99.7,
        0.80,
        1.08,
        16,
        _GETFRAMES.format("andor_marana_4_2b_11.toml", _DARKS.format(-45)),
    ),
    KnownCamera(
        "photometrics-prime-95b",
        "Teledyne Photometrics Prime 95B, 16 bit",
        100.5,
        0.77,
        1.47,
        16,
        _GETFRAMES.format("photometrics_prime_95b.toml", _DARKS.format(-20)),
    ),
    KnownCamera(
        "princeton-kuro-1200b",
        "Princeton Instruments KURO 1200B, 16 bit",
        99.9,
        0.87,
        1.66,
        16,
        _GETFRAMES.format("princeton_instruments_kuro_1200b.toml", _DARKS.format(-20)),
    ),
)

KNOWN_CAMERAS = {each.name: each for each in _EVERY}
"""By name, those of one maker together."""


def known_camera(name: str) -> KnownCamera:
    """The known camera of this name.

    Raises
    ------
    DataError
        When there is none.
    """
    found = KNOWN_CAMERAS.get(name.lower())
    if found is None:
        raise DataError(
            f"There is no known camera {name!r}.",
            f"The known ones are {', '.join(KNOWN_CAMERAS)}. For others give the figures of the data sheet, or measure "
            "the camera with `bathyscope camera`.",
        )
    return found
