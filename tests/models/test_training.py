"""Training: progress, resuming, and refused input."""

from __future__ import annotations

import itertools
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from models.calibration.calibration import Calibration
from models.camera import CameraModel
from models.errors import DataError
from models.localization import Localizer
from models.networks.cascade_architecture import CascadeArchitecture
from models.optics import Objective, computed_psf
from models.synthesis import PatternTable, SceneSettings, draw_frame
from models.training import TrainingSettings, load_shipped_weights, train
from models.training_scene import scene_for, scenes_by_size
from models.weights import reference_model

OBJECTIVE = Objective(0.45, 0.52, 0.65)


def small_calibration(spherical_waves: float = 0.0) -> Calibration:
    objective = Objective(0.45, 0.52, 0.65, spherical_waves=spherical_waves)
    psf = computed_psf(objective, np.arange(-8.0, 20.0))
    return Calibration(
        id="small",
        psf=psf,
        z_range_um=(0.0, 16.0),
        camera=CameraModel(100.0, 0.5, 1.5),
        field=None,
        focus_um=0.0,
        sweep_z_um=psf.z_um,
        axial_scale=1.0,
        sign=1,
        size_variation=0.0,
        report={},
    )


@pytest.fixture(scope="module")
def calibration() -> Calibration:
    return small_calibration()


def test_the_loss_falls(calibration: Calibration) -> None:
    torch.manual_seed(0)
    table = PatternTable(calibration.psf)
    scene = scene_for(calibration, table)
    network = CascadeArchitecture.for_optics(table, calibration.z_range_um, "full")
    rng = np.random.default_rng(0)
    prepared = network.prepare([draw_frame(table, scene, rng) for _ in range(4)])
    optimizer = torch.optim.AdamW(network.module.parameters(), 2e-3)
    losses = []
    for _ in range(12):
        loss = network.loss(prepared, rng)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < 0.6 * losses[0]


def test_frames_of_several_sizes_have_one_density_and_cost_about_the_same() -> None:
    scene = SceneSettings(shape=(128, 128), count=(1, 49))
    kinds = scenes_by_size(scene, 8)
    assert [kind.shape for kind, _ in kinds] == [(128, 128), (256, 256), (384, 384)]
    for kind, batch in kinds:
        pixels = kind.shape[0] * kind.shape[1]
        assert kind.count[1] / pixels == 49 / 128**2
        # One frame of nine times the pixels is an eighth more than eight frames.
        assert 1 <= batch * pixels / (8 * 128**2) < 1.2


def test_frames_that_are_wide_or_few_stay_as_they_are() -> None:
    wide = SceneSettings(shape=(224, 224))
    assert scenes_by_size(wide, 8) == [(wide, 8)]
    alone = SceneSettings(shape=(128, 128))
    assert scenes_by_size(alone, 1) == [(alone, 1)]


def test_a_short_training_makes_a_model_that_loads(calibration: Calibration, tmp_path: Path) -> None:
    said: list[str] = []
    model = train(
        calibration,
        tmp_path / "model",
        TrainingSettings(minutes=0.15, batch=4),
        model_id="short",
        report=lambda _minutes, text: said.append(text),
    )
    assert model.training["frames"] > 0
    assert said[-1] == "done"
    localizer = Localizer.load(tmp_path / "model")
    assert localizer.card.z_range_um == (0.0, 16.0)
    assert localizer.card.camera == calibration.camera
    assert localizer.psf.pixel_size_um == 0.65
    localizer.warm_up((96, 96), 2)


def test_a_new_calibration_starts_from_all_shipped_weights_whatever_its_depths(calibration: Calibration) -> None:
    network = CascadeArchitecture.for_optics(PatternTable(calibration.psf), (0.0, 16.0), "full")
    before = load_shipped_weights(network, "full")
    assert before is not None
    assert before["frames"] > 200_000
    for name, weight in load_file(reference_model() / "weights.safetensors").items():
        torch.testing.assert_close(network.module.state_dict()[name].float(), weight.float())


def test_resuming_without_a_checkpoint_is_refused(calibration: Calibration, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no checkpoint"):
        train(
            calibration,
            tmp_path / "model",
            TrainingSettings(minutes=0.1),
            model_id="none",
            checkpoint=tmp_path / "none.checkpoint",
            resume=True,
        )


def test_a_damaged_checkpoint_is_refused(calibration: Calibration, tmp_path: Path) -> None:
    (tmp_path / "torn.checkpoint").write_bytes(b"torn")
    with pytest.raises(DataError, match="damaged"):
        train(
            calibration,
            tmp_path / "model",
            TrainingSettings(minutes=0.1),
            model_id="torn",
            checkpoint=tmp_path / "torn.checkpoint",
            resume=True,
        )


@pytest.mark.parametrize("minutes", [0.0, -3.0, 1e-300, 1e9, float("nan"), float("inf")])
def test_implausible_minutes_are_refused(calibration: Calibration, tmp_path: Path, minutes: float) -> None:
    with pytest.raises(DataError, match="time of the training"):
        train(calibration, tmp_path, TrainingSettings(minutes=minutes), model_id="x")
    assert list(tmp_path.iterdir()) == []


def test_a_training_without_a_step_is_no_model(
    calibration: Calibration, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A computer so busy that the time is over before the first frames are drawn.
    late = iter([0.0])
    monkeypatch.setattr("models.training.time.monotonic", lambda: next(late, 1e6))
    with pytest.raises(DataError, match="before the first step") as caught:
        train(calibration, tmp_path / "model", _few_samples(), model_id="x", scene=_small_scene(calibration))
    assert "more minutes" in caught.value.remedy
    assert not (tmp_path / "model").exists()


def _few_samples(**changes: Any) -> TrainingSettings:
    known = {"architecture": "fcn", "size": "narrow", "minutes": 5.0, "samples": 4, "batch": 2}
    return TrainingSettings(**{**known, **changes})


def _small_scene(calibration: Calibration) -> SceneSettings:
    return SceneSettings(shape=(32, 32), count=(1, 3), z_range_um=calibration.z_range_um)


@pytest.fixture(scope="module")
def checkpoint(calibration: Calibration, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Checkpoint of a training interrupted after two steps."""
    folder = tmp_path_factory.mktemp("interrupted")
    path = folder / "model.checkpoint"
    clock = itertools.count(0.0, 31.0)
    with pytest.MonkeyPatch.context() as patch:
        # Each look at the clock is half a minute later, so that the first steps are saved.
        patch.setattr("models.training.time.monotonic", lambda: next(clock))
        patch.setattr("models.training.choose_threshold", _interrupt)
        with pytest.raises(KeyboardInterrupt):
            train(
                calibration,
                folder / "model",
                _few_samples(minutes=600.0),
                model_id="x",
                checkpoint=path,
                scene=_small_scene(calibration),
            )
    return path


def _interrupt(*_: Any, **__: Any) -> None:
    raise KeyboardInterrupt


def test_an_interrupted_training_goes_on(calibration: Calibration, checkpoint: Path, tmp_path: Path) -> None:
    mine = tmp_path / "model.checkpoint"
    mine.write_bytes(checkpoint.read_bytes())
    model = train(
        calibration,
        tmp_path / "model",
        _few_samples(minutes=6.0, samples=12),
        model_id="on",
        checkpoint=mine,
        resume=True,
        scene=_small_scene(calibration),
    )
    assert model.training["minutes"] >= 1
    assert not mine.exists()


@pytest.mark.parametrize(
    ("other", "says"),
    [
        ("calibration", "calibration: small"),
        ("id", "calibration: small"),
        ("architecture", "architecture: fcn narrow then, fcn wide now"),
        ("seed", "seed: 1 then, 2 now"),
        ("batch", "recipe"),
        ("scene", "scene"),
    ],
)
def test_a_checkpoint_of_another_training_is_refused(
    calibration: Calibration, checkpoint: Path, tmp_path: Path, other: str, says: str
) -> None:
    before = checkpoint.read_bytes()
    settings, scene = _few_samples(), _small_scene(calibration)
    if other == "calibration":
        # The same id, another pattern: a folder that was calibrated anew and renamed.
        calibration = replace(small_calibration(spherical_waves=0.2), id="small")
    elif other == "id":
        calibration = replace(calibration, id="other")
    elif other == "architecture":
        settings = _few_samples(size="wide")
    elif other == "seed":
        settings = _few_samples(seed=2)
    elif other == "batch":
        settings = _few_samples(batch=4)
    else:
        scene = replace(scene, count=(1, 5))
    with pytest.raises(DataError, match=re.escape(says)):
        train(calibration, tmp_path, settings, model_id="x", checkpoint=checkpoint, resume=True, scene=scene)
    assert checkpoint.read_bytes() == before


def test_negative_defocus_is_trained_only_for_a_psf_that_differs_there(calibration: Calibration) -> None:
    assert scene_for(calibration, PatternTable(calibration.psf)).wrong_side_share == 0
    aberrated = small_calibration(spherical_waves=0.2)
    assert scene_for(aberrated, PatternTable(aberrated.psf)).wrong_side_share > 0


def test_a_camera_of_little_noise_is_trained_as_any_of_its_kind() -> None:
    calibration = small_calibration()
    quiet = Calibration(**{**calibration.__dict__, "camera": CameraModel(98.0, 1.1, 1.6)})
    scene = scene_for(quiet, PatternTable(quiet.psf))
    assert (scene.read_noise_e, scene.background_e[0]) == ((0.0, 3.0), SceneSettings().background_e[0])


def test_a_noisy_camera_is_trained_with_its_noise() -> None:
    calibration = small_calibration()
    noisy = Calibration(**{**calibration.__dict__, "camera": CameraModel(98.0, 8.3, 32.0)})
    scene = scene_for(noisy, PatternTable(noisy.psf))
    assert scene.read_noise_e == (pytest.approx(0.8 * 32), pytest.approx(1.2 * 32))


@pytest.mark.parametrize("architecture", ["vgg", "fcn"])
def test_a_training_ends_after_its_samples_and_its_model_opens(
    architecture: str, calibration: Calibration, tmp_path: Path
) -> None:
    settings = TrainingSettings(architecture=architecture, size="narrow", minutes=5.0, samples=8, batch=2)
    scene = SceneSettings(shape=(32, 32), count=(1, 3), z_range_um=calibration.z_range_um)
    model = train(calibration, tmp_path / "model", settings, model_id="short", scene=scene)
    step = 2 * model.training["recipe"]["samples_per_frame"]
    assert model.training["samples"] == step * -(-8 // step)
    assert model.map_bounds is None
    localizer = Localizer.load(tmp_path / "model")
    found = localizer.localize(np.full((2, 20, 30), 100, np.uint16), np.arange(2))
    assert set(found.frame.tolist()) <= {0, 1}


@pytest.mark.slow
def test_training_as_printed_ends_in_an_error(calibration: Calibration, tmp_path: Path) -> None:
    settings = TrainingSettings(architecture="vgg", size="printed", minutes=30.0)
    with pytest.raises(DataError, match="not a finite number in 10 steps"):
        train(calibration, tmp_path / "model", settings, model_id="printed")
