"""The figure of docs/scaling.md: load of shared parts, and the simulated relay, by the number of scopes."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from evaluation.scaling.costs import Costs
from evaluation.scaling.plan import Site, needs
from evaluation.scaling.relay_queue import simulate_relay

__all__ = ["draw_scaling"]

_COUNTS = (1, 3, 10, 30, 100, 300, 1000, 3000, 10_000)
_SIMULATED_S = 5.0


def draw_scaling(costs: Costs, site: Site, path: Path) -> None:
    """Draw it.

    Parameters
    ----------
    costs : Costs
    site : Site
    path : Path
        PNG.
    """
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    figure, (left, right) = plt.subplots(1, 2, figsize=(12, 4.6), constrained_layout=True)
    parts = [need.part for need in needs(costs, site, 1) if need.shared and not need.part.startswith("storage")]
    for part in parts:
        loads = [next(need.load for need in needs(costs, site, count) if need.part == part) for count in _COUNTS]
        left.loglog(_COUNTS, loads, marker="o", markersize=3, label=part)
    left.axhline(site.highest_load, color="black", linestyle="--", linewidth=1.3)
    left.set(xlabel="scopes", ylabel="load of one unit (dashed: planned at most)")
    left.legend(fontsize=7)

    service_s = costs.relay_message_s + site.viewers_per_scope * costs.view_s
    full = 1.0 / (service_s * site.fps)
    counts = sorted({max(int(share * full), 1) for share in (0.1, 0.3, 0.5, 0.7, 0.8, 0.9, 0.95, 1.05, 1.2, 1.5, 2.0)})
    served = [simulate_relay(count, site.fps, service_s, _SIMULATED_S) for count in counts]
    right.plot(
        counts, [1e3 * np.percentile(each.wait_s, 99) for each in served], marker="o", label="p99 of the relay, ms"
    )
    right.set(xlabel="scopes at one relay", ylabel="ms")
    share = right.twinx()
    share.plot(counts, [100 * each.delivered for each in served], color="tab:red", marker="s", label="delivered, %")
    share.set(ylabel="delivered, %", ylim=(0, 105))
    right.axvline(full, color="black", linestyle="--", linewidth=1.3)
    right.legend(*_joined(right, share), fontsize=8, loc="center left")
    figure.savefig(path, dpi=110, format="png")
    plt.close(figure)


def _joined(*axes: object) -> tuple[list[object], list[str]]:
    found = [axis.get_legend_handles_labels() for axis in axes]  # type: ignore[attr-defined]
    return [handle for handles, _ in found for handle in handles], [label for _, labels in found for label in labels]
