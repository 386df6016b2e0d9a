"""The published experiments `snr` and `density`: one sweep over a condition each, one table and one figure.

Every method is a function from frames to localizations, so that all see the
same frames. PSF exact: training and judgement know the same optics, which is
stated in the table and the figure.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.evaluation.published_frames import PublishedFrame, published_frames
from models.metrics import Scorer, chance_jaccard
from models.optics import REFERENCE_OPTICS, ExactImages
from models.tables import Localizations, Truth

__all__ = ["EXPERIMENTS", "Experiment", "draw_figure", "run_experiment"]

Method = Callable[[NDArray[np.uint16], NDArray[np.int64]], Localizations]
Report = Callable[[int, int], None]

_TOLERANCES_UM = (10.0, 5.0, 3.0)


@dataclass(frozen=True, slots=True)
class Experiment:
    """What is varied.

    Attributes
    ----------
    name : str
    conditions : tuple of (points, SNR in dB)
    quick : the conditions for a short run
    varied : name of the varied condition, for the figure's axis
    frames : per condition
    """

    name: str
    conditions: tuple[tuple[int, float], ...]
    quick: tuple[tuple[int, float], ...]
    varied: str
    frames: int = 100


EXPERIMENTS = {
    "snr": Experiment(
        "snr",
        tuple((20, float(db)) for db in (-3, 0, 5, 10, 15, 20, 30)),
        ((20, 0.0), (20, 10.0), (20, 30.0)),
        "SNR, published form (dB), 20 points",
    ),
    "density": Experiment(
        "density",
        tuple((points, 30.0) for points in (1, 4, 10, 20, 32, 64, 100)),
        ((4, 30.0), (64, 30.0)),
        "points in 100 x 100 x 100 µm³, 30 dB",
    ),
}


def run_experiment(
    experiment: Experiment,
    methods: Mapping[str, Method],
    *,
    quick: bool,
    seed: int,
    report: Report = lambda _d, _t: None,
) -> list[dict[str, Any]]:
    """Score every method at every condition.

    Returns
    -------
    list of dict
        One row per method, condition and tolerance: method, points, snr_db, tolerance_um, median photons,
        background_e, the scores of `models.metrics.Score`, and the chance level.
    """
    pixel = REFERENCE_OPTICS.pixel_size_um
    images = ExactImages(REFERENCE_OPTICS, (0.0, 100.0))
    conditions: Sequence[tuple[int, float]] = experiment.quick if quick else experiment.conditions
    frames = 20 if quick else experiment.frames
    rows = []
    for done, (points, snr_db) in enumerate(conditions):
        drawn = published_frames(images, pixel, points, snr_db, frames, seed)
        counts = np.stack([frame.counts for frame in drawn])
        truth = _truth(drawn)
        for name, method in methods.items():
            found = method(counts, np.arange(frames))
            for tolerance in _TOLERANCES_UM:
                scorer = Scorer(tolerance_um=tolerance)
                for number, frame in enumerate(drawn):
                    scorer.add(found.xyz_um[found.frame == number], frame.xyz_um)
                rows.append(
                    {
                        "method": name,
                        "points": points,
                        "snr_db": snr_db,
                        "frames": frames,
                        "tolerance_um": tolerance,
                        "median_photons": float(np.median(np.concatenate([f.photons for f in drawn]))),
                        "background_e": float(np.mean([f.background_e for f in drawn])),
                        **scorer.result(),
                        "chance_jaccard": chance_jaccard(found, truth, tolerance),
                    }
                )
        report(done + 1, len(conditions))
    return rows


def draw_figure(experiment: Experiment, rows: list[dict[str, Any]], path: Path) -> None:
    """Jaccard over the varied condition, one panel per tolerance, chance level dotted; saved as PNG."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    key = "snr_db" if experiment.name == "snr" else "points"
    figure = Figure(figsize=(10, 3.6), layout="constrained")
    FigureCanvasAgg(figure)
    panels = figure.subplots(1, len(_TOLERANCES_UM), sharey=True)
    for panel, tolerance in zip(panels, _TOLERANCES_UM, strict=True):
        for method in dict.fromkeys(row["method"] for row in rows):
            mine = [row for row in rows if row["method"] == method and row["tolerance_um"] == tolerance]
            line = panel.plot([r[key] for r in mine], [r["jaccard"] for r in mine], "o-", label=method)[0]
            chance = [r["chance_jaccard"] for r in mine]
            panel.plot([r[key] for r in mine], chance, ":", color=line.get_color(), label=f"chance, {method}")
        panel.set(title=f"within {tolerance:g} µm", xlabel=experiment.varied, ylim=(0, 1))
        if key == "points":
            panel.set_xscale("log")
        panel.grid(alpha=0.3)
    panels[0].set_ylabel("Jaccard index")
    panels[-1].legend(fontsize=7)
    figure.suptitle("Simulated frames, reference optics, exact PSF known to the method", fontsize=10)
    figure.savefig(path, dpi=150)


def _truth(frames: list[PublishedFrame]) -> Truth:
    numbers = np.concatenate([np.full(len(frame.xyz_um), i) for i, frame in enumerate(frames)])
    x, y, z = np.concatenate([frame.xyz_um for frame in frames]).T
    return Truth(numbers, x, y, z, np.full(len(numbers), -1))
