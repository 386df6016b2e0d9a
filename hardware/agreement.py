"""Agreement of the lengths that a file, the command line and a model state.

The pixel size and the step of a sweep can be stated in several places. They
must agree; a difference is an error, because each result scales with them.
"""

from __future__ import annotations

import math

from hardware.reading import refusal
from hardware.sweeps import Sweep

__all__ = ["agreed_pixel_size", "agreed_step"]

_SAME_SIZE = 0.01
"""Lengths that differ by less are the same: stage micrometers and nominal magnifications are no better."""


def agreed_pixel_size(metadata: float | None, flag: float | None, model: float | None) -> tuple[float, str | None]:
    """Pixel size on which file, flag and model agree, and a note when it had to be assumed.

    Parameters
    ----------
    metadata, flag, model : float or None
        What the file's metadata, ``--pixel-size-um`` and the model or calibration state, µm.

    Returns
    -------
    size_um : float
        The stated one (flag before metadata before model).
    note : str or None
        For the user, when only the model states it.

    Raises
    ------
    MicroscopeError
        Cause ``"movie"``: two of them differ by more than 1 %, one is not positive, or none states it.
    """
    named = {"the file's metadata": metadata, "--pixel-size-um": flag, "the model": model}
    stated = {name: size for name, size in named.items() if size is not None}
    for name, size in stated.items():
        if not math.isfinite(size) or size <= 0:
            raise refusal(
                f"The pixel size is {size} µm according to {name}; it must be positive and finite.",
                "State the pixel size at the sample with --pixel-size-um.",
            )
    if not stated:
        raise refusal(
            "The pixel size is unknown: the file states none that is trusted, and none was given.",
            "State the pixel size at the sample with --pixel-size-um.",
        )
    names = list(stated)
    first = "--pixel-size-um" if flag is not None else names[0]
    for name in names:
        if not math.isclose(stated[name], stated[first], rel_tol=_SAME_SIZE):
            remedy = (
                "Use a model for this pixel size, or correct the one that is wrong."
                if "the model" in (name, first)
                else "Correct the one that is wrong; leave the flag out if the file is right."
            )
            raise refusal(
                f"The pixel size is {stated[first]:g} µm according to {first}, but {stated[name]:g} µm according to "
                f"{name}; they must agree to {_SAME_SIZE:.0%}.",
                remedy,
            )
    if names == ["the model"]:
        return stated[first], f"The file does not state its pixel size; the model's {model:g} µm is assumed."
    return stated[first], None


def agreed_step(sweep: Sweep, flag: float | None) -> tuple[float, str | None]:
    """Step of a sweep on which its metadata, the positions of its planes and ``--z-step-um`` agree.

    Parameters
    ----------
    sweep : Sweep
    flag : float or None
        ``--z-step-um``, µm. Where the file contradicts itself, it states which of both is right.

    Returns
    -------
    step_um : float
    note : str or None
        For the user, when the flag overrules one of two statements.

    Raises
    ------
    MicroscopeError
        Cause ``"movie"``: nothing states the step, or the statements differ by more than 1 %.
    """
    named = {"its metadata": sweep.z_step_um, "the positions of its planes": sweep.position_step_um}
    stated = {name: step for name, step in named.items() if step is not None}
    if flag is not None:
        if not math.isfinite(flag) or flag <= 0:
            raise refusal(
                f"The step is {flag} µm according to --z-step-um; it must be positive.",
                "Give the distance between planes; a sweep that runs toward the objective is stated with --flip-z.",
            )
        others = {name: step for name, step in stated.items() if not math.isclose(step, flag, rel_tol=_SAME_SIZE)}
        if others and len(others) == len(stated):
            name, step = next(iter(others.items()))
            raise refusal(
                f"The step is {flag:g} µm according to --z-step-um, but {step:g} µm according to the file ({name}); "
                f"they must agree to {_SAME_SIZE:.0%}.",
                "Correct the one that is wrong; leave the flag out if the file is right.",
            )
        notes = [f"The file states a step of {step:g} µm ({name}), which is not used." for name, step in others.items()]
        return flag, " ".join(notes) or None
    if not stated:
        raise refusal(
            f"{sweep.path} does not state the step between its planes, or none that is trusted.",
            "State it with --z-step-um.",
        )
    if len(stated) == 2 and not math.isclose(*stated.values(), rel_tol=_SAME_SIZE):
        raise refusal(
            f"The step of {sweep.path} is "
            + ", but ".join(f"{step:g} µm according to {name}" for name, step in stated.items())
            + f"; they must agree to {_SAME_SIZE:.0%}.",
            "State the right one with --z-step-um.",
        )
    # Metadata are rounded less than the positions that a drive reads back.
    return next(iter(stated.values())), None
