"""From the outputs of the cascade to localizations: peaks over depth, then suppression of duplicates."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from numba import njit
from numpy.typing import NDArray
from torch import Tensor

from models.networks.cascade import CascadeSettings, Proposals
from models.networks.cascade_targets import lateral_scale_um

__all__ = ["Readout", "read_out", "suppress_duplicates"]

PROPOSAL_THRESHOLD = 0.08
"""Lowest probability of a proposal; it is low because stage two rejects false ones."""

PROPOSALS_PER_FRAME = 160
"""Limit for a frame of 256 x 256 pixels; it grows with the area."""

_PROPOSALS_PER_PX = PROPOSALS_PER_FRAME / 256**2

_LOWEST_PROBABILITY = 0.05
"""Least probability of a candidate; the decision threshold belongs to the model."""


class TwoStageNetwork(Protocol):
    """Both stages of a cascade, whatever its number format."""

    settings: CascadeSettings

    def features(self, maps: list[Tensor]) -> Any:
        """Feature maps."""

    def presence_maps(self, features: Any) -> list[Tensor]:
        """Presence logits."""

    def propose(self, maps: list[Tensor], threshold: float, most: int) -> Proposals:
        """Detections."""

    def classify_depths(self, features: Any, batch: Tensor, x_px: Tensor, y_px: Tensor) -> Tensor:
        """Outputs of stage two at positions."""


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


def read_out(network: TwoStageNetwork, frames: list[Tensor]) -> Readout:
    """Run both stages on frames stabilized at the binnings of its settings and return candidates, one per emitter."""
    features = network.features(frames)
    count, _, rows, columns = frames[0].shape
    pixels = rows * columns * network.settings.first_cell_px**2
    most = max(PROPOSALS_PER_FRAME, round(_PROPOSALS_PER_PX * pixels))
    proposals = network.propose(network.presence_maps(features), PROPOSAL_THRESHOLD, most * count)
    outputs = network.classify_depths(features, proposals.batch, proposals.x_px, proposals.y_px)
    settings = network.settings
    centres = settings.class_centres_um.numpy().astype(np.float64)
    batch = proposals.batch.cpu().numpy()
    places = torch.stack([proposals.x_px, proposals.y_px], 1).cpu().numpy() * settings.pixel_size_um
    found = _find_depth_peaks(
        outputs.float().cpu().numpy(),
        places.astype(np.float64),
        centres,
        lateral_scale_um(centres),
        settings.window_um,
        max(1, int(settings.window_um / (centres[1] - centres[0]))),
    )
    proposal = found[:, 0].astype(np.int64)
    candidates = np.column_stack([batch[proposal], found[:, 1:]])
    order = np.argsort(-candidates[:, _PROBABILITY], kind="stable")
    kept = candidates[suppress_duplicates(candidates, order, lateral_scale_um(candidates[:, 3]))]
    return Readout(kept[:, 0].astype(np.int64), *kept[:, 1:].T)


_PROBABILITY = 5
"""Column of a table of candidates, whose columns are the fields of `Readout`."""


@njit(cache=True)
def _find_depth_peaks(outputs, places_um, centres_um, scale_um, window_um, reach):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202
    """All local maxima over depth of every proposal.

    Parameters are the outputs of stage two (N, classes, 7), their positions (N, 2), centre and lateral scale of each
    class, the half width of a class's window, and the classes to each side that a maximum must exceed.

    Returns a table with the columns proposal, x, y, z, photons, probability, lateral sigma, axial sigma.
    """
    count, classes = outputs.shape[:2]
    rows = []
    for n in range(count):
        probability = 1.0 / (1.0 + np.exp(-outputs[n, :, 0].astype(np.float64)))
        for k in range(classes):
            if probability[k] <= _LOWEST_PROBABILITY:
                continue
            if probability[k] < probability[max(0, k - reach) : k + reach + 1].max():
                continue
            # Windows of neighbouring classes overlap, so a peak can be a plateau; its first class is taken.
            if k > 0 and probability[k] <= probability[k - 1]:
                continue
            total = x = y = z = light = lateral = axial = 0.0
            for j in range(max(0, k - 1), min(classes, k + 2)):
                a = outputs[n, j]
                log_axial = min(max(a[5], -5.0), 1.5)
                weight = probability[j] * np.exp(-2 * log_axial)
                total += weight
                x += weight * a[1] * scale_um[j]
                y += weight * a[2] * scale_um[j]
                z += weight * (centres_um[j] + a[3] * window_um)
                light += weight * min(max(a[6] + 3.0, 0.0), 8.0)
                lateral += weight * np.exp(min(max(a[4], -5.0), 1.5)) * scale_um[j]
                axial += weight * np.exp(log_axial) * window_um
            rows.append(
                (
                    float(n),
                    places_um[n, 0] + x / total,
                    places_um[n, 1] + y / total,
                    z / total,
                    10.0 ** (light / total),
                    probability[k],
                    lateral / total,
                    axial / total,
                )
            )
    table = np.empty((len(rows), 8))
    for i, row in enumerate(rows):
        for j in range(8):
            table[i, j] = row[j]
    return table


@njit(cache=True)
def suppress_duplicates(candidates, order, scale_um):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN201
    """Rows of candidates left after non-maximum suppression, in their order; `order` is by falling probability."""
    keep = np.ones(len(candidates), np.bool_)
    for i in range(len(order)):
        first = order[i]
        if not keep[first]:
            continue
        for second in order[i + 1 :]:
            if not keep[second] or candidates[second, 0] != candidates[first, 0]:
                continue
            gap = candidates[second, 1:4] - candidates[first, 1:4]
            across = np.hypot(gap[0], gap[1]) / (1.2 * scale_um[first])
            # Depths that proposals of one emitter find differ little, more for deep emitters.
            along = gap[2] / (5.0 + 0.05 * candidates[first, 3])
            keep[second] = np.hypot(across, along) > 1.0
    return np.flatnonzero(keep)
