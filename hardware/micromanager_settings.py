"""How a Micro-Manager microscope is reached, and what is set when it is opened."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

__all__ = ["MicroManagerSettings"]


@dataclass(frozen=True, slots=True)
class MicroManagerSettings:
    """How Micro-Manager is reached and what is set when it is opened.

    Attributes
    ----------
    mode : str
        ``"in-process"`` or ``"bridge"``.
    app_path : Path or None
        Folder of the device adapters; None: that of the configuration file. In-process only.
    config_file : Path or None
        Hardware configuration. In-process only.
    buffer_mb : int
        Sequence buffer of the core, MB. Keep it large: frames were seen torn in a buffer of one or two.
    port : int
        Port of the bridge.
    channel_group : str
        Configuration group that switches the light.
    properties : mapping of mappings
        Device label -> property -> value, set at opening in this order and read back.
    device_timeout_s : mapping
        Device label -> how long the core waits for it, s; others: the core's 5 s.
    stage_tolerance_um : float
        Greatest difference between the position asked and the one read back, µm.
    frame_timeout_s : float
        A camera that gives no frame for this time beyond two exposures is reported, s.
    """

    mode: Literal["in-process", "bridge"] = "in-process"
    app_path: Path | None = None
    config_file: Path | None = None
    buffer_mb: int = 256
    port: int = 4827
    channel_group: str = "Channel"
    properties: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    device_timeout_s: Mapping[str, float] = field(default_factory=dict)
    stage_tolerance_um: float = 0.5
    frame_timeout_s: float = 5.0
