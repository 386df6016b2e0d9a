"""Settings of the tracking: from the file, from the request of a run, and from its record."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from service.tracking_settings import TrackingPart


def test_the_lag_of_a_run_is_in_its_request_and_its_record() -> None:
    part = TrackingPart(smooth_lag_frames=4, step_um=2.0)
    assert TrackingPart().lag_frames == 10
    assert part.changed_by({}) == part
    changed = part.changed_by({"smooth_lag_frames": 0, "settings": {"step_um": 3.0}})
    assert (changed.lag_frames, changed.step_um) == (0, 3.0)
    assert TrackingPart.of_record(changed.record()) == changed
    assert changed.record()["smooth_lag_frames"] == 0
    assert "smooth_lag_frames" not in changed.record()["settings"]
    for wrong in (-1, 201, 2.5):
        with pytest.raises(ValidationError, match="smooth_lag_frames"):
            part.changed_by({"smooth_lag_frames": wrong})


def test_the_published_tracker_is_not_smoothed() -> None:
    part = TrackingPart(step_um=2.0, smooth_after_run=False).changed_by({"preset": "published"})
    assert (part.preset, part.lag_frames, part.step_um, part.smooth_after_run) == ("published", 0, 1.0, False)
    assert TrackingPart.of_record(part.record()) == part


def test_a_run_without_a_record_is_not_smoothed() -> None:
    part = TrackingPart.of_record(None)
    assert (part.smooths, part.lag_frames) == (False, 0)
