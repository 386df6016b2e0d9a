"""Values that Micro-Manager writes into its files: of all planes (the summary) and of each."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tifffile

from hardware.statements import PlaneFigures, Statements, number, positive

__all__ = ["figures_of_micro_manager", "figures_of_tags", "merge", "statements_of_micro_manager"]

_MICRO_MANAGER_TAG = 51123

_SAME = 0.01
"""Two statements of one length that differ by less are the same."""


def statements_of_micro_manager(path: Path, summary: dict[str, Any]) -> Statements:
    """Statements of Micro-Manager's summary, of a stack file or an NDTiff folder."""
    notes = []
    size = number(summary.get("PixelSize_um", summary.get("PixelSizeUm")))
    if size == 0:
        notes.append("Micro-Manager states a pixel size of 0 (not calibrated); it is not trusted.")
    step, interval = number(summary.get("z-step_um")), number(summary.get("Interval_ms"))
    bits = number(summary.get("BitDepth"))
    return Statements(
        positive(path, "a pixel size in µm", size) if math.isfinite(size) and size != 0 else None,
        abs(step) if math.isfinite(step) and step != 0 else None,
        # 0: as fast as the camera goes.
        interval / 1e3 if math.isfinite(interval) and interval > 0 else None,
        int(bits) if bits > 0 else None,
        tuple(notes),
    )


def merge(first: Statements, other: Statements) -> Statements:
    """Join the values of OME-XML and Micro-Manager's summary; a value that they state differently is ignored."""
    values: dict[str, float | int | None] = {}
    notes = [*first.notes, *(note for note in other.notes if first.pixel_size_um is None)]
    for name, meaning in (
        ("pixel_size_um", "a pixel size in µm"),
        ("z_step_um", "a step in µm"),
        ("frame_period_s", "a time from frame to frame in s"),
        ("bit_depth", "bits of a count"),
    ):
        one, two = getattr(first, name), getattr(other, name)
        values[name] = two if one is None else one
        if one is not None and two is not None and not math.isclose(one, two, rel_tol=_SAME):
            values[name] = None
            notes.append(
                f"The file states {meaning} of {one:g} and, in Micro-Manager's summary, {two:g}; neither is trusted."
            )
    return Statements(**values, notes=tuple(notes))  # type: ignore[arg-type]


def figures_of_tags(pages: Sequence[Any]) -> PlaneFigures:
    """Values of Micro-Manager's description of each page."""
    figures, opened = [], None
    for page in pages:
        handle = page.parent.filehandle
        if handle.closed:
            if opened is not None:
                opened.close()
            handle.open()
            opened = handle
        handle.seek(page.offset)
        tag = tifffile.TiffPage(page.parent, 0).tags.get(_MICRO_MANAGER_TAG)
        figures.append(tag.value if tag is not None and isinstance(tag.value, dict) else {})
    if opened is not None:
        opened.close()
    return figures_of_micro_manager(figures)


def figures_of_micro_manager(planes: Sequence[dict[str, Any]]) -> PlaneFigures:
    """Values of Micro-Manager's descriptions of planes, in their order."""
    return PlaneFigures(
        np.array([number(plane.get("ZPositionUm")) for plane in planes]),
        np.array([number(plane.get("ElapsedTime-ms")) / 1e3 for plane in planes]),
        np.array([number(plane.get("Exposure-ms")) / 1e3 for plane in planes]),
    )
