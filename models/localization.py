"""Frames to localizations with a trained model: the same code for live and offline use.

A `Localizer` is a model in memory: the card from its folder, the network on its
device, in the fastest precision of the processor and with batch normalization
folded into the convolutions, and the PSF, which is loaded when a joint fit
needs it.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from functools import cached_property
from itertools import repeat
from pathlib import Path
from typing import TYPE_CHECKING, Self

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.torch import load_file

from models.background.frame_light import FrameLight, remove_light
from models.background.mode import StaticLightMode
from models.background.static_light import FIRST_FRAMES, StaticLight
from models.camera import CameraModel, contradicts_depth
from models.errors import DataError
from models.field import apparent_range_um
from models.model_card import REFERENCE_CALIBRATION, ModelCard
from models.model_files import PSF, WEIGHTS
from models.networks import architecture_named, has_network
from models.networks.architecture import Architecture, pad_frames
from models.networks.cascade_readout import Readout
from models.networks.stabilize import median_step
from models.optics import reference_psf
from models.precision import select_device, select_precision
from models.psf import Psf
from models.tables import Localizations

if TYPE_CHECKING:
    from models.background.explained import ExplainedShare
    from models.fit.refiner import Refiner
    from models.tracking.image_tracker import ImageModel

__all__ = ["Localizer"]

_BUSY_SHARE = 0.5
"""Share of the frame period for localization; the rest is for other processing and for catching up after a delay."""
_KEEPS_UP = 0.95
"""The same for the last cores: with more of them nothing is left to other work."""

_TIMED_FRAMES = 5

_WARM_UP_PX = 64
"""Side of the part of a frame on which the loops over pixels are prepared."""

_POSSIBLE = 0.05
"""Least probability of the detections that a joint fit starts from; the fit removes false ones."""


class Localizer:
    """Model that finds emitters in frames; made by `load`.

    Parameters
    ----------
    folder : Path
        Folder of the model.
    card : ModelCard
        Card in the folder.
    network : Architecture
        Network with the weights of the folder; it is folded in place.
    device, precision : str
        ``"auto"`` chooses by the hardware of the machine.
    camera : CameraModel, optional
        Camera of the movie; the model's by default.

    Attributes
    ----------
    folder, card, network, camera
        As given.
    device : torch.device
    precision : torch.dtype
    """

    def __init__(
        self,
        folder: Path,
        card: ModelCard,
        network: Architecture,
        device: str = "auto",
        precision: str = "auto",
        camera: CameraModel | None = None,
    ) -> None:
        self.folder = folder
        self.card = card
        self.network = network
        self.camera = camera or card.camera
        self.device = select_device(device)
        self.precision = select_precision(self.device, precision, quantized=card.map_bounds is not None)
        self._threads = 0
        self._stream = torch.cuda.Stream(self.device) if self.device.type == "cuda" else None  # type: ignore[no-untyped-call]
        network.module.to(self.device).eval()
        network.fold(self.precision, card.map_bounds)

    @classmethod
    def load(
        cls, folder: Path, device: str = "auto", precision: str = "auto", camera: CameraModel | None = None
    ) -> Self:
        """Load the model in a folder.

        Raises
        ------
        DataError
            When the folder is missing, damaged, or weights and card do not fit each other.
        """
        card = ModelCard.load(folder)
        network = architecture_named(card.architecture).from_settings(card.network)
        path = folder / WEIGHTS
        try:
            network.module.load_state_dict(load_file(path))
        except (OSError, SafetensorError, RuntimeError, ValueError) as error:
            raise DataError(
                f"{path} is missing, damaged or of another network ({str(error).splitlines()[0]}).",
                "Restore the folder from a copy, or train again.",
            ) from error
        return cls(folder, card, network, device, precision, camera)

    @cached_property
    def psf(self) -> Psf:
        """PSF that the model was trained with: computed for the shipped models, read from the folder of all others.

        Raises
        ------
        DataError
            When the file in the folder is missing or damaged.
        """
        if self.card.calibration_id == REFERENCE_CALIBRATION:
            return reference_psf()
        return Psf.load(self.folder / PSF)

    @cached_property
    def image_model(self) -> ImageModel | None:
        """What the image filter needs of this model and camera; None when the PSF is missing or damaged."""
        try:
            return self.image_model_of(self.psf)
        except DataError:
            return None

    def image_model_of(self, psf: Psf) -> ImageModel:
        """The same with another PSF, as of objects of another size."""
        from models.fit.fitted_image import FitOptics
        from models.fit.image_levels import ImageOptics
        from models.fit.missed import MissedEmitters
        from models.fit.scale import fit_range_um
        from models.tracking.image_tracker import ImageModel

        on_cells = ImageOptics(psf, self.camera)
        optics: FitOptics = on_cells
        if self.device.type == "cuda":
            from models.fit.tensor_image import TensorOptics

            optics = TensorOptics(on_cells, self.device)
        depths_um = self._apparent_depths_um
        return ImageModel(
            optics, self.camera, self.card.field, depths_um, MissedEmitters(optics, fit_range_um(psf, depths_um))
        )

    @property
    def _apparent_depths_um(self) -> tuple[float, float]:
        planes = float(self.psf.z_um[0]), float(self.psf.z_um[-1])
        return apparent_range_um(self.card.field, self.card.z_range_um, planes)

    @property
    def threshold(self) -> float:
        """Least probability of a detection that counts as an emitter."""
        return float(self.card.threshold)

    def check_bit_depth(self, bit_depth: int) -> None:
        """Reject counts whose bit depth contradicts the camera description.

        Parameters
        ----------
        bit_depth : int
            Of the movie's counts; 8 or 16 is only the type of the file; other values are those of the camera.
        """
        if contradicts_depth(self.camera.bit_depth, bit_depth):
            raise DataError(
                f"The movie has {bit_depth}-bit counts, but the camera of model {self.card.id} has "
                f"{self.camera.bit_depth} bits; offset and gain do not carry over.",
                "Record with the bit depth of the calibration, or give the camera of this movie with --camera.",
            )

    def refiner(self, *, rounds: int | None = None, iterations: int | None = None) -> Refiner:
        """Joint maximum-a-posteriori fit with the model's PSF; `rounds` and `iterations` are the usual ones by default.

        Raises
        ------
        DataError
            When the PSF is missing or damaged.
        """
        from models.fit.refiner import RefinementSettings, Refiner

        # The fit uses apparent positions; field distortion is corrected afterwards.
        usual = RefinementSettings()
        settings = RefinementSettings(
            z_range_um=self._apparent_depths_um,
            rounds=usual.rounds if rounds is None else rounds,
            iterations=usual.iterations if iterations is None else iterations,
        )
        return Refiner(self.psf, self.camera, settings)

    def static_light(self, mode: StaticLightMode) -> StaticLight | None:
        """What follows the static light of one movie or run for this model and camera; None for ``"off"``."""
        if mode == "off":
            return None
        return StaticLight(self.camera, self._explained_share, mode)

    @cached_property
    def _explained_share(self) -> ExplainedShare:
        from models.background.explained import ExplainedShare

        return ExplainedShare(self)

    def warm_up(self, shape: tuple[int, int], batch: int) -> None:
        """Run on empty frames for every batch size up to `batch`: kernels are prepared for each size."""
        blank = np.full((batch, *shape), round(self.camera.offset_adu), np.uint16)
        for count in range(1, batch + 1):
            self.localize(blank[:count], np.arange(count))
        self.prepare_light(shape)

    def prepare_light(self, shape: tuple[int, int]) -> None:
        """Prepare the kernels that remove static light from frames (H, W)."""
        part = np.full((1, _WARM_UP_PX, _WARM_UP_PX), round(self.camera.offset_adu), np.uint16)
        light = StaticLight(self.camera, lambda _: 0.0, "on")
        light.begin_with(repeat(part[0]), FIRST_FRAMES)
        remove_light(part, light.follow(part))
        self._explained_share.prepare(shape)

    @property
    def finds_candidates(self) -> bool:
        """Whether the model has a network; without one its emitters are found by the fit of the images alone."""
        return has_network(self.network)

    def check_finds(self, *, fits: bool) -> None:
        """Refuse a model without a network where images are not fitted.

        Raises
        ------
        DataError
        """
        if not (self.finds_candidates or fits):
            raise DataError(
                f"The model {self.card.id} has no network, so it finds nothing unless images are fitted.",
                "Choose a trained model, or fit the images: fit auto for tracks, --refine for localizations.",
            )

    def use_threads(self, count: int) -> None:
        """Compute with so many threads on a processor."""
        self._threads = count

    def choose_threads(self, shape: tuple[int, int], period_s: float, most: int, others: int = 0) -> int:
        """Choose the smallest number of threads that keeps up with a camera, and return it.

        One thread is the fastest if it suffices: threads wait for each other and for other processes. A frame may
        take `_BUSY_SHARE` of the time from frame to frame.

        Parameters
        ----------
        shape : (int, int)
            Rows and columns of a frame.
        period_s : float
            Time from frame to frame, s.
        most : int
            Most threads.
        others : int
            How many of these cores other work would use: the network takes them only if it does not keep up without.
        """
        frame = np.full((1, *shape), round(self.camera.offset_adu), np.uint16)
        for self._threads in range(1, most + 1):
            taken = []
            for _ in range(_TIMED_FRAMES):
                begin_s = time.perf_counter()
                self.localize(frame, np.zeros(1, np.int64))
                taken.append(time.perf_counter() - begin_s)
            share = _BUSY_SHARE if self._threads < most - others else _KEEPS_UP
            if min(taken) < share * period_s:
                break
        return self._threads

    def localize(
        self, frames: NDArray[np.uint16], frame_numbers: NDArray[np.int64], least: float | None = None
    ) -> Localizations:
        """Emitters in frames.

        Parameters
        ----------
        frames : ndarray of uint16, shape (B, H, W)
            Camera counts.
        frame_numbers : ndarray of int64, shape (B,)
        least : float, optional
            Least probability; the model's decision threshold when not given.

        Returns
        -------
        Localizations
            In the order of the frames; positions within the frame, depths within the model's range and
            the margin for tilt and curvature with which it was trained.
        """
        # The number of threads is a property of the calling thread.
        if self._threads and torch.get_num_threads() != self._threads:
            torch.set_num_threads(self._threads)
        with torch.inference_mode():
            found = self._detect(pad_frames(frames, self.network.stride))
        step = median_step(*frames.shape[1:])
        background = self.camera.to_electrons(np.median(frames[:, ::step, ::step], axis=(1, 2))).astype(np.float64)
        height, width = frames.shape[1:]
        edge = 0.5 * self.card.pixel_size_um
        keep = (
            (found.probability >= (self.card.threshold if least is None else least))
            & (np.abs(found.x_um - (width * edge - edge)) <= width * edge)
            & (np.abs(found.y_um - (height * edge - edge)) <= height * edge)
        )
        rows = np.flatnonzero(keep)
        rows = rows[np.argsort(found.batch[rows], kind="stable")]
        x_um, y_um, z_um = found.x_um[rows], found.y_um[rows], found.z_um[rows]
        if self.card.field is not None:
            x_um, y_um, z_um = self.card.field.true_places(x_um, y_um, z_um)
        return Localizations(
            frame=np.asarray(frame_numbers, np.int64)[found.batch[rows]],
            x_um=x_um,
            y_um=y_um,
            z_um=z_um,
            photons=found.photons[rows],
            background=background[found.batch[rows]],
            probability=found.probability[rows],
            sigma_x_um=found.sigma_lateral_um[rows],
            sigma_y_um=found.sigma_lateral_um[rows],
            sigma_z_um=found.sigma_z_um[rows],
            chi2=np.full(len(rows), np.nan),
        )

    def _detect(self, counts: NDArray[np.uint16]) -> Readout:
        if self.device.type == "cpu":
            return self.network.detect_counts(counts, self.camera)
        # A separate stream and pinned memory let copies and kernels run beside those of other processes on the GPU.
        with torch.cuda.stream(self._stream):
            there = torch.from_numpy(counts).pin_memory().to(self.device, non_blocking=True)
            electrons = (there.to(torch.float32) - self.camera.offset_adu) * self.camera.electrons_per_adu
            read_noise = torch.full((len(counts),), self.camera.read_noise_e, device=self.device)
            return self.network.detect(electrons, read_noise)

    def localize_finely(
        self,
        frames: NDArray[np.uint16],
        frame_numbers: NDArray[np.int64],
        refiner: Refiner,
        lights: Sequence[FrameLight | None] | None = None,
    ) -> Localizations:
        """Emitters in frames, by a joint fit of all detections down to low probability; as `localize`, but slower.

        `lights` is the static light of each frame, which the frames contain.
        """
        of_frames = lights or [None] * len(frames)
        possible = self.localize(remove_light(frames, of_frames), frame_numbers, _POSSIBLE)
        return Localizations.concatenate(
            self.refine(counts, possible.select(possible.frame == number), number, refiner, light)
            for number, counts, light in zip(frame_numbers.tolist(), frames, of_frames, strict=True)
        )

    def refine(
        self,
        counts: NDArray[np.uint16],
        found: Localizations,
        frame: int,
        refiner: Refiner,
        light: FrameLight | None = None,
    ) -> Localizations:
        """Fit the detections of one frame (H, W) jointly, and search for missed emitters.

        The fit works with apparent positions: field distortion is applied to the detections before the fit and
        corrected after it. Emitters whose probability after the fit reaches the model's threshold are returned. The
        static light of the frame is a part of the model; the stated background contains its median.
        """
        field = self.card.field
        apparent = found if field is None else field.apparent(found)
        fitted = refiner.refine(self.camera.to_electrons(counts), apparent, None if light is None else light.backdrop_e)
        fitted = fitted.select(fitted.probability >= self.card.threshold)
        if field is not None:
            fitted = field.true(fitted)
        if light is not None:
            fitted = replace(fitted, background=fitted.background + light.backdrop_level_e)
        return replace(fitted, frame=np.full(len(fitted), frame, np.int64))
