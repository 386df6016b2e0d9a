from __future__ import annotations

import threading
import time
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from service.engine.publisher import preview_of
from service.engine.stages import Slot, Stage
from service.protocol.latency import BUCKETS_S, LatencyHistogram


@settings(max_examples=100, deadline=None)
@given(st.integers(1, 5), st.lists(st.one_of(st.just("offer"), st.integers(1, 4)), max_size=60))
def test_a_stage_keeps_order_and_bound_and_counts_what_it_refuses(capacity: Any, steps: Any) -> None:
    stage, model, refused, taken, offered, highest = Stage(capacity), [], 0, [], 0, 0
    for step in steps:
        if step == "offer":
            accepted = stage.offer(offered)
            assert accepted == (len(model) < capacity)
            if accepted:
                model.append(offered)
            else:
                refused += 1
            offered += 1
            highest = max(highest, len(model))
        elif model:
            taken += stage.take(step, 0.0)
            model = model[step:]
    assert taken == sorted(taken)
    report = stage.report()
    assert (report["depth"], report["dropped"], report["highest"]) == (len(model), refused, highest)


def test_a_stage_ends_when_it_is_closed_and_empty() -> None:
    stage = Stage(4)
    stage.offer(1)
    stage.close()
    assert not stage.offer(2)
    assert not stage.ended
    assert stage.take(4, 0.0) == [1]
    assert stage.ended
    assert stage.take(4, 10.0) == []


def test_the_first_waits_for_others_no_longer_than_the_deadline() -> None:
    stage = Stage(8)
    stage.offer("first")
    late = threading.Timer(0.05, stage.offer, ["second"])
    late.start()
    assert stage.take(2, 1.0, gather_s=10.0) == ["first", "second"]
    late.join()
    stage.offer("alone")
    begin = time.monotonic()
    assert stage.take(2, 1.0, gather_s=0.05) == ["alone"]
    assert 0.04 < time.monotonic() - begin < 5.0


class Counting(threading.Condition):
    """Counts how often it wakes the consumer."""

    woken = 0

    def notify(self, n: int = 1) -> None:
        self.woken += 1
        super().notify(n)


def test_what_gathers_does_not_wake_the_taker_one_by_one() -> None:
    stage: Stage[int] = Stage(256)
    stage._changed = changed = Counting()
    taken: list[list[int]] = []
    taker = threading.Thread(target=lambda: taken.append(stage.take(64, 60.0, gather_s=60.0)))
    taker.start()
    for number in range(64):
        assert stage.offer(number)
        while number == 0 and stage._awaited == 1:  # it has found the first, and waits for the others
            time.sleep(0.001)
    taker.join(30)
    assert taken == [list(range(64))]
    # Once before the taker came or for the first item, and once for the last.
    assert changed.woken <= 3


def test_gathering_leaves_half_of_the_room() -> None:
    stage: Stage[int] = Stage(4)
    for number in range(2):
        stage.offer(number)
    assert stage.take(64, 0.0, gather_s=60.0) == [0, 1]


def test_age_is_that_of_the_oldest() -> None:
    stage = Stage(4)
    assert stage.report()["age_s"] == 0.0
    stage.offer(1)
    time.sleep(0.05)
    stage.offer(2)
    assert stage.report()["age_s"] >= 0.05


def test_a_slot_holds_the_newest_and_counts_the_rest() -> None:
    slot = Slot()
    assert slot.take(0.0) is None
    for item in range(3):
        slot.put(item)
    assert slot.report()["depth"] == 1
    assert slot.take(0.0) == 2
    assert slot.report()["dropped"] == 2
    slot.close()
    assert slot.ended


def test_quantiles_are_right_to_two_percent() -> None:
    latencies = np.random.default_rng(1).lognormal(-5, 1, 20_000)
    histogram = LatencyHistogram()
    for latency in latencies:
        histogram.add(float(latency))
    summary = histogram.summary_ms()
    for name, share in (("p50", 50), ("p95", 95), ("p99", 99)):
        # bins grow by 2 %, their middle is reported
        assert summary[name] == pytest.approx(1000 * np.percentile(latencies, share), rel=0.02)
    assert summary["max"] == pytest.approx(1000 * latencies.max(), abs=1e-3)
    assert histogram.count == len(latencies)


def test_coarse_buckets_count_what_is_within() -> None:
    latencies = np.random.default_rng(2).lognormal(-4, 1, 5000)
    histogram, other = LatencyHistogram(), LatencyHistogram()
    for latency in latencies[:2000]:
        histogram.add(float(latency))
    for latency in latencies[2000:]:
        other.add(float(latency))
    histogram.include(other)
    buckets = histogram.buckets()
    for bound, count in zip(BUCKETS_S, buckets["at_most"], strict=True):
        # a bound may lie within a bin, which is two percent wide
        assert (latencies <= bound / 1.02).sum() <= count <= (latencies <= bound * 1.02).sum()
    assert buckets["count"] == histogram.count == 5000
    assert buckets["sum_s"] == pytest.approx(latencies.sum(), rel=0.01)
    assert histogram.summary_ms()["max"] == pytest.approx(1000 * latencies.max(), abs=1e-3)


def test_nothing_counted_has_no_quantiles() -> None:
    histogram = LatencyHistogram()
    assert set(histogram.summary_ms().values()) == {None}
    histogram.add(-1.0)
    histogram.add(1e6)
    assert histogram.count == 2


@pytest.mark.parametrize(("shape", "scale"), [((64, 48), 1), ((512, 512), 1), ((600, 1000), 2), ((2048, 2048), 4)])
def test_previews_are_small_and_stretched(shape: tuple[int, int], scale: int) -> None:
    pixels = np.random.default_rng(1).poisson(100, shape).astype(np.uint16)
    pixels[: shape[0] // 4] += 500
    picture, its_scale, low, high = preview_of(pixels)
    assert its_scale == scale
    assert picture.shape == (shape[0] // scale, shape[1] // scale)
    assert 50 < low < 110 < 590 < high
    assert picture.min() == 0
    assert picture.max() == 255


def test_a_dark_frame_is_black() -> None:
    assert preview_of(np.full((32, 32), 100, np.uint16))[0].max() == 0
