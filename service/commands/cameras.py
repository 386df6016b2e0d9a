"""`bathyscope cameras`: list the known cameras, whose names `--camera` takes."""

from __future__ import annotations

__all__ = ["run"]


def run() -> None:
    """List known cameras: offset, photo-electrons per count, read noise, and where these are published."""
    from models.known_cameras import KNOWN_CAMERAS
    from service.commands.console import note, result

    for each in KNOWN_CAMERAS.values():
        figures = f"{each.offset_adu:g} ADU\t{each.electrons_per_adu:g} e-/ADU\t{each.read_noise_e:g} e-"
        result(f"{each.name}\t{figures}\t{each.bit_depth} bits\t{each.title}\t{each.source}")
    note("Single cameras differ by some percent. Measure yours with `bathyscope camera`, or give its own figures.")
