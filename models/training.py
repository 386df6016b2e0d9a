"""Train a network for one calibration within a time budget.

Frames are drawn in threads while the network learns, so every frame is new and
none is stored. The learning rate follows the share of the time budget that is
spent, so a training of any length ends at a low rate. A checkpoint beside the
output lets `resume` continue after an interruption. At the end the decision
threshold is chosen on validation frames of other seeds.
"""

from __future__ import annotations

import hashlib
import json
import math
import queue
import threading
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file, save_file

from models.calibration.calibration import Calibration
from models.errors import DataError
from models.field import apparent_range_um
from models.model_card import PSF, REFERENCE_CALIBRATION, WEIGHTS, ModelCard
from models.networks import architecture_named
from models.networks.recipe import Optimizer, Recipe
from models.precision import autocast, select_device, select_precision
from models.quantities import TRAINING_MINUTES
from models.synthesis import PatternTable, SceneSettings, draw_frame
from models.validation import choose_threshold
from models.weights import reference_model

__all__ = [
    "TrainingSettings",
    "labelled_range_um",
    "load_shipped_weights",
    "scene_for",
    "scenes_by_size",
    "train",
]

_NOISELESS_SHARE = 0.85
_NOISELESS_SNR_DB = (10.0, 34.0)
"""For cameras without read noise: these are simulated and mostly have no shot noise either."""

_NEGATIVE_DEFOCUS_SHARE = 0.12

_WIDEST_PX = 384
"""Side of the widest training frames. Zero padding marks the edge of a frame. A network that is trained on small frames
alone relies on it, and misses emitters in the middle of a camera's frame."""

_LEAST_RELATIVE_WORK = 0.8
"""A step of wider frames has fewer of them, but at least one; its cost may grow by at most the inverse of this."""

_MEASURED_FRAMES = 96
"""Frames for the bounds of the maps: three million values of the finest map, few in ten thousand of them clipped."""

Report = Callable[[float, str], None]
"""Called with the elapsed minutes and a short text."""


@dataclass(frozen=True, slots=True)
class TrainingSettings:
    """Options of a training.

    Attributes
    ----------
    architecture : name in the registry
    size : one of the architecture's sizes
    minutes : wall time of the training, validation included
    seed : of the frames and the first weights
    device : ``"auto"``, ``"cpu"`` or ``"cuda"``
    precision : ``"auto"``, ``"float32"`` or ``"bfloat16"``
    optimizer : a name of `Recipe`; None: the architecture's
    batch : frames per step; None: the architecture's
    learning_rate : highest value of the schedule; None: the architecture's
    samples : frames or patches after which training ends even if time is left; None: the architecture's
    workers : threads that draw frames
    transfer : start from the shipped weights, which are trained on discs of every width
    shape : settings of the network in place of the size's, by name; None: the size's
    """

    architecture: str = "cascade"
    size: str = "full"
    minutes: float = 10.0
    seed: int = 1
    device: str = "auto"
    precision: str = "auto"
    optimizer: str | None = None
    batch: int | None = None
    learning_rate: float | None = None
    samples: int | None = None
    workers: int = 1
    transfer: bool = True
    shape: dict[str, Any] | None = None


def scene_for(calibration: Calibration, table: PatternTable) -> SceneSettings:
    """Contents of the training frames for a calibration: its depths, its camera's noise, its beads' variation."""
    low, high = labelled_range_um(calibration)
    read_noise = calibration.camera.read_noise_e
    noiseless = read_noise == 0
    any_camera = SceneSettings()
    # Below this a network is trained for the read noise of all cameras, so that it serves other cameras too.
    noisy = read_noise > any_camera.read_noise_e[1]
    radius = float(table.radius_at_px(np.linspace(low, high, 50)).max())
    # Wider than the widest pattern, so that every frame shows some background.
    side = int(np.clip(32 * math.ceil(3.6 * radius / 32), 128, 192))
    area_share = (side / 192) ** 2
    return SceneSettings(
        shape=(side, side),
        count=(1, max(10, round(110 * area_share))),
        z_range_um=(low, high),
        beyond_um=float(np.clip(table.z_last_um - high, 0.0, 8.0)),
        wrong_side_share=_NEGATIVE_DEFOCUS_SHARE if _distinguishes_sign_of_defocus(calibration) else 0.0,
        background_e=(any_camera.background_e[0] + (0.1 * read_noise if noisy else 0.0), 50.0 + 10 * read_noise),
        read_noise_e=(0.8 * read_noise, 1.2 * read_noise) if noisy else any_camera.read_noise_e,
        photons=_photons(calibration),
        noiseless_share=_NOISELESS_SHARE if noiseless else 0.0,
        snr_db=_NOISELESS_SNR_DB if noiseless else any_camera.snr_db,
        size_variation=calibration.size_variation,
    )


def labelled_range_um(calibration: Calibration) -> tuple[float, float]:
    """Labelled depths: apparent depths of emitters in the calibration's range."""
    planes = calibration.psf.z_um
    if calibration.field is None:
        return calibration.z_range_um
    return apparent_range_um(calibration.field, calibration.z_range_um, (float(planes[0]), float(planes[-1])))


def _photons(calibration: Calibration) -> tuple[float, float] | None:
    """Photo-electrons of the brightest emitter of a frame, from the calibration's beads; None if unknown."""
    known = calibration.report.get("photons_range")
    return None if known is None else (known[0] / 10, known[1] * 2)


def _distinguishes_sign_of_defocus(calibration: Calibration) -> bool:
    """Whether the PSF at negative defocus differs from that at the same positive defocus."""
    psf = calibration.psf
    reach = min(-psf.z_um[0], psf.z_um[-1], 6.0)
    if reach < 2.0:
        return False
    x = np.arange(-10, 11) * psf.pixel_size_um
    near = psf.evaluate(x[None, :], x[:, None], np.array(-reach))
    far = psf.evaluate(x[None, :], x[:, None], np.array(reach))
    return bool(np.corrcoef(near.ravel(), far.ravel())[0, 1] < 0.9)


def scenes_by_size(scene: SceneSettings, batch: int) -> list[tuple[SceneSettings, int]]:
    """Scenes of the same density with frames of several sizes, each with the number of frames of a step.

    Parameters
    ----------
    scene : SceneSettings
        Scene of the smallest frames.
    batch : int
        Number of these in a step; of wider ones there are fewer, for about the same work.

    Returns
    -------
    list of (SceneSettings, int)
        The given scene, and others up to the width `_WIDEST_PX`.
    """
    kinds, times = [(scene, batch)], 2
    height, width = scene.shape
    while times * max(height, width) <= _WIDEST_PX and batch >= _LEAST_RELATIVE_WORK * times**2:
        fewest, most = (count * times**2 for count in scene.count)
        wider = replace(scene, shape=(height * times, width * times), count=(fewest, most))
        kinds.append((wider, max(round(batch / times**2), 1)))
        times += 1
    return kinds


class _BatchQueue:
    """Prepared batches, drawn ahead by threads. Architectures that take patches get frames of one size."""

    def __init__(
        self,
        network: Any,
        table: PatternTable,
        scene: SceneSettings,
        settings: TrainingSettings,
        recipe: Recipe,
        start: int,
    ) -> None:
        kinds = scenes_by_size(scene, recipe.batch) if recipe.samples_per_frame == 1 else [(scene, recipe.batch)]
        self._queue: queue.Queue[Any] = queue.Queue(maxsize=4)
        self._stop = threading.Event()
        self._threads = [
            threading.Thread(
                target=self._draw,
                args=(network, table, kinds, np.random.default_rng([settings.seed, start, i])),
                daemon=True,
            )
            for i in range(settings.workers)
        ]
        for thread in self._threads:
            thread.start()

    def _draw(
        self, network: Any, table: PatternTable, kinds: list[tuple[SceneSettings, int]], rng: np.random.Generator
    ) -> None:
        while not self._stop.is_set():
            try:
                scene, batch = kinds[rng.integers(len(kinds))]
                prepared = network.prepare([draw_frame(table, scene, rng) for _ in range(batch)])
            except Exception as error:
                self._put(error)
                raise
            self._put(prepared)

    def _put(self, item: Any) -> None:
        while not self._stop.is_set():
            try:
                self._queue.put(item, timeout=0.2)
                return
            except queue.Full:
                continue

    def next(self) -> Any:
        item = self._queue.get()
        if isinstance(item, Exception):
            raise item
        return item

    def close(self) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()


def train(
    calibration: Calibration,
    folder: Path,
    settings: TrainingSettings,
    *,
    model_id: str,
    checkpoint: Path | None = None,
    resume: bool = False,
    scene: SceneSettings | None = None,
    report: Report = lambda _minutes, _text: None,
) -> ModelCard:
    """Train, choose the threshold, and write the model into `folder`.

    Parameters
    ----------
    calibration : Calibration
    folder : Path
        Receives model.json and weights.safetensors.
    settings : TrainingSettings
    model_id : str
    checkpoint : Path, optional
        File that is written every minute and removed at the end.
    resume : bool
        Continue from `checkpoint`.
    scene : SceneSettings, optional
        Contents of the frames; by default from `scene_for`.
    report : callable
        Progress.

    Raises
    ------
    DataError
        When the time is implausible, there is no checkpoint to resume from or it belongs to another training, no step
        was made, or the loss is not finite in 10 steps in a row.
    """
    started = time.monotonic()
    TRAINING_MINUTES.check(settings.minutes, "--minutes")
    device = select_device(settings.device)
    dtype = select_precision(device, settings.precision)
    table = PatternTable(calibration.psf)
    scene = scene or scene_for(calibration, table)
    torch.manual_seed(settings.seed)
    network = _network(settings, table, scene.z_range_um)
    before = load_shipped_weights(network, settings.size) if settings.transfer else None
    network.module.to(device).train()
    recipe = _recipe(network, settings)
    optimizer = recipe.optimizer_of(network.module)
    origin = _checkpoint_identity(calibration, settings, recipe, scene)
    steps, spent = 0, 0.0
    if resume:
        steps, spent = _load_checkpoint(checkpoint, origin, network, optimizer)
    validation_minutes = min(0.15 * settings.minutes, 1.0)
    budget = settings.minutes - validation_minutes
    seen = network.adapt_scene(scene)
    frames = _BatchQueue(network, table, seen, settings, recipe, steps)
    rng = np.random.default_rng([settings.seed, steps, 77])
    log: list[dict[str, float]] = []
    average, last_report, failures = math.nan, started, 0
    last_save = started
    try:
        while (elapsed := (time.monotonic() - started) / 60) < budget and not recipe.is_over(steps):
            share = (spent + elapsed) / (spent + budget)
            for group in optimizer.param_groups:
                group["lr"] = recipe.rate(share, steps)
            prepared = frames.next()
            with autocast(device, dtype):
                loss = network.loss(prepared, rng)
            value = float(loss.detach())
            if not math.isfinite(value):
                failures += 1
                if failures >= 10:
                    raise DataError(
                        "The loss was not a finite number in 10 steps in a row.",
                        "Train again with a lower learning rate or another seed.",
                    )
                continue
            failures = 0
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            if recipe.longest_gradient is not None:
                torch.nn.utils.clip_grad_norm_(network.module.parameters(), recipe.longest_gradient)
            optimizer.step()
            steps += 1
            average = value if math.isnan(average) else 0.98 * average + 0.02 * value
            now = time.monotonic()
            if now - last_report > 5:
                last_report = now
                log.append({"minutes": round(spent + elapsed, 3), "frames": steps * recipe.batch, "loss": average})
                report(elapsed, f"{steps * recipe.batch} frames, loss {average:.3f}")
            if checkpoint is not None and now - last_save > 60:
                last_save = now
                _save_checkpoint(checkpoint, origin, network, optimizer, steps, spent + elapsed)
    finally:
        frames.close()
    spent += (time.monotonic() - started) / 60
    if steps == 0:
        raise DataError(
            f"The time was over before the first step of the training: {settings.minutes:g} minutes were given, and "
            f"{60 * spent:.0f} s went into preparing it. A network that has learned nothing is no model.",
            "Give more minutes.",
        )
    network.module.eval()
    report((time.monotonic() - started) / 60, "validating")
    threshold, scores = choose_threshold(
        network, table, scene, settings.seed, device, dtype, frames=recipe.validation_frames
    )
    model = ModelCard(
        id=model_id,
        architecture=settings.architecture,
        network=network.settings,
        pixel_size_um=calibration.psf.pixel_size_um,
        z_range_um=calibration.z_range_um,
        axial_scale=calibration.axial_scale,
        camera=calibration.camera,
        field=calibration.field,
        calibration_id=calibration.id,
        threshold=threshold,
        map_bounds=network.measure([draw_frame(table, scene, rng) for _ in range(_MEASURED_FRAMES)]),
        training={
            "settings": asdict(settings),
            "recipe": asdict(recipe),
            "scene": asdict(seen),
            "before": before,
            "frames": steps * recipe.batch,
            "samples": recipe.samples_in(steps),
            "minutes": round(spent, 2),
            "precision": str(dtype).removeprefix("torch."),
            "device": device.type,
            "torch": torch.__version__,
            "log": _thin_log(log),
        },
        scores=scores,
    )
    folder.mkdir(parents=True, exist_ok=True)
    save_file(_compact(network.module.state_dict()), folder / WEIGHTS)
    if calibration.id != REFERENCE_CALIBRATION:
        calibration.psf.save(folder / PSF)
    model.save(folder)
    if checkpoint is not None:
        checkpoint.unlink(missing_ok=True)
    report((time.monotonic() - started) / 60, "done")
    return model


def _network(settings: TrainingSettings, table: PatternTable, z_range_um: tuple[float, float]) -> Any:
    kind = architecture_named(settings.architecture)
    if settings.size not in kind.sizes:
        raise DataError(
            f"{settings.architecture} has no size {settings.size!r}; it has {', '.join(kind.sizes)}.",
            "Choose one of these with --size.",
        )
    network = kind.for_optics(table, z_range_um, settings.size)
    return network if settings.shape is None else kind.from_settings(network.settings | settings.shape)


def _recipe(network: Any, settings: TrainingSettings) -> Recipe:
    """The architecture's recipe with the values of `settings` that are given."""
    given = {
        "optimizer": settings.optimizer,
        "batch": settings.batch,
        "learning_rate": settings.learning_rate,
        "samples": settings.samples,
    }
    recipe: Recipe = replace(network.recipe, **{name: value for name, value in given.items() if value is not None})
    return recipe


def load_shipped_weights(network: Any, size: str) -> dict[str, Any] | None:
    """Load all shipped weights of a size that fit into a network.

    Returns
    -------
    dict or None
        Id of the shipped model, and frames and minutes of all its trainings; None without one of this architecture.
    """
    folder = reference_model(size)
    if not folder.is_dir():
        return None
    shipped = ModelCard.load(folder)
    if architecture_named(shipped.architecture) is not type(network):
        return None
    own = network.module.state_dict()
    weights = load_file(folder / WEIGHTS)
    fitting = {name: tensor for name, tensor in weights.items() if name in own and tensor.shape == own[name].shape}
    network.module.load_state_dict(fitting, strict=False)
    earlier = shipped.training.get("before") or {}
    return {
        "id": shipped.id,
        "frames": shipped.training["frames"] + earlier.get("frames", 0),
        "minutes": shipped.training["minutes"] + earlier.get("minutes", 0.0),
    }


def _compact(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Weights as stored: kernels in half precision, which is finer than bfloat16, the rest in full."""
    return {
        name: (tensor.half() if tensor.ndim >= 2 else tensor).detach().cpu().contiguous()
        for name, tensor in state.items()
    }


def _thin_log(log: list[dict[str, float]], most: int = 60) -> list[dict[str, float]]:
    step = max(1, math.ceil(len(log) / most))
    return [{k: round(v, 4) for k, v in entry.items()} for entry in log[::step]]


def _checkpoint_identity(
    calibration: Calibration, settings: TrainingSettings, recipe: Recipe, scene: SceneSettings
) -> dict[str, str]:
    """Settings that must agree when a checkpoint is resumed, as texts by name; time and machine may differ."""
    digest = hashlib.sha256(json.dumps(calibration.as_dict(), sort_keys=True).encode("utf-8"))
    digest.update(np.ascontiguousarray(calibration.psf.planes).tobytes())
    return {
        "calibration": f"{calibration.id} (digest {digest.hexdigest()[:16]})",
        "architecture": f"{settings.architecture} {settings.size}",
        "seed": str(settings.seed),
        "shape of the network": repr(settings.shape),
        "shipped weights": str(settings.transfer),
        "recipe": repr(replace(recipe, samples=None)),
        "scene": repr(scene),
    }


def _save_checkpoint(
    path: Path, origin: dict[str, str], network: Any, optimizer: Optimizer, steps: int, minutes: float
) -> None:
    aside = path.with_suffix(".partial")
    torch.save(
        {
            "origin": origin,
            "network": network.settings,
            "weights": network.module.state_dict(),
            "optimizer": optimizer.state_dict(),
            "steps": steps,
            "minutes": minutes,
        },
        aside,
    )
    aside.replace(path)


def _load_checkpoint(
    path: Path | None, origin: dict[str, str], network: Any, optimizer: Optimizer
) -> tuple[int, float]:
    if path is None or not path.is_file():
        raise DataError(
            f"There is no checkpoint to resume from ({path}).",
            "Train without --resume, or with the --out of the interrupted training.",
        )
    try:
        saved = torch.load(path, weights_only=True)
        before = dict(saved["origin"])
    except Exception as error:
        raise DataError(
            f"The checkpoint {path} does not fit or is damaged ({type(error).__name__}).",
            "Train without --resume.",
        ) from error
    differences = [
        f"{name}: {before.get(name, 'not stated')} then, {now} now"
        for name, now in origin.items()
        if before.get(name) != now
    ]
    if differences:
        raise DataError(
            f"The checkpoint {path} belongs to another training ({'; '.join(differences)}).",
            "Resume with the calibration and the options of that training, or train without --resume.",
        )
    try:
        steps, minutes = int(saved["steps"]), float(saved["minutes"])
        network.module.load_state_dict(saved["weights"])
        optimizer.load_state_dict(saved["optimizer"])
    except Exception as error:
        raise DataError(
            f"The checkpoint {path} does not fit or is damaged ({type(error).__name__}).",
            "Train without --resume.",
        ) from error
    return steps, minutes
