"""The network in a process of its own."""

from __future__ import annotations

import gc
import multiprocessing.context
import os
import signal
from functools import partial
from pathlib import Path

import numpy as np
import psutil
import pytest

from models.errors import DataError
from models.localization import Localizer
from models.scene import reference_camera, reference_scene
from models.weights import reference_model
from service.engine.localizer_process import LocalizerProcess
from service.protocol.errors import EngineRefusal

SHAPE, BATCH = (64, 96), 2
LOAD = partial(Localizer.load, reference_model("live"), device="cpu")


@pytest.fixture(scope="module")
def localizer() -> Localizer:
    return LOAD()


@pytest.fixture(scope="module")
def process(localizer: Localizer) -> LocalizerProcess:
    return LocalizerProcess(localizer, LOAD, SHAPE, BATCH)


def frames(count: int = BATCH) -> np.ndarray[tuple[int, ...], np.dtype[np.uint16]]:
    camera, scene = reference_camera(), reference_scene(SHAPE, 4, seed=3)
    return np.stack([camera.expose(scene.render(n / 100, 0.01, 0.0), n) for n in range(count)])


def test_it_localizes_as_in_this_process(localizer: Localizer, process: LocalizerProcess) -> None:
    process.use_threads(1)
    localizer.use_threads(1)
    for count in (1, BATCH):
        counts, numbers = frames(count), np.arange(7, 7 + count)
        expected, found = localizer.localize(counts, numbers, 0.1), process.localize(counts, numbers, 0.1)
        assert len(expected) > 0
        for name, column in expected.columns().items():
            np.testing.assert_array_equal(getattr(found, name), column, err_msg=name)
    assert process.threshold == localizer.threshold
    assert process.image_model is localizer.image_model
    process.choose_threads(0.01, 2)
    assert process.is_alive


def test_an_exception_of_a_call_is_raised_here_and_the_process_goes_on(process: LocalizerProcess) -> None:
    with pytest.raises(TypeError):
        process.choose_threads("soon", 1)  # type: ignore[arg-type]
    assert len(process.localize(frames(), np.arange(BATCH), 0.1)) > 0


def test_a_process_that_ended_says_how(localizer: Localizer) -> None:
    process = LocalizerProcess(localizer, LOAD, SHAPE, BATCH)
    process.localize(frames(), np.arange(BATCH))
    assert process.pid is not None
    os.kill(process.pid, signal.SIGKILL)
    for _ in range(2):
        with pytest.raises(RuntimeError, match="the process of the network ended, with signal 9"):
            process.localize(frames(), np.arange(BATCH))
    assert not process.is_alive


def test_a_model_that_cannot_be_loaded_there_is_told_here(localizer: Localizer, tmp_path: Path) -> None:
    process = LocalizerProcess(localizer, partial(Localizer.load, tmp_path / "gone"), SHAPE, BATCH)
    with pytest.raises(DataError, match="gone"):
        process.localize(frames(), np.arange(BATCH))


def test_it_ends_with_its_last_reference(localizer: Localizer) -> None:
    process = LocalizerProcess(localizer, LOAD, SHAPE, BATCH)
    process.localize(frames(), np.arange(BATCH))
    other = psutil.Process(process.pid)
    del process
    gc.collect()
    other.wait(20)


def test_a_process_that_does_not_start_is_a_refusal(localizer: Localizer, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_: object) -> None:
        raise OSError(11, "Resource temporarily unavailable")

    monkeypatch.setattr(multiprocessing.context.SpawnProcess, "start", fail)
    with pytest.raises(EngineRefusal, match=r"did not start: .*temporarily unavailable") as refused:
        LocalizerProcess(localizer, LOAD, SHAPE, BATCH)
    assert "engine.network_process" in refused.value.remedy
