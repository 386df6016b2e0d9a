"""From the cascade's answers to localizations: peaks over depth, then one answer per emitter."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from models.networks.cascade import Cascade, Proposals
from models.networks.cascade_targets import lateral_scale_um

__all__ = ["Readout", "read_out"]

PROPOSAL_THRESHOLD = 0.08
"""Stage one proposes generously; stage two decides."""

PROPOSALS_PER_FRAME = 160

_LOWEST_PROBABILITY = 0.05
"""Below this an answer is not even a candidate; the decision threshold is the model's."""


@dataclass(frozen=True, slots=True)
class Readout:
    """Candidates of a batch.

    Every field has shape (N,): frame of the batch, µm, photo-electrons,
    probability, standard deviations in µm.
    """

    batch: NDArray[np.int64]
    x_um: NDArray[np.float64]
    y_um: NDArray[np.float64]
    z_um: NDArray[np.float64]
    photons: NDArray[np.float64]
    probability: NDArray[np.float64]
    sigma_lateral_um: NDArray[np.float64]
    sigma_z_um: NDArray[np.float64]


def read_out(network: Cascade, frames: list[Tensor]) -> Readout:
    """Run both stages on frames stabilized at the binnings of its settings and return candidates, one per emitter."""
    features = network.features(frames)
    proposals = network.propose(
        network.presence_maps(features), PROPOSAL_THRESHOLD, PROPOSALS_PER_FRAME * frames[0].shape[0]
    )
    answers = network.look(features, proposals.batch, proposals.x_px, proposals.y_px).float()
    return _one_per_emitter(_peaks(network, proposals, answers))


def _peaks(network: Cascade, proposals: Proposals, answers: Tensor) -> Readout:
    """Every local maximum over depth of every proposal."""
    settings = network.settings
    probability = torch.sigmoid(answers[..., 0]).cpu().numpy().astype(np.float64)
    centres = settings.class_centres_um.numpy().astype(np.float64)
    step = centres[1] - centres[0]
    reach = max(1, int(settings.window_um / step))
    padded = np.pad(probability, ((0, 0), (reach, reach)))
    windows = np.lib.stride_tricks.sliding_window_view(padded, 2 * reach + 1, axis=1)
    # Windows of neighbouring classes overlap, so a peak is a plateau: its first class stands for it.
    is_peak = (probability >= windows.max(2)) & (probability > _LOWEST_PROBABILITY)
    is_peak[:, 1:] &= probability[:, 1:] > probability[:, :-1]
    row, column = np.nonzero(is_peak)

    values = answers.cpu().numpy().astype(np.float64)
    near = column[:, None] + np.arange(-1, 2)
    valid = (near >= 0) & (near < settings.classes)
    near = np.clip(near, 0, settings.classes - 1)
    around = values[row[:, None], near]
    log_axial = np.clip(around[..., 5], -5.0, 1.5)
    weight = valid * probability[row[:, None], near] * np.exp(-2 * log_axial)
    weight /= weight.sum(1, keepdims=True)
    scale = lateral_scale_um(centres)[near]

    def mean(answer: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.asarray((weight * answer).sum(1))

    x = proposals.x_px.cpu().numpy()[row] * settings.pixel_size_um
    y = proposals.y_px.cpu().numpy()[row] * settings.pixel_size_um
    return Readout(
        batch=proposals.batch.cpu().numpy()[row],
        x_um=x + mean(around[..., 1] * scale),
        y_um=y + mean(around[..., 2] * scale),
        z_um=mean(centres[near] + around[..., 3] * settings.window_um),
        photons=10.0 ** mean(np.clip(around[..., 6] + 3.0, 0.0, 8.0)),
        probability=probability[row, column],
        sigma_lateral_um=mean(np.exp(np.clip(around[..., 4], -5.0, 1.5)) * scale),
        sigma_z_um=mean(np.exp(log_axial)) * settings.window_um,
    )


def _one_per_emitter(found: Readout) -> Readout:
    """Keep the most probable of the candidates that answer for the same emitter."""
    order = np.argsort(-found.probability, kind="stable")
    xyz = np.column_stack([found.x_um, found.y_um, found.z_um])
    reach_um = lateral_scale_um(found.z_um)
    kept: list[int] = []
    for frame in np.unique(found.batch):
        mine = order[found.batch[order] == frame]
        alive = np.ones(len(mine), bool)
        for i, candidate in enumerate(mine):
            if not alive[i]:
                continue
            kept.append(int(candidate))
            gap = xyz[mine[i + 1 :]] - xyz[candidate]
            same = np.hypot(gap[:, 0], gap[:, 1]) / (1.2 * reach_um[candidate])
            # Depths of one emitter differ by little between proposals; deep ones are less certain.
            same = np.hypot(same, gap[:, 2] / (5.0 + 0.05 * xyz[candidate, 2]))
            alive[i + 1 :] &= same > 1.0
    rows = np.asarray(sorted(kept), np.int64)
    return Readout(*(getattr(found, name)[rows] for name in Readout.__slots__))
