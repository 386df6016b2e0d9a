"""Muon for the weights of the hidden layers, AdamW for the rest.

Muon makes the step of every matrix orthogonal, so that all directions learn
at the same rate (Jordan et al., 2024, https://kellerjordan.github.io/posts/muon).
On a processor, where frames are expensive, it learns about twice as much per
frame as AdamW (docs/cascade.md). The Muon of torch takes matrices only, so a
convolution is passed as the matrix of its kernels, which shares its memory.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

__all__ = ["Muon"]


class Muon:
    """Optimizer of a module, with the interface of torch's optimizers.

    Parameters
    ----------
    module : nn.Module
    inner : sequence of nn.Parameter
        Weights of two or more dimensions that Muon steps.
    learning_rate : float
        Learning rate of AdamW; steps of Muon are scaled to the same length (Liu et al., arXiv:2502.16982).
    weight_decay : float

    Raises
    ------
    ValueError
        When a kernel is not stored channels last, so that no matrix shares its memory.
    """

    def __init__(
        self, module: nn.Module, inner: Sequence[nn.Parameter], learning_rate: float, weight_decay: float
    ) -> None:
        self._inner = list(inner)
        # These views require that the module is already on its device: moving or converting it would detach them.
        self._matrices = [nn.Parameter(_matrix(weight.detach())) for weight in self._inner]
        for weight, matrix in zip(self._inner, self._matrices, strict=True):
            if matrix.data_ptr() != weight.data_ptr():
                raise ValueError(f"a kernel of shape {tuple(weight.shape)} is not stored channels last")
        others = [p for p in module.parameters() if all(p is not weight for weight in self._inner)]
        self._muon = torch.optim.Muon(
            self._matrices, lr=learning_rate, weight_decay=weight_decay, adjust_lr_fn="match_rms_adamw"
        )
        self._adamw = torch.optim.AdamW(others, learning_rate, weight_decay=weight_decay)

    @property
    def param_groups(self) -> list[dict[str, Any]]:
        """Groups whose learning rate may be set."""
        return [*self._muon.param_groups, *self._adamw.param_groups]

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Clear all gradients."""
        self._adamw.zero_grad(set_to_none)
        for weight in self._inner:
            weight.grad = None

    def step(self) -> None:
        """Change the weights by their gradients."""
        for weight, matrix in zip(self._inner, self._matrices, strict=True):
            matrix.grad = None if weight.grad is None else _matrix(weight.grad)
        self._muon.step()  # type: ignore[no-untyped-call]
        self._adamw.step()

    def state_dict(self) -> dict[str, Any]:
        """State from which `load_state_dict` continues."""
        return {"muon": self._muon.state_dict(), "adamw": self._adamw.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from `state`."""
        self._muon.load_state_dict(state["muon"])
        self._adamw.load_state_dict(state["adamw"])


def _matrix(weight: Tensor) -> Tensor:
    """Kernels as the rows of a matrix, in the order of their memory: a view of a weight stored channels last."""
    if weight.ndim == 2:
        return weight
    return weight.permute(0, 2, 3, 1).reshape(len(weight), -1)
