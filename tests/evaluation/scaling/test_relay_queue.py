"""The simulation of a relay against results that are known."""

from __future__ import annotations

import pytest

from evaluation.scaling.relay_queue import simulate_relay


@pytest.mark.parametrize("load", [0.3, 0.6, 0.8])
def test_random_messages_wait_as_long_as_in_the_queue_of_pollaczek_and_khinchine(load: float) -> None:
    service_s = 1e-3
    scopes, fps = 10, load / service_s / 10
    served = simulate_relay(scopes, fps, service_s, 400.0, arrivals="random", replaces=False)
    # M/D/1: mean wait in the queue = load * service / (2 (1 - load)); 400 s have some 10^5 messages.
    expected_s = service_s + load * service_s / (2 * (1 - load))
    assert served.wait_s.mean() == pytest.approx(expected_s, rel=0.05)
    assert served.busy == pytest.approx(load, rel=0.02)
    assert served.delivered == pytest.approx(1.0, abs=1e-3)


def test_one_scope_never_waits() -> None:
    served = simulate_relay(1, 100.0, 2e-3, 10.0)
    assert served.delivered == pytest.approx(1.0, abs=2e-3)
    assert served.wait_s.max() == pytest.approx(2e-3)


def test_an_overloaded_relay_delivers_what_it_can_and_no_view_waits_longer_than_one_round() -> None:
    served = simulate_relay(40, 100.0, 0.5e-3, 20.0)  # asks for twice what one core does
    assert served.delivered == pytest.approx(0.5, abs=0.01)
    assert served.busy == pytest.approx(1.0, abs=0.01)
    # A message is replaced when it waits for a period; it leaves after at most one round of all scopes.
    assert served.wait_s.max() <= 40 * 0.5e-3 + 0.5e-3
    waits_for_ever = simulate_relay(40, 100.0, 0.5e-3, 20.0, replaces=False)
    assert waits_for_ever.wait_s.max() > 5.0


def test_the_result_is_that_of_the_seed() -> None:
    one, two, other = (simulate_relay(5, 50.0, 1e-3, 5.0, seed=seed).wait_s for seed in (1, 1, 2))
    assert (one == two).all()
    assert len(one) != len(other) or not (one == other).all()
