"""Checkpoint of a training: weights, optimizer and the settings that must agree when it is resumed."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from models.calibration.calibration import Calibration
from models.errors import DataError
from models.networks import Architecture
from models.networks.recipe import Optimizer, Recipe
from models.synthesis import SceneSettings
from models.training_settings import TrainingSettings

__all__ = ["checkpoint_identity", "load_checkpoint", "save_checkpoint"]


def checkpoint_identity(
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


def save_checkpoint(
    path: Path, origin: dict[str, str], network: Architecture, optimizer: Optimizer, steps: int, minutes: float
) -> None:
    """Write a checkpoint; a file that is there is replaced when the new one is complete.

    Parameters
    ----------
    path : Path
    origin : dict
        From `checkpoint_identity`.
    network, optimizer : Architecture, Optimizer
    steps, minutes : int, float
        Spent so far.
    """
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


def load_checkpoint(
    path: Path | None, origin: dict[str, str], network: Architecture, optimizer: Optimizer
) -> tuple[int, float]:
    """Load a checkpoint into `network` and `optimizer`; returns the steps and minutes spent before.

    Raises
    ------
    DataError
        When there is no checkpoint, it is damaged, or it belongs to a training of another `origin`.
    """
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
