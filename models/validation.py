"""The decision threshold of a trained network, chosen on frames that are not used in training."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import torch

from models.metrics import Scorer
from models.precision import autocast
from models.synthesis import PatternTable, SceneSettings, TrainingFrame, draw_frame

__all__ = ["choose_threshold"]

_FRAMES = 160
_THRESHOLDS = np.round(np.arange(0.15, 0.75, 0.05), 2)
_VALIDATION_SEED = 987_654_321
"""Second word of the seed sequence, so that no validation frame equals a training frame."""


def choose_threshold(
    network: Any,
    table: PatternTable,
    scene: SceneSettings,
    seed: int,
    device: torch.device,
    dtype: torch.dtype,
    *,
    frames: int = _FRAMES,
) -> tuple[float, dict[str, Any]]:
    """Choose the threshold with the best mean Jaccard index over dim and bright frames.

    Returns
    -------
    float
        Least probability of a reported localization.
    dict
        jaccard, recall, precision and RMSEs on the validation frames, and `proposed`: the share of emitters that
        match any candidate, whatever its probability; a refinement starts from these.
    """
    rng = np.random.default_rng([seed, _VALIDATION_SEED])
    scene = replace(scene, snr_db=(0.0, 30.0))
    drawn = [draw_frame(table, scene, rng) for _ in range(frames)]
    found = _candidates(network, drawn, device, dtype)
    best: tuple[float, float, dict[str, Any]] = (-1.0, 0.5, {})
    proposed = Scorer()
    for (xyz, _), frame in zip(found, drawn, strict=True):
        proposed.add(xyz, frame.emitters[:, :3])
    for threshold in _THRESHOLDS:
        jaccards, total = [], Scorer()
        for (xyz, probability), frame in zip(found, drawn, strict=True):
            scorer = Scorer()
            for s in (scorer, total):
                s.add(xyz[probability >= threshold], frame.emitters[:, :3])
            jaccard = scorer.result()["jaccard"]
            if jaccard is not None:
                jaccards.append(jaccard)
        mean = float(np.mean(jaccards)) if jaccards else 0.0
        if mean > best[0]:
            best = (mean, float(threshold), {"mean_frame_jaccard": mean, **total.result()})
    return best[1], best[2] | {"proposed": proposed.result()["recall"]}


def _candidates(
    network: Any, frames: list[TrainingFrame], device: torch.device, dtype: torch.dtype
) -> list[tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]]:
    found = []
    for start in range(0, len(frames), 16):
        part = frames[start : start + 16]
        electrons = torch.from_numpy(np.stack([f.electrons for f in part])).to(device)
        noise = torch.tensor([f.read_noise_e for f in part], device=device)
        with torch.inference_mode(), autocast(device, dtype):
            readout = network.detect(electrons, noise)
        for i in range(len(part)):
            of_frame = readout.batch == i
            xyz = np.column_stack([readout.x_um[of_frame], readout.y_um[of_frame], readout.z_um[of_frame]])
            found.append((xyz, readout.probability[of_frame]))
    return found
