"""The figures of a measurement as short tables on the terminal."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any

from rich.console import Console
from rich.table import Table

__all__ = ["show", "show_api", "show_kills", "show_localizing", "show_relay", "show_sweep"]

_WIDE = 140
"""Characters that the widest table needs."""

_QUANTILES = ("p50", "p95", "p99", "max")


def show(figures: Mapping[str, Any], console: Console | None = None) -> None:
    """Print frames, rate, latencies, accuracy and cost.

    Parameters
    ----------
    figures : mapping
        The result of ``bench live``.
    console : Console, optional
        Absent: standard output.
    """
    console = console or Console()
    _row(console, "frames", {**figures["frames"], "fps": figures["fps"]})
    stages = dict(figures["latency_ms"])
    clients = figures.get("clients") or {}
    history = clients.get("history")
    if history is not None:
        stages |= {f"history: {name}": summary for name, summary in history["latency_ms"].items()}
    _rows(console, "ms from mid-exposure", stages, _QUANTILES)
    _row(console, "accuracy of localizations", figures["accuracy"])
    _row(console, "accuracy of tracks", figures["track_accuracy"])
    if figures.get("fitted_share"):
        _row(console, "share of frames by fit", figures["fitted_share"])
    processes = figures.get("processes") or {}
    _rows(console, "process", processes, ("cpu_percent", "rss_mb", "descriptors", "threads"))
    if clients:
        shown = {name: clients[name] for name in ("healthy", "broken", "stalled", "cpu_percent")}
        shown["disconnected"] = clients["stalled_disconnected"]
        rates = [rate for rate in clients["messages_per_s"] if rate is not None]
        shown["messages/s"] = f"{min(rates):g} to {max(rates):g}" if rates else None
        if history is not None:
            shown["history"] = ", ".join(f"{n} x {status}" for status, n in history["answers"].items()) or None
        _row(console, "clients", shown)
    settings = figures["settings"]
    if settings["problem"]:
        console.print(f"Problem: {settings['problem']}", highlight=False)


def show_api(figures: Mapping[str, Any], console: Console | None = None) -> None:
    """Print what ``bench api`` measured."""
    console = console or Console()
    _row(
        console,
        "API process",
        {
            "cpu_percent, no clients": figures["cpu_percent"]["alone"],
            "cpu_percent, all clients": figures["cpu_percent"]["clients"],
            "us per message and client": figures["us_per_message_and_client"],
        },
    )
    _row(console, "API, MB", figures["rss_mb"])
    seen = figures["clients"]
    _row(console, "clients", {name: seen[name] for name in ("healthy", "broken", "stalled", "stalled_disconnected")})
    _rows(console, "ms from publication", {"received": figures["published_ms"]}, _QUANTILES)


def show_relay(figures: Mapping[str, Any], console: Console | None = None) -> None:
    """Print what ``bench relay`` measured."""
    console = console or Console()
    _rows(console, "ms from the engine's socket", {"received": figures["latency_ms"]}, _QUANTILES)
    _row(console, "% of a core", figures["cpu_percent"])
    for name, counts in figures["scopes"].items():
        _row(console, name, counts)
    _row(console, "viewers", {"delivered": figures["delivered"], **figures["viewers"]})
    if (lost := figures["server_lost"]) is not None:
        _row(console, "NATS server lost, s", {name: lost[name] for name in ("away_s", "back_s", "viewers_broken")})
        _row(console, "dropped meanwhile", lost["dropped"])


def show_history(figures: Mapping[str, Any], console: Console | None = None) -> None:
    """Print what ``bench history`` measured."""
    console = console or Console()
    fill, writer = dict(figures["fill"] or {}), dict(figures["writer"])
    batches = {"alone": fill.pop("batch_ms", None), "while reading": writer.pop("batch_ms")}
    _row(console, figures["database"], {**figures["rows"], **fill})
    _rows(console, "ms", figures["queries"], (*_QUANTILES, "cpu", "kb"))
    _rows(console, "ms per batch", batches, _QUANTILES)
    _row(console, "writer", writer)
    _row(console, "API, MB", figures["api_rss_mb"])


def show_localizing(figures: Mapping[str, Any], console: Console | None = None) -> None:
    """Print what ``bench localize`` measured; in a file or a pipe tables are as wide as they need to be."""
    console = console or Console(width=None if sys.stdout.isatty() else _WIDE)
    for rows in (figures["rows"], figures.get("fits", {}).get("rows", ())):
        if rows:
            table = Table(*rows[0])
            for row in rows:
                table.add_row(*(_shown(value) for value in row.values()))
            console.print(table, highlight=False)
    for name, reason in {**figures["missing"], **figures.get("fits", {}).get("missing", {})}.items():
        console.print(f"{name}: not available here, {reason}", highlight=False, soft_wrap=True)


def show_sweep(figures: Mapping[str, Any], console: Console | None = None) -> None:
    """Print what ``bench sweep`` measured."""
    for rows in (figures["rows"], figures["accuracy"]):
        show_localizing({"rows": rows, "missing": {}}, console)


def show_kills(figures: Mapping[str, Any], console: Console | None = None) -> None:
    """Print what ``bench kills`` measured."""
    console = console or Console()
    names = ("kills", "unreadable_shards", "committed_frames", "committed_not_readable")
    _row(console, "left behind", {name: figures[name] for name in names})
    lost, ready = figures["lost_frames"], figures["ready_again_s"]
    _row(console, "frames lost per kill", {**_middle(lost), "bound": figures["lost_bound_frames"]})
    _row(console, "s until ready again", _middle(ready))


def _middle(values: Mapping[str, Any]) -> dict[str, Any]:
    return {name: values[name] for name in ("p50", "max")}


def _row(console: Console, title: str, values: Mapping[str, Any]) -> None:
    shown = ", ".join(f"{name} {_shown(value)}" for name, value in values.items())
    console.print(f"{title}: {shown}", highlight=False, soft_wrap=True)


def _rows(console: Console, title: str, rows: Mapping[str, Mapping[str, Any] | None], columns: tuple[str, ...]) -> None:
    table = Table(title, *columns)
    for name, values in rows.items():
        table.add_row(name, *(_shown((values or {}).get(column)) for column in columns))
    console.print(table, highlight=False)


def _shown(value: Any) -> str:
    if value is None:
        return "-"
    return f"{value:.4g}" if isinstance(value, float) and abs(value) < 1000 else f"{value}"
