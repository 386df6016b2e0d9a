"""Tables of the performance page from results of `bench`."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from evaluation.report.listing import Column, joined, listed, plainly, shown
from evaluation.report.markdown import grid, number
from evaluation.report.records import Record
from evaluation.scores.scoring import Row

__all__ = [
    "api",
    "baseline_beads",
    "baseline_isolated",
    "beads",
    "dense_beads",
    "fits",
    "image_filter",
    "kills",
    "live",
    "localize",
    "queries",
    "relay",
    "rows_of_files",
    "sweep",
    "track",
]

Records = Sequence[Record]

_DEGREES = ("full", "steps", "none")
_QUANTILES = ("p50", "p95", "p99", "max")

_LIVE: tuple[Column, ...] = (
    ("source", shown("case")),
    ("analysed/s", shown("fps", 1)),
    ("exposed / analysed", joined("frames.exposed", "frames.analysed")),
    ("lost / deferred / skipped", joined("frames.lost", "frames.deferred", "frames.skipped")),
    ("tracked, ms: p50 / p95 / p99 / max", joined(*(f"latency_ms.tracked.{name}" for name in _QUANTILES))),
    ("received by clients, ms: p50 / p99", joined("latency_ms.published.p50", "latency_ms.published.p99")),
    ("Jaccard", shown("accuracy.jaccard", 3)),
    ("RMSE lateral / axial, µm", joined("accuracy.rmse_lateral_um", "accuracy.rmse_axial_um")),
    ("tracks: Jaccard", shown("track_accuracy.jaccard", 3)),
    ("tracks: RMSE lateral / axial, µm", joined("track_accuracy.rmse_lateral_um", "track_accuracy.rmse_axial_um")),
    ("share of images fitted: full / few steps / not", joined(*(f"fitted_share.{name}" for name in _DEGREES))),
    ("% of a core: engine / API", joined("processes.engine.cpu_percent", "processes.api.cpu_percent")),
)
_KILLS: tuple[Column, ...] = (
    ("kills", shown("kills")),
    ("unreadable shards", shown("unreadable_shards")),
    ("committed frames / not readable", joined("committed_frames", "committed_not_readable")),
    ("frames lost per kill: p50 / max / bound", joined("lost_frames.p50", "lost_frames.max", "lost_bound_frames")),
    ("ready again, s: p50 / max", joined("ready_again_s.p50", "ready_again_s.max")),
)
_API: tuple[Column, ...] = (
    ("µs per message and client", shown("us_per_message_and_client")),
    ("clients", shown("settings.clients")),
    ("messages/s", shown("settings.fps")),
)
_RELAY: tuple[Column, ...] = (
    ("scopes, messages/s each", joined("settings.scopes", "settings.fps")),
    ("viewers", shown("settings.viewers")),
    ("delivered / broken", joined("delivered", "viewers.broken")),
    ("ms from the engine's socket: p50 / p95 / p99 / max", joined(*(f"latency_ms.{name}" for name in _QUANTILES))),
    ("% of a core: senders / NATS / relay", joined("cpu_percent.senders", "cpu_percent.nats", "cpu_percent.relay")),
    ("NATS server away, s / all heard again, s", joined("server_lost.away_s", "server_lost.back_s")),
)
_BEADS: tuple[Column, ...] = (
    ("method", shown("case")),
    ("beads (isolated)", joined("unseen.beads", "unseen, isolated.beads")),
    ("found within 5 µm", shown("unseen.found", 3)),
    ("sigma_z, all / isolated, µm", joined("unseen.sigma_um", "unseen, isolated.sigma_um")),
    ("slope", shown("unseen.slope", 3)),
    ("gross errors", shown("unseen.gross", 3)),
)
_QUERIES: tuple[Column, ...] = (
    ("database", shown("database")),
    ("million points", lambda row: number(row["rows"]["points"] / 1e6, 1)),
    ("bytes per point", shown("fill.bytes_per_point")),
    ("points/s written while reading", shown("writer.points_per_s")),
    ("asked", shown("writer.asked_points_per_s")),
    ("ms per batch, p95", shown("writer.batch_ms.p95")),
    ("memory of the API, MB: first, last", joined("api_rss_mb.first", "api_rss_mb.last")),
)
_DENSE_BEADS: tuple[Column, ...] = (
    ("method", shown("case")),
    ("Jaccard within 10 µm", lambda row: number(row["within_um"]["10"]["jaccard"], 3)),
    ("axial RMSE, µm", lambda row: number(row["within_um"]["10"]["rmse_axial_um"])),
)
_BASELINE_BEADS: tuple[Column, ...] = (
    ("calibrated with", shown("calibrated with")),
    ("group", shown("group")),
    ("beads", shown("beads")),
    ("found within 5 µm", shown("found", 3)),
    ("sigma_z, µm", shown("sigma_um", 2)),
    ("with the tilt, µm", shown("sigma_untilted_um", 2)),
    ("slope", shown("slope", 3)),
    ("gross errors", shown("gross", 3)),
    ("lateral, µm", shown("lateral_um", 2)),
)


def _compared(columns: Sequence[Column]) -> Callable[[Records], list[str]]:
    """One table with one line a record."""
    return lambda records: listed([{"case": record.title, **record.result} for record in records], columns)


live = _compared(_LIVE)
"""Frames, latency, accuracy and cost of `bench live`."""

kills = _compared(_KILLS)
"""Losses of `bench kills`."""

api = _compared(_API)
"""Cost of `bench api`."""

relay = _compared(_RELAY)
"""Delivery and latency of `bench relay`."""

beads = _compared(_BEADS)
"""Scores of `bench beads`."""

dense_beads = _compared(_DENSE_BEADS)
"""Scores of `bench dense-beads`."""


def queries(records: Records) -> list[str]:
    """Latencies of `bench history` by kind of query, and its rates and sizes, by database."""
    rows = [
        {"of": kind, "case": f"{record.result['database']}, {name}", "ms": values[name]}
        for record in records
        for kind, values in record.result["queries"].items()
        for name in ("p50", "p95", "cpu")
    ]
    return [grid(rows, "case", lambda row: f"{row['ms']:g}", down="of"), *_written(records)]


_written = _compared(_QUERIES)


def localize(records: Records) -> list[str]:
    """Time per frame of `bench localize`, by frame size and batch."""
    rows = [
        {
            **row,
            "of": f"{row['model']}, {row['runtime']}, {row['precision']}",
            "case": f"{row['size']} px, batch {row['batch']}",
        }
        for record in records
        for row in record.result["rows"]
    ]
    return [grid(rows, "case", lambda row: f"{row['ms_per_frame']:g}", down="of")]


def track(records: Records) -> list[str]:
    """Time per step of `bench track`, by the number of targets."""
    return _times_by_count(records, "tracker", "targets", "p50_ms")


def image_filter(records: Records) -> list[str]:
    """Time per frame of `bench filter`, by the number of emitters."""
    return _times_by_count(records, "degree", "emitters", "mean_ms")


def _times_by_count(records: Records, of: str, counted: str, typical: str) -> list[str]:
    """A typical time and the 99th percentile in ms; `of`, `counted` and `typical` are keys of the rows."""
    rows = [{**row, "case": f"{row[counted]} {counted}"} for record in records for row in record.result["rows"]]
    return [grid(rows, "case", lambda row: f"{row[typical]:.3g} ({row['p99_ms']:.3g})", down=of)]


_SWEEP_STEPS: tuple[Column, ...] = (("step", shown("step")), ("s", shown("s", 1)))
_SWEEP_ACCURACY: tuple[Column, ...] = (
    ("tracks of", shown("method")),
    ("motion", shown("motion")),
    ("Jaccard within 10 µm", shown("jaccard_10", 3)),
    ("RMSE lateral / axial, µm", joined("rmse_lateral_um", "rmse_axial_um")),
    ("movies", shown("movies")),
)


def sweep(records: Records) -> list[str]:
    """Seconds of each step of `bench sweep`, and its accuracy."""
    steps = [row for record in records for row in record.result["rows"]]
    accuracy = [row for record in records for row in record.result["accuracy"]]
    return [*listed(steps, _SWEEP_STEPS), *listed(accuracy, _SWEEP_ACCURACY)]


def fits(records: Records) -> list[str]:
    """Time per frame of `bench localize --fits`, by the number of emitters."""
    rows = [
        {**row, "case": f"{row['emitters']} emitters"} for record in records for row in record.result["fits"]["rows"]
    ]

    def cell(row: Row) -> str:
        return f"{row['s_per_frame']:.3g} s ({row['emitters_per_s']:g}/s)"

    return [grid(rows, "case", cell)]


def baseline_isolated(records: Records) -> list[str]:
    """Errors over the bound of `bench isolated`, by SNR and depth."""
    rows = [
        {**row, "of": f"{row['snr_db']:g} dB", "depths": f"{row['z_um'][0]:g} to {row['z_um'][1]:g} µm"}
        for record in records
        for row in record.result["rows"]
    ]

    def cell(row: Row) -> str:
        over = f"{number(row['lateral_over_bound_rms'])} / {number(row['axial_over_bound_rms'])}"
        return f"{over} ({row['fits_per_second']:g})"

    return [grid(rows, "depths", cell, down="of")]


def baseline_beads(records: Records) -> list[str]:
    """Scores of `bench baseline-beads`."""
    return listed([row for record in records for row in record.result["rows"]], _BASELINE_BEADS)


def rows_of_files(records: Records) -> list[str]:
    """Rows as they are in the files; their keys are the titles."""
    return plainly([row for record in records for row in record.result["rows"]])
