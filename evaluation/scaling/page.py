"""The tables of docs/scaling.md."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import fields

import numpy as np

from evaluation.report.markdown import table
from evaluation.scaling.costs import Costs
from evaluation.scaling.plan import Need, Site, needs, scopes_of_one_unit, total_price
from evaluation.scaling.relay_queue import simulate_relay

__all__ = ["plan_text"]

_SIMULATED_S = 5.0

_NAMES = {
    "network_s": "network, one frame of 256 x 256 (8-bit arithmetic, batch of 8)",
    "fit_curve": "image filter with few steps, one frame with",
    "track_s": "tracker, one frame",
    "track_target_s": "the same, each target",
    "record_s": "recording, one frame",
    "frame_bytes": "one recorded frame",
    "store_point_s": "one track point into SQLite (on the clock)",
    "point_bytes": "one track point in SQLite",
    "server_point_s": "one track point into PostgreSQL (on the clock)",
    "server_point_bytes": "one track point in PostgreSQL",
    "view_s": "one message to one viewer",
    "relay_message_s": "one message of a scope in the relay",
    "nats_message_s": "one message of a scope in the NATS server",
}


def plan_text(costs: Costs, site: Site, scopes: Sequence[int]) -> str:
    """Markdown: the costs, how many scopes one unit of each shared part carries, and the plan.

    Parameters
    ----------
    costs : Costs
    site : Site
    scopes : sequence of int
    """
    measured = [row for field in fields(Costs) for row in _rows(costs, field.name)]
    carried = [[part, f"{count:,}"] for part, count in scopes_of_one_unit(costs, site)]
    plans = [needs(costs, site, count) for count in scopes]
    planned = [
        [rows[0].part, *(f"{need.units:,}" if need.shared else f"{need.load:.0%} of one" for need in rows)]
        for rows in zip(*plans, strict=True)
    ]
    planned.append(
        [
            "simulated: p99 of a relay",
            *(_relay_p99(costs, site, plan, n) for plan, n in zip(plans, scopes, strict=True)),
        ]
    )
    planned.append(["euros a month, at the assumed prices", *(f"{total_price(plan):,.0f}" for plan in plans)])
    parts = (
        table(["cost", "measured"], measured),
        table(["one unit", "scopes"], carried),
        table(["part", *(f"{count:,} scopes" for count in scopes)], planned),
    )
    return "\n\n".join(parts)


def _rows(costs: Costs, name: str) -> list[list[str]]:
    value = getattr(costs, name)
    if name == "fit_curve":
        return [[f"{_NAMES[name]} {emitters:g} emitters", _shown(name, seconds)] for emitters, seconds in value]
    return [[_NAMES[name], _shown(name, value)]]


def _relay_p99(costs: Costs, site: Site, plan: Sequence[Need], scopes: int) -> str:
    """Time in one of the planned relays, when all its scopes send at their rate with random phases."""
    (relays,) = (need.units for need in plan if need.part.startswith("relay"))
    service_s = costs.relay_message_s + site.viewers_per_scope * costs.view_s
    served = simulate_relay(math.ceil(scopes / relays), site.fps, service_s, _SIMULATED_S)
    return f"{1e3 * float(np.percentile(served.wait_s, 99)):.1f} ms, {served.delivered:.1%} delivered"


def _shown(name: str, value: float) -> str:
    if name.endswith("_bytes"):
        return f"{value:,.0f} bytes"
    return f"{1e3 * value:.2f} ms" if value >= 1e-3 else f"{1e6 * value:.1f} µs"
