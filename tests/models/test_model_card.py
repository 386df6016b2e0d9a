"""Models as folders: the digest of the weights is checked, and the card agrees with the description."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from evaluation.weights import __main__ as weights_command
from evaluation.weights.card_page import card_page, write_card
from models.errors import DataError
from models.model_card import ModelCard, weights_digest
from models.networks import architecture_named
from models.weights import reference_model

SIZES = architecture_named("cascade").sizes


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return Path(shutil.copytree(reference_model("live"), tmp_path / "model"))


def _changed(folder: Path, **values: Any) -> None:
    path = folder / "model.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


@pytest.mark.parametrize("size", SIZES)
def test_shipped_models_state_their_weights_and_their_cards_are_up_to_date(size: str) -> None:
    model = ModelCard.load(reference_model(size))
    assert model.weights_sha256 == weights_digest(reference_model(size))
    assert (reference_model(size) / "CARD.md").read_text(encoding="utf-8") == card_page(model)


def test_weights_of_another_training_are_refused(folder: Path) -> None:
    weights = folder / "weights.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"\x00")
    with pytest.raises(DataError, match=r"digest .* not of one training"):
        ModelCard.load(folder)
    for stated in (None, "abc"):
        _changed(folder, weights_sha256=stated)
        with pytest.raises(DataError, match="no SHA-256 digest"):
            ModelCard.load(folder)


def test_saving_states_the_weights_that_are_there(folder: Path) -> None:
    model = ModelCard.load(folder)
    (folder / "weights.safetensors").write_bytes(b"others")
    model.save(folder)
    assert ModelCard.load(folder) == replace(model, weights_sha256=weights_digest(folder))


def test_a_card_agrees_with_the_description(folder: Path) -> None:
    card = write_card(folder)
    assert (folder / "CARD.md").read_text(encoding="utf-8") == card
    model = ModelCard.load(folder)
    for said in (model.id, f"| frames | {model.training['frames']} |", "## Limits", f"`{model.weights_sha256}`"):
        assert said in card
    assert "None" not in card
    _changed(folder, scores={"jaccard": None}, training={}, calibration_id="mine")
    card = write_card(folder)
    assert "too short a time" in card
    assert "psf.zarr" in card
    _changed(folder, training={"frames": 8, "before": {"id": "older", "frames": 80, "minutes": 1.0}})
    assert "| before that | 80 frames, as older, from which it started |" in write_card(folder)


def test_cards_are_written_by_command(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    weights_command.main(["card", str(folder)])
    assert (folder / "CARD.md").read_text(encoding="utf-8") == card_page(ModelCard.load(folder))
    assert str(folder / "CARD.md") in capsys.readouterr().out
