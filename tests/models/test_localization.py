"""The shipped model on frames that it never saw, and folders that are no model."""

from __future__ import annotations

import itertools
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from evaluation.optics.frames import FRAME_SHAPE, Snr, expose, middle_box, uniform_emitters
from evaluation.scores.scoring import score_at
from models.camera import CameraModel
from models.errors import DataError
from models.localization import Localizer
from models.metrics import chance_jaccard
from models.model_card import ModelCard
from models.optics import REFERENCE_OPTICS, ExactImages
from models.scene import reference_camera, reference_scene
from models.weights import reference_model

COUNTING = CameraModel(0.0, 1.0, 0.0)


@pytest.fixture(scope="module")
def localizer() -> Localizer:
    return Localizer.load(reference_model(), camera=COUNTING)


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    return Path(shutil.copytree(reference_model(), tmp_path / "model"))


def test_the_shipped_model_finds_emitters_of_the_published_experiments(localizer: Localizer) -> None:
    images = ExactImages(REFERENCE_OPTICS, (0.0, 100.0))
    box = middle_box(FRAME_SHAPE, REFERENCE_OPTICS.pixel_size_um, (0.0, 100.0))
    rng = np.random.default_rng(77)
    # What the issue asks of the shipped weights, less three standard errors of 20 frames of 20 points.
    for db, least in ((0.0, 0.35 - 0.06), (10.0, 0.55 - 0.06), (30.0, 0.80 - 0.06)):
        frames = expose(images, [uniform_emitters(rng, 20, box) for _ in range(20)], Snr(db), FRAME_SHAPE, rng)
        found = localizer.localize(frames.counts, np.arange(20))
        jaccard = score_at(found, frames, 10.0).jaccard
        assert jaccard is not None
        assert jaccard > least
        assert jaccard > 2 * chance_jaccard(found, frames.truth(), 10.0)


def test_empty_frames_have_hardly_any_emitters(localizer: Localizer) -> None:
    noise = np.random.default_rng(1).poisson(5, (24, 200, 230)).astype(np.uint16)
    # The threshold serves dim emitters too, so noise passes now and then; twenty emitters are the common frame.
    assert len(localizer.localize(noise, np.arange(24))) / 24 <= 0.2


def test_batches_and_single_frames_give_the_same_answers() -> None:
    camera = reference_camera()
    scene = reference_scene(seed=5)
    frames = np.stack([camera.expose(scene.render(0.01 * i, 0.009, 0.0), i) for i in range(3)])
    localizer = Localizer.load(reference_model(), precision="float32")
    together = localizer.localize(frames, np.array([7, 8, 9]))
    apart = [localizer.localize(frames[i : i + 1], np.array([7 + i])) for i in range(3)]
    assert together.frame.tolist() == np.concatenate([part.frame for part in apart]).tolist()
    np.testing.assert_allclose(together.z_um, np.concatenate([part.z_um for part in apart]), atol=0.05)


def test_positions_lie_in_frame_and_range(localizer: Localizer) -> None:
    scene = reference_scene((180, 300), emitters=30, seed=2)
    frame = COUNTING.expose(scene.render(0.5, 0.01, 0.0), 1)
    found = localizer.localize(frame[None], np.array([4]))
    assert len(found) > 5
    assert set(found.frame) == {4}
    assert found.x_um.min() >= -0.325
    assert found.x_um.max() <= 300 * 0.65
    assert found.y_um.max() <= 180 * 0.65
    assert found.z_um.min() >= -2
    assert found.z_um.max() <= 102
    assert (found.sigma_z_um > 0).all()
    assert np.isnan(found.chi2).all()


@pytest.mark.parametrize("damage", ["description", "weights", "other network", "no weights", "newer format"])
def test_damaged_folders_are_refused(copy: Path, damage: str) -> None:
    description = copy / "model.json"
    values = json.loads(description.read_text())
    if damage == "description":
        description.write_text(description.read_text()[:200])
    elif damage == "weights":
        (copy / "weights.safetensors").write_bytes(b"torn" * 100)
    elif damage == "other network":
        values["network"]["hidden"] = 64
        description.write_text(json.dumps(values))
    elif damage == "no weights":
        (copy / "weights.safetensors").unlink()
    else:
        values["format"] = 99
        description.write_text(json.dumps(values))
    with pytest.raises(DataError, match=r"[Tt]rain"):
        Localizer.load(copy)


def test_a_folder_that_is_no_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="not a model"):
        ModelCard.load(tmp_path)


def test_counts_of_another_depth_are_refused(localizer: Localizer) -> None:
    localizer.check_bit_depth(16)
    with pytest.raises(DataError, match="8-bit"):
        localizer.check_bit_depth(8)


def test_unknown_devices_and_precisions_are_refused() -> None:
    with pytest.raises(DataError, match="auto, cpu or cuda"):
        Localizer.load(reference_model(), device="tpu")
    with pytest.raises(DataError, match="float32, bfloat16 or int8"):
        Localizer.load(reference_model(), precision="int3")


@pytest.mark.parametrize(("period_ms", "others", "threads"), [(10.0, 0, 2), (10.0, 1, 1), (7.1, 1, 2), (15.0, 0, 1)])
def test_cores_for_other_work_are_left_where_the_network_keeps_up(
    monkeypatch: pytest.MonkeyPatch, period_ms: float, others: int, threads: int
) -> None:
    clock = itertools.count(step=7e-3)
    localizer = Localizer.load(reference_model("live"))
    monkeypatch.setattr(localizer, "localize", lambda *_: None)
    monkeypatch.setattr("models.localization.time.perf_counter", lambda: next(clock))
    assert localizer.choose_threads((64, 64), period_ms / 1000, 2, others) == threads


def test_as_few_threads_as_keep_up_are_chosen() -> None:
    localizer = Localizer.load(reference_model("live"))
    assert localizer.choose_threads((64, 64), period_s=1e9, most=2) == 1
    assert localizer.choose_threads((64, 64), period_s=1e-9, most=2) == 2
    assert torch.get_num_threads() == 2
    localizer.choose_threads((64, 64), period_s=1e9, most=2)
