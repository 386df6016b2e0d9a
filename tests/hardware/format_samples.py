"""One movie or sweep in every format that is read, as the programs of these formats write it."""

from __future__ import annotations

import gc
import json
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import tifffile
import zarr
from ndstorage import NDTiffDataset
from numpy.typing import NDArray

from tests.hardware import vendor_samples
from tests.hardware.picture_samples import described, imagej, micro_manager_stack, ome

__all__ = ["FORMATS", "PIXEL_UM", "STEP_UM", "ndtiff", "ome_tiff_set", "ome_zarr"]

PIXEL_UM = 0.65
STEP_UM = 0.5
"""What the files state, where their format has a place for it."""

_MICRONS = {"PhysicalSizeX": PIXEL_UM, "PhysicalSizeY": PIXEL_UM}


def ome_zarr(
    path: Path,
    data: NDArray[Any],
    axes: str,
    *,
    version: str = "0.5",
    chunks: tuple[int, ...] | None = None,
    shards: tuple[int, ...] | None = None,
    scale: dict[str, float] | None = None,
    below: str = "",
    units: bool = True,
) -> Path:
    """An OME-Zarr image; `below` is the group that holds it in the layout of bioformats2raw."""
    kinds = {"t": ("time", "millisecond"), "c": ("channel", None)}
    names = []
    for name in axes:
        kind, unit = kinds.get(name, ("space", "micrometer"))
        names.append({"name": name, "type": kind} | ({"unit": unit} if unit and units else {}))
    scales = [(scale or {}).get(name, 1.0) for name in axes]
    multiscale = {
        "axes": names,
        "datasets": [{"path": "0", "coordinateTransformations": [{"type": "scale", "scale": scales}]}],
    }
    group = zarr.open_group(path, mode="w", zarr_format=3 if version == "0.5" else 2)
    if below:
        group.attrs["bioformats2raw.layout"] = 3
        group = group.create_group(below)
    if version == "0.5":
        group.attrs["ome"] = {"version": version, "multiscales": [multiscale]}
    else:
        group.attrs["multiscales"] = [{**multiscale, "version": version}]
    group.create_array("0", data=data, chunks=chunks or (1,) * (data.ndim - 2) + data.shape[-2:], shards=shards)
    return path


def ndtiff(
    folder: Path,
    planes: NDArray[np.uint16],
    places: list[Mapping[str, int | str]],
    summary: dict[str, Any],
    each: list[dict[str, Any]] | None = None,
    file_bytes: int | None = None,
) -> Path:
    """A dataset of Micro-Manager's own writer; a new file begins at `file_bytes` (4 GiB by default)."""
    folder.mkdir(exist_ok=True)
    with warnings.catch_warnings(), mock.patch("ndstorage.ndtiff_file.MAX_FILE_SIZE", file_bytes or 2**32):
        # The writer leaves files open.
        warnings.simplefilter("ignore", ResourceWarning)
        dataset = NDTiffDataset(str(folder), summary_metadata=summary, writable=True)
        for number, place in enumerate(places):
            dataset.put_image(dict(place), planes[number], (each or [{}] * len(places))[number])
        dataset.finish()
        del dataset
        gc.collect()
    return folder


def ome_tiff_set(folder: Path, data: NDArray[np.uint16], axis: str, files: int) -> list[Path]:
    """One movie or sweep in several files of which each has the OME-XML of all.

    Parameters
    ----------
    data : ndarray of uint16, shape (N, H, W)
    axis : str
        Label of the first axis, T or Z.
    """
    paths = [folder / f"part{number}.ome.tif" for number in range(files)]
    for path, uuid, planes in zip(paths, _uuids(files), np.array_split(data, files), strict=True):
        described(path, planes, _xml_of_set(uuid, [path.name for path in paths], data, axis, files))
    return paths


def _uuids(files: int) -> list[str]:
    return [f"urn:uuid:00000000-0000-0000-0000-{number:012d}" for number in range(files)]


def _xml_of_set(uuid: str, names: list[str], data: NDArray[Any], axis: str, files: int) -> str:
    """OME-XML of one of several files, in which each plane has its file and its place there."""
    held = np.array_split(np.arange(len(data)), files)
    places = "".join(
        f'<TiffData First{axis}="{number}" IFD="{place}" PlaneCount="1">'
        f'<UUID FileName="{name}">{named}</UUID></TiffData>'
        for name, named, numbers in zip(names, _uuids(files), held, strict=True)
        for place, number in enumerate(numbers)
    )
    sizes = {"C": 1, "Z": 1, "T": 1, axis: len(data)}
    step = f'PhysicalSizeZ="{STEP_UM}" ' if axis == "Z" else ""
    return (
        '<?xml version="1.0" encoding="UTF-8"?><OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06" '
        f'UUID="{uuid}"><Image ID="Image:0"><Pixels ID="Pixels:0" DimensionOrder="XYCZT" Type="uint16" '
        f'SizeX="{data.shape[2]}" SizeY="{data.shape[1]}" '
        + "".join(f'Size{label}="{extent}" ' for label, extent in sizes.items())
        + f'PhysicalSizeX="{PIXEL_UM}" PhysicalSizeY="{PIXEL_UM}" {step}>'
        f'<Channel ID="Channel:0:0" SamplesPerPixel="1"/>{places}</Pixels></Image></OME>'
    )


# ---- one function a format: folder for the file, planes (N, H, W), label of the first axis ----


def _ome_tiff(folder: Path, data: NDArray[np.uint16], axis: str) -> Path:
    extra = {**_MICRONS, "PhysicalSizeZ": STEP_UM} if axis == "Z" else _MICRONS
    return ome(folder / "one.ome.tif", data, f"{axis}YX", **extra)


def _several_ome_tiff(folder: Path, data: NDArray[np.uint16], axis: str) -> Path:
    return ome_tiff_set(folder, data, axis, 3)[1]


def _stack_files(folder: Path, data: NDArray[np.uint16], axis: str, with_xml: bool) -> Path:
    """Micro-Manager's stack in two files, as it is split at 4 GB."""
    names = ["movie_1_MMStack_Pos0.ome.tif", "movie_1_MMStack_Pos0_1.ome.tif"]
    summary = {"Frames" if axis == "T" else "Slices": len(data), "PixelSize_um": PIXEL_UM, "z-step_um": STEP_UM}
    places = [(0, 0, number, 0) if axis == "T" else (0, number, 0, 0) for number in range(len(data))]
    halves = np.array_split(np.arange(len(data)), 2)
    for name, uuid, numbers in zip(names, _uuids(2), halves, strict=True):
        xml = _xml_of_set(uuid, names, data, axis, 2) if with_xml else ""
        micro_manager_stack(folder / name, data[numbers], [places[number] for number in numbers], summary, xml=xml)
    return folder / names[0]


def _ndtiff(folder: Path, data: NDArray[np.uint16], axis: str, files: int) -> Path:
    places: list[Mapping[str, int | str]] = [{"time" if axis == "T" else "z": number} for number in range(len(data))]
    each = [{"PixelSizeUm": PIXEL_UM}] * len(data)
    room = 2**20 + data[0].nbytes * -(-len(data) // files)
    written = ndtiff(folder / "dataset", data, places, {"z-step_um": STEP_UM}, each, room if files > 1 else None)
    assert (len(list(written.glob("*.tif"))) > 1) == (files > 1)
    return written


def _ome_zarr(folder: Path, data: NDArray[np.uint16], axis: str, version: str) -> Path:
    scale = {"y": PIXEL_UM, "x": PIXEL_UM, "z": STEP_UM}
    return ome_zarr(folder / "one.ome.zarr", data, f"{axis.lower()}yx", version=version, scale=scale)


def _sharded(folder: Path, data: NDArray[np.uint16], axis: str) -> Path:
    scale = {"y": PIXEL_UM, "x": PIXEL_UM, "z": STEP_UM}
    shape = data.shape[1:]
    return ome_zarr(
        folder / "one.ome.zarr", data, f"{axis.lower()}yx", chunks=(1, *shape), shards=(2, *shape), scale=scale
    )


def _imagej(folder: Path, data: NDArray[np.uint16], axis: str) -> Path:
    spacing = {"spacing": STEP_UM} if axis == "Z" else {}
    return imagej(folder / "one.tif", data, f"{axis}YX", PIXEL_UM, unit="micron", **spacing)


def _compressed(folder: Path, data: NDArray[np.uint16], axis: str) -> Path:
    path = folder / "one.tif"
    tifffile.imwrite(path, data, photometric="minisblack", compression="lzw", predictor=True, metadata=None)
    return path


def _images(folder: Path, data: NDArray[np.uint16], axis: str) -> Path:
    metadata: dict[str, Any] = {"Summary": {"PixelSize_um": PIXEL_UM, "z-step_um": STEP_UM}}
    folder = folder / "images"
    folder.mkdir()
    for number, plane in enumerate(data):
        t, z = (number, 0) if axis == "T" else (0, number)
        name = f"img_{t:09d}_Default_{z:03d}.tif"
        metadata[f"FrameKey-{t}-0-{z}"] = {"FileName": name}
        tifffile.imwrite(folder / name, plane, photometric="minisblack", metadata=None)
    (folder / "metadata.txt").write_text(json.dumps(metadata), encoding="utf-8")
    return folder


def _czi(folder: Path, data: NDArray[np.uint16], axis: str) -> Path:
    places = [{axis: number} for number in range(len(data))]
    return vendor_samples.czi(folder / "one.czi", data, places, PIXEL_UM, STEP_UM if axis == "Z" else 0.0)


FORMATS: dict[str, Callable[[Path, NDArray[np.uint16], str], Path]] = {
    "OME-TIFF": _ome_tiff,
    "OME-TIFF, several files": _several_ome_tiff,
    "Micro-Manager stack, two files": lambda folder, data, axis: _stack_files(folder, data, axis, with_xml=False),
    "Micro-Manager stack with OME-XML, two files": lambda folder, data, axis: _stack_files(folder, data, axis, True),
    "NDTiff, one file": lambda folder, data, axis: _ndtiff(folder, data, axis, 1),
    "NDTiff, several files": lambda folder, data, axis: _ndtiff(folder, data, axis, 2),
    "OME-Zarr 0.4": lambda folder, data, axis: _ome_zarr(folder, data, axis, "0.4"),
    "OME-Zarr 0.5": lambda folder, data, axis: _ome_zarr(folder, data, axis, "0.5"),
    "OME-Zarr 0.5, sharded": _sharded,
    "ImageJ TIFF": _imagej,
    "TIFF, LZW": _compressed,
    "Micro-Manager's single images": _images,
    "Nikon ND2": lambda folder, data, axis: vendor_samples.nd2(folder / "one.nd2", data, [(axis, len(data))]),
    "Zeiss CZI": _czi,
    "Leica LIF": lambda folder, data, axis: vendor_samples.lif(folder / "one.lif", {"one": (data, f"{axis}YX")}),
}
