"""The card of a model: data, recipe, scores and limits on one page, written from model.json alone.

A card written by hand is wrong after the next training. `card_page` makes the
page from the description of the model alone, and a test compares the shipped
cards with its output.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from models.model_card import REFERENCE_CALIBRATION, ModelCard
from models.optics import REFERENCE_OPTICS

__all__ = ["CARD", "card_page", "write_card"]

CARD = "CARD.md"
"""File of the card in a model's folder."""

_LEFT_OUT = {"workers", "minutes"}
"""Settings that do not describe the model, or whose result is listed instead."""


def write_card(folder: Path) -> str:
    """Write the card of the model in `folder` beside it, and return it.

    Raises
    ------
    DataError
        When the folder holds no model.
    """
    card = card_page(ModelCard.load(folder))
    (folder / CARD).write_text(card, encoding="utf-8")
    return card


def card_page(model: ModelCard) -> str:
    """Markdown page of a model."""
    parts = [
        f"# {model.id}\n\nWritten from model.json by `python -m evaluation.weights card`; not to be edited.",
        _section("What it is", _identity(model)),
        _section("Data", _data(model), "Frames are simulated, drawn while it learned, each seen once."),
        _section("Recipe", _recipe(model)),
        _section("Scores", _scores(model), _SCORES),
        "## Limits\n\n" + "\n".join(f"- {limit}" for limit in _limits(model)),
    ]
    return "\n\n".join(parts) + "\n"


_SCORES = (
    "On validation frames of the same simulation and of a seed of their own, 0 to 30 dB, as crowded as those of the "
    "training; match within 10 µm in 3D. Scores of the published experiments are in docs/performance.md, and "
    "`bathyscope reproduce all --model FOLDER` measures them."
)


def _identity(model: ModelCard) -> dict[str, Any]:
    settings = model.training.get("settings", {})
    return {
        "architecture": f"{model.architecture}, {settings['size']}" if settings.get("size") else model.architecture,
        "calibration": model.calibration_id,
        "depths": f"{_text(model.z_range_um)} µm",
        "camera pixel at the sample": f"{model.pixel_size_um:g} µm",
        "decision threshold": model.threshold,
        "8-bit evaluation": "possible" if model.map_bounds else "not measured for it",
        "SHA-256 of the weights": f"`{model.weights_sha256}`",
    }


def _data(model: ModelCard) -> dict[str, Any]:
    pattern = (
        f"computed: {REFERENCE_OPTICS.numerical_aperture:g} NA in air, {REFERENCE_OPTICS.wavelength_um:g} µm, "
        "point emitters, no aberrations"
        if model.calibration_id == REFERENCE_CALIBRATION
        else "measured, psf.zarr beside the weights"
    )
    scene = model.training.get("scene", {})
    shown = scene | ({"shape": _frame(scene["shape"])} if "shape" in scene else {})
    before = model.training.get("before")
    learnt = (
        {}
        if before is None
        else {"before that": f"{before['frames']} frames, as {before['id']}, from which it started"}
    )
    return {"pattern": pattern, "frames": model.training.get("frames"), **learnt, **_spelled(shown)}


def _recipe(model: ModelCard) -> dict[str, Any]:
    training = model.training
    asked = {
        name: value
        for name, value in {**training.get("settings", {}), **training.get("recipe", {})}.items()
        if name not in _LEFT_OUT and value is not None
    }
    names = ("minutes", "samples", "precision", "device", "torch")
    made: dict[str, Any] = {name: training[name] for name in names if name in training}
    return _spelled({**asked, **made})


def _scores(model: ModelCard) -> dict[str, Any]:
    return {name.replace("_", " "): value for name, value in model.scores.items() if value is not None}


def _limits(model: ModelCard) -> list[str]:
    scene = model.training.get("scene", {})
    limits = [
        f"It localizes at {_text(model.z_range_um)} µm from focus with a pixel of {model.pixel_size_um:g} µm; other "
        "optics need a calibration and a training, which starts from these weights.",
        "Nearer than 3 µm to focus depth is uncertain; where the pattern is the same on both sides of focus, the sign "
        "of the depth cannot be determined.",
    ]
    if "wrong_side_share" in scene:
        taught = scene["wrong_side_share"] > 0
        limits.append(
            f"Its training frames contained {'' if taught else 'no '}emitters with negative defocus"
            + ("." if taught else ": it localizes them as if they had positive defocus.")
        )
    if "count" in scene:
        limits.append(f"Frames of more than {scene['count'][1]} emitters on {_text(scene['shape'])} px were not seen.")
    if "read_noise_e" in scene:
        limits.append(
            f"Read noise was {_text(scene['read_noise_e'])} e⁻, background {_text(scene['background_e'])} e⁻."
        )
    if not model.scores.get("jaccard"):
        limits.append("It finds nothing on its validation frames: it was trained for too short a time.")
    return limits


def _spelled(values: Mapping[str, Any]) -> dict[str, Any]:
    return {name.replace("_", " "): value for name, value in values.items() if value is not None}


def _section(title: str, rows: Mapping[str, Any], text: str = "") -> str:
    lines = [f"## {title}", "", *([text, ""] if text else []), "| | |", "|---|---|"]
    return "\n".join([*lines, *(f"| {name} | {_text(value)} |" for name, value in rows.items())])


def _frame(shape: Sequence[int]) -> str:
    return f"{shape[0]} x {shape[1]} px"


def _text(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, list | tuple):
        return " to ".join(_text(each) for each in value)
    return str(value)
