"""Make the shipped weights again: ``python -m evaluation.weights --size full --minutes 60``.

Trains the cascade for the computed PSF of the reference optics on this machine
and replaces its folder when complete. Training minutes, frames, validation
scores and the digest of the weights are written into model.json, and from that
the card beside it. ``python -m evaluation.weights card`` writes the cards of
the shipped models again, or those of the folders named.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from evaluation.weights.card_page import CARD, write_card
from models.calibration.calibration import Calibration
from models.model_card import REFERENCE_CALIBRATION
from models.networks import architecture_named
from models.optics import reference_psf
from models.scene import reference_camera
from models.synthesis import SceneSettings
from models.training import TrainingSettings, train
from models.weights import reference_model

REFERENCE_RANGE_UM = (0.0, 100.0)


def reference_calibration() -> Calibration:
    """The reference optics as a calibration, computed instead of measured."""
    psf = reference_psf()
    return Calibration(
        id=REFERENCE_CALIBRATION,
        psf=psf,
        z_range_um=REFERENCE_RANGE_UM,
        camera=reference_camera(),
        field=None,
        focus_um=0.0,
        sweep_z_um=np.asarray(psf.z_um),
        axial_scale=1.0,
        sign=1,
        size_variation=0.0,
        report={"source": "computed from the objective: scalar Debye integral, no aberrations, point emitters"},
    )


def main(arguments: Sequence[str] | None = None) -> None:
    """Train and replace the shipped folder, or write the cards."""
    given = sys.argv[1:] if arguments is None else list(arguments)
    if given[:1] == ["card"]:
        _write_cards(given[1:])
    else:
        _train(given)


def _write_cards(given: Sequence[str]) -> None:
    parser = argparse.ArgumentParser(prog="python -m evaluation.weights card", description="Write the cards of models.")
    parser.add_argument("folders", type=Path, nargs="*", help="default: the shipped models")
    for folder in parser.parse_args(given).folders or map(reference_model, architecture_named("cascade").sizes):
        write_card(folder)
        print(folder / CARD)


def _train(given: Sequence[str]) -> None:
    parser = argparse.ArgumentParser(prog="python -m evaluation.weights", description=__doc__)
    parser.add_argument("--size", choices=architecture_named("cascade").sizes, default="full")
    parser.add_argument("--minutes", type=float, default=60.0, help="wall time of the training")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--go-on", action="store_true", help="start from the shipped weights of that size")
    parser.add_argument("--learning-rate", type=float, help="highest; default: the network's")
    parser.add_argument("--out", type=Path, help="default: the shipped folder of that size")
    parser.add_argument("--resume", action="store_true", help="go on from the checkpoint beside --out")
    arguments = parser.parse_args(given)
    out: Path = arguments.out or reference_model(arguments.size)
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=out.parent) as aside:
        train(
            reference_calibration(),
            Path(aside) / "model",
            TrainingSettings(
                size=arguments.size,
                minutes=arguments.minutes,
                seed=arguments.seed,
                transfer=arguments.go_on,
                learning_rate=arguments.learning_rate,
            ),
            model_id=f"reference-10x-0.45-{arguments.size}",
            checkpoint=out.with_name(out.name + ".checkpoint"),
            resume=arguments.resume,
            # Any camera may look through these optics: read noise from none to 3 e-.
            scene=SceneSettings(z_range_um=REFERENCE_RANGE_UM, read_noise_e=(0.0, 3.0)),
            report=lambda minutes, text: print(f"{minutes:6.1f} min  {text}", flush=True),
        )
        write_card(Path(aside) / "model")
        if out.exists():
            shutil.rmtree(out)
        (Path(aside) / "model").rename(out)


if __name__ == "__main__":
    main()
