"""TIFF files as stacks: OME-TIFF, Micro-Manager stacks, ImageJ, and plain ones."""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import tifffile

from hardware.micromanager_statements import figures_of_tags, merge, statements_of_micro_manager
from hardware.stack import Stack
from hardware.statements import PlaneFigures, Statements, of_ome_xml
from hardware.tiff_completeness import (
    axes_without_index,
    check_chain,
    check_room,
    find_offset,
    leftover_pages,
    planes_missing,
    whole_count,
)
from hardware.tiff_images import check_picture, choose_image, is_labelled, ome_images, one_position
from hardware.tiff_log import BROKEN_TAG, HARMLESS, MORE_PAGES, collect_warnings, remarks_of
from hardware.tiff_pages import ContiguousPlanes, PagePlanes
from hardware.tiff_statements import oddities, of_imagej, resolution_note

__all__ = ["is_ndtiff", "open_tiff"]

_UNKNOWN_LABELS = "IQ"
"""Labels that tifffile gives to axes without labels."""

_MOST_TAGS_READ = 5000
"""Descriptions of single planes are read one by one; more than these take seconds."""


def open_tiff(path: Path) -> Stack:
    """Open a TIFF file, and the others of its set.

    Raises
    ------
    MicroscopeError
        Cause ``"movie"``: it holds less than it announces, several images, colours, or no grey counts.
    """
    with collect_warnings() as records:
        tiff = tifffile.TiffFile(path)
        try:
            check_chain(path, tiff)
            stack = _read(path, tiff, records)
        except BaseException:
            tiff.close()
            raise
    return stack


def is_ndtiff(path: Path) -> bool:
    """Whether a TIFF file is one of an NDTiff dataset."""
    with collect_warnings(), tifffile.TiffFile(path) as tiff:
        return bool(tiff.is_ndtiff)


def _read(path: Path, tiff: Any, records: Sequence[logging.LogRecord]) -> Stack:
    images = ome_images(path, tiff)
    of_micro_manager = tiff.micromanager_metadata or {}
    summary = of_micro_manager.get("Summary") or {}
    check_room(path, images, summary)
    every = tiff.series
    _check_errors(path, tiff, records)
    series, image, notes = choose_image(path, tiff, every, images, records)
    check_picture(path, series)
    axes, leading, pages = one_position(path, tiff, series)
    planes = math.prod(leading)
    offset = find_offset(path, tiff, series, pages, planes, records)
    leftover: tuple[str, ...] = ()
    if len(images) == 1 and series.kind == "ome":
        leftover = leftover_pages(path, tiff, series, pages)
    remarks = remarks_of(path, records, (*HARMLESS, MORE_PAGES) if leftover else HARMLESS)
    if summary and series.kind not in ("ome", "mmstack"):
        axes = axes_without_index(path, summary, planes)
        if of_micro_manager.get("MajorVersion"):
            notes += ("The index of the NDTiff folder (NDTiff.index) is not there: planes are taken in file order.",)
    stated, figures = Statements(), PlaneFigures.unknown(planes)
    if image is not None:
        stated, figures = of_ome_xml(path, image, axes, leading)
    if series.kind == "imagej":
        stated, axes = of_imagej(path, tiff, axes, leading)
    if summary:
        stated = merge(stated, statements_of_micro_manager(path, summary))
        if np.isnan(figures.position_um).all() and len(pages) == planes <= _MOST_TAGS_READ:
            figures = figures_of_tags(pages)
    bits = int(np.max(series.keyframe.bitspersample))
    if stated.bit_depth is None and bits < series.dtype.itemsize * 8:
        stated = replace(stated, bit_depth=bits)
    if not stated.notes and stated.pixel_size_um is None and series.kind != "imagej":
        stated = replace(stated, notes=resolution_note(series.keyframe))
    notes = (*notes, *leftover, *stated.notes, *oddities(series.keyframe), *remarks)
    stored: ContiguousPlanes | PagePlanes
    if offset is None:
        stored = PagePlanes(tiff, pages)
    else:
        stored = ContiguousPlanes(path, offset, series.shape[-2:], series.dtype.newbyteorder(tiff.byteorder))
        tiff.close()
    return Stack(
        path,
        f"{axes}YX" if _has_labels(tiff, series, axes, summary) else "",
        (*leading, *series.shape[-2:]),
        series.dtype,
        stored.read,
        stored.close,
        replace(stated, notes=notes),
        figures,
    )


def _check_errors(path: Path, tiff: Any, records: Sequence[logging.LogRecord]) -> None:
    """Refuse a file of which tifffile logged an error while it listed the images."""
    errors = [record.getMessage() for record in records if record.levelno >= logging.ERROR]
    errors = [text for text in errors if BROKEN_TAG not in text]
    if errors and tiff.is_imagej:
        announced, held = whole_count((tiff.imagej_metadata or {}).get("images")), len(tiff.pages)
        if announced > held > 1:
            raise planes_missing(path, announced, held, records)
    if errors:
        raise ValueError(errors[0])


def _has_labels(tiff: Any, series: Any, axes: str, summary: dict[str, Any]) -> bool:
    """Whether the labels of the leading axes can be relied on."""
    if not axes:
        return series.kind != "imagej" and is_labelled(tiff, series)
    return not set(axes) <= set(_UNKNOWN_LABELS) and (is_labelled(tiff, series) or bool(summary))
