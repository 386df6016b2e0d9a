"""Training of a network of a few hundred weights within seconds, for the tests of `vgg` and `fcn`."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from models.networks.cascade_readout import Readout
from models.noise import detect_electrons
from models.optics import Objective, computed_psf
from models.synthesis import PatternTable, SceneSettings, draw_frame

RANGE_UM = (0.0, 16.0)
PIXEL_UM = 0.65


@cache
def small_table() -> PatternTable:
    return PatternTable(computed_psf(Objective(0.45, 0.52, PIXEL_UM), np.arange(-2.0, 20.0)))


def train_briefly(network: Any, side: int, steps: int, rate: float = 4e-3) -> None:
    """Training steps on frames with a few bright emitters."""
    scene = SceneSettings(shape=(side, side), count=(1, 3), z_range_um=RANGE_UM, snr_db=(20.0, 30.0), beyond_share=0.0)
    rng = np.random.default_rng(1)
    optimizer = torch.optim.AdamW(network.module.parameters(), rate)
    network.module.train()
    for step in range(steps):
        for group in optimizer.param_groups:
            group["lr"] = rate * (1 - step / steps)
        loss = network.loss(network.prepare([draw_frame(small_table(), scene, rng) for _ in range(8)]), rng)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    network.module.eval()


def detect_emitters(network: Any, emitters: NDArray[np.float64], side: int) -> Readout:
    """Candidates of a network in a frame of `emitters` (x, y, z, photo-electrons) over 2 photo-electrons a pixel."""
    expected = np.full((side, side), 2.0, np.float32)
    small_table().render(emitters, expected)
    electrons = np.empty_like(expected)
    detect_electrons(expected, electrons, np.uint64(3), np.float32(1.0))
    with torch.inference_mode():
        found: Readout = network.detect(torch.from_numpy(electrons)[None], torch.ones(1))
    return found
