from __future__ import annotations

import sys

import pytest

from hardware.core_session import check_bridge_rate, connect_bridge, democamera_installation
from hardware.microscope import MicroscopeError


def test_the_democamera_names_its_extra_when_it_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "mm_test_adapters", None)
    with pytest.raises(MicroscopeError, match=r"bathyscope\[democamera\]"):
        democamera_installation()


def test_the_bridge_has_a_ceiling() -> None:
    assert check_bridge_rate(512, 512, 2, 100) == 512 * 512 * 200
    with pytest.raises(
        MicroscopeError, match=r"2048 x 2048 pixels of 2 bytes at 100\.0 frames/s are 839 MB/s"
    ) as refusal:
        check_bridge_rate(2048, 2048, 2, 100)
    assert "500000 pixels" in refusal.value.remedy


def test_a_bridge_to_nowhere_says_so() -> None:
    with pytest.raises(MicroscopeError, match="No Micro-Manager listens at port 1"):
        connect_bridge(1)
