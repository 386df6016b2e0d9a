"""Opening a microscope by the kind of its driver, always within soft limits."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from pydantic import ValidationError

from hardware.driver import ComputedInputs, Driver, DriverSettings
from hardware.drivers import load_driver
from hardware.limits import LimitedMicroscope, check_limits
from hardware.microscope import MicroscopeError, StageLimits, XYLimits

__all__ = ["open_microscope"]

_DEFAULT_LIMITS = StageLimits(-150.0, 150.0, 300.0)
"""Limits of stages that are not real."""


def open_microscope(
    kind: str,
    settings: DriverSettings | Mapping[str, Any] | None = None,
    *,
    limits: StageLimits | None = None,
    xy_limits: XYLimits | None = None,
    further_limits: Mapping[str, StageLimits] = MappingProxyType({}),
    inputs: ComputedInputs | None = None,
) -> LimitedMicroscope:
    """Open a microscope within its soft limits.

    Parameters
    ----------
    kind : str
        Kind of the driver: ``"simulated"``, ``"micromanager"``, ``"replay"``, or one of another package.
    settings : DriverSettings, mapping or None
        Settings of this driver; None: its defaults.
    limits : StageLimits or None
        Soft limits of the focus drive; required with a real one.
    xy_limits : XYLimits or None
        Soft limits of the XY stage. None: a real one is not moved.
    further_limits : mapping of str to StageLimits
        Soft limits of further focus drives, by label.
    inputs : ComputedInputs or None
        Data that the caller computes for the simulated and the replay driver.

    Raises
    ------
    MicroscopeError
        For an unknown driver or setting, missing limits, and errors of the driver.
    """
    driver = load_driver(kind)
    if limits is None and driver.needs_limits:
        raise MicroscopeError(
            "settings",
            f"The stage limits are not set; the driver {kind} does not move a real focus drive without them.",
            "Set the lowest and highest position that are safe for objective and sample, and the greatest step.",
        )
    limits = check_limits(limits or _DEFAULT_LIMITS)
    if xy_limits is None and not driver.needs_limits:
        xy_limits = XYLimits(_DEFAULT_LIMITS, _DEFAULT_LIMITS)
    own = _validate(kind, driver, settings)
    opened = driver.open(own, inputs or ComputedInputs())
    try:
        return LimitedMicroscope(opened, limits, xy_limits, further_limits)
    except BaseException:
        opened.close()
        raise


def _validate(kind: str, driver: Driver[Any], settings: DriverSettings | Mapping[str, Any] | None) -> DriverSettings:
    """Settings of the driver, complete and within their ranges."""
    try:
        own: DriverSettings = driver.settings.model_validate({} if settings is None else settings)
        own.check_complete()
    except ValidationError as error:
        fault = error.errors(include_url=False)[0]
        name = ".".join(str(part) for part in fault["loc"])
        if fault["type"] == "extra_forbidden":
            problem = f"{name} is no setting of the driver {kind}."
        else:
            problem = f"{name or 'The settings'} of the driver {kind}: {fault['msg'].removeprefix('Value error, ')}."
        known = ", ".join(driver.settings.model_fields)
        raise MicroscopeError("settings", problem, f"The settings are: {known}.") from None
    except ValueError as error:
        raise MicroscopeError(
            "settings", f"The settings of the driver {kind} are incomplete: {error}.", "Set it."
        ) from None
    return own
