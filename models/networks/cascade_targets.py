"""Training targets of the cascade: presence maps for stage one, depth classes and offsets for stage two."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from models.networks.cascade import Cascade, CascadeSettings, Proposals

__all__ = ["CascadeBatch", "add_peaks", "cascade_loss", "focal_loss", "lateral_scale_um", "make_batch"]

_PEAK_SIGMA_CELLS = 0.8
"""Width of the target peak in cells of its level; a detection half a cell off costs little."""

_PROPOSALS_PER_FRAME = 48


@dataclass(frozen=True, slots=True)
class CascadeBatch:
    """Frames and targets.

    Attributes
    ----------
    electrons : float32 (B, H, W)
    read_noise_e : float32 (B,)
    heat : targets of the presence maps, float32 (B, H', W') for each level
    emitters : float64 (N, 5): frame of the batch, x, y, z (µm), photo-electrons
    """

    electrons: Tensor
    read_noise_e: Tensor
    heat: tuple[Tensor, ...]
    emitters: NDArray[np.float64]


def lateral_scale_um(z_um: NDArray[np.float64]) -> NDArray[np.float64]:
    """Lateral distance within which a detection belongs to an emitter at depth z, µm; it grows with the pattern."""
    return 1.5 + 0.04 * np.abs(z_um)


def make_batch(
    electrons: NDArray[np.float32],
    read_noise_e: NDArray[np.float32],
    emitters: list[NDArray[np.float64]],
    settings: CascadeSettings,
) -> CascadeBatch:
    """Targets for frames (B, H, W) with `emitters`, one array (N, 4) of x, y, z (µm), photo-electrons per frame."""
    count, height, width = electrons.shape
    heat = []
    for (low, high), cell in zip(settings.bands_um, settings.cells_px, strict=False):
        maps = np.zeros((count, height // cell, width // cell), np.float32)
        for target, found in zip(maps, emitters, strict=True):
            inside = found[(found[:, 2] >= low) & (found[:, 2] <= high)]
            add_peaks(target, (inside[:, :2] / settings.pixel_size_um + 0.5) / cell - 0.5)
        heat.append(torch.from_numpy(maps))
    numbered = [np.column_stack([np.full(len(found), i), found]) for i, found in enumerate(emitters)]
    return CascadeBatch(
        torch.from_numpy(electrons), torch.from_numpy(read_noise_e), tuple(heat), np.concatenate(numbered)
    )


def add_peaks(target: NDArray[np.float32], uv: NDArray[np.float64]) -> None:
    """Raise `target` to a Gaussian peak around each (u, v), in cells; the cell of the emitter becomes exactly 1."""
    height, width = target.shape
    for u, v in uv:
        column, row = round(u), round(v)
        rows = np.arange(max(row - 3, 0), min(row + 4, height))
        columns = np.arange(max(column - 3, 0), min(column + 4, width))
        if not len(rows) or not len(columns):
            continue
        squared = np.square(rows - v)[:, None] + np.square(columns - u)[None, :]
        window = target[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
        np.maximum(window, np.exp(-squared / (2 * _PEAK_SIGMA_CELLS**2)).astype(np.float32), out=window)
        if 0 <= row < height and 0 <= column < width:
            target[row, column] = 1.0


def cascade_loss(
    network: Cascade, features: tuple[Tensor, ...], batch: CascadeBatch, rng: np.random.Generator
) -> Tensor:
    """Sum of the losses of both stages for one batch.

    Stage one: penalty-reduced focal loss (Zhou, Wang & Krähenbühl,
    arXiv:1904.07850, equation 1). Stage two: binary cross-entropy of every
    depth class and Gaussian likelihood of the offsets, at the true positions
    with random shifts and at the network's own proposals.
    """
    maps = network.presence_maps(features)
    presence = torch.stack(
        [focal_loss(logits.float(), heat) for logits, heat in zip(maps, batch.heat, strict=True)]
    ).sum()
    with torch.no_grad():
        proposals = network.propose(maps, 0.05, _PROPOSALS_PER_FRAME * len(batch.electrons))
    places = _training_positions(batch, proposals, network.settings, rng)
    if not len(places):
        return presence
    on = torch.from_numpy(places).to(features[0].device)
    outputs = network.classify_depths(features, on[:, 0].long(), on[:, 1].float(), on[:, 2].float()).float()
    return presence + _depth_loss(outputs, places, batch, network.settings)


def focal_loss(logits: Tensor, heat: Tensor) -> Tensor:
    """Penalty-reduced focal loss of presence logits, per emitter; `heat` is exactly 1 in the cells of emitters."""
    heat = heat.to(logits.device)
    probability = torch.sigmoid(logits)
    positive = heat >= 1.0
    gain = -functional.logsigmoid(logits) * (1 - probability).square() * positive
    penalty = -functional.logsigmoid(-logits) * probability.square() * (1 - heat).pow(4)
    return (gain.sum() + penalty.sum()) / positive.sum().clamp(min=1)


def _training_positions(
    batch: CascadeBatch, proposals: Proposals, settings: CascadeSettings, rng: np.random.Generator
) -> NDArray[np.float64]:
    """Positions at which stage two is trained: (frame, x, y) in pixels, shape (N, 3)."""
    truth = batch.emitters
    shake = rng.normal(0, 0.35, (len(truth), 2)) * lateral_scale_um(truth[:, 3])[:, None]
    at_truth = np.column_stack([truth[:, 0], (truth[:, 1:3] + shake) / settings.pixel_size_um])
    at_proposals = torch.stack([proposals.batch.double(), proposals.x_px.double(), proposals.y_px.double()], 1)
    return np.concatenate([at_truth, at_proposals.cpu().numpy()])


def _depth_loss(outputs: Tensor, places: NDArray[np.float64], batch: CascadeBatch, settings: CascadeSettings) -> Tensor:
    centres = settings.class_centres_um.numpy().astype(np.float64)
    truth = batch.emitters
    owner = np.full((len(places), settings.classes), -1, np.int64)
    ignored = np.zeros((len(places), settings.classes), bool)
    for frame in range(len(batch.electrons)):
        here = np.flatnonzero(places[:, 0] == frame)
        there = np.flatnonzero(truth[:, 0] == frame)
        if not len(here) or not len(there):
            continue
        offsets = truth[there, None, 1:3] - places[None, here, 1:3] * settings.pixel_size_um
        distance = np.hypot(offsets[..., 0], offsets[..., 1]) / lateral_scale_um(truth[there, 3])[:, None]
        emitter, place = np.nonzero(distance < 1.5)
        # A class belongs to the nearest emitter: assignment goes from the farthest to the nearest, the last one stays.
        order = np.argsort(-distance[emitter, place], kind="stable")
        for e, p in zip(emitter[order], place[order], strict=True):
            window = np.abs(centres - truth[there[e], 3]) <= settings.window_um
            if distance[e, p] < 1.0:
                owner[here[p], window] = there[e]
                ignored[here[p], window] = False
            else:
                ignored[here[p], window & (owner[here[p]] < 0)] = True
    labels = torch.from_numpy((owner >= 0).astype(np.float32)).to(outputs.device)
    weight = torch.from_numpy((~ignored).astype(np.float32)).to(outputs.device)
    existence = functional.binary_cross_entropy_with_logits(outputs[..., 0], labels, weight, reduction="sum")

    row, column = np.nonzero(owner >= 0)
    owners = truth[owner[row, column]]
    scale = lateral_scale_um(centres[column])
    target = np.column_stack(
        [
            (owners[:, 1] - places[row, 1] * settings.pixel_size_um) / scale,
            (owners[:, 2] - places[row, 2] * settings.pixel_size_um) / scale,
            (owners[:, 3] - centres[column]) / settings.window_um,
            np.log10(np.maximum(owners[:, 4], 1.0)),
        ]
    )
    chosen = outputs[torch.from_numpy(row), torch.from_numpy(column)]
    wanted = torch.from_numpy(target).float().to(outputs.device)
    lateral = _gaussian_loss(chosen[:, 1:3], wanted[:, :2], chosen[:, 4:5])
    axial = _gaussian_loss(chosen[:, 3:4], wanted[:, 2:3], chosen[:, 5:6])
    photons = functional.smooth_l1_loss(chosen[:, 6] + 3.0, wanted[:, 3], reduction="sum")
    positives = max(len(row), 1)
    return existence / len(places) + (lateral + axial + photons) * (0.5 / positives)


def _gaussian_loss(value: Tensor, target: Tensor, log_sigma: Tensor) -> Tensor:
    """Negative log-likelihood, summed; linear beyond 4 sigma, so that single outliers do not dominate the gradient."""
    log_sigma = log_sigma.clamp(-5.0, 1.5)
    pull = (value - target).abs() * torch.exp(-log_sigma)
    return (functional.huber_loss(pull, torch.zeros_like(pull), reduction="none", delta=4.0) + log_sigma).sum()
