"""How an architecture is trained: optimizer, learning rate, batch.

A recipe belongs to its network: what anneals one within minutes is not what
another was published with.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import torch

from models.networks.muon import Muon

__all__ = ["Optimizer", "Recipe"]


class Optimizer(Protocol):
    """What training asks of an optimizer; those of torch have it."""

    @property
    def param_groups(self) -> list[dict[str, Any]]:
        """Groups whose learning rate may be set."""
        ...

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Forget all gradients."""
        ...

    def step(self) -> Any:
        """Change the weights by their gradients."""
        ...

    def state_dict(self) -> dict[str, Any]:
        """What `load_state_dict` needs to go on."""
        ...

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from `state`."""
        ...


@dataclass(frozen=True, slots=True)
class Recipe:
    """Everything of a training that is not frames or time.

    Attributes
    ----------
    optimizer : AdamW; stochastic gradient descent with momentum; or Muon, for a network with `inner_weights`
    learning_rate : highest
    weight_decay, momentum : of the optimizer; only `sgd` takes the momentum
    rate_decay : learning rate over ``1 + rate_decay * steps``; None: a cosine over the budget, to 1 %
    batch : frames per step
    samples_per_frame : samples that a network takes of each frame: 1, or patches
    samples : where the training ends, time left or not; None: time alone decides
    longest_gradient : longer gradients are cut to this norm; None: never
    validation_frames : that choose the decision threshold
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
