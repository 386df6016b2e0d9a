"""A calibration: the optics and the camera as measured with one z-sweep.

It is a value, and a folder with calibration.json (all figures), psf.zarr (the
point-spread function) and report.html. Synthesis, training and localization need
the value only. The report is drawn from the evidence, images and curves of the
sweep, which are not saved otherwise.
"""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from models.camera import CameraModel
from models.errors import DataError
from models.field import FieldMap
from models.object_size import ObjectSize, psf_of_sphere
from models.psf import Psf

if TYPE_CHECKING:
    from models.calibration.evidence import Evidence

__all__ = ["Calibration"]

_KIND = "bathyscope calibration"
_VERSION = 2


@dataclass(frozen=True)
class Calibration:
    """PSF, focus, field map and camera of one z-sweep.

    Attributes
    ----------
    id : str
        Sortable by time.
    psf : Psf
        Pattern of the median bead; it covers `z_range_um`, and more where the sweep does.
    z_range_um : (low, high)
        Depths of later localizations, µm from focus.
    camera : CameraModel
        Camera of the sweep.
    field : FieldMap or None
        None when the beads show no dependence on the position.
    focus_um : float
        Focus in sweep coordinates, µm.
    sweep_z_um : ndarray of float64, shape (Z,)
        Positions of the sweep, µm.
    axial_scale, sign : float, int
        ``z_um = sign * axial_scale * (sweep position - focus_um)``.
    size_variation : float
        Standard deviation over beads of the relative growth of their patterns with depth.
    report : dict
        All other figures, as plain values for JSON.
    evidence : Evidence or None
        Images for the report; None after loading.
    page : str
        The report as HTML; drawn from the evidence by `models.calibration.report.with_report`.
    """

    id: str
    psf: Psf
    z_range_um: tuple[float, float]
    camera: CameraModel
    field: FieldMap | None
    focus_um: float
    sweep_z_um: NDArray[np.float64]
    axial_scale: float
    sign: int
    size_variation: float
    report: dict[str, Any]
    evidence: Evidence | None = dataclasses.field(default=None, repr=False, compare=False)
    page: str = dataclasses.field(default="", repr=False, compare=False)

    def of_objects(self, size: ObjectSize) -> Calibration:
        """The same optics with the pattern of evenly labelled spheres instead of beads; the report states the size."""
        notes = [
            *self.report["notes"],
            f"the pattern is that of objects of {size.object_um:g} µm, computed from beads of {size.bead_um:g} µm",
        ]
        report = {**self.report, "notes": notes, "object_um": size.object_um, "bead_um": size.bead_um}
        return dataclasses.replace(self, psf=psf_of_sphere(self.psf, size.missing_um), report=report)

    def as_dict(self) -> dict[str, Any]:
        """All but the PSF and the images, as plain values for JSON."""
        return {
            "kind": _KIND,
            "version": _VERSION,
            "id": self.id,
            "z_range_um": list(self.z_range_um),
            "pixel_size_um": self.psf.pixel_size_um,
            "focus_um": self.focus_um,
            "axial_scale": self.axial_scale,
            "sign": self.sign,
            "size_variation": self.size_variation,
            "camera": self.camera.as_dict(),
            "field": None if self.field is None else self.field.as_dict(),
            "sweep_z_um": [float(z) for z in self.sweep_z_um],
            "report": self.report,
        }

    def save(self, folder: Path) -> None:
        """Write calibration.json, psf.zarr and, when there is a page, report.html into `folder`, made when missing."""
        folder.mkdir(parents=True, exist_ok=True)
        self.psf.save(folder / "psf.zarr")
        if self.page:
            (folder / "report.html").write_text(self.page, encoding="utf-8")
        text = json.dumps(self.as_dict(), indent=2, allow_nan=False)
        (folder / "calibration.json").write_text(text + "\n", encoding="utf-8")

    @staticmethod
    def is_folder(folder: Path) -> bool:
        """Whether `folder` holds a calibration, complete or damaged, that a new one may replace."""
        return (folder / "calibration.json").is_file() and (folder / "psf.zarr").is_dir()

    @classmethod
    def load(cls, folder: Path) -> Calibration:
        """Read what `save` wrote.

        Raises
        ------
        DataError
            When the folder is missing, damaged or something else.
        """
        path = folder / "calibration.json"
        try:
            values: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
            if values["kind"] != _KIND or values["version"] != _VERSION:
                raise DataError(
                    f"{path} is of kind {values['kind']!r}, version {values['version']!r}; "
                    f"{_KIND!r} version {_VERSION} is needed.",
                    "Calibrate again with this version of Bathyscope.",
                )
            places = values["field"]
            report_page = folder / "report.html"
            low, high = (float(v) for v in values["z_range_um"])
            return cls(
                id=str(values["id"]),
                psf=Psf.load(folder / "psf.zarr"),
                z_range_um=(low, high),
                camera=CameraModel(**values["camera"]),
                field=None if places is None else FieldMap.from_dict(places),
                focus_um=float(values["focus_um"]),
                sweep_z_um=np.asarray(values["sweep_z_um"], np.float64),
                axial_scale=float(values["axial_scale"]),
                sign=int(values["sign"]),
                size_variation=float(values["size_variation"]),
                report=dict(values["report"]),
                page=report_page.read_text(encoding="utf-8") if report_page.is_file() else "",
            )
        except DataError:
            raise
        except Exception as error:
            raise DataError(
                f"The calibration in {folder} cannot be read ({type(error).__name__}: {error}).",
                "Name the folder that `bathyscope calibrate` wrote, calibrate again, or restore it from a copy.",
            ) from error
