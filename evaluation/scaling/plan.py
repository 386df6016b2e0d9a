"""How many machines a number of scopes needs: the load of each part over the capacity of one unit of it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from evaluation.scaling.costs import Costs

__all__ = ["Need", "Site", "needs", "scopes_of_one_unit", "total_price"]

_DAY_S = 86_400.0
_TB = 1e12
_STORAGE = "storage (TB)"


@dataclass(frozen=True, slots=True)
class Site:
    """How the scopes are used, and what units can do and cost.

    Attributes
    ----------
    fps : frames a second
    emitters : in view, each with a track
    hours_per_day : of measuring, all recorded
    viewers_per_scope : at the relays
    keep_days : for how long recordings and tracks are kept in the common storage
    reprocess : share of all recordings that is analysed again once
    highest_load : share of a unit's capacity that is used
    link_bytes_s : of one network link, 10 Gbit/s
    disk_bytes_s : that the disk of a scope writes
    reprocess_fps : frames a second of a core, without the fit: half of two workers on two cores (docs/reprocessing.md)
    message_bytes, message_point_bytes : of a track message without tracks, and for each track
    core_price, tb_price, link_price : assumed, euros a month for a core of a server, a terabyte, a 10-Gbit port
    """

    fps: float = 100.0
    emitters: float = 20.0
    hours_per_day: float = 8.0
    viewers_per_scope: float = 2.0
    keep_days: float = 30.0
    reprocess: float = 1.0
    highest_load: float = 0.7
    link_bytes_s: float = 1.25e9
    disk_bytes_s: float = 200e6
    reprocess_fps: float = 46.0
    message_bytes: float = 400.0
    message_point_bytes: float = 56.0
    core_price: float = 20.0
    tb_price: float = 15.0
    link_price: float = 100.0

    @property
    def duty(self) -> float:
        """Share of the day in which a scope measures."""
        return self.hours_per_day / 24.0


@dataclass(frozen=True, slots=True)
class Need:
    """What one part needs.

    Attributes
    ----------
    part : name, with the unit
    shared : whether the part serves all scopes; otherwise each scope has its own
    load : share of the capacity of one unit, for all scopes that it serves
    units : number of units
    price : euros a month; 0 for what belongs to the scope
    """

    part: str
    shared: bool
    load: float
    units: int
    price: float


def needs(costs: Costs, site: Site, scopes: int) -> list[Need]:
    """What a number of scopes needs while all of them measure.

    Parts that are busy only while a scope measures are planned for all scopes at once; reprocessing and storage for the
    mean of a day.

    Parameters
    ----------
    costs : Costs
    site : Site
    scopes : int

    Returns
    -------
    list of Need
    """
    points = site.fps * site.emitters
    frame_s = (
        costs.network_s
        + costs.fit_s(site.emitters)
        + costs.track_s
        + costs.track_target_s * site.emitters
        + costs.record_s
    )
    recorded = costs.frame_bytes * site.fps
    message = site.message_bytes + site.message_point_bytes * site.emitters
    relay_s = costs.relay_message_s + costs.view_s * site.viewers_per_scope
    day_bytes = (recorded + costs.point_bytes * points) * site.duty * _DAY_S
    common = (
        ("PostgreSQL for all scopes (one writer)", points * costs.server_point_s, site.core_price),
        ("NATS server (core)", site.fps * costs.nats_message_s, site.core_price),
        ("relay (process, one core)", site.fps * relay_s, site.core_price),
        ("network to the NATS servers (10 Gbit/s)", site.fps * message / site.link_bytes_s, site.link_price),
        ("network for copies of recordings (10 Gbit/s)", recorded * site.duty / site.link_bytes_s, site.link_price),
        (
            "reprocessing without fit (core)",
            site.fps * site.duty * site.reprocess / site.reprocess_fps,
            site.core_price,
        ),
        (_STORAGE, day_bytes * site.keep_days / _TB, site.tb_price),
    )
    return [
        _own("processor of a scope (core)", site.fps * frame_s, site),
        _own("database of a scope (SQLite, one writer)", points * costs.store_point_s, site),
        _own("disk of a scope", recorded / site.disk_bytes_s, site),
        *(_shared(part, scopes * load, site, price) for part, load, price in common),
    ]


def scopes_of_one_unit(costs: Costs, site: Site) -> list[tuple[str, int]]:
    """For each shared part, how many scopes one unit carries; the part that saturates first is first.

    Storage is not among them: it is no bottleneck, but grows for ever.
    """
    one = [need for need in needs(costs, site, 1) if need.shared and need.part != _STORAGE]
    return sorted(((need.part, int(site.highest_load / need.load)) for need in one), key=lambda found: found[1])


def _own(part: str, load: float, site: Site) -> Need:
    return Need(part, False, load, _units(load, site), 0.0)


def _shared(part: str, load: float, site: Site, price: float) -> Need:
    units = _units(load, site)
    return Need(part, True, load, units, units * price)


def _units(load: float, site: Site) -> int:
    return max(math.ceil(load / site.highest_load), 1)


def total_price(found: Sequence[Need]) -> float:
    """Euros a month of all parts."""
    return sum(need.price for need in found)
