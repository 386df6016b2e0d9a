"""Costs of one frame, emitter, point, viewer and byte, from the records of the performance page.

Each figure is taken from the newest record of its topic, so that a new
measurement changes the plan. All times are of one core of the machine of the
records.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from evaluation.report.records import newest, read_records
from models.errors import DataError

__all__ = ["Costs", "measured_costs"]

_RAW_BYTES = 2 * 256 * 256
_CODEC = ("lz4", 5, "bits")
_NETWORK = {"model": "live", "precision": "int8", "size": 256, "batch": 8}
_EMBEDDED_POINT_BYTES = 175.0
"""Bytes of a point in SQLite where the record has none, because its database was filled before: 3.57 GB / 20.4 M."""


@dataclass(frozen=True, slots=True)
class Costs:
    """Measured costs; processor times in seconds of one core.

    Attributes
    ----------
    network_s : network for one frame of 256 x 256 pixels
    fit_curve : ((emitters, seconds), ...), few steps of the image filter for one frame
    track_s, track_target_s : one step of the tracker, and for each target
    record_s, frame_bytes : writing one frame, and its compressed size
    store_point_s, point_bytes : writing one track point into SQLite, wall time, and its size there
    server_point_s, server_point_bytes : the same of PostgreSQL
    view_s : one message to one viewer
    relay_message_s, nats_message_s : one message of a scope, in the relay and in the NATS server
    """

    network_s: float
    fit_curve: tuple[tuple[float, float], ...]
    track_s: float
    track_target_s: float
    record_s: float
    frame_bytes: float
    store_point_s: float
    point_bytes: float
    server_point_s: float
    server_point_bytes: float
    view_s: float
    relay_message_s: float
    nats_message_s: float

    def fit_s(self, emitters: float) -> float:
        """Few steps of the image filter for a frame with so many emitters, between the measured numbers of them."""
        counts, times = zip(*self.fit_curve, strict=True)
        return float(np.interp(emitters, counts, times))


def measured_costs(docs: Path) -> Costs:
    """The costs that the records state.

    Parameters
    ----------
    docs : Path
        Folder of the documentation.

    Raises
    ------
    DataError
        When a record or a row of it is missing.
    """
    records = newest(read_records(docs / "performance" / "records"))

    def result(topic: str, case: str) -> Mapping[str, Any]:
        found = [record for record in records if (record.topic, record.case) == (topic, case)]
        if not found:
            raise DataError(f"There is no record {topic}/{case} in {docs}.", "Name the folder docs of a checkout.")
        return found[-1].result

    fits = [row for row in result("filter", "all-degrees")["rows"] if row["degree"] == "few steps"]
    track_s, track_target_s = _line(result("track", "trackers"), {"tracker": "bathyscope"}, "targets", "p50_ms")
    codec = _row(result("storage", "codecs"), dict(zip(("codec", "level", "shuffle"), _CODEC, strict=True)))
    disk = _row(result("storage-path", "disk"), {"way": "shards written directly"})
    embedded, server = result("queries", "sqlite"), result("queries", "postgresql")
    view_s = 1e-6 * float(result("api", "stalled")["us_per_message_and_client"])
    relay = result("relay", "three-scopes")
    seconds, scopes = float(relay["settings"]["seconds"]), relay["scopes"].values()
    received, delivered = (sum(scope[name] for scope in scopes) for name in ("received", "delivered"))
    spent_s = {name: percent / 100 * seconds for name, percent in relay["cpu_percent"].items()}
    return Costs(
        network_s=1e-3 * float(_row(result("localize", "shipped"), _NETWORK)["ms_per_frame"]),
        fit_curve=tuple((float(row["emitters"]), 1e-3 * float(row["mean_ms"])) for row in fits),
        track_s=track_s,
        track_target_s=track_target_s,
        record_s=1e-3 * float(disk["256 px"]),
        frame_bytes=_RAW_BYTES / float(codec["256 px: ratio"]),
        store_point_s=_point_s(embedded),
        point_bytes=_point_bytes(embedded),
        server_point_s=_point_s(server),
        server_point_bytes=_point_bytes(server),
        view_s=view_s,
        # Most viewers get each message at once; what the relay spends beyond its viewers is for messages of scopes.
        relay_message_s=max(spent_s["relay"] - view_s * delivered, 0.0) / received,
        nats_message_s=spent_s["nats"] / received,
    )


def _row(result: Mapping[str, Any], wanted: Mapping[str, Any]) -> Mapping[str, Any]:
    for row in result["rows"]:
        if all(row.get(name) == value for name, value in wanted.items()):
            found: Mapping[str, Any] = row
            return found
    raise DataError(f"A record has no row with {dict(wanted)}.", "Measure it again by its command.")


def _line(result: Mapping[str, Any], wanted: Mapping[str, Any], counted: str, timed: str) -> tuple[float, float]:
    """Time of a frame and of each object in it, s: least squares over the rows."""
    rows = [row for row in result["rows"] if all(row.get(name) == value for name, value in wanted.items())]
    counts, times = (np.array([float(row[name]) for row in rows]) for name in (counted, timed))
    slope, offset = np.polyfit(counts, 1e-3 * times, 1)
    return max(float(offset), 0.0), float(slope)


def _point_s(result: Mapping[str, Any]) -> float:
    points = result["rows"]["points"] / result["rows"]["batches"]
    return 1e-3 * float(result["writer"]["batch_ms"]["p50"]) / float(points)


def _point_bytes(result: Mapping[str, Any]) -> float:
    fill = result["fill"]
    return float(fill["bytes_per_point"]) if fill is not None else _EMBEDDED_POINT_BYTES
