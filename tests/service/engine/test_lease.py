"""The lease of the microscope: its states, its one owner, and what it refuses."""

from __future__ import annotations

import threading
from itertools import product
from typing import Any

import pytest

from service.engine.lease import _ALLOWED, Absence, Lease, LeaseState
from service.protocol.errors import EngineRefusal


class Owner:
    id = "r1"
    kind = "calibration"


def lease_in(state: LeaseState) -> Lease:
    """A lease that has gone to `state` along allowed transitions."""
    paths = {
        LeaseState.AWAY: (),
        LeaseState.OPENING: (LeaseState.OPENING,),
        LeaseState.FREE: (LeaseState.OPENING, LeaseState.FREE),
        LeaseState.RUN: (LeaseState.OPENING, LeaseState.FREE, LeaseState.RUN),
        LeaseState.SWEEP: (LeaseState.OPENING, LeaseState.FREE, LeaseState.SWEEP),
        LeaseState.LIVE: (LeaseState.OPENING, LeaseState.FREE, LeaseState.LIVE),
        LeaseState.CLOSING: (LeaseState.OPENING, LeaseState.FREE, LeaseState.RUN, LeaseState.CLOSING),
    }
    lease = Lease()
    for step in paths[state]:
        lease.become(step)
    return lease


@pytest.mark.parametrize(("before", "after"), tuple(product(LeaseState, LeaseState)))
def test_only_transitions_of_the_table_are_possible(before: LeaseState, after: LeaseState) -> None:
    lease = lease_in(before)
    if after in _ALLOWED[before]:
        lease.become(after)
        assert lease.state is after
    else:
        with pytest.raises(RuntimeError, match=f"from {before.value} to {after.value}"):
            lease.become(after)
        assert lease.state is before


@pytest.mark.parametrize(
    ("state", "owner", "kind", "says"),
    [
        (LeaseState.RUN, "run", "conflict", "Run r1 is on and has the microscope"),
        (LeaseState.SWEEP, "sweep", "conflict", r"DELETE /jobs/r1"),
    ],
)
def test_a_second_owner_is_refused_with_the_name_of_the_first(
    state: LeaseState, owner: str, kind: str, says: str
) -> None:
    lease = lease_in(LeaseState.FREE)
    lease.require_free()
    first: Any = Owner()
    lease.become(state, **{owner: first})
    with pytest.raises(EngineRefusal, match=says) as refusal:
        lease.require_free()
    assert refusal.value.kind == kind
    lease.become(LeaseState.FREE)
    assert lease.tenure.owner is None
    lease.require_free()


def test_the_camera_view_is_no_obstacle() -> None:
    lease = lease_in(LeaseState.FREE)
    view: Any = Owner()
    lease.become(LeaseState.LIVE, live=view)
    assert lease.tenure.owner == {"kind": "live", "id": "live"}
    assert lease.tenure.is_open
    lease.require_free()


@pytest.mark.parametrize("state", [LeaseState.AWAY, LeaseState.OPENING, LeaseState.CLOSING])
def test_a_microscope_that_is_away_is_refused_with_the_reason(state: LeaseState) -> None:
    lease = lease_in(state)
    lease.absence = Absence("microscope away", "The cable fell out.", "Put it back.")
    with pytest.raises(EngineRefusal, match=r"The cable fell out\. Put it back\.") as refusal:
        lease.require_free()
    assert refusal.value.kind == "unavailable"


def test_a_command_does_not_wait_for_long_for_another_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("service.engine.lease._PATIENCE_S", 0.01)
    lease = Lease()
    held, done = threading.Event(), threading.Event()

    def hold() -> None:
        with lease.held():
            held.set()
            done.wait(60)

    thread = threading.Thread(target=hold)
    thread.start()
    held.wait(60)
    with pytest.raises(EngineRefusal, match="being opened, closed or set"), lease.held():
        pass
    done.set()
    thread.join(60)
    with lease.held():
        pass
