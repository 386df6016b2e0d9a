"""The live views: all tracks after the newest frame, and the newest frame itself.

Views may be dropped, data may not: each thread here takes the newest item from
its slot, encodes it once for all listeners, and publishes it.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hardware.microscope import Frame
from models.tracking import TrackState
from service.analysis.frame_tracker import FrameResult
from service.engine.stages import Slot
from service.pictures import contrast_limits, histogram, saturated, stretched
from service.protocol import wire
from service.protocol.latency import LatencyHistogram
from service.protocol.live import LivePublisher
from service.worker_thread import WorkerThread

__all__ = ["PreviewThread", "TrackThread", "preview_of", "track_columns", "unix_time"]

_FLOATS = ("x_um", "y_um", "z_um", "vx_um_s", "vy_um_s", "vz_um_s", "sigma_x_um", "sigma_y_um", "sigma_z_um")

COASTING = 1
NEAR_FOCUS = 2

_PREVIEWS_PER_S = 10
_PREVIEW_SIDE = 512
_PATIENCE_S = 0.25


def unix_time(monotonic_s: float) -> float:
    """A time of the monotonic clock as Unix seconds, by the present difference of the two clocks."""
    return time.time() - (time.monotonic() - monotonic_s)


def track_columns(state: TrackState) -> dict[str, NDArray[Any]]:
    """The columns of a track message, shape (N,) each."""
    flags = COASTING * ~state.observed + NEAR_FOCUS * state.near_focus
    return {
        "track_id": state.track_id.astype(np.uint32),
        **{name: getattr(state, name).astype(np.float32) for name in _FLOATS},
        "probability": state.probability.astype(np.float32),
        "age": state.age.astype(np.uint32),
        "flags": flags.astype(np.uint32),
    }


def preview_of(pixels: NDArray[np.uint16]) -> tuple[NDArray[np.uint8], int, float, float]:
    """A frame as an 8-bit picture for display.

    Parameters
    ----------
    pixels : ndarray of uint16, shape (H, W)
        Counts.

    Returns
    -------
    picture : ndarray of uint8, shape (H / scale, W / scale)
        At most 512 pixels a side; the darkest 1 % of the pixels are black, the brightest 0.2 % white.
    scale : int
        Frame pixels per picture pixel, each way; their mean is shown.
    low_adu, high_adu : float
        The counts shown as black and white.
    """
    scale = -(-max(pixels.shape) // _PREVIEW_SIDE)
    if scale > 1:
        rows, columns = (side // scale for side in pixels.shape)
        blocks = pixels[: rows * scale, : columns * scale].reshape(rows, scale, columns, scale)
        grey = blocks.mean(axis=(1, 3), dtype=np.float32)
    else:
        grey = pixels.astype(np.float32)
    low, high = contrast_limits(grey)
    return stretched(grey, low, high), scale, low, high


class TrackThread(WorkerThread):
    """Publishes the newest state of all tracks until its slot has ended.

    Parameters
    ----------
    slot : Slot of FrameResult
    live : LivePublisher
    latency : LatencyHistogram
        From mid-exposure to published.
    describe : callable
        Returns further fields of the header: epoch, run, fps, ledger.
    failed : callable
        Receives the exception that ended the thread.
    """

    def __init__(
        self,
        slot: Slot[FrameResult],
        live: LivePublisher,
        latency: LatencyHistogram,
        describe: Callable[[], dict[str, Any]],
        failed: Callable[[Exception], None],
    ) -> None:
        super().__init__("publish", failed)
        self._slot = slot
        self._live = live
        self._latency = latency
        self._describe = describe
        self.sequence = 0

    def work(self) -> None:
        """Publish until the slot has ended."""
        while not self._slot.ended:
            result = self._slot.take(_PATIENCE_S)
            if result is None:
                continue
            header = {
                **self._describe(),
                "sequence": self.sequence,
                "captured_s": unix_time(result.time_s),
                "captured_monotonic_s": result.time_s,
                "published_s": time.time(),
                "frame": result.frame,
                "t_s": result.state.t_s,
            }
            self._live.send("tracks", wire.encode(wire.TRACKS, header, track_columns(result.state)))
            self._latency.add(time.monotonic() - result.time_s)
            self.sequence += 1


class PreviewThread(WorkerThread):
    """Publishes the newest frame, at most ten times a second, until its slot has ended.

    Parameters
    ----------
    slot : Slot of Frame
    bit_depth : int
        Bits of a count: a pixel with the highest one is saturated.
    live, describe, failed
        As of `TrackThread`.
    """

    def __init__(
        self,
        slot: Slot[Frame],
        bit_depth: int,
        live: LivePublisher,
        describe: Callable[[], dict[str, Any]],
        failed: Callable[[Exception], None],
    ) -> None:
        super().__init__("preview", failed)
        self._slot = slot
        self._bit_depth = bit_depth
        self._live = live
        self._describe = describe

    def work(self) -> None:
        """Publish until the slot has ended."""
        sequence = 0
        while not self._slot.ended:
            begin_s = time.monotonic()
            frame = self._slot.take(_PATIENCE_S)
            if frame is None:
                continue
            picture, scale, low_adu, high_adu = preview_of(frame.pixels)
            shares = histogram(frame.pixels)
            header = {
                **self._describe(),
                "sequence": sequence,
                "captured_s": unix_time(frame.time_s),
                "published_s": time.time(),
                "frame": frame.index,
                "width": picture.shape[1],
                "height": picture.shape[0],
                "scale": scale,
                "low_adu": low_adu,
                "high_adu": high_adu,
                "saturated": saturated(frame.pixels, self._bit_depth),
                "histogram": {
                    "low_adu": shares.low_adu, "bin_adu": shares.bin_adu, "pixels": shares.pixels.tolist(),
                },
            }  # fmt: skip
            self._live.send("preview", wire.encode(wire.PREVIEW, header, {"pixels": picture.ravel()}))
            sequence += 1
            time.sleep(max(0.0, begin_s + 1 / _PREVIEWS_PER_S - time.monotonic()))
