"""Training from a script: a calibration becomes a model."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from models.calibration.calibration import Calibration
from models.identity import new_id
from models.localization import Localizer
from models.model_card import ModelCard
from models.training import TrainingSettings
from models.training import train as train_model
from service.files.outputs import complete_output

__all__ = ["train"]


def train(
    calibration: Calibration | str | Path,
    out: str | Path,
    *,
    minutes: float = 10.0,
    size: str = "full",
    samples: int | None = None,
    device: str = "auto",
    seed: int = 1,
    progress: Callable[[float, str], None] | None = None,
) -> Localizer:
    """Train the networks for a calibration.

    Parameters
    ----------
    calibration : Calibration, str or Path
        Calibration, or its folder.
    out : str or Path
        Folder that receives the model. A model that is there is replaced when the new one is complete.
    minutes : float
        Wall time, validation included. Ten minutes on two processor cores give a usable model.
    size : str
        ``"full"`` localizes best; ``"live"`` keeps up with 100 frames a second.
    samples : int, optional
        Training frames after which the training ends even if time is left.
    device : str
        ``"auto"``, ``"cpu"`` or ``"cuda"``.
    seed : int
        Equal seeds draw equal training frames.
    progress : callable, optional
        Called with the elapsed minutes and a short text.

    Returns
    -------
    Localizer
        The model, opened; its scores on simulated validation frames are in ``card.scores``.

    Raises
    ------
    DataError
        When the calibration cannot be read, or the time is too short for a single step.

    Examples
    --------
    With the folder that the example of `calibrate` made, and a training that is far too short to be of use:

    >>> import bathyscope
    >>> model = bathyscope.train("calibration", "model", minutes=0.5, size="live", samples=8)
    >>> model.card.z_range_um
    (0.0, 12.0)
    """
    learned = calibration if isinstance(calibration, Calibration) else Calibration.load(Path(calibration))
    settings = TrainingSettings(size=size, minutes=minutes, samples=samples, device=device, seed=seed)
    report = progress or (lambda minutes, text: None)
    with complete_output(Path(out), ModelCard.is_folder) as aside:
        train_model(learned, aside, settings, model_id=new_id(), report=report)
    return Localizer.load(Path(out), device)
