"""Training recipes of architectures: optimizer, learning rate, batch.

Each architecture has its own recipe: that of the cascade is for trainings of
minutes, others follow their publication.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import torch

from models.networks.muon import Muon

__all__ = ["Optimizer", "Recipe"]


class Optimizer(Protocol):
    """Interface of an optimizer to training; torch's optimizers have it."""

    @property
    def param_groups(self) -> list[dict[str, Any]]:
        """Groups whose learning rate may be set."""
        ...

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Clear all gradients."""
        ...

    def step(self) -> Any:
        """Change the weights by their gradients."""
        ...

    def state_dict(self) -> dict[str, Any]:
        """State from which `load_state_dict` continues."""
        ...

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from `state`."""
        ...


@dataclass(frozen=True, slots=True)
class Recipe:
    """Settings of a training other than its frames and its time.

    Attributes
    ----------
    optimizer : AdamW; stochastic gradient descent with momentum; or Muon, for a network with `inner_weights`
    learning_rate : highest value of the schedule
    weight_decay, momentum : of the optimizer; the momentum applies to `sgd` only
    rate_decay : learning rate over ``1 + rate_decay * steps``; None: a cosine over the budget, to 1 %
    batch : frames per step
    samples_per_frame : samples that a network takes of each frame: 1, or patches
    samples : number after which training ends even if time is left; None: it ends with the time
    longest_gradient : norm to which longer gradients are clipped; None: no clipping
    validation_frames : frames on which the decision threshold is chosen
    """

    optimizer: Literal["adamw", "sgd", "muon"] = "adamw"
    learning_rate: float = 1.5e-3
    weight_decay: float = 1e-3
    momentum: float = 0.9
    rate_decay: float | None = None
    batch: int = 8
    samples_per_frame: int = 1
    samples: int | None = None
    longest_gradient: float | None = 10.0
    validation_frames: int = 160

    def optimizer_of(self, module: Any) -> Optimizer:
        """Optimizer of a module's weights; the module stays on its device."""
        if self.optimizer == "muon":
            return Muon(module, module.inner_weights(), self.learning_rate, self.weight_decay)
        if self.optimizer == "sgd":
            return torch.optim.SGD(
                module.parameters(), self.learning_rate, momentum=self.momentum, weight_decay=self.weight_decay
            )
        return torch.optim.AdamW(module.parameters(), self.learning_rate, weight_decay=self.weight_decay)

    def samples_in(self, steps: int) -> int:
        """Number of samples in a number of steps."""
        return steps * self.batch * self.samples_per_frame

    def is_over(self, steps: int) -> bool:
        """Whether all samples have been taken."""
        return self.samples is not None and self.samples_in(steps) >= self.samples

    def rate(self, time_share: float, steps: int) -> float:
        """Learning rate after a share of the time and a number of steps.

        A linear rise over the first 4 %, then a cosine down to 1 % at the end of the time or of the samples.
        """
        if self.rate_decay is not None:
            return self.learning_rate / (1 + self.rate_decay * steps)
        share = time_share if self.samples is None else max(time_share, self.samples_in(steps) / self.samples)
        if share < 0.04:
            return self.learning_rate * max(share / 0.04, 0.02)
        return self.learning_rate * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * min((share - 0.04) / 0.96, 1.0))))
