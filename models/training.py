"""Train a network for one calibration within a time budget.

Frames are drawn in threads while the network learns, so every frame is new and
none is stored. The learning rate follows the share of the time budget that is
spent, so a training of any length ends at a low rate. A checkpoint beside the
output lets `resume` continue after an interruption. At the end the decision
threshold is chosen on validation frames of other seeds.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file, save_file

from models.calibration.calibration import Calibration
from models.errors import DataError
from models.model_card import REFERENCE_CALIBRATION, ModelCard
from models.model_files import PSF, WEIGHTS
from models.networks import Architecture, architecture_named, has_network
from models.networks.recipe import Recipe
from models.precision import autocast, select_device, select_precision
from models.quantities import TRAINING_MINUTES
from models.synthesis import PatternTable, SceneSettings, draw_frame
from models.training_batches import BatchQueue
from models.training_checkpoint import checkpoint_identity, load_checkpoint, save_checkpoint
from models.training_scene import scene_for
from models.training_settings import TrainingSettings
from models.validation import choose_threshold
from models.weights import reference_model

__all__ = ["TrainingSettings", "load_shipped_weights", "train"]

_MEASURED_FRAMES = 96
"""Frames for the bounds of the maps: three million values of the finest map, few in ten thousand of them clipped."""

Report = Callable[[float, str], None]
"""Called with the elapsed minutes and a short text."""


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
    """Train, choose the threshold, and write the model into `folder`; one without a network is only written.

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
    if not has_network(network):
        return _written(_card(calibration, settings, network, model_id), network, calibration, folder)
    before = load_shipped_weights(network, settings.size) if settings.transfer else None
    network.module.to(device).train()
    recipe = _recipe(network, settings)
    optimizer = recipe.optimizer_of(network.module)
    origin = checkpoint_identity(calibration, settings, recipe, scene)
    steps, spent = 0, 0.0
    if resume:
        steps, spent = load_checkpoint(checkpoint, origin, network, optimizer)
    validation_minutes = min(0.15 * settings.minutes, 1.0)
    budget = settings.minutes - validation_minutes
    seen = network.adapt_scene(scene)
    frames = BatchQueue(network, table, seen, settings, recipe, steps)
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
            loss.backward()  # type: ignore[no-untyped-call]  # torch does not annotate it
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
                save_checkpoint(checkpoint, origin, network, optimizer, steps, spent + elapsed)
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
    model = replace(
        _card(calibration, settings, network, model_id),
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
    _written(model, network, calibration, folder)
    if checkpoint is not None:
        checkpoint.unlink(missing_ok=True)
    report((time.monotonic() - started) / 60, "done")
    return model


def _card(calibration: Calibration, settings: TrainingSettings, network: Architecture, model_id: str) -> ModelCard:
    """Card of a network that has learned nothing yet."""
    return ModelCard(
        id=model_id,
        architecture=settings.architecture,
        network=network.settings,
        pixel_size_um=calibration.psf.pixel_size_um,
        z_range_um=calibration.z_range_um,
        axial_scale=calibration.axial_scale,
        camera=calibration.camera,
        field=calibration.field,
        calibration_id=calibration.id,
        threshold=0.5,
        training={"settings": asdict(settings), "frames": 0, "minutes": 0.0},
    )


def _written(model: ModelCard, network: Architecture, calibration: Calibration, folder: Path) -> ModelCard:
    folder.mkdir(parents=True, exist_ok=True)
    save_file(_compact(network.module.state_dict()), folder / WEIGHTS)
    if calibration.id != REFERENCE_CALIBRATION:
        calibration.psf.save(folder / PSF)
    model.save(folder)
    return model


def _network(settings: TrainingSettings, table: PatternTable, z_range_um: tuple[float, float]) -> Architecture:
    kind = architecture_named(settings.architecture)
    if settings.size not in kind.sizes:
        raise DataError(
            f"{settings.architecture} has no size {settings.size!r}; it has {', '.join(kind.sizes)}.",
            "Choose one of these with --size.",
        )
    network = kind.for_optics(table, z_range_um, settings.size)
    return network if settings.shape is None else kind.from_settings(network.settings | settings.shape)


def _recipe(network: Architecture, settings: TrainingSettings) -> Recipe:
    """The architecture's recipe with the values of `settings` that are given."""
    given: dict[str, Any] = {
        "optimizer": settings.optimizer,
        "batch": settings.batch,
        "learning_rate": settings.learning_rate,
        "samples": settings.samples,
    }
    return replace(network.recipe, **{name: value for name, value in given.items() if value is not None})


def load_shipped_weights(network: Architecture, size: str) -> dict[str, Any] | None:
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
