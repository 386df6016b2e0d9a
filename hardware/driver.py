"""What a package declares to add a microscope driver: a settings class and a factory.

A driver for another microscope is one file in any Python package::

    class ToySettings(DriverSettings):
        port: str = Field(default="/dev/ttyUSB0", description="Serial port of the controller.")

    def open_toy(settings: ToySettings, inputs: ComputedInputs) -> Microscope:
        from toy.microscope import ToyMicroscope

        return ToyMicroscope(settings.port)

    DRIVER = Driver(ToySettings, open_toy)

and one entry point in the ``pyproject.toml`` of that package::

    [project.entry-points."bathyscope.microscopes"]
    toy = "toy.driver:DRIVER"

Then ``driver = "toy"`` and the table ``[microscope.toy]`` work in the settings
file. The file is imported whenever the settings name the driver, so it imports the
libraries of the devices only inside the factory.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Generic, TypeVar

from pydantic import BaseModel, ConfigDict

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from hardware.microscope import Microscope
    from hardware.simulated import Detector, Scene

__all__ = ["ComputedInputs", "Driver", "DriverSettings"]


class DriverSettings(BaseModel):
    """Base of the settings of a driver.

    Each field is one setting, with its default, unit, range and help text (``Field(description=...)``). Every field
    that has no default must be set by the user. Unknown names are refused.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    def check_complete(self) -> None:
        """Check that all settings are there that opening the microscope needs.

        Called for the driver that is in use only, so that the settings of the others may be incomplete.

        Raises
        ------
        ValueError
            With the name of the missing setting, and why it is needed.
        """


S = TypeVar("S", bound=DriverSettings)


@dataclass(frozen=True, slots=True)
class ComputedInputs:
    """Data that the caller computes for the simulated and the replay driver; other drivers ignore it.

    The drivers cannot compute it themselves, because this package does not import `models`.

    Attributes
    ----------
    scene : Scene or None
        Sample and optics of the simulated microscope.
    detector : Detector or None
        Camera noise of the simulated microscope.
    truth : mapping of int to ndarray of float64, shape (N, 4), or None
        Of a replayed movie: frame to true positions, as `ReplayMicroscope` takes them.
    """

    scene: Scene | None = None
    detector: Detector | None = None
    truth: Mapping[int, NDArray[np.float64]] | None = None


@dataclass(frozen=True, slots=True)
class Driver(Generic[S]):
    """One kind of microscope.

    Attributes
    ----------
    settings : type
        Class of its settings.
    open : callable
        ``open(settings, inputs)`` connects to the devices and returns the microscope; it raises `MicroscopeError`.
    needs_limits : bool
        Whether the focus drive is real, so that it is not opened without soft limits.
    """

    settings: type[S]
    open: Callable[[S, ComputedInputs], Microscope]
    needs_limits: bool = True
