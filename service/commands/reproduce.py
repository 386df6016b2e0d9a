"""`bathyscope reproduce`: the published experiments, measured again with a model."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

__all__ = ["run"]


class _Name(StrEnum):
    snr = "snr"
    density = "density"
    all = "all"


def run(
    experiment: Annotated[_Name, typer.Argument(help="Which experiment.")],
    out: Annotated[Path, typer.Option("--out", help="Folder of the tables and figures.")],
    model: Annotated[Path | None, typer.Option(help="Model folder; the shipped one by default.")] = None,
    refine: Annotated[bool, typer.Option("--refine", help="Also with the joint maximum-likelihood fit.")] = False,
    quick: Annotated[bool, typer.Option("--quick", help="Few conditions, 20 frames each.")] = False,
    seed: Annotated[int, typer.Option(min=0, help="Of the judging frames.")] = 20260,
) -> None:
    """Measure a model on the frames of the published experiments."""
    import csv
    import json

    from models.camera import CameraModel
    from models.evaluation.experiments import EXPERIMENTS, Method, draw_figure, run_experiment
    from models.localization import Localizer
    from models.weights import reference_model
    from service.console import progress, result
    from service.movie_localization import refined
    from service.outputs import complete_output

    folder = model or reference_model()
    localizer = Localizer.load(folder, camera=CameraModel(0.0, 1.0, 0.0, 16, "simulated"))
    label = localizer.model.architecture
    methods: dict[str, Method] = {label: localizer.localize}
    if refine:
        refiner = localizer.refiner(folder)
        methods[f"{label} --refine"] = lambda frames, numbers: refined(localizer, refiner, frames, numbers)
    names = list(EXPERIMENTS) if experiment == _Name.all else [experiment.value]
    with complete_output(out, lambda path: (path / "reproduce.json").is_file()) as aside:
        aside.mkdir()
        for name in names:
            chosen = EXPERIMENTS[name]
            with progress(name, len(chosen.quick if quick else chosen.conditions), "conditions") as advance:
                rows = run_experiment(chosen, methods, quick=quick, seed=seed, report=lambda done, _: advance(done))
            with (aside / f"{name}.csv").open("w", newline="", encoding="utf-8") as file:
                writer = csv.DictWriter(file, rows[0])
                writer.writeheader()
                writer.writerows(rows)
            draw_figure(chosen, rows, aside / f"{name}.png")
            for row in rows:
                if row["tolerance_um"] == 10.0:
                    result(
                        f"{row['method']:>16}  {row['points']:3d} points  {row['snr_db']:5.1f} dB  "
                        f"J {row['jaccard'] or 0:.3f}  "
                        f"precision {row['precision'] or 0:.2f}  recall {row['recall']:.2f}  "
                        f"lateral {row['rmse_lateral_um'] or 0:.2f} µm  axial {row['rmse_axial_um'] or 0:.2f} µm"
                    )
        provenance = {
            "model": localizer.model.id,
            "training_minutes": localizer.model.training.get("minutes"),
            "training_frames": localizer.model.training.get("frames"),
            "seed": seed,
            "quick": quick,
            "psf": "exact",
            "precision": str(localizer.precision).removeprefix("torch."),
        }
        (aside / "reproduce.json").write_text(json.dumps(provenance, indent=2) + "\n", encoding="utf-8")
