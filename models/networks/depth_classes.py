"""Depth classes as published: one binary label for every few µm of depth, at a given lateral position.

`vgg` and `fcn` share the labels and the read-out. Emitters above each other
are several positive classes and give several localizations.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from models.networks.cascade import Proposals
from models.networks.cascade_readout import Readout, suppress_duplicates
from models.networks.cascade_targets import lateral_scale_um
from models.networks.patches import box_photons
from models.synthesis import PatternTable, TrainingFrame

__all__ = [
    "class_centres_um",
    "class_probabilities",
    "class_radii_px",
    "depth_labels",
    "emitters_at",
    "emitters_of_frames",
    "find_peaks",
    "read_depths",
]

_REACH = 2
"""Classes to each side of a peak that belong to the same emitter: with 2-µm classes, depths within 5 µm."""

_PATCHES_AT_ONCE = 64
"""Limits the memory of their features."""

_LOWEST_PROBABILITY = 0.05
"""Least probability of a position, and of a depth, for a candidate; the decision threshold belongs to the model."""


def class_centres_um(z_range_um: tuple[float, float], classes: int) -> NDArray[np.float64]:
    """Depth in the middle of each class, µm, shape (classes,)."""
    low, high = z_range_um
    centres: NDArray[np.float64] = low + (high - low) / classes * (np.arange(classes, dtype=np.float64) + 0.5)
    return centres


def class_radii_px(table: PatternTable, z_range_um: tuple[float, float], classes: int) -> tuple[float, ...]:
    """Radius of the pattern at the middle of each class."""
    return tuple(round(float(radius), 2) for radius in table.radius_at_px(class_centres_um(z_range_um, classes)))


def emitters_of_frames(frames: list[TrainingFrame]) -> NDArray[np.float64]:
    """Emitters of all frames, shape (M, 5): frame of the batch, x, y, z (µm), photo-electrons."""
    return np.concatenate([np.column_stack([np.full(len(f.emitters), i), f.emitters]) for i, f in enumerate(frames)])


def emitters_at(emitters: NDArray[np.float64], centres: NDArray[np.float64], half_width_um: float) -> NDArray[np.bool_]:
    """Membership of emitters in squares around centres, shape (N, M).

    Parameters
    ----------
    emitters : ndarray, shape (M, 5)
        Frame, x, y, z (µm), photo-electrons.
    centres : ndarray, shape (N, 3)
        Frame, x, y (µm).
    half_width_um : float
    """
    same = centres[:, None, 0] == emitters[None, :, 0]
    gaps = np.abs(centres[:, None, 1:3] - emitters[None, :, 1:3]).max(2)
    found: NDArray[np.bool_] = same & (gaps <= half_width_um)
    return found


def depth_labels(
    inside: NDArray[np.bool_], z_um: NDArray[np.float64], z_range_um: tuple[float, float], classes: int
) -> NDArray[np.float32]:
    """Labels of positions, 1 for each class that holds an emitter there, shape (N, classes).

    Parameters
    ----------
    inside : ndarray of bool, shape (N, M)
        From `emitters_at`.
    z_um : ndarray, shape (M,)
        Depths within the range.
    z_range_um, classes
        See `class_centres_um`.
    """
    low, high = z_range_um
    numbers = np.clip(((z_um - low) / (high - low) * classes).astype(np.int64), 0, classes - 1)
    labels = np.zeros((len(inside), classes), np.float32)
    place, emitter = np.nonzero(inside)
    labels[place, numbers[emitter]] = 1.0
    return labels


def class_probabilities(network: Callable[[Tensor], Tensor], patches: Tensor, classes: int) -> Tensor:
    """Class probabilities of patches (N, 1, S, S), computed in parts; float32 (N, classes)."""
    if not len(patches):
        return torch.zeros(0, classes)
    return torch.cat([torch.sigmoid(network(part).float()) for part in torch.split(patches, _PATCHES_AT_ONCE)])


def find_peaks(probability: Tensor, cell_px: int, most: int) -> Proposals:
    """Local maxima of probability maps, refined to sub-cell positions by the centroid of the neighbours.

    Parameters
    ----------
    probability : float32 (B, H, W)
    cell_px : int
        Camera pixels to a cell.
    most : int
        Largest number for one frame; the most probable are kept.
    """
    batches, rows, columns = probability.shape
    around = torch.nn.functional.max_pool2d(probability[:, None], 3, 1, 1)[:, 0]
    score = torch.where((probability == around) & (probability > _LOWEST_PROBABILITY), probability, 0.0)
    best, index = score.flatten(1).topk(min(most, rows * columns))
    batch = torch.arange(batches, device=index.device)[:, None].expand_as(index)
    keep = best > 0
    batch, index = batch[keep], index[keep]
    row, column = index // columns, index % columns
    beyond = torch.nn.functional.pad(probability, (1, 1, 1, 1))
    weights = torch.stack([beyond[batch, row + dy, column + dx] for dy in range(3) for dx in range(3)], 1)
    # Half of the peak is subtracted, so that the centroid uses the top of the peak and not its flanks.
    weights = (weights - 0.5 * weights[:, 4:5]).clamp(min=0).view(-1, 3, 3)
    total = weights.sum((1, 2))
    shift = torch.arange(-1.0, 2.0, device=index.device)
    x = column + (weights.sum(1) * shift).sum(1) / total
    y = row + (weights.sum(2) * shift).sum(1) / total
    centre = (cell_px - 1) / 2
    return Proposals(batch, x * cell_px + centre, y * cell_px + centre, best[keep])


def read_depths(
    places: Proposals,
    classes: Tensor,
    electrons: Tensor,
    *,
    z_range_um: tuple[float, float],
    radii_px: tuple[float, ...],
    pixel_size_um: float,
    sigma_lateral_um: float,
) -> Readout:
    """Candidates: one for every peak over depth at every position, after suppression of duplicates.

    The probability of a candidate is the geometric mean of that of its position
    and the sum of the classes around its peak. Its axial sigma is the spread of these classes;
    its photo-electrons are the light of the square around it.

    Parameters
    ----------
    places : Proposals
        N of them.
    classes : float32 (N, classes)
        Probability of each depth class.
    electrons : float32 (B, H, W)
    z_range_um, radii_px
        Depths and pattern radii of the classes.
    pixel_size_um : float
    sigma_lateral_um : float
        Lateral standard deviation of every candidate: the part of the grid.
    """
    values = classes.cpu().numpy().astype(np.float64)
    count = values.shape[1]
    centres = class_centres_um(z_range_um, count)
    width = centres[1] - centres[0]
    spread = np.pad(values, ((0, 0), (_REACH, _REACH)))
    window = np.lib.stride_tricks.sliding_window_view(spread, 2 * _REACH + 1, axis=1)
    sums = window.sum(2)
    around = np.pad(values, ((0, 0), (1, 1)), constant_values=-1)
    peak = (values > around[:, :-2]) & (values >= around[:, 2:])
    probability = np.sqrt(np.minimum(sums, 1.0) * places.score.cpu().numpy()[:, None])
    place, number = np.nonzero(peak & (sums > _LOWEST_PROBABILITY))
    depths = np.pad(centres, _REACH, mode="reflect", reflect_type="odd")[number[:, None] + np.arange(2 * _REACH + 1)]
    weights = window[place, number] / sums[place, number, None]
    z = (weights * depths).sum(1)
    sigma = np.sqrt((weights * np.square(depths - z[:, None])).sum(1) + width**2 / 12)

    rows = torch.from_numpy(place).to(places.batch.device)
    radius = torch.tensor(radii_px, device=electrons.device)[torch.from_numpy(number).to(electrons.device)]
    light = box_photons(electrons, places.batch[rows], places.x_px[rows], places.y_px[rows], radius)
    candidates = np.column_stack(
        [
            places.batch.cpu().numpy()[place],
            places.x_px.cpu().numpy()[place] * pixel_size_um,
            places.y_px.cpu().numpy()[place] * pixel_size_um,
            z,
            light.cpu().numpy(),
            probability[place, number],
            np.full(len(place), sigma_lateral_um),
            sigma,
        ]
    ).astype(np.float64)
    order = np.argsort(-candidates[:, 5], kind="stable")
    kept = candidates[suppress_duplicates(candidates, order, lateral_scale_um(candidates[:, 3]))]
    return Readout(kept[:, 0].astype(np.int64), *kept[:, 1:].T)
