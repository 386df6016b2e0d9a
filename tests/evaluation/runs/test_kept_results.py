"""Kept localizations: found for the same frames alone, and an interrupted run that gives the same results."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from evaluation.experiments.benchmark import MethodRun
from evaluation.optics.benchmark_optics import computed_calibration, exact_optics
from evaluation.optics.frames import FRAME_SHAPE, Frames, Photons, expose, middle_box, uniform_emitters
from evaluation.runs import identity
from evaluation.runs.identity import code_digest, differences, folder_digest, localizer_digest, run_identity
from evaluation.runs.kept_results import KeptResults
from models.camera import CameraModel
from models.tables import Localizations
from models.weights import reference_model

CAMERA = CameraModel(100.0, 0.5, 1.6)


def counts(seed: int) -> NDArray[np.uint16]:
    return np.random.default_rng(seed).integers(0, 500, (2, 8, 8)).astype(np.uint16)


def found(frame: int) -> Localizations:
    columns = {name: np.array([frame + 0.1 + 0.2]) for name in Localizations.names()}
    return Localizations.from_columns(columns | {"frame": [frame], "chi2": [np.nan]})


def test_kept_results_are_found_for_the_same_frames_alone(tmp_path: Path) -> None:
    kept = KeptResults(tmp_path / "answers")
    assert kept.find("mle", CAMERA, counts(1), 0) is None
    kept.keep("mle", CAMERA, counts(1), 0, found(0), 1.25)
    again, seconds = kept.find("mle", CAMERA, counts(1), 0) or (Localizations.empty(), 0.0)
    assert seconds == 1.25
    for name, column in found(0).columns().items():
        np.testing.assert_array_equal(again.columns()[name], column)
        assert again.columns()[name].dtype == column.dtype
    assert kept.find("ls", CAMERA, counts(1), 0) is None
    assert kept.find("mle", replace(CAMERA, read_noise_e=1.7), counts(1), 0) is None
    assert kept.find("mle", CAMERA, counts(2), 0) is None
    assert kept.find("mle", CAMERA, counts(1), 2) is None
    (file,) = (tmp_path / "answers").iterdir()
    file.write_bytes(file.read_bytes()[:100])
    assert kept.find("mle", CAMERA, counts(1), 0) is None
    kept.clear()
    kept.clear()
    assert not (tmp_path / "answers").exists()


class _Clockwork:
    """Localizes the middle of each frame, and may be switched off."""

    def __init__(self) -> None:
        self.name, self.calls, self.off = "mle", 0, False

    def __call__(self, counts: NDArray[np.uint16], numbers: NDArray[np.int64]) -> Localizations:
        if self.off:
            raise KeyboardInterrupt
        self.calls += 1
        return Localizations.concatenate(found(int(number)) for number in numbers)


def _method_run(method: _Clockwork, folder: Path, monkeypatch: pytest.MonkeyPatch) -> MethodRun:
    method_run = MethodRun("mle", "mle", computed_calibration(), "exact", kept=KeptResults(folder))
    monkeypatch.setattr(MethodRun, "prepare", lambda _self, _camera: method)
    return method_run


def test_kept_results_are_not_computed_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(3)
    box = middle_box(FRAME_SHAPE, 0.65, (0.0, 100.0))
    optics = exact_optics()
    emitters = [uniform_emitters(rng, 2, box) for _ in range(12)]
    frames = expose(optics, emitters, Photons(1e4, 2.0), (32, 32), rng)
    method = _Clockwork()
    first = _method_run(method, tmp_path, monkeypatch)
    once = first.candidates(frames)
    assert (method.calls, first.frames) == (2, 12)
    method.off = True
    again = _method_run(method, tmp_path, monkeypatch)
    np.testing.assert_array_equal(again.candidates(frames).x_um, once.x_um)
    # With the time that it took, by which experiments decide how many frames a method sees.
    assert (again.seconds, again.frames) == (first.seconds, 12)
    other = Frames(frames.counts + 1, frames.emitters, frames.background_e, frames.read_noise_e, frames.camera)
    with pytest.raises(KeyboardInterrupt):
        again.candidates(other)


def test_comments_and_docstrings_make_no_other_code(tmp_path: Path) -> None:
    file = tmp_path / "a.py"
    file.write_text('"""Module."""\ndef f(x):\n    """One."""\n    return x + 1\n')
    before = code_digest(tmp_path)
    file.write_text('"""Better."""\n\n\ndef f(x):\n    """Two."""\n    # why\n    return (x + 1)\n')
    (tmp_path / "report").mkdir()
    (tmp_path / "report" / "pages.py").write_text("shown = True\n")
    (tmp_path / "provenance.py").write_text("known = True\n")
    assert code_digest(tmp_path) == before
    file.write_text('"""Better."""\ndef f(x):\n    return x + 2\n')
    assert code_digest(tmp_path) != before


def test_code_of_models_and_evaluation_is_part_of_the_identity(tmp_path: Path) -> None:
    assert [folder.name for folder in identity._OWN_PACKAGES] == ["evaluation", "models"]
    assert all((folder / "__init__.py").is_file() for folder in identity._OWN_PACKAGES)
    folders = tmp_path / "evaluation", tmp_path / "models"
    for folder in folders:
        folder.mkdir()
        (folder / "a.py").write_text("x = 1\n")
    before = code_digest(*folders)
    (folders[1] / "a.py").write_text("x = 2\n")
    assert code_digest(*folders) != before


def test_code_of_trackers_does_not_change_localizations(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model, code = tmp_path / "model", tmp_path / "models"
    for folder in (model, code / "tracking", code / "fit"):
        folder.mkdir(parents=True)
    (model / "weights.safetensors").write_bytes(b"1")
    (code / "tracking" / "filter.py").write_text("x = 1\n")
    (code / "fit" / "step.py").write_text("x = 1\n")
    monkeypatch.setattr(identity, "_OWN_PACKAGES", (tmp_path / "evaluation", code))
    before = localizer_digest(model)
    (code / "tracking" / "filter.py").write_text("x = 2\n")
    assert localizer_digest(model) == before
    (code / "fit" / "step.py").write_text("x = 2\n")
    changed = localizer_digest(model)
    assert changed != before
    (model / "weights.safetensors").write_bytes(b"2")
    assert localizer_digest(model) not in (before, changed)


def test_a_model_is_known_by_its_weights_and_not_by_its_card(tmp_path: Path) -> None:
    (tmp_path / "model.json").write_text("{}")
    (tmp_path / "weights.safetensors").write_bytes(b"1")
    before = folder_digest(tmp_path)
    (tmp_path / "CARD.md").write_text("for people")
    assert folder_digest(tmp_path) == before
    (tmp_path / "weights.safetensors").write_bytes(b"2")
    assert folder_digest(tmp_path) != before


def test_differences_of_identity_are_named() -> None:
    one = run_identity(
        optics="exact", calibration=None, methods=("cascade",), models=[reference_model()], quick=True, seed=1,
        seconds=8.0, minutes=10.0,
    )  # fmt: skip
    assert differences(one, dict(one)) == []
    other = one | {"seconds": 9.0, "packages": one["packages"] | {"torch": "9"}}
    assert differences(one, other) == [
        "seconds was 8.0 and is 9.0",
        f"packages: torch was {one['packages']['torch']} and is 9",
    ]
