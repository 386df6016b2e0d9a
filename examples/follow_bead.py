"""Feedback: keep one bead in the middle of the picture and at one depth while the service tracks.

Run it with ``python examples/follow_bead.py [SECONDS] [ADDRESS]``. Without an
address it starts a private service with a simulated microscope. For each state of the
tracks the script moves the stages. The service keeps every move within its limits, and
lets one script at a time move. At the end the script prints the time from the
middle of an exposure to the command to the stage.
"""

from __future__ import annotations

import sys

import numpy as np

from bathyscope import Client

DEPTH_UM = 40.0
GAIN = 0.1
"""Part of the distance that one step makes up for: the next states do not show the move yet."""


def follow(client: Client, seconds: float) -> None:
    """Follow the bead that is nearest to the middle of the picture."""
    shape = client.microscope.state()["description"]["sensor_shape"]
    middle_um = np.array([shape[1], shape[0]]) * client.models.list(1)[0].pixel_size_um / 2
    bead, latencies_ms, own_ms = None, [], []
    with client.control("follow_bead") as microscope:
        for state in client.live.tracks(duration_s=seconds):
            if state.interruption or bead not in state["track_id"]:
                away_um = np.hypot(state["x_um"] - middle_um[0], state["y_um"] - middle_um[1])
                bead = int(state["track_id"][away_um.argmin()]) if len(state) else None
            if bead is None or (place := state.position_um(bead)) is None:
                continue
            moved = microscope.move(
                x_by_um=GAIN * (middle_um[0] - place[0]),
                y_by_um=GAIN * (middle_um[1] - place[1]),
                by_um=GAIN * (place[2] - DEPTH_UM),
            )
            latencies_ms.append(1e3 * moved.latency_s(state))
            own_ms.append(latencies_ms[-1] - 1e3 * (state.published_s - state.captured_s))
    if place is not None:
        print(f"Bead {bead} is at x {place[0]:.1f}, y {place[1]:.1f}, z {place[2]:.1f} µm.")
    report("From mid-exposure to the command to the stage", latencies_ms)
    report("Of it after the state was published", own_ms)


def report(what: str, times_ms: list[float]) -> None:
    """Print percentiles of times."""
    p50, p99 = np.percentile(times_ms, (50, 99))
    print(f"{what}: p50 {p50:.1f} ms, p99 {p99:.1f} ms, {len(times_ms)} moves.")


def main() -> None:
    """Follow a bead for some seconds."""
    seconds = float(sys.argv[1]) if len(sys.argv) > 1 else 10.0
    if len(sys.argv) > 2:
        with Client(sys.argv[2]) as client:
            follow(client, seconds)
        return
    with Client.demo(microscope={"simulated": {"height": 128, "width": 128, "emitters": 3}}) as client:
        run = client.runs.start(name="follow_bead")
        follow(client, seconds)
        run = client.runs.stop(run)
        print(f"Run {run.id} {run.state}: {run.ledger['analysed']} frames analysed.")


if __name__ == "__main__":
    main()
