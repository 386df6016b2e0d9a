"""Options of a training."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

__all__ = ["TrainingSettings"]


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
