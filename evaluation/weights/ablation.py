"""Ablation: variants of the cascade trained from scratch for equal time and scored on equal frames.

``python -m evaluation.weights.ablation --minutes 7 shipped adamw`` trains the
named variants one after the other on the reference optics, each for as many
minutes, and prints the scores that the choice of the decision threshold gave:
160 frames of 0 to 30 dB and 1 to 110 emitters that no training uses, the same
for all. Short trainings show which variant learns fast, not which ends best;
the record with its caution is docs/cascade.md.
"""

from __future__ import annotations

import argparse
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from evaluation.weights.__main__ import REFERENCE_RANGE_UM, reference_calibration
from models.errors import DataError
from models.synthesis import SceneSettings
from models.training import TrainingSettings, train

__all__ = ["VARIANTS", "Variant", "ablate"]


@dataclass(frozen=True, slots=True)
class Variant:
    """One change against the shipped recipe.

    Attributes
    ----------
    what : in words
    training : fields of `TrainingSettings` that differ
    """

    what: str
    training: dict[str, Any] = field(default_factory=dict)


_COARSE_CELLS = {
    "first_cell_px": 4,
    "channels": (48, 96, 160, 192),
    "down_blocks": (1, 2, 2, 2),
    "up_convolutions": (2, 2, 2),
    "bands_um": ((0.0, 28.0), (16.0, 100.0)),
}

VARIANTS: dict[str, Variant] = {
    "shipped": Variant("full as shipped"),
    "live": Variant("live as shipped", {"size": "live"}),
    "adamw": Variant("AdamW at 1.5e-3 instead of Muon", {"optimizer": "adamw", "learning_rate": 1.5e-3}),
    "faster": Variant("twice the learning rate", {"learning_rate": 5e-3}),
    "slower": Variant("half the learning rate", {"learning_rate": 1.25e-3}),
    "batch16": Variant("16 frames a step instead of 8", {"batch": 16}),
    "batch4": Variant("4 frames a step instead of 8", {"batch": 4}),
    "shallow": Variant("fewer blocks at the coarse levels", {"shape": {"down_blocks": (0, 1, 1, 2, 2)}}),
    "coarse": Variant("finest cells of 4 px, wider levels, the same multiplications", {"shape": _COARSE_CELLS}),
    "one-band": Variant("one presence map for all depths", {"shape": {"bands_um": ((0.0, 100.0),)}}),
    "narrow-head": Variant("128 instead of 256 features in stage two", {"shape": {"hidden": 128}}),
    "wide-head": Variant("512 instead of 256 features in stage two", {"shape": {"hidden": 512}}),
    "wide-window": Variant("depth classes cover ±8 µm instead of ±4", {"shape": {"window_um": 8.0}}),
    "few-classes": Variant("25 depth classes instead of 50", {"shape": {"classes": 25}}),
}
"""By name."""


def ablate(name: str, minutes: float, seed: int) -> dict[str, Any]:
    """Train one variant from nothing and score it.

    Parameters
    ----------
    name : key of `VARIANTS`
    minutes : wall time of the training, its validation included
    seed : of the first weights and the frames

    Returns
    -------
    dict
        Number of training frames and validation scores.

    Raises
    ------
    DataError
        When there is no such variant.
    """
    if name not in VARIANTS:
        raise DataError(f"There is no variant {name!r}; there are {', '.join(VARIANTS)}.", "Name one of these.")
    variant = VARIANTS[name]
    with tempfile.TemporaryDirectory() as folder:
        model = train(
            reference_calibration(),
            Path(folder) / "model",
            TrainingSettings(**{"minutes": minutes, "seed": seed, "transfer": False} | variant.training),
            model_id=name,
            scene=SceneSettings(z_range_um=REFERENCE_RANGE_UM, read_noise_e=(0.0, 3.0)),
        )
    return {"frames": model.training["frames"], **model.scores}


def main() -> None:
    """Train the named variants and print a table."""
    parser = argparse.ArgumentParser(prog="python -m evaluation.weights.ablation", description=__doc__)
    parser.add_argument("variants", nargs="+", metavar="variant", help=", ".join(VARIANTS))
    parser.add_argument("--minutes", type=float, default=7.0, help="wall time of each training")
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    print("| variant | frames | J, mean of frames | J | recall | precision | proposed | lateral, axial RMSE, µm |")
    print("|---|---|---|---|---|---|---|---|")
    for name in arguments.variants:
        row = ablate(name, arguments.minutes, arguments.seed)
        shares = (row[key] for key in ("mean_frame_jaccard", "jaccard", "recall", "precision", "proposed"))
        errors = f"{row['rmse_lateral_um']:.2f}, {row['rmse_axial_um']:.2f}"
        cells = [VARIANTS[name].what, f"{row['frames']:,}", *(f"{share:.3f}" for share in shares), errors]
        print(f"| {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
