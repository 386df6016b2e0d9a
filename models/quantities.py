"""Plausible ranges of the physical quantities that users state, declared once for commands, settings and requests.

A length in the wrong unit is a valid number and gives a wrong instrument, or
needs more memory than the machine has. So every length, time, count and camera
figure from a user or a file is compared with the range of real microscopes
before anything is computed. The ranges are wide: a value outside is a mistake,
not a rare instrument, and the message names the probable mistake.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from models.errors import DataError

__all__ = [
    "AXIAL_SCALE",
    "CAMERA_OFFSET_ADU",
    "DEPTH_UM",
    "ELECTRONS_PER_ADU",
    "EXPOSURE_S",
    "FOCUS_RANGE_UM",
    "FRAME_PERIOD_S",
    "OBJECT_DIAMETER_UM",
    "PIXEL_SIZE_UM",
    "READ_NOISE_E",
    "REPEATS",
    "SETTLE_S",
    "STAGE_UM",
    "SWEEP_PLANES",
    "TRAINING_MINUTES",
    "Z_STEP_UM",
    "Quantity",
    "Slip",
]


@dataclass(frozen=True, slots=True)
class Slip:
    """A mistake that gives values of one range.

    Attributes
    ----------
    low, high : float
        Size of the values that it gives.
    hint : str
        What may have happened and what to do; ``{value}`` and ``{thousandth}`` are replaced.
    """

    low: float
    high: float
    hint: str


@dataclass(frozen=True, slots=True)
class Quantity:
    """A physical quantity and the values that it can have.

    Attributes
    ----------
    name : str
        With article, as it stands in a sentence.
    unit : str
        Empty for counts.
    low, high : float
        Smallest and largest plausible value; both are allowed.
    reason : str
        Why the range is this one.
    slips : tuple of Slip
        What a value outside usually is.
    """

    name: str
    unit: str
    low: float
    high: float
    reason: str
    slips: tuple[Slip, ...] = ()

    def holds(self, value: float) -> bool:
        """Whether `value` is a number in the range."""
        return math.isfinite(value) and self.low <= value <= self.high

    def check(self, value: float, source: str = "") -> float:
        """Return `value` when it is in the range.

        Parameters
        ----------
        value : float
        source : str, optional
            The flag or file that states it.

        Raises
        ------
        DataError
            With the value, the range, the reason and the slip that it looks like.
        """
        if self.holds(value):
            return value
        unit = f" {self.unit}" if self.unit else ""
        stated = f" according to {source}" if source else ""
        raise DataError(
            f"{self.name[0].upper()}{self.name[1:]} is {value:g}{unit}{stated}; plausible values are "
            f"{self.low:g} to {self.high:g}{unit} ({self.reason}).",
            self.hint(value),
        )

    def hint(self, value: float) -> str:
        """Probable mistake for a value outside the range, and the remedy."""
        guesses = [
            slip.hint.format(value=f"{value:g}", thousandth=f"{value / 1000:g}")
            for slip in self.slips
            if slip.low <= value <= slip.high
        ]
        return " ".join(guesses) or (f"State it in {self.unit}." if self.unit else "State a number in this range.")


_NANOMETRES = "Was it given in nanometres? {value} nm are {thousandth} µm."

PIXEL_SIZE_UM = Quantity(
    "the pixel size at the sample",
    "µm",
    0.01,
    5.0,
    "from 3 µm pixels at 300x to 6.5 µm pixels at 1.3x",
    (
        Slip(
            5.0,
            30.0,
            "Is it the pixel of the camera itself? At the sample it is that, divided by the magnification and times "
            "the binning.",
        ),
        Slip(10.0, 5000.0, _NANOMETRES),
        Slip(1e-9, 1e-5, "Was it given in metres or millimetres? It is stated in µm."),
    ),
)
OBJECT_DIAMETER_UM = Quantity(
    "the diameter of an object",
    "µm",
    0.01,
    50.0,
    "from nanoparticles to large cells",
    (Slip(50.0, 50000.0, _NANOMETRES), Slip(1e-9, 1e-4, "Was it given in metres or millimetres? It is stated in µm.")),
)
Z_STEP_UM = Quantity(
    "the step of the sweep",
    "µm",
    0.001,
    20.0,
    "from the resolution of a piezo to the depth of field of a 4x objective",
    (Slip(20.0, 20_000.0, _NANOMETRES),),
)
FOCUS_RANGE_UM = Quantity(
    "the range of the search for focus",
    "µm",
    0.1,
    5000.0,
    "from the depth of field of an immersion objective to the travel of focus drives",
    (Slip(5000.0, 5e6, _NANOMETRES),),
)
SWEEP_PLANES = Quantity(
    "the number of planes of the sweep",
    "",
    8,
    5000,
    "fewer do not follow a pattern, more are time or a wrong step",
    (Slip(5001, math.inf, "Is the first axis z, and is the step given in µm?"),),
)
REPEATS = Quantity("the number of exposures at a plane", "", 1, 1000, "a thousand shake off any noise")
AXIAL_SCALE = Quantity("the axial scale", "", 0.3, 3.0, "sample index over immersion index, from 0.66 to 1.52")
DEPTH_UM = Quantity(
    "the depth",
    "µm",
    -10_000.0,
    10_000.0,
    "focus drives travel 10 mm",
    (Slip(10_000.0, 1e7, _NANOMETRES), Slip(-1e7, -10_000.0, _NANOMETRES)),
)
STAGE_UM = Quantity(
    "the position of the focus drive",
    "µm",
    -100_000.0,
    100_000.0,
    "focus drives travel at most 100 mm",
    (Slip(1e5, 1e8, _NANOMETRES), Slip(-1e8, -1e5, _NANOMETRES)),
)
EXPOSURE_S = Quantity(
    "the exposure",
    "s",
    1e-6,
    60.0,
    "from a global shutter to one minute",
    (Slip(60.0, 60_000.0, "Was it given in milliseconds? {value} ms are {thousandth} s."),),
)
FRAME_PERIOD_S = Quantity(
    "the time from frame to frame",
    "s",
    1e-5,
    86_400.0,
    "from 100,000 frames a second to one a day",
)
SETTLE_S = Quantity(
    "the wait after each move",
    "s",
    0.0,
    10.0,
    "drives settle in milliseconds",
    (Slip(10.0, 10_000.0, "Was it given in milliseconds? {value} ms are {thousandth} s."),),
)
TRAINING_MINUTES = Quantity(
    "the time of the training",
    "minutes",
    0.02,
    7 * 24 * 60.0,
    "a second makes no network, and a week is longer than any gain lasts",
    (Slip(-math.inf, 0.02, "Give the wall time in minutes, for example 10."),),
)
CAMERA_OFFSET_ADU = Quantity(
    "the count of a dark pixel",
    "ADU",
    -100.0,
    65_535.0,
    "a count has at most 16 bits",
)
ELECTRONS_PER_ADU = Quantity(
    "the camera's gain",
    "e-/ADU",
    1e-4,
    1000.0,
    "from an electron-multiplying camera at full gain to a full well in 8 bits",
)
READ_NOISE_E = Quantity(
    "the read noise",
    "e-",
    0.0,
    1000.0,
    "cameras have 0.3 to a few hundred",
)
