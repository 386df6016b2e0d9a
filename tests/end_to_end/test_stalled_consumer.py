"""A stalled reader of the real core: the lost frames in the ledger equal the gaps in the camera's image numbers."""

from __future__ import annotations

import shutil
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np

from hardware.microscope import CameraSettings
from models.tables import Localizations
from service.engine.analysis_batch import AnalysisModel
from service.engine.run import Run, RunOutputs, RunRequest, RunSource
from service.protocol.addresses import LinkAddress
from service.protocol.live import LivePublisher
from service.settings import EnginePart
from service.store.store import Store
from tests.conftest import need
from tests.service.engine_samples import dot_model

BUFFER_MB = 16
"""Holds 32 frames of 512 x 512 pixels; the core drops all of them, without a message, whenever they are full."""


class Stalling:
    """A microscope whose frames are fetched only while `gate` is open."""

    def __init__(self, microscope: Any) -> None:
        self._microscope = microscope
        self.gate = threading.Event()
        self.gate.set()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._microscope, name)

    def next_frame(self, timeout_s: float) -> Any:
        self.gate.wait()
        return self._microscope.next_frame(timeout_s)


class Blind:
    """Finds nothing."""

    threshold = 0.5
    image_model = None

    def static_light(self, mode: Any) -> None:
        return None

    def localize(self, frames: Any, frame_numbers: Any, least: Any = None) -> Localizations:
        return Localizations.empty()


def test_a_stalled_reader_loses_exactly_what_the_camera_counted(tmp_path: Path) -> None:
    need("mm_test_adapters")
    from hardware.core_session import democamera_installation
    from hardware.micromanager import MicroManagerMicroscope
    from hardware.micromanager_settings import MicroManagerSettings

    adapters, configuration = democamera_installation()
    camera = MicroManagerMicroscope(
        MicroManagerSettings(
            app_path=adapters,
            config_file=configuration,
            buffer_mb=BUFFER_MB,
            properties={"Camera": {"PixelType": "16bit"}},
        )
    )
    camera.apply_camera(CameraSettings(0.002))
    microscope = Stalling(camera)
    store, address = Store.open(tmp_path / "bathyscope.db"), LinkAddress.create()
    store.migrate()
    live = LivePublisher(address)
    try:
        run = Run(
            store.runs.create(model_id="dots", record=False).id,
            RunRequest(),
            source=RunSource(microscope, (512, 512)),
            model=AnalysisModel(Blind(), dot_model()),
            outputs=RunOutputs(store, live, "test"),
            # The analysis rejects no frame, so missing frames were lost by the reader.
            settings=EnginePart(analysis_queue=10_000, free_space_floor_gb=0.0),
            add_event=lambda kind, message: None,
            ended=lambda run: None,
        )
        run.start()
        deadline = time.monotonic() + 60
        while run.ledger.counts().lost < 20:
            assert time.monotonic() < deadline
            grabbed = run.ledger.counts().grabbed
            microscope.gate.clear()
            time.sleep(0.4)
            microscope.gate.set()
            while run.ledger.counts().grabbed == grabbed:
                assert time.monotonic() < deadline
                time.sleep(0.01)
        run.stop_camera()
        assert run.wait(30)
        counts = run.ledger.counts()
        numbers = np.concatenate([batch.frames.numbers for batch in store.frames.analysed(run.id)])
        # The numbers are the camera's own, as the database has them; the ledger has counted on its own.
        assert list(numbers) == sorted(set(numbers.tolist()))
        assert counts.exposed == numbers[-1] + 1
        assert counts.lost == numbers[-1] + 1 - len(numbers) >= 20
        assert counts.grabbed == counts.analysed == len(numbers)
        assert counts.skipped == counts.deferred == counts.in_flight == 0
        assert counts.balances
        assert store.runs.get(run.id).ledger == counts.as_dict()
    finally:
        microscope.gate.set()
        live.close()
        store.close()
        camera.close()
        shutil.rmtree(address.folder)
