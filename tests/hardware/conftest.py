"""The real DemoCamera on a real core, and a small scene to look at."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from hardware.core_session import democamera_installation
from hardware.micromanager import MicroManagerMicroscope
from hardware.micromanager_settings import MicroManagerSettings
from tests.conftest import need


@pytest.fixture(scope="session")
def demo_installation() -> tuple[Path, Path]:
    need("mm_test_adapters")
    return democamera_installation()


@pytest.fixture
def open_demo(demo_installation: tuple[Path, Path]) -> Iterator[Callable[..., MicroManagerMicroscope]]:
    """Opens the DemoCamera with any settings; closed at the end."""
    opened: list[MicroManagerMicroscope] = []

    def open_it(**settings: Any) -> MicroManagerMicroscope:
        # A small buffer, because the core writes to all of it when it is opened.
        values = {"app_path": demo_installation[0], "config_file": demo_installation[1], "buffer_mb": 32, **settings}
        opened.append(MicroManagerMicroscope(MicroManagerSettings(**values)))
        return opened[-1]

    yield open_it
    for microscope in opened:
        microscope.close()


class PlainScene:
    """One emitter that walks one pixel per 10 ms to the right; its light is the depth of focus."""

    shape = (32, 48)
    pixel_size_um = 0.5

    def __init__(self) -> None:
        self.renderings = 0

    def render(
        self, time_s: float, exposure_s: float, stage_um: float, xy_um: tuple[float, float]
    ) -> NDArray[np.float32]:
        self.renderings += 1
        image = np.full(self.shape, 100.0 + stage_um, np.float32)
        image[8, round(time_s / 0.01 + xy_um[0] / self.pixel_size_um) % self.shape[1]] = 1000.0
        return image

    def truth(self, time_s: float, stage_um: float, xy_um: tuple[float, float]) -> NDArray[np.float64]:
        column = round(time_s / 0.01 + xy_um[0] / self.pixel_size_um) % self.shape[1]
        return np.array([[7.0, column * self.pixel_size_um, 8 * self.pixel_size_um, stage_um]])


class PlainDetector:
    """Counts are electrons; no noise, so that frames can be compared exactly."""

    bit_depth = 16

    def expose(self, electrons: NDArray[np.float32], seed: int) -> NDArray[np.uint16]:
        return electrons.astype(np.uint16)


@pytest.fixture
def scene() -> PlainScene:
    return PlainScene()


@pytest.fixture
def detector() -> PlainDetector:
    return PlainDetector()
