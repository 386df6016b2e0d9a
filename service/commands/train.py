"""`bathyscope train`: train a model for a calibration."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from service.commands.checks import plausible

__all__ = ["run"]

_VALIDATION_RESERVE_MINUTES = 0.15
"""Part of the requested wall time that is kept for start-up and writing."""


def run(
    calibration: Annotated[Path, typer.Argument(help="Folder made by `bathyscope calibrate`.")],
    out: Annotated[Path, typer.Option("--out", help="Folder of the model.")],
    architecture: Annotated[
        str,
        typer.Option(
            help="Network: cascade, or the published vgg and fcn to compare with; matched: none, ready at once."
        ),
    ] = "cascade",
    size: Annotated[
        str | None,
        typer.Option(
            help="cascade: full localizes best, live keeps up with 100 frames a second; "
            "vgg: narrow, quarter, wide, printed; fcn: narrow, wide; matched: filter.  [default: the first]",
            show_default=False,
        ),
    ] = None,
    minutes: Annotated[
        float, typer.Option(callback=plausible("TRAINING_MINUTES"), help="Wall time of the whole command.")
    ] = 10.0,
    samples: Annotated[
        int | None,
        typer.Option(min=1, help="End after this number of frames (vgg: patches)."),
    ] = None,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
    seed: Annotated[int, typer.Option(min=0, help="Equal seeds give equal training frames.")] = 1,
    resume: Annotated[bool, typer.Option("--resume", help="Continue an interrupted training.")] = False,
) -> None:
    """Train the networks for a calibration."""
    from models.calibration.calibration import Calibration
    from models.identity import new_id
    from models.model_card import ModelCard
    from models.networks import architecture_named, has_network
    from models.quantities import TRAINING_MINUTES
    from models.training import TrainingSettings, train
    from service.commands.console import note, progress
    from service.files.outputs import complete_output

    TRAINING_MINUTES.check(minutes, "--minutes")
    learned = Calibration.load(calibration)
    checkpoint = out.with_name(out.name + ".checkpoint")
    settings = TrainingSettings(
        architecture=architecture,
        size=size or architecture_named(architecture).sizes[0],
        minutes=max(minutes - _VALIDATION_RESERVE_MINUTES, 0.5 * minutes, TRAINING_MINUTES.low),
        samples=samples,
        seed=seed,
        device=device,
    )
    with (
        complete_output(out, ModelCard.is_folder) as aside,
        progress("Training", minutes, "min") as advance,
    ):
        try:
            model = train(
                learned,
                aside,
                settings,
                model_id=new_id(),
                checkpoint=checkpoint,
                resume=resume,
                report=lambda done, text: advance(min(done, minutes), text),
            )
        except KeyboardInterrupt:
            if checkpoint.is_file():
                note(f"The state of the training is kept in {checkpoint}: continue with --resume.")
            raise
    scores = model.scores
    if not has_network(architecture_named(architecture)):
        note(f"Model {model.id} in {out}: no network; tracks begin where the fit of an image misses light.")
        return
    note(
        f"Model {model.id} in {out}: Jaccard {scores['jaccard']:.2f}, lateral RMSE {scores['rmse_lateral_um']:.2f} µm, "
        f"axial RMSE {scores['rmse_axial_um']:.2f} µm on simulated validation frames "
        f"({model.training['frames']} training frames in {model.training['minutes']} minutes)."
        if model.training["frames"] and scores.get("jaccard") and scores.get("rmse_um") is not None
        else f"Model {model.id} in {out}: it finds nothing yet on validation frames "
        f"({model.training['frames']} training frames); train longer."
    )
