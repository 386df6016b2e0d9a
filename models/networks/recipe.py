"""How an architecture is trained: optimizer, learning rate, batch.

A recipe belongs to its network: what anneals one within minutes is not what
another was published with.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import torch
from torch import nn

__all__ = ["Recipe"]


@dataclass(frozen=True, slots=True)
class Recipe:
    """Everything of a training that is not frames or time.

    Attributes
    ----------
    optimizer : AdamW, or stochastic gradient descent with momentum
    learning_rate : highest
    weight_decay, momentum : of the optimizer; AdamW has no momentum to set
    rate_decay : learning rate over ``1 + rate_decay * steps``; None: a cosine over the budget, to 1 %
    batch : frames per step
    samples_per_frame : samples that a network takes of each frame: 1, or patches
    samples : where the training ends, time left or not; None: time alone decides
    longest_gradient : longer gradients are cut to this norm; None: never
    validation_frames : that choose the decision threshold
    """

    optimizer: Literal["adamw", "sgd"] = "adamw"
    learning_rate: float = 1.5e-3
    weight_decay: float = 1e-3
    momentum: float = 0.9
    rate_decay: float | None = None
    batch: int = 8
    samples_per_frame: int = 1
    samples: int | None = None
    longest_gradient: float | None = 10.0
    validation_frames: int = 160

    def optimizer_of(self, module: nn.Module) -> torch.optim.Optimizer:
        """Optimizer of a module's weights."""
        if self.optimizer == "sgd":
            return torch.optim.SGD(
                module.parameters(), self.learning_rate, momentum=self.momentum, weight_decay=self.weight_decay
            )
        return torch.optim.AdamW(module.parameters(), self.learning_rate, weight_decay=self.weight_decay)

    def samples_in(self, steps: int) -> int:
        """Samples that so many steps have taken."""
        return steps * self.batch * self.samples_per_frame

    def is_over(self, steps: int) -> bool:
        """Whether all samples have been taken."""
        return self.samples is not None and self.samples_in(steps) >= self.samples

    def rate(self, time_share: float, steps: int) -> float:
        """Learning rate when a share of the time and so many steps are spent.

        A cosine comes down to 1 % when the time or the samples end, whichever comes first, after a rise over 4 %.
        """
        if self.rate_decay is not None:
            return self.learning_rate / (1 + self.rate_decay * steps)
        share = time_share if self.samples is None else max(time_share, self.samples_in(steps) / self.samples)
        if share < 0.04:
            return self.learning_rate * max(share / 0.04, 0.02)
        return self.learning_rate * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * min((share - 0.04) / 0.96, 1.0))))
