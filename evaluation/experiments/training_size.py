"""Experiment `training-size`: scores over the number of training samples.

The published networks were trained with 200,000 samples. The effect of fewer
is measured with models of one architecture and size that were trained with
different numbers, all named with `--model`. A sample is the input of one
training step: a patch for `vgg`, a frame for the others. The frames are those
of `snr`.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from evaluation.experiments.benchmark import Benchmark, MethodRun
from evaluation.experiments.conditions import Condition, run_conditions
from evaluation.methods.registry import needs_model
from evaluation.optics.frames import Snr
from evaluation.report.figures import LIMIT, error_axis, error_bars, new_figure, panel, save, series, styles
from evaluation.scores.scoring import Row
from models.errors import DataError
from models.model_card import ModelCard

__all__ = ["draw", "run"]

_POINTS = 20
_DB = (10.0, 20.0, 30.0)
_QUICK_DB = (30.0,)


def run(benchmark: Benchmark) -> dict[str, list[Row]]:
    """Table `training-size`: one row for each model, light and tolerance.

    Raises
    ------
    DataError
        When no network with a record of its training takes part.
    """
    trained = {each.label: known for each in benchmark.method_runs if (known := _training(each)) is not None}
    if not trained:
        raise DataError(
            "None of the methods is a network with a record of its training.",
            "Name trained models with --model, several times, and the networks with --methods.",
        )
    chosen = [each for each in benchmark.method_runs if each.label in trained]
    conditions = [
        Condition({"form": "published", "points": _POINTS, "snr_db": db}, _POINTS, Snr(db))
        for db in (_QUICK_DB if benchmark.quick else _DB)
    ]
    rows, _ = run_conditions(benchmark, conditions, chosen)
    return {"training-size": [{"method": row["method"]} | trained[row["method"]] | row for row in rows]}


def _training(method_run: MethodRun) -> Row | None:
    """Record of a network's training from its model; None for fits, and where there is none."""
    if not needs_model(method_run.name) or method_run.model_folder is None:
        return None
    model = ModelCard.load(method_run.model_folder)
    samples = model.training.get("samples")
    if samples is None:
        return None
    settings = model.training.get("settings", {})
    return {
        "network": method_run.name,
        "size": settings.get("size") or "",
        "model": model.id,
        "samples": samples,
        "training_frames": model.training.get("frames"),
        "minutes": model.training.get("minutes"),
    }


def draw(tables: dict[str, list[Row]], folder: Path, caption: str) -> None:
    """Figure `training-size.png`: Jaccard index and axial error over the training samples."""
    rows = sorted(tables["training-size"], key=lambda row: row["samples"])
    rows = [row | {"curve": " ".join(filter(None, (row["network"], row["size"])))} for row in rows]
    levels = sorted({row["snr_db"] for row in rows})
    figure, axes = new_figure(len(levels), 2, sharey="row")
    for column, db in zip(axes.T, levels, strict=True):
        here = [row for row in rows if row["snr_db"] == db and row["tolerance_um"] == 10.0]
        for curve, look in _looks(rows).items():
            column[0].plot(*series(here, "samples", "jaccard", curve=curve), **look)
            error_bars(column[0], here, look, "samples", curve=curve)
            column[1].plot(*series(here, "samples", "rmse_axial_um", curve=curve), **look)
        column[0].axhline(here[0]["limit_jaccard"], label="ideal detector", **LIMIT)
        panel(column[0], title=f"{_POINTS} points at {db:g} dB, within 10 µm", x="training samples", ylim=(0, 1.02))
        panel(column[1], title=f"axial error of found emitters, {db:g} dB", x="training samples")
        error_axis(column[1])
        for axis in column:
            axis.set_xscale("log")
    axes[0, 0].set_ylabel("Jaccard index")
    axes[1, 0].set_ylabel("RMSE (µm)")
    save(figure, axes, folder / "training-size.png", title="What more training brings", caption=caption)


def _looks(rows: Sequence[Row]) -> dict[str, dict[str, Any]]:
    """Colour of the method; sizes of one network differ by the dashes."""
    curves = dict.fromkeys((row["curve"], row["network"]) for row in rows)
    colours = styles(network for _, network in curves)
    dashes = ("-", "--", "-.", ":")
    count: dict[str, int] = {}
    looks = {}
    for curve, network in curves:
        looks[curve] = colours[network] | {"label": curve, "linestyle": dashes[count.get(network, 0) % len(dashes)]}
        count[network] = count.get(network, 0) + 1
    return looks
